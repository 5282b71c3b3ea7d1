"""Everything the window shows, folded from what the SDK tells. The one observable state; views only draw it.

Pure and single-threaded: `fold` takes one event and tells the listener what changed. Unread counts come from the
cluster's list plus what arrived since; the person's own read mark, which is newer here than anywhere, wins over both.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NewType, Protocol

from parley.gui import events
from parley.gui.thread import Edit, Thread
from parley.gui.words import preview
from parley.model import FINAL, ClientState, Conversation, Mark, Message, Outgoing, Phase, Status

Key = NewType("Key", str)

MAX_THREADS = 8


def key_of(peer: str) -> Key:
    """A conversation's key: names do not tell upper from lower case."""
    return Key(peer.casefold())


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the conversation list."""

    key: Key
    peer: str
    preview: str
    at_ms: int
    unread: int
    status: Status | None
    draft: bool
    deleted: bool


class Screen(Enum):
    """What fills the window."""

    SIGN_IN = auto()
    CHAT = auto()


class Listener(Protocol):
    """Told what to draw anew."""

    def screen_changed(self) -> None:
        """Sign-in or chat."""

    def lines_changed(self) -> None:
        """The conversation list."""

    def thread_edited(self, key: Key, edits: list[Edit]) -> None:
        """Rows of a conversation."""

    def status_changed(self) -> None:
        """The quiet line."""

    def reconnected(self) -> None:
        """A session began: what could not be fetched before may be asked for again."""

    def draft_arrived(self, key: Key, body: str) -> None:
        """What was half typed."""

    def accounts_found(self, prefix: str, names: tuple[str, ...]) -> None:
        """Completions of a name."""

    def refused(self, refusal: events.Refused) -> None:
        """Something was not done."""

    def noticed(self, key: Key, messages: tuple[Message, ...]) -> None:
        """Messages of others came while nobody looked."""


@dataclass(slots=True)
class _Talk:
    """What the list knows of one conversation."""

    peer: str
    conversation_id: int = 0
    last: Message | None = None
    deleted: bool = False
    unread_listed: int = 0
    listed_up_to: int = 0
    read_up_to: int = 0
    arrived: list[int] = field(default_factory=list)
    open: dict[int, Outgoing] = field(default_factory=dict)
    own: Outgoing | None = None
    mark: Mark = field(default_factory=lambda: Mark(0, 0, 0))
    draft: str = ""
    draft_unsaved: bool = False

    @property
    def unread(self) -> int:
        """What the cluster listed and what came since."""
        listed = self.unread_listed if self.read_up_to < self.listed_up_to else 0
        return listed + len(self.arrived)

    def latest(self) -> tuple[str, int, Status | None]:
        """What was said last: its text, when, and what is known of it where it is an own one."""
        last, own = self.last, self.own
        if own is not None and not own.message_id and (last is None or own.created_at_ms >= last.sent_at_ms):
            return own.body, own.created_at_ms, own.status
        if own is not None and own.message_id and (last is None or own.message_id >= last.id):
            return own.body, own.sent_at_ms, self.known(own.message_id)
        if last is None:
            return "", 0, None
        return last.body, last.sent_at_ms, self.known(last.id) if last.mine else None

    def known(self, message_id: int) -> Status:
        """How far the other party has come with an own message."""
        if message_id <= self.mark.read_up_to:
            return Status.READ
        return Status.DELIVERED if message_id <= self.mark.delivered_up_to else Status.ACCEPTED

    def read(self, up_to: int) -> None:
        """The person has seen everything up to here."""
        self.read_up_to = max(self.read_up_to, up_to)
        self.arrived = [message_id for message_id in self.arrived if message_id > self.read_up_to]


class Desk:
    """The observable state."""

    def __init__(self, listener: Listener) -> None:
        """Nobody is signed in."""
        self._listener = listener
        self.screen = Screen.SIGN_IN
        self.account = ""
        self.state = ClientState()
        self.reason = ""
        self.open_key: Key | None = None
        self.attentive = False
        self._talks: dict[Key, _Talk] = {}
        self._threads: dict[Key, Thread] = {}
        self._loading: set[tuple[Key, int]] = set()
        self._stalled: set[tuple[Key, int]] = set()

    # ---- what can be seen

    def lines(self) -> list[Line]:
        """The conversation list, the latest first."""
        lines = [self._line(key, talk) for key, talk in self._talks.items()]
        return sorted(lines, key=lambda line: (-line.at_ms, line.key))

    def thread(self, key: Key) -> Thread | None:
        """The rows of a conversation that was opened."""
        return self._threads.get(key)

    def peer(self, key: Key) -> str:
        """The name as its owner writes it."""
        talk = self._talks.get(key)
        return talk.peer if talk is not None else key

    def draft(self, key: Key) -> str:
        """What is half typed."""
        talk = self._talks.get(key)
        return talk.draft if talk is not None else ""

    @property
    def unread(self) -> int:
        """Unread messages in all conversations."""
        return sum(talk.unread for talk in self._talks.values())

    # ---- what the person does

    def open(self, peer: str) -> tuple[Key, bool]:
        """Shows a conversation; returns its key and whether its history has to be fetched."""
        key = key_of(peer)
        talk = self._talks.setdefault(key, _Talk(peer))
        self.leave()
        known = key in self._threads
        thread = self._threads.pop(key, None) or Thread(self.account, talk.peer)
        self._threads[key] = thread
        while len(self._threads) > MAX_THREADS:
            del self._threads[next(iter(self._threads))]
        self.open_key = key
        if not known:
            thread.move_marks(talk.mark)
            thread.update(talk.open.values())
        thread.set_divider(talk.read_up_to if talk.unread else None)
        self._listener.lines_changed()
        return key, thread.verified_from is None

    def leave(self) -> None:
        """Nobody looks at the open conversation any more."""
        if self.open_key is not None and (thread := self._threads.get(self.open_key)) is not None:
            thread.set_divider(None)
            thread.trim()
        self.open_key = None

    def saw(self, key: Key, up_to: int) -> int | None:
        """The person has seen a conversation up to a message; returns its id where the cluster should be told."""
        talk, thread = self._talks.get(key), self._threads.get(key)
        if talk is None or thread is None or up_to <= talk.read_up_to or not thread.conversation_id:
            return None
        talk.read(up_to)
        self._listener.lines_changed()
        return thread.conversation_id

    def unread_in(self, key: Key) -> int:
        """Unread messages of one conversation."""
        talk = self._talks.get(key)
        return talk.unread if talk is not None else 0

    def keep_draft(self, key: Key, body: str) -> bool:
        """Notes what is half typed; false if that is no news."""
        talk = self._talks.get(key)
        if talk is None or talk.draft == body:
            return False
        talk.draft, talk.draft_unsaved = body, True
        return True

    def draft_unsaved(self, key: Key) -> bool:
        """Whether the draft changed since this was asked last."""
        talk = self._talks.get(key)
        if talk is None or not talk.draft_unsaved:
            return False
        talk.draft_unsaved = False
        return True

    def draft_sent(self, key: Key) -> None:
        """The draft became a message; what it said is forgotten durably once the message is durable."""
        talk, thread = self._talks.get(key), self._threads.get(key)
        if talk is not None:
            talk.draft, talk.draft_unsaved = "", False
        if thread is not None:
            self._tell(key, thread.set_divider(None))

    def return_to_draft(self, peer: str, body: str) -> str:
        """A text that was not taken, put before what is half typed; returns all of it."""
        talk = self._talks.setdefault(key_of(peer), _Talk(peer))
        talk.draft = f"{body}\n{talk.draft}" if talk.draft else body
        self._listener.lines_changed()
        return talk.draft

    def wants_history(self, key: Key, first_visible_row: int) -> int | None:
        """The page to ask for, at most once at a time; None while there is nothing to fetch or no way to."""
        thread = self._threads.get(key)
        before = thread.wants_before(first_visible_row) if thread is not None else None
        if before is None or (key, before) in self._loading or (key, before) in self._stalled:
            return None
        self._loading.add((key, before))
        return before

    def history_pending(self, key: Key) -> bool:
        """Whether a page is on its way."""
        return any(loading == key for loading, _ in self._loading)

    # ---- what the SDK tells

    def fold(self, event: events.Event) -> None:
        """Takes in one event."""
        match event:
            case events.SignedIn(account):
                self._sign_in(account)
            case events.SignedOut(reason):
                self._sign_out(reason)
            case events.StateChanged(state):
                self._take_state(state)
            case events.OutgoingChanged(messages):
                self._take_outgoing(messages)
            case events.OutgoingRemoved(local_ids):
                self._take_removed(local_ids)
            case events.MarksMoved(marks):
                self._take_marks(marks)
            case events.Arrived(messages):
                self._take_arrived(messages)
            case events.ConversationsListed(conversations):
                self._take_list(conversations)
            case events.HistoryLoaded() | events.HistoryFailed():
                self._take_history(event)
            case events.DraftLoaded(peer, body):
                self._take_draft(key_of(peer), body)
            case events.AccountsFound(prefix, names):
                self._listener.accounts_found(prefix, names)
            case events.Refused():
                self._listener.refused(event)

    def _sign_in(self, account: str) -> None:
        self._forget()
        self.account = account
        self.reason = ""
        self.screen = Screen.CHAT
        self._listener.screen_changed()

    def _sign_out(self, reason: str) -> None:
        self._forget()
        self.reason = reason
        self.screen = Screen.SIGN_IN
        self._listener.screen_changed()

    def _forget(self) -> None:
        self._talks, self._threads = {}, {}
        self._loading, self._stalled = set(), set()
        self.open_key = None
        self.account = ""

    def _take_state(self, state: ClientState) -> None:
        back = state.phase is Phase.CONNECTED and self.state.phase is not Phase.CONNECTED
        self.state = state
        self._listener.status_changed()
        if back:
            self._stalled.clear()
            self._listener.reconnected()

    def _take_outgoing(self, messages: Iterable[Outgoing]) -> None:
        by_key: dict[Key, list[Outgoing]] = {}
        for one in messages:
            key = key_of(one.recipient)
            talk = self._talks.setdefault(key, _Talk(one.recipient))
            if one.status in FINAL and one.status is not Status.FAILED:
                talk.open.pop(one.local_id, None)
            else:
                talk.open[one.local_id] = one
            if talk.own is None or one.local_id >= talk.own.local_id:
                talk.own = one
            by_key.setdefault(key, []).append(one)
        for key, ones in by_key.items():
            if (thread := self._threads.get(key)) is not None:
                self._tell(key, thread.update(ones))
        if by_key:
            self._listener.lines_changed()

    def _take_removed(self, local_ids: tuple[int, ...]) -> None:
        gone = set(local_ids)
        for key, talk in self._talks.items():
            mine = gone & talk.open.keys()
            for local_id in mine:
                del talk.open[local_id]
            if talk.own is not None and talk.own.local_id in gone:
                talk.own = max(talk.open.values(), key=lambda one: one.local_id, default=None)
            if (thread := self._threads.get(key)) is not None:
                self._tell(key, thread.withdraw(local_ids))
        self._listener.lines_changed()

    def _take_marks(self, marks: tuple[Mark, ...]) -> None:
        by_id = {mark.conversation_id: mark for mark in marks}
        for key, talk in self._talks.items():
            mark = by_id.get(talk.conversation_id)
            if mark is None:
                continue
            talk.mark = mark
            if (thread := self._threads.get(key)) is not None:
                self._tell(key, thread.move_marks(mark))
        self._listener.lines_changed()

    def _take_arrived(self, messages: tuple[Message, ...]) -> None:
        by_key: dict[Key, list[Message]] = {}
        for message in messages:
            by_key.setdefault(key_of(message.peer), []).append(message)
        for key, ones in by_key.items():
            talk = self._talks.setdefault(key, _Talk(ones[0].peer))
            talk.conversation_id = ones[-1].conversation_id
            if talk.last is None or ones[-1].id > talk.last.id:
                talk.last = ones[-1]
            fresh = [m for m in ones if not m.mine and m.id > max(talk.listed_up_to, talk.read_up_to)]
            if fresh and not self._looking_at(key):
                self._begin_unread(key, talk)
            talk.arrived += [m.id for m in fresh]
            if (thread := self._threads.get(key)) is not None:
                self._tell(key, thread.arrive(ones))
            if fresh and not self._looking_at(key):
                self._listener.noticed(key, tuple(fresh))
        self._listener.lines_changed()

    def _begin_unread(self, key: Key, talk: _Talk) -> None:
        """The open conversation gets a new divider when somebody writes while nobody looks."""
        thread = self._threads.get(key)
        if key == self.open_key and thread is not None and not talk.unread:
            self._tell(key, thread.set_divider(thread.last_message_id))

    def _looking_at(self, key: Key) -> bool:
        return self.attentive and key == self.open_key

    def _take_list(self, conversations: Iterable[Conversation]) -> None:
        for listed in conversations:
            talk = self._talks.setdefault(key_of(listed.peer), _Talk(listed.peer))
            talk.peer, talk.deleted, talk.conversation_id = listed.peer, listed.peer_deleted, listed.id
            if listed.last is not None and (talk.last is None or listed.last.id >= talk.last.id):
                talk.last = listed.last
            up_to = listed.last.id if listed.last is not None else 0
            if up_to >= talk.listed_up_to:
                talk.unread_listed, talk.listed_up_to = listed.unread, up_to
                talk.arrived = [message_id for message_id in talk.arrived if message_id > up_to]
            talk.read(listed.read_up_to)
            talk.mark = Mark(
                listed.id,
                max(talk.mark.delivered_up_to, listed.peer_delivered_up_to),
                max(talk.mark.read_up_to, listed.peer_read_up_to),
            )
            key = key_of(listed.peer)
            if (thread := self._threads.get(key)) is not None:
                self._tell(key, thread.move_marks(talk.mark))
        self._listener.lines_changed()

    def _take_history(self, event: events.HistoryLoaded | events.HistoryFailed) -> None:
        key = key_of(event.peer)
        self._loading.discard((key, event.before))
        if isinstance(event, events.HistoryFailed):
            self._stalled.add((key, event.before))
            self._listener.thread_edited(key, [])
            return
        thread, talk = self._threads.get(key), self._talks.get(key)
        if thread is None or talk is None:
            return
        if event.page.cached and event.before:
            self._stalled.add((key, event.before))
        self._listener.thread_edited(key, thread.load(event.page, event.before))
        talk.conversation_id = talk.conversation_id or thread.conversation_id
        newest = event.page.messages[-1] if event.page.messages else None
        if newest is not None and (talk.last is None or newest.id > talk.last.id):
            talk.last = newest
            self._listener.lines_changed()

    def _take_draft(self, key: Key, body: str) -> None:
        talk = self._talks.get(key)
        if talk is not None and body and not talk.draft:
            talk.draft = body
            self._listener.draft_arrived(key, body)
            self._listener.lines_changed()

    def _tell(self, key: Key, edits: list[Edit]) -> None:
        if edits:
            self._listener.thread_edited(key, edits)

    def _line(self, key: Key, talk: _Talk) -> Line:
        text, at_ms, status = talk.latest()
        drafted = bool(talk.draft.strip()) and key != self.open_key
        return Line(
            key,
            talk.peer,
            preview(talk.draft if drafted else text),
            at_ms,
            talk.unread,
            None if drafted else status,
            drafted,
            talk.deleted,
        )
