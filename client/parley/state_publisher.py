"""The one observable state of a client, and how others watch it without slowing it down.

Everything a front end shows derives from here. Watchers are told that something changed and read the latest: states
coalesce, so a slow watcher misses steps but never the outcome, and nothing piles up. Changes of own messages
coalesce per message; when more than MAX_PENDING of them gather, the watcher is told to read its list again instead.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from typing import Any

from parley.model import ClientState, Outgoing, Receipt

MAX_PENDING = 4096


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened since the watcher last looked.

    `outgoing`: own messages in their newest state. `removed`: local ids of withdrawn ones. `receipts`: how far others
    have come. `inbox`: messages arrived or were sent from elsewhere. `reload`: too much happened; read the lists again.
    """

    state: ClientState
    outgoing: tuple[Outgoing, ...] = ()
    removed: tuple[int, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    inbox: bool = False
    reload: bool = False


class _Watcher:
    """What one watcher has not seen yet."""

    def __init__(self, *, details: bool) -> None:
        self.details = details
        self.ready = asyncio.Event()
        self.ready.set()
        self._outgoing: dict[int, Outgoing] = {}
        self._removed: set[int] = set()
        self._receipts: dict[int, Receipt] = {}
        self._inbox = False
        self._reload = False

    def note(self, change: Changes) -> None:
        for message in change.outgoing:
            self._outgoing[message.local_id] = message
        for local_id in change.removed:
            self._outgoing.pop(local_id, None)
            self._removed.add(local_id)
        for receipt in change.receipts:
            self._receipts[receipt.conversation_id] = receipt
        self._inbox = self._inbox or change.inbox
        self._reload = self._reload or change.reload
        if len(self._outgoing) + len(self._removed) + len(self._receipts) > MAX_PENDING:
            self._outgoing, self._removed, self._receipts = {}, set(), {}
            self._reload = True
        self.ready.set()

    def take(self, state: ClientState) -> Changes:
        self.ready.clear()
        taken = Changes(
            state,
            tuple(self._outgoing.values()),
            tuple(sorted(self._removed)),
            tuple(self._receipts.values()),
            self._inbox,
            self._reload,
        )
        self._outgoing, self._removed, self._receipts = {}, set(), {}
        self._inbox = self._reload = False
        return taken


class StatePublisher:
    """Holds the state; lives on the event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` stamps `last_heard`."""
        self._state = ClientState()
        self._clock = clock
        self._last_heard: float | None = None
        self._watchers: set[_Watcher] = set()

    @property
    def state(self) -> ClientState:
        """The state at this moment."""
        return replace(self._state, last_heard=self._last_heard)

    @property
    def watched(self) -> bool:
        """True while anybody watches, so that details nobody reads need not be fetched."""
        return any(watcher.details for watcher in self._watchers)

    def heard(self) -> None:
        """A node said something. Does not wake watchers: this happens all the time."""
        self._last_heard = self._clock()

    def update(self, **changes: Any) -> None:
        """Replaces fields of the state and wakes watchers if anything differs."""
        fresh = replace(self._state, **changes)
        if fresh != self._state:
            self._state = fresh
            self._note(Changes(fresh))

    def changed(
        self,
        *,
        outgoing: tuple[Outgoing, ...] = (),
        removed: tuple[int, ...] = (),
        receipts: tuple[Receipt, ...] = (),
        inbox: bool = False,
    ) -> None:
        """Tells watchers what changed beside the state."""
        if self.watched and (outgoing or removed or receipts or inbox):
            self._note(Changes(self._state, outgoing, removed, receipts, inbox))

    async def watch(self, *, details: bool = True) -> AsyncGenerator[Changes, None]:
        """Yields at once, and then whenever something changed. Without `details` only the state is watched."""
        watcher = _Watcher(details=details)
        self._watchers.add(watcher)
        try:
            while True:
                await watcher.ready.wait()
                yield watcher.take(self.state)
        finally:
            self._watchers.discard(watcher)

    def _note(self, change: Changes) -> None:
        state_only = not (change.outgoing or change.removed or change.receipts or change.inbox)
        for watcher in self._watchers:
            if watcher.details or state_only:
                watcher.note(change)
