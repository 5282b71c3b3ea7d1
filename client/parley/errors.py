"""The errors of the SDK.

The text of every error states what happened, the effect on the messages, and what to do next. If `retry_safe` is true,
a retry cannot have a second effect.
"""

from typing import ClassVar


class ParleyError(Exception):
    """The base class of the SDK's errors."""

    retry_safe: ClassVar[bool] = False
    after_unknown: bool = False
    """True if an earlier attempt of the same request had an unknown outcome."""
    request_id: str = ""
    """The id of the request in the logs of the nodes; empty if none was sent."""

    @property
    def text(self) -> str:
        """Return the message for people."""
        return str(self)


class BadInputError(ParleyError, ValueError):
    """The input is invalid, for example a malformed address or an empty message."""


class NotSignedInError(ParleyError):
    """There is no session, or it ended. Waiting messages stay in the outbox."""


class WrongPasswordError(NotSignedInError):
    """The name or the password is wrong. The cluster does not tell which of the two."""


class TextFilterError(ParleyError):
    """The text filter gave no usable answer, and nothing is sent without it. The text is stored nowhere."""

    retry_safe = True


class RefusedError(ParleyError):
    """The cluster refused the request. A retry is refused, too."""


class NameTakenError(RefusedError):
    """The account name is taken."""


class InvitationNeededError(RefusedError):
    """The cluster creates accounts by invitation, and the request has no code of one."""


class TooManyDevicesError(RefusedError):
    """The account has as many signed-in devices as it may. A log-in can sign out the one that logged in longest ago."""


class MessageFailedError(RefusedError):
    """The cluster refused one message for good. Later messages are sent as usual."""


class MessageCancelledError(ParleyError):
    """The message was withdrawn before it was sent to the cluster."""


class UnreachableError(ParleyError):
    """No node could be reached, or no node has a majority. The request had no effect and will have none."""

    retry_safe = True


class NoMajorityError(UnreachableError):
    """Nodes answer, but too few are up to accept a request."""


class OverloadedError(UnreachableError):
    """The nodes are overloaded, or have no room. They refused the request for now, and nothing was changed."""


class BackupError(ParleyError):
    """A backup file is not usable, or could not be written. The text says what became of the file."""


class AuditError(ParleyError):
    """The audit log is not what the cluster recorded, or an export could not be written."""


class ClusterBehindError(RefusedError):
    """The cluster's data is older than what this device has seen. Older data probably replaced it."""


class TooLargeError(ParleyError):
    """The answer of a node is larger than this client accepts."""


class OutcomeUnknownError(ParleyError):
    """The answer was lost. The request may or may not have been carried out."""

    retry_safe = True


class StillWaitingError(ParleyError, TimeoutError):
    """The message is not on a majority's disks yet. It stays in the outbox and is sent as soon as possible."""

    retry_safe = False


class TlsError(ParleyError):
    """The TLS connection failed: the CA or the name is wrong, or the server does not use TLS."""


class WrongServiceError(ParleyError):
    """The server at the address is not a Parley node."""


class TooLateError(ParleyError):
    """The message was already sent to the cluster. It cannot be changed or withdrawn any more."""


class StoreError(ParleyError):
    """The file with outbox and inbox cannot be read or written."""


class OutboxFullError(ParleyError):
    """The outbox is full."""

    retry_safe = True
