"""The observable state of a client, and how watchers follow it.

Watchers are notified of a change and read the latest state. A slow watcher misses intermediate states but never the
last one, so no queue grows. Changes of own messages coalesce per message. If more than MAX_PENDING of them gather, the
watcher is told to read its list again instead.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from typing import Any

from parley.client_state import ClientState
from parley.model import Account, Conversation, Outgoing, Receipt
from parley.presence_model import Typing

MAX_PENDING = 4096


@dataclass(frozen=True, slots=True)
class Changes:
    """What changed since the watcher last looked.

    `outgoing`: own messages in their newest state. `removed`: local ids of withdrawn messages. `receipts`: moved marks
    of other members. `accounts`, `conversations`: new or changed ones. Conversations hold kind, title, members and
    marks, but not `last` and `unread`. `typing`: who types now. `inbox`: messages arrived, or another device sent some.
    `reload`: too many changes, read the lists again. `anew`: so is it because the cluster was restored; ids that were
    told before may mean others now. `others`: another process of this account wrote to the file on this machine,
    perhaps read positions or drafts.
    """

    state: ClientState
    outgoing: tuple[Outgoing, ...] = ()
    removed: tuple[int, ...] = ()
    receipts: tuple[Receipt, ...] = ()
    accounts: tuple[Account, ...] = ()
    conversations: tuple[Conversation, ...] = ()
    typing: tuple[Typing, ...] = ()
    inbox: bool = False
    reload: bool = False
    anew: bool = False
    others: bool = False


class _Watcher:
    """The changes that one watcher has not seen yet."""

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
        self._typing: dict[Typing, None] = {}
        self._inbox = False
        self._reload = False
        self._anew = False
        self._others = False

    def note(self, change: Changes) -> None:
        if change.anew:
            self._clear()
        self._anew = self._anew or change.anew
        self._others = self._others or change.others
        for message in change.outgoing:
            self._outgoing[message.local_id] = message
        for local_id in change.removed:
            self._outgoing.pop(local_id, None)
            self._removed.add(local_id)
        self._receipts.update({(r.conversation_id, r.account_id): r for r in change.receipts})
        self._accounts.update({account.id: account for account in change.accounts})
        self._conversations.update({conversation.id: conversation for conversation in change.conversations})
        self._typing.update(dict.fromkeys(change.typing))
        self._inbox = self._inbox or change.inbox
        self._reload = self._reload or change.reload
        lists = (self._outgoing, self._removed, self._receipts, self._accounts, self._conversations, self._typing)
        if sum(map(len, lists)) > MAX_PENDING:
            inbox, anew, others = self._inbox, self._anew, self._others
            self._clear()
            self._inbox, self._reload, self._anew, self._others = inbox, True, anew, others
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
            tuple(self._typing),
            self._inbox,
            self._reload,
            self._anew,
            self._others,
        )
        self._clear()
        return taken


class StatePublisher:
    """Holds the state. It lives on the event loop."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns the time for `last_heard`."""
        self._state = ClientState()
        self._clock = clock
        self._last_heard: float | None = None
        self._shown: ClientState | None = None  # the state with `last_heard`, until one of them changes
        self._watchers: set[_Watcher] = set()

    @property
    def state(self) -> ClientState:
        """Return the present state."""
        if self._shown is None:  # every send asks, and a copy takes longer than the rest of it
            self._shown = replace(self._state, last_heard=self._last_heard)
        return self._shown

    @property
    def watched(self) -> bool:
        """Return true if somebody watches. Details that nobody reads need not be fetched."""
        return any(watcher.details for watcher in self._watchers)

    def heard(self) -> None:
        """Record that a node sent something. This does not wake watchers, because it happens all the time."""
        self._last_heard = self._clock()
        self._shown = None

    def update(self, **changes: Any) -> None:
        """Replace fields of the state. Wake watchers if anything differs."""
        fresh = replace(self._state, **changes)
        if fresh != self._state:
            self._state = fresh
            self._shown = None
            self._note(Changes(fresh))

    def changed(
        self,
        *,
        outgoing: tuple[Outgoing, ...] = (),
        removed: tuple[int, ...] = (),
        receipts: tuple[Receipt, ...] = (),
        accounts: tuple[Account, ...] = (),
        conversations: tuple[Conversation, ...] = (),
        typing: tuple[Typing, ...] = (),
        inbox: bool = False,
    ) -> None:
        """Notify watchers of changes beside the state."""
        if self.watched and (outgoing or removed or receipts or accounts or conversations or typing or inbox):
            self._note(Changes(self._state, outgoing, removed, receipts, accounts, conversations, typing, inbox))

    def others_wrote(self) -> None:
        """Notify watchers that another process of the account wrote to the file, and perhaps received messages."""
        if self.watched:
            self._note(Changes(self._state, inbox=True, others=True))

    def begun_anew(self) -> None:
        """Notify watchers that ids that were told before may mean others now."""
        if self.watched:
            self._note(Changes(self._state, reload=True, anew=True))

    async def watch(self, *, details: bool = True) -> AsyncGenerator[Changes, None]:
        """Yield at once, and then whenever something changed. Without `details`, only the state is watched."""
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


class AccountVoice:
    """The publisher as one account uses it. It tells nothing any more once another account is in use."""

    def __init__(self, publisher: StatePublisher) -> None:
        self._publisher = publisher
        self._is_silent = False

    def silence(self) -> None:
        """Tell nothing from now on. What the account stored a moment ago is reported later than that."""
        self._is_silent = True

    @property
    def state(self) -> ClientState:
        """Return the present state."""
        return self._publisher.state

    @property
    def watched(self) -> bool:
        """Return true if somebody watches what this account tells."""
        return not self._is_silent and self._publisher.watched

    def heard(self) -> None:
        """Record that a node sent something."""
        if not self._is_silent:
            self._publisher.heard()

    def update(self, **changes: Any) -> None:
        """Replace fields of the state."""
        if not self._is_silent:
            self._publisher.update(**changes)

    def changed(self, **changes: Any) -> None:
        """Notify watchers of changes beside the state."""
        if not self._is_silent:
            self._publisher.changed(**changes)

    def others_wrote(self) -> None:
        """Notify watchers that another process of the account wrote to the file."""
        if not self._is_silent:
            self._publisher.others_wrote()

    def begun_anew(self) -> None:
        """Notify watchers that ids that were told before may mean others now."""
        if not self._is_silent:
            self._publisher.begun_anew()

    def watch(self, *, details: bool = True) -> AsyncGenerator[Changes, None]:
        """Yield at once, and then whenever something changed."""
        return self._publisher.watch(details=details)
