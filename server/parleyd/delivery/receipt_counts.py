"""Counts of receipts in large channels: who is told, of which message, and how often.

A sender that is connected here is told about its newest message in each large channel, after marks of the channel have
moved, until all have read it. A channel is counted once in INTERVAL_S at most, however many marks moved meanwhile, and
counting has a bounded share of a node's time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NoReturn, Protocol

from parleyd.group.readers import StateReaders
from parleyd.machine.features import channel_counts
from parleyd.machine.features.channel_counts import SenderCounts

INTERVAL_S = 1.0
PAUSES = 20
"""A node pauses for so many times as long as it has counted: many large channels cost it a twentieth of its time."""
CHANNELS_AT_ONCE = 16
"""Channels that are counted in one interval. The others wait for the next one."""
MAX_SENDERS = 16_384
"""Senders of a node, each once for a channel. One beyond that is told nothing, and may ask.

Those in channels that are not large count too, because a channel may grow. They have no place beyond half of it.
"""


class ReceiptCounts:
    """The newest messages of the senders connected here, and the channels that have to be counted."""

    def __init__(self) -> None:
        self._newest: dict[int, dict[int, int]] = {}  # channel -> sender -> message id
        self._channels: dict[int, set[int]] = {}  # sender -> channels
        self._senders = 0
        self._due: dict[int, None] = {}  # in the order in which they became due
        self._is_due = asyncio.Event()
        self._told: dict[tuple[int, int], SenderCounts] = {}

    def sent(self, channel_id: int, account_id: int, message_id: int, *, is_large: bool) -> None:
        """Record the newest message of a connected account in a channel."""
        senders = self._newest.setdefault(channel_id, {})
        if account_id not in senders:
            if self._senders >= (MAX_SENDERS if is_large else MAX_SENDERS // 2):
                self._drop_empty(channel_id)
                return
            self._senders += 1
            self._channels.setdefault(account_id, set()).add(channel_id)
        senders[account_id] = max(message_id, senders.get(account_id, 0))

    def connected(self, account_id: int, newest: Mapping[int, int]) -> None:
        """Record what a device that has just connected sent before. It is told how far that has come."""
        for channel_id, message_id in newest.items():
            self.sent(channel_id, account_id, message_id, is_large=True)
            self._told.pop((channel_id, account_id), None)
            self.moved(channel_id)

    def moved(self, channel_id: int) -> None:
        """Record that marks of a channel moved, or that members left it."""
        if channel_id in self._newest:
            self._due[channel_id] = None
            self._is_due.set()

    def gone(self, account_id: int) -> None:
        """Forget an account that is connected no longer."""
        for channel_id in tuple(self._channels.get(account_id, ())):
            self._forget(channel_id, account_id)

    async def wait(self) -> None:
        """Wait until a channel has to be counted."""
        await self._is_due.wait()

    def take(self, limit: int) -> list[tuple[int, dict[int, int]]]:
        """Return the channels to count now, with the newest message of each sender."""
        taken = list(self._due)[:limit]
        for channel_id in taken:
            del self._due[channel_id]
        if not self._due:
            self._is_due.clear()
        return [(channel_id, dict(self._newest[channel_id])) for channel_id in taken if channel_id in self._newest]

    def is_news(self, counts: SenderCounts) -> bool:
        """Return whether the sender has not been told this. Forget a sender whose newest message all have read."""
        key = (counts.conversation_id, counts.account_id)
        newest = self._newest.get(counts.conversation_id, {}).get(counts.account_id)
        if newest is None or self._told.get(key) == counts:
            return False
        self._told[key] = counts
        if counts.is_final and newest == counts.message_id:
            self._forget(*key)
        return True

    def _forget(self, channel_id: int, account_id: int) -> None:
        if self._newest.get(channel_id, {}).pop(account_id, None) is not None:
            self._senders -= 1
        self._drop_empty(channel_id)
        self._told.pop((channel_id, account_id), None)
        channels = self._channels.get(account_id, set())
        channels.discard(channel_id)
        if not channels:
            self._channels.pop(account_id, None)

    def _drop_empty(self, channel_id: int) -> None:
        if not self._newest.get(channel_id):
            self._newest.pop(channel_id, None)
            self._due.pop(channel_id, None)


def pause_s(counted_s: float) -> float:
    """Return how long to wait after a round of counting that took so long."""
    return max(INTERVAL_S, PAUSES * counted_s)


class CountsReceiver(Protocol):
    """Takes the counts for the devices that are connected here."""

    @property
    def receipt_counts(self) -> ReceiptCounts:
        """Return what has to be counted."""

    def offer_counts(self, counted: Sequence[SenderCounts]) -> None:
        """Pass counts on to the senders."""


class ReceiptCounter:
    """Counts what is due, at a bounded rate."""

    def __init__(self, hub: CountsReceiver, readers: StateReaders) -> None:
        self._hub = hub
        self._readers = readers

    async def run(self) -> NoReturn:
        """Count until cancelled."""
        while True:
            await self._hub.receipt_counts.wait()
            began_at = time.monotonic()
            await self.count_due()
            await asyncio.sleep(pause_s(time.monotonic() - began_at))

    async def count_due(self) -> None:
        """Count the channels that are due, CHANNELS_AT_ONCE at most, and tell their senders."""
        for channel_id, newest in self._hub.receipt_counts.take(CHANNELS_AT_ONCE):
            counted = partial(channel_counts.count, conversation_id=channel_id, newest=newest)
            self._hub.offer_counts(await self._readers.run(counted))
