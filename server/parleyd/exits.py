"""The exit codes of `parleyd`, and the error that stops a node with one clear text.

Scripts and service managers depend on these numbers, so they never change their meaning.
"""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """What the exit status of `parleyd` means."""

    OK = 0
    FAILED = 1
    USAGE = 2
    STORAGE = 3
    ADDRESS = 4
    CERTIFICATE = 5
    RELEASE = 6
    WARNING = 10
    CRITICAL = 11


EXIT_CODE_MEANINGS = {
    ExitCode.OK: "stopped as asked, or the command did its work",
    ExitCode.FAILED: "any other error; stderr or the log contains it",
    ExitCode.USAGE: "a flag, an environment variable or the settings file is wrong, or a file that a setting names: "
    "it is missing, or it is a key that others can read; nothing was started",
    ExitCode.STORAGE: "the data directory is damaged, foreign, in use or cannot be written",
    ExitCode.ADDRESS: "an address cannot be listened on: in use, not of this machine, or a reserved port",
    ExitCode.CERTIFICATE: "a certificate or key cannot be used or made: expired, of another node, not signed by the CA",
    ExitCode.RELEASE: "the data or the cluster needs another release of Parley; nothing is wrong with the data",
    ExitCode.WARNING: "`parleyd doctor` warns",
    ExitCode.CRITICAL: "`parleyd doctor` found something critical",
}


class FatalError(Exception):
    """Ends the process with `exit_code` and this text on stderr, without a traceback.

    The text contains what happened, the effect on the data, and what to do next.
    """

    def __init__(self, exit_code: ExitCode, text: str) -> None:
        super().__init__(text)
        self.exit_code = exit_code
