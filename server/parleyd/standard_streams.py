"""The standard streams of `parleyd`: what cannot be written has a name, and ends the command in one place.

A closed descriptor is opened again, so no file of the node takes its number and gets what libraries write to stderr. In
place of a closed standard output comes one that cannot be written, so a command without a result never ends with
success. A failing standard error loses remarks and nothing else: the exit code still tells how the command ended. `io`
hands a memoryview to write(). This module imports the standard library alone: __main__.py uses it before the rest.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import TextIO

from parleyd.exits import ExitCode

CANNOT_WRITE = "Standard output cannot be written: {reason}. What the command has done so far is not undone."


class StandardOutputError(Exception):
    """Standard output could not be written. This is no OSError, some of which libraries pass over in silence."""

    def __init__(self, text: str, *, is_done: bool) -> None:
        """`is_done` is true if the reader at the other end of a pipe has read enough and ended."""
        super().__init__(text)
        self.is_done = is_done


class _Output(io.FileIO):
    """The bytes of standard output."""

    def write(self, data: memoryview, /) -> int:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError as error:
            raise StandardOutputError(
                CANNOT_WRITE.format(reason=error.strerror), is_done=isinstance(error, BrokenPipeError)
            ) from error


class _Remarks(io.FileIO):
    """The bytes of standard error. What cannot be written is dropped."""

    def write(self, data: memoryview, /) -> int:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError:
            return data.nbytes


def open_standard_streams() -> None:
    """Open each standard stream that is closed, and replace standard output and standard error by those above."""
    for descriptor, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # gets the lowest free descriptor, which is this one
    output = _Output(1, "w", closefd=False)
    sys.stdout = _writer(output, sys.stdout, line_buffering=output.isatty())
    sys.stderr = _writer(_Remarks(2, "w", closefd=False), sys.stderr, line_buffering=True)


def run_with_standard_streams(command: Callable[[], None]) -> None:
    """Run the command line, which ends with SystemExit, and write what is left of its output.

    If nobody reads the output any more, end quietly with OK. If it cannot be written otherwise, say so and end with
    FAILED.
    """
    try:
        try:
            command()
        finally:
            sys.stdout.flush()
    except StandardOutputError as error:
        _discard_output()
        if error.is_done:
            sys.exit(ExitCode.OK)
        sys.stderr.write(f"parleyd: {error}\n")
        sys.exit(ExitCode.FAILED)


def write_what_has_to_be_seen(text: str) -> None:
    """Write a line now. Raises StandardOutputError that ends the command with FAILED, also if its reader has left."""
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except StandardOutputError as error:
        _discard_output()  # or the flush at the end fails for the same text again
        raise StandardOutputError(str(error), is_done=False) from error


def _writer(raw: io.FileIO, former: TextIO | None, *, line_buffering: bool) -> TextIO:
    """Return a text stream with the encoding of the former one, which is None if it was closed."""
    encoding = "utf-8" if former is None else former.encoding
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors="backslashreplace", line_buffering=line_buffering)


def _discard_output() -> None:
    """Let the interpreter write what is left to nowhere when it ends."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.close(null)
