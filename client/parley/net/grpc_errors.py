"""Maps gRPC status codes to the errors of the SDK. No other module does this.

`outcome_of` alone decides whether a request surely had no effect. A node says so beside its status. gRPC's own texts
tell whether a request left this machine.
"""

from datetime import UTC, datetime
from enum import Enum

import grpc

from parley.errors import (
    ClusterBehindError,
    InvitationNeededError,
    NameTakenError,
    NoMajorityError,
    NotSignedInError,
    OutcomeUnknownError,
    OverloadedError,
    ParleyError,
    RefusedError,
    TlsError,
    TooLargeError,
    TooManyDevicesError,
    UnreachableError,
    WrongServiceError,
)
from parley.net.causes import in_brackets
from parley_proto.v1 import state_pb2

RESULT_KEY = "parley-result"
OUTCOME_KEY = "parley-outcome"
AFTER_UNKNOWN_TEXT = (
    "An attempt of this request got no answer, so it may have been carried out. The next attempt was refused: "
    '"{refusal}" Check the result before you try again.'
)

CANNOT_BE_REACHED = "cannot be reached"
_NEVER_SENT_SIGNS = ("failed to connect to all addresses", "errors resolving", "DNS resolution failed", "empty address")
"""How gRPC's texts begin if there was no connection on which a request could leave."""

_REFUSALS = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.UNIMPLEMENTED,
    }
)

_CERTIFICATE_SIGNS = ("CERTIFICATE_VERIFY_FAILED", "certificate verify failed", "unable to get local issuer")
_EXPIRED_SIGN = "certificate has expired"
_NOT_YET_SIGN = "certificate is not yet valid"
_NAME_SIGNS = ("Hostname Verification Check failed", "is not in peer certificate", "hostname mismatch")
_NOT_TLS_SIGNS = ("WRONG_VERSION_NUMBER", "wrong version number", "HTTP_REQUEST", "Ssl handshake failed")
_NEEDS_TLS_SIGNS = ("Trying to connect an http1.x server", "Missing server preface", "settings frame")


def tls_trouble(details: str, where: str, *, insecure: bool) -> TlsError | None:
    """Return a TlsError if the text of gRPC tells of a failed handshake. gRPC reports it nowhere else."""
    if any(sign in details for sign in _NAME_SIGNS):
        return TlsError(
            f"The certificate of {where} is for another name or address. Nothing was sent. Connect by a "
            "name that is in its certificate, or make a new one with this name (parleyd cert)."
        )
    if _EXPIRED_SIGN in details:
        return TlsError(
            f"The certificate of {where}, or the CA that signed it, has expired. Nothing was sent. {_clock()} If that "
            "is right, an administrator of the node has to renew the certificate (parleyd cert node)."
        )
    if _NOT_YET_SIGN in details:
        return TlsError(
            f"The certificate of {where}, or the CA that signed it, is not valid yet. Nothing was sent. {_clock()} If "
            "that is wrong, set the clock of this machine. Otherwise the certificate was made on a machine whose clock "
            "is ahead."
        )
    if any(sign in details for sign in _CERTIFICATE_SIGNS):
        return TlsError(
            f"The certificate of {where} is not signed by a CA that this client trusts: that of --ca, or without it "
            "those of this machine. Nothing was sent. Give the CA of this cluster with --ca FILE (or PARLEY_CA), and "
            "check the address."
        )
    if any(sign in details for sign in _NOT_TLS_SIGNS):
        return TlsError(
            f"{where} does not speak TLS, or no version that this client supports. Nothing was sent. If "
            "this is a test cluster that runs with --insecure, give --insecure here, too. Otherwise check "
            "the address."
        )
    if insecure and any(sign in details for sign in _NEEDS_TLS_SIGNS):
        return TlsError(
            f"{where} did not understand an unencrypted connection. Nothing was sent. Leave out "
            "--insecure. Give the CA of the cluster with --ca FILE."
        )
    return None


def _clock() -> str:
    return f"The clock of this machine says {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."


_KINDS: dict[int, type[ParleyError]] = {
    state_pb2.RESULT_CODE_TOO_MANY_DEVICES: TooManyDevicesError,
    state_pb2.RESULT_CODE_NOT_INVITED: InvitationNeededError,
}


class Outcome(Enum):
    """What is known of the effect of a request that ended with an error."""

    NO_EFFECT = "none"
    UNKNOWN = "unknown"


def outcome_of(error: grpc.aio.AioRpcError) -> Outcome:
    """Return NO_EFFECT only if the request surely had no effect and will have none."""
    for key, value in error.trailing_metadata() or ():
        if key == OUTCOME_KEY:
            return Outcome.NO_EFFECT if value == Outcome.NO_EFFECT.value else Outcome.UNKNOWN
    details = error.details() or ""
    match error.code():
        case code if code in _REFUSALS:
            return Outcome.NO_EFFECT
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            is_answer_too_large = _TOO_LARGE in details and "SERVER:" not in details
            return Outcome.UNKNOWN if is_answer_too_large else Outcome.NO_EFFECT
        case grpc.StatusCode.UNAVAILABLE if _was_never_sent(error):
            return Outcome.NO_EFFECT
        case _:
            return Outcome.UNKNOWN


