"""What can go wrong for a person using Parley, in words they can act on.

Every error says what happened, what it means for their messages, and what to do next. `retry_safe` is true where doing
the same thing again cannot do it twice.
"""

from typing import ClassVar


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
