"""The code and the text for an error of the SDK. Programs compare codes. Texts are for people."""

from parley import (
    BadInputError,
    InvitationNeededError,
    NameTakenError,
    NotSignedInError,
    OutboxFullError,
    OutcomeUnknownError,
    OverloadedError,
    ParleyError,
    RefusedError,
    StoreError,
    TextFilterError,
    UnreachableError,
    WrongPasswordError,
)
from parley.gateway.requests import Wrong

BUSY = Wrong("busy", "The gateway has too many log-ins at once. Nothing was changed. Try again later.")
_CODES: tuple[tuple[type[ParleyError], str], ...] = (
    (BadInputError, "bad-input"),
    (WrongPasswordError, "wrong-password"),
    (NotSignedInError, "session-ended"),
    (NameTakenError, "name-taken"),
    (InvitationNeededError, "invitation-needed"),
    (RefusedError, "refused"),
    (OutcomeUnknownError, "outcome-unknown"),
    (OverloadedError, "busy"),
    (UnreachableError, "unreachable"),
    (StoreError, "gateway-disk"),
    (OutboxFullError, "outbox-full"),
    (TextFilterError, "filter"),
)
_TEXTS = {
    "wrong-password": "The name or the password is wrong. Nothing was changed. Try again: LOGIN NAME PASSWORD.",
    "filter": "The text filter of this gateway gives no answer now. Nothing was sent. Send the text again later.",
    "session-ended": "Your session has ended. What waits is kept. Log in again: LOGIN NAME PASSWORD.",
    "invitation-needed": (
        "This cluster creates accounts by invitation. Nothing was changed. Say REGISTER NAME PASSWORD CODE."
    ),
}


def refusal_of(error: ParleyError) -> Wrong:
    """Return code and text. Where the text of the SDK names a command of the terminal, the gateway has its own."""
    code = next((code for kind, code in _CODES if isinstance(error, kind)), "failed")
    return Wrong(code, _TEXTS.get(code, error.text))
