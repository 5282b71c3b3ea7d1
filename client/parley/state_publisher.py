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

from parley.model import Account, ClientState, Conversation, Outgoing, Receipt

MAX_PENDING = 4096


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened since the watcher last looked.

    `outgoing`: own messages in their newest state. `removed`: local ids of withdrawn ones. `receipts`: how far other
    members have come. `accounts`, `conversations`: new or changed ones; of a conversation, the kind, title and
    members with their marks: `last` and `unread` are not filled in. `inbox`: messages arrived or were sent from
    elsewhere. `reload`: too much happened; read the lists again.
    """

    state: ClientState
    outgoing: tuple[Outgoing, ...] = ()
    removed: tuple[int, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    accounts: tuple[Account, ...] = ()
    conversations: tuple[Conversation, ...] = ()
    inbox: bool = False
    reload: bool = False


class _Watcher:
    """What one watcher has not seen yet."""

    def __init__(self, *, details: bool) -> None:
        self.details = details
        self.ready = asyncio.Event()
        self.ready.set()
        self._clear()

    def _clear(self) -> None:
        self._outgoing: dict[int, Outgoing] = {}
        self._removed: set[int] = set()
        self._receipts: dict[tuple[int, int], Receipt] = {}
        self._accounts: dict[int, Account] = {}
        self._conversations: dict[int, Conversation] = {}
        self._inbox = False
        self._reload = False

    def note(self, change: Changes) -> None:
        for message in change.outgoing:
            self._outgoing[message.local_id] = message
        for local_id in change.removed:
            self._outgoing.pop(local_id, None)
            self._removed.add(local_id)
        self._receipts.update({(r.conversation_id, r.account_id): r for r in change.receipts})
        self._accounts.update({account.id: account for account in change.accounts})
        self._conversations.update({conversation.id: conversation for conversation in change.conversations})
        self._inbox = self._inbox or change.inbox
        self._reload = self._reload or change.reload
        details = (self._outgoing, self._removed, self._receipts, self._accounts, self._conversations)
        if sum(map(len, details)) > MAX_PENDING:
            inbox = self._inbox
            self._clear()
            self._inbox, self._reload = inbox, True
        self.ready.set()

    def take(self, state: ClientState) -> Changes:
        self.ready.clear()
        taken = Changes(
            state,
            tuple(self._outgoing.values()),
            tuple(sorted(self._removed)),
            tuple(self._receipts.values()),
            tuple(self._accounts.values()),
            tuple(self._conversations.values()),
            self._inbox,
            self._reload,
        )
        self._clear()
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
        """Replace fields of the state and wakes watchers if anything differs."""
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
        accounts: tuple[Account, ...] = (),
        conversations: tuple[Conversation, ...] = (),
        inbox: bool = False,
    ) -> None:
        """Tell watchers what changed beside the state."""
        if self.watched and (outgoing or removed or receipts or accounts or conversations or inbox):
            self._note(Changes(self._state, outgoing, removed, receipts, accounts, conversations, inbox))

    async def watch(self, *, details: bool = True) -> AsyncGenerator[Changes, None]:
        """Yield at once, and then whenever something changed. Without `details` only the state is watched."""
        watcher = _Watcher(details=details)
        self._watchers.add(watcher)
        try:
            while True:
                await watcher.ready.wait()
                yield watcher.take(self.state)
        finally:
            self._watchers.discard(watcher)

    def _note(self, change: Changes) -> None:
        state_only = change == Changes(change.state)
        for watcher in self._watchers:
            if watcher.details or state_only:
                watcher.note(change)
