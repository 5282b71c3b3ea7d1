"""The handle of one own message: its newest state, and a way to wait for the cluster's final word."""

import asyncio

from parley.errors import MessageCancelledError, MessageFailedError, StillWaitingError
from parley.model import FINAL, MessageStatus, Outgoing


class OutgoingMessage:
    """An own message and what becomes of it. `view` is always its newest known state."""

    def __init__(self, view: Outgoing) -> None:
        """Made by send()."""
        self.view = view
        self._settled: asyncio.Event = asyncio.Event()
        self._cancelled = False

    @property
    def local_id(self) -> int:
        """The message's number on this machine, which never changes."""
        return self.view.local_id

    async def accepted(self, timeout: float | None = None) -> Outgoing:
        """Wait until the message is on a majority's disks.

        Raises MessageFailedError where it was refused, MessageCancelledError where it was withdrawn, and
        StillWaitingError after `timeout`: then it stays in the outbox and goes out by itself.
        """
        try:
            async with asyncio.timeout(timeout):
                await self._settled.wait()
        except TimeoutError:
            raise StillWaitingError(
                "The message is not on a majority's disks yet. It is kept in the outbox on this machine and goes out "
                "by itself, once, as soon as the cluster can take it."
            ) from None
        if self._cancelled:
            raise MessageCancelledError("The message was withdrawn before it was sent. Nobody will get it.")
        if self.view.status is MessageStatus.FAILED:
            raise MessageFailedError(self.view.detail or "The cluster refused this message. It was not sent.")
        return self.view

    def update(self, view: Outgoing) -> None:
        """Take in a newer state; called by the client."""
        self.view = view
        if view.status in FINAL:
            self._settled.set()

    def withdraw(self) -> None:
        """Note that the message was cancelled; called by the client."""
        self._cancelled = True
        self._settled.set()
