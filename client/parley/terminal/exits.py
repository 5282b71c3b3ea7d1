"""The exit codes of `parley`, and their text for people."""

from enum import IntEnum
from typing import TypeVar

from parley import (
    BadInputError,
    NotSignedInError,
    OutcomeUnknownError,
    OverloadedError,
    ParleyError,
    RefusedError,
    StillWaitingError,
    TlsError,
    UnreachableError,
)

E = TypeVar("E", bound=BaseException)


class ExitCode(IntEnum):
    """The exit codes that a script can test."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_SIGNED_IN = 3
    UNREACHABLE = 4
    REFUSED = 5
    TLS = 6
    UNKNOWN = 7
    WARNING = 10
    CRITICAL = 11
    KEPT = 75
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "something else failed, or nothing was found",
    ExitCode.USAGE: "wrong usage or input",
    ExitCode.NOT_SIGNED_IN: "not signed in, or wrong password",
    ExitCode.UNREACHABLE: "no node reachable or no majority (nothing is lost, try again)",
    ExitCode.REFUSED: "the cluster refused the request",
    ExitCode.TLS: "the TLS connection failed",
    ExitCode.UNKNOWN: "the outcome is not known (look before you try again)",
    ExitCode.WARNING: "`cluster doctor` warns",
    ExitCode.CRITICAL: "`cluster doctor` found something critical",
    ExitCode.KEPT: "the message waits in the outbox and is sent later, as the text says",
    ExitCode.HUNG_UP: "ended by a hang-up; a text says what is kept or not known",
    ExitCode.INTERRUPTED: "interrupted; a text says what is kept or not known",
    ExitCode.TERMINATED: "ended by SIGTERM; a text says what is kept or not known",
}

EPILOG = "Exit codes: " + "; ".join(f"{code.value} {text}" for code, text in MEANINGS.items()) + "."

_CODES: tuple[tuple[type[ParleyError], ExitCode], ...] = (
    (BadInputError, ExitCode.USAGE),
    (NotSignedInError, ExitCode.NOT_SIGNED_IN),
    (TlsError, ExitCode.TLS),
    (StillWaitingError, ExitCode.KEPT),
    (OverloadedError, ExitCode.REFUSED),  # before its base class: nodes were reached
    (UnreachableError, ExitCode.UNREACHABLE),
    (OutcomeUnknownError, ExitCode.UNKNOWN),
    (RefusedError, ExitCode.REFUSED),
)


def code_of(error: ParleyError) -> ExitCode:
    """Return the exit code for this error."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), ExitCode.FAILED)


def first_of(kind: type[E], error: BaseException) -> E | None:
    """Return the first error of this kind in what was raised, which may be a group of errors, or None."""
    if isinstance(error, kind):
        return error
    members = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    return next((found for member in members if (found := first_of(kind, member)) is not None), None)
