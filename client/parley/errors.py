"""What can go wrong for a person using Parley, in words they can act on; and where gRPC's codes become those words.

Every error says what happened, what it means for their messages, and what to do next. `retry_safe` is true where doing
the same thing again cannot do it twice.
"""

from typing import ClassVar

import grpc


class ParleyError(Exception):
    """The root of everything the SDK raises on purpose."""

    retry_safe: ClassVar[bool] = False
    after_unknown: bool = False
    """True where an earlier attempt of the same request had no known outcome."""

    @property
    def text(self) -> str:
        """The message for people."""
        return str(self)


class BadInputError(ParleyError, ValueError):
    """What was asked for cannot be meant: a malformed address, an empty message."""


class NotSignedInError(ParleyError):
    """There is no session, or it ended. Waiting messages stay in the outbox."""


class WrongPasswordError(NotSignedInError):
    """The cluster does not know this name with this password; it never says which of the two is wrong."""


class RefusedError(ParleyError):
    """The cluster understood and said no, for good."""


class NameTakenError(RefusedError):
    """The account name belongs to somebody already."""


class MessageFailedError(RefusedError):
    """One message was refused for good; later ones are not held up by it."""


class MessageCancelledError(ParleyError):
    """The message was withdrawn before it was handed to the cluster."""


class UnreachableError(ParleyError):
    """No node could be reached, or none has a majority. Nothing was done."""

    retry_safe = True


class NoMajorityError(UnreachableError):
    """Nodes answer, but too few of them are up to take anything in."""


class OverloadedError(UnreachableError):
    """The cluster took nothing because it has too much to do."""


class OutcomeUnknownError(ParleyError):
    """The request may or may not have been carried out: its answer was lost."""

    retry_safe = True


class StillWaitingError(ParleyError, TimeoutError):
    """The message was not on a majority's disks in time. It is kept here and goes out by itself."""

    retry_safe = False


class TlsError(ParleyError):
    """The connection cannot be made private: wrong CA, wrong name, or not TLS at all."""


class WrongServiceError(ParleyError):
    """Something answers at the address, but it is not a Parley node."""


class TooLateError(ParleyError):
    """The message has been handed to the cluster already: it cannot be changed or withdrawn any more."""


class StoreError(ParleyError):
    """The small file that keeps outbox and inbox cannot be read or written."""


class OutboxFullError(ParleyError):
    """The outbox holds as much as it may."""

    retry_safe = True


_CERTIFICATE_SIGNS = ("CERTIFICATE_VERIFY_FAILED", "certificate verify failed", "unable to get local issuer")
_NAME_SIGNS = ("Hostname Verification Check failed", "is not in peer certificate", "hostname mismatch")
_NOT_TLS_SIGNS = ("WRONG_VERSION_NUMBER", "wrong version number", "HTTP_REQUEST", "Ssl handshake failed")
_NEEDS_TLS_SIGNS = ("Trying to connect an http1.x server", "Missing server preface", "settings frame")


def tls_trouble(details: str, where: str, *, insecure: bool) -> TlsError | None:
    """Recognises a failed handshake in gRPC's text, the only place where gRPC tells it."""
    if any(sign in details for sign in _NAME_SIGNS):
        return TlsError(
            f"The certificate of {where} is for another name or address. Nothing was sent. Connect by a name that is "
            "in its certificate, or make a new one with this name (parleyd cert)."
        )
    if any(sign in details for sign in _CERTIFICATE_SIGNS):
        return TlsError(
            f"{where} showed a certificate that the given CA did not sign. Nothing was sent. Give the CA of this "
            "cluster with --ca FILE (or PARLEY_CA), and check that the address is the one you mean."
        )
    if any(sign in details for sign in _NOT_TLS_SIGNS):
        return TlsError(
            f"{where} does not speak TLS, or not with us. Nothing was sent. If this is a test cluster that runs with "
            "--insecure, say --insecure here too; otherwise check the address."
        )
    if insecure and any(sign in details for sign in _NEEDS_TLS_SIGNS):
        return TlsError(
            f"{where} did not understand an unencrypted connection. Nothing was sent. Leave out --insecure and give "
            "the CA of the cluster with --ca FILE."
        )
    return None


def from_grpc(error: grpc.aio.AioRpcError, *, where: str, insecure: bool = False) -> ParleyError:
    """The one place where a gRPC status becomes one of our errors.

    `where` names the node for people. UNAUTHENTICATED becomes NotSignedInError; callers that sent a password turn it
    into WrongPasswordError.
    """
    details = error.details() or ""
    match error.code():
        case grpc.StatusCode.UNAUTHENTICATED:
            return NotSignedInError(
                details or "The session has ended. Waiting messages are kept here. Sign in again: parley login."
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
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return OverloadedError(details or f"{where} has too much to do and took nothing. Try again in a moment.")
        case grpc.StatusCode.UNIMPLEMENTED:
            return WrongServiceError(f"What answers at {where} is not a Parley node. Check the address.")
        case grpc.StatusCode.UNAVAILABLE:
            return tls_trouble(details, where, insecure=insecure) or _unavailable(details, where)
        case _:
            return OutcomeUnknownError(
                f"{where} gave no clear answer ({error.code().name}: {brief(details)}). It may or may not have done "
                "what was asked."
            )


_CONNECTION_SIGNS = (
    "failed to connect",
    "Connection refused",
    "Socket closed",
    "DNS",
    "Deadline",
    "ping timeout",
    "Cancelling all calls",
    "Connection reset",
    "GOAWAY",
)


def _unavailable(details: str, where: str) -> UnreachableError:
    if not details or any(sign in details for sign in _CONNECTION_SIGNS):
        return UnreachableError(f"{where} cannot be reached ({brief(details)}).")
    return NoMajorityError(f"{where}: {details}")


def brief(details: str) -> str:
    """gRPC's own text, short enough for one line."""
    tail = details.rsplit("last error: ", 1)[-1].strip()
    return tail if len(tail) <= 160 else tail[:157] + "..."
