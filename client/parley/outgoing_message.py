"""The text and the handle of one own message: its bounds, its newest state, and a way to wait for its final result."""

import asyncio

from parley.errors import (
    BadInputError,
    MessageCancelledError,
    MessageFailedError,
    OutcomeUnknownError,
    StillWaitingError,
)
from parley.model import FINAL, MessageStatus, Outgoing

UNKNOWN_TEXT = (
    "It is not known whether the cluster stored this message. Look into the conversation before you send it again."
)


class OutgoingMessage:
    """A handle of an own message. `view` is always its newest known state."""

    def __init__(self, view: Outgoing) -> None:
        self.view = view
        self._settled: asyncio.Event = asyncio.Event()
        self._cancelled = False

    @property
    def local_id(self) -> int:
        """Return the number of the message on this machine. It never changes."""
        return self.view.local_id

    async def accepted(self, timeout: float | None = None) -> Outgoing:
        """Wait until the message is on a majority's disks.

        Raises MessageFailedError if it was refused, OutcomeUnknownError if the cluster no longer tells,
        MessageCancelledError if it was withdrawn, and StillWaitingError after `timeout` seconds. In the last case it
        stays in the outbox and is sent as soon as possible.
        """
        try:
            if not self._settled.is_set():
                async with asyncio.timeout(timeout):
                    await self._settled.wait()
        except TimeoutError:
            raise StillWaitingError(
                "The message is not on a majority's disks yet. It is kept in the outbox on this machine. "
                "Parley sends it, once, as soon as the cluster can accept it."
            ) from None
        if self._cancelled:
            raise MessageCancelledError("The message was withdrawn before it was sent. Nobody receives it.")
        if self.view.status is MessageStatus.FAILED:
            raise MessageFailedError(self.view.detail or "The cluster refused this message. It was not sent.")
        if self.view.status is MessageStatus.UNKNOWN:
            raise OutcomeUnknownError(self.view.detail or UNKNOWN_TEXT)
        return self.view

    def update(self, view: Outgoing) -> None:
        """Record a newer state. Called by the client."""
        self.view = view
        if view.status in FINAL:
            self._settled.set()

    def withdraw(self) -> None:
        """Record that the message was cancelled. Called by the client."""
        self._cancelled = True
        self._settled.set()


def check_body(body: str, limit: int) -> None:
    """Raise BadInputError for a text that no node accepts. `limit` is the maximum in bytes."""
    if not body:
        raise BadInputError("The message is empty. Nothing was sent. Write a text.")
    try:
        size = len(body.encode())
    except UnicodeEncodeError:
        raise BadInputError("The message holds invalid characters. Nothing was sent. Remove them.") from None
    if size > limit:
        raise BadInputError(
            f"The message has {size} bytes, but at most {limit} are allowed. Nothing was sent. Shorten it."
        )