def _was_never_sent(error: grpc.aio.AioRpcError) -> bool:
    return (error.details() or "").startswith(_NEVER_SENT_SIGNS)


def told(refusal: ParleyError, *, after_unknown: bool) -> ParleyError:
    """Return a refusal as the caller gets it. With `after_unknown`, an earlier attempt has no known outcome."""
    if not after_unknown:
        return refusal
    marked = type(refusal)(AFTER_UNKNOWN_TEXT.format(refusal=refusal.text))
    marked.after_unknown = True
    return marked


def from_grpc(error: grpc.aio.AioRpcError, *, where: str, insecure: bool = False, changes: bool = True) -> ParleyError:
    """Return the SDK's error for a gRPC status.

    `where` is the name of the node. `changes` is false for a request that only reads, or a stream, whose outcome
    nobody has to know. UNAUTHENTICATED becomes NotSignedInError. Callers that sent a password turn it into
    WrongPasswordError.
    """
    details = error.details() or ""
    if kind := _KINDS.get(_result_of(error)):
        return kind(details)
    match error.code():
        case grpc.StatusCode.UNAUTHENTICATED:
            return NotSignedInError(
                details or "The session has ended. Waiting messages are kept here. Sign in again: parley login NAME."
            )
        case grpc.StatusCode.ALREADY_EXISTS:
            return NameTakenError(details or "This name is taken. Choose another one.")
        case (
            grpc.StatusCode.INVALID_ARGUMENT
            | grpc.StatusCode.NOT_FOUND
            | grpc.StatusCode.PERMISSION_DENIED
            | grpc.StatusCode.FAILED_PRECONDITION
            | grpc.StatusCode.OUT_OF_RANGE
        ):
            return RefusedError(details or f"{where} refused the request. Nothing was changed.")
        case grpc.StatusCode.DATA_LOSS:
            return ClusterBehindError(details or f"{where} has older data than this device has seen.")
        case grpc.StatusCode.RESOURCE_EXHAUSTED if _TOO_LARGE in details:
            return _too_large(details, where)
        case grpc.StatusCode.RESOURCE_EXHAUSTED if _result_of(error):
            return RefusedError(details)  # by the replicated state: another node refuses it, too
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return OverloadedError(details or f"{where} is overloaded and accepted nothing. Try again in a moment.")
        case grpc.StatusCode.UNIMPLEMENTED:
            return WrongServiceError(
                f"The server at {where} does not know this request. It is no Parley node, or one of another release. "
                "Nothing was changed. Check the address, and the releases of the node and of this client."
            )
        case _:
            return _no_answer(error, where, insecure=insecure, changes=changes)


_CODES = {
    grpc.StatusCode.CANCELLED: "the call was cancelled",
    grpc.StatusCode.DEADLINE_EXCEEDED: "it did not answer in time",
    grpc.StatusCode.INTERNAL: "it reported a fault of its own",
}


def _no_answer(error: grpc.aio.AioRpcError, where: str, *, insecure: bool, changes: bool) -> ParleyError:
    """Return the error for a call that got no answer of a node, or the answer that it cannot serve now."""
    details = error.details() or ""
    if _was_never_sent(error):
        trouble = tls_trouble(details, where, insecure=insecure)
        return trouble or UnreachableError(f"{where} {CANNOT_BE_REACHED}{in_brackets(details)}.")
    if error.code() is not grpc.StatusCode.UNAVAILABLE:
        text = f"{where} gave no clear answer{in_brackets(details or _CODES.get(error.code(), ''))}."
        kind = UnreachableError
    elif not details or any(sign in details for sign in _CONNECTION_SIGNS):
        text = f"The connection to {where} broke before it answered{in_brackets(details)}."
        kind = UnreachableError
    else:
        text = f"{where}: {details}"
        kind = NoMajorityError
    return OutcomeUnknownError(text) if changes and outcome_of(error) is Outcome.UNKNOWN else kind(text)


def _result_of(error: grpc.aio.AioRpcError) -> int:
    """Return the result code that the node sends beside the status, 0 for none."""
    for key, value in error.trailing_metadata() or ():
        if key == RESULT_KEY and isinstance(value, str) and value.isdecimal():
            return int(value)
    return 0


_TOO_LARGE = "Received message larger than max"


def _too_large(details: str, where: str) -> ParleyError:
    """Return the error for a message above the bound of one end's gRPC. Its text names the end that refused it."""
    if "SERVER:" in details:
        return RefusedError(f"The request is larger than {where} accepts. Nothing was changed. Send less at once.")
    return TooLargeError(
        f"The answer of {where} is larger than this client accepts. Nothing is lost. Ask for "
        "less at once, for example with a lower limit."
    )


_CONNECTION_SIGNS = (
    "Stream removed",
    "Connection refused",
    "Socket closed",
    "Deadline",
    "ping timeout",
    "Cancelling all calls",
    "Connection reset",
    "GOAWAY",
    "FD Shutdown",
    "Broken pipe",
    "Internal error from Core",
)
