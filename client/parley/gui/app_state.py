"""Everything the window shows, computed from what the SDK tells. The one observable state; views only draw it.

Pure and single-threaded: `apply` takes one event and tells the listener what changed. Unread counts come from the
cluster's list plus what arrived since; the person's own read position, newer here than anywhere, wins over both.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import NewType, Protocol

from parley.gui import events
from parley.gui.thread import Edit, Thread
from parley.gui.words import preview
from parley.model import FINAL, ClientState, ConnectionState, Conversation, Message, MessageStatus, Outgoing, Receipt

Key = NewType("Key", str)

MAX_THREADS = 8


def key_of(peer: str) -> Key:
    """A conversation's key: names do not tell upper from lower case."""
    return Key(peer.casefold())


@dataclass(frozen=True, slots=True)
class ConversationItem:
    """One item of the conversation list."""

    key: Key
    peer: str
    preview: str
    at_ms: int
    unread: int
    status: MessageStatus | None
    draft: bool
    deleted: bool


class VisiblePage(Enum):
    """What fills the window."""

    SIGN_IN = auto()
    CHAT = auto()


class Listener(Protocol):
    """Told what to draw anew."""

    def page_changed(self) -> None:
        """Sign-in or chat."""

    def conversations_changed(self) -> None:
        """The conversation list."""

    def thread_edited(self, key: Key, edits: list[Edit]) -> None:
        """Rows of a conversation."""

    def status_changed(self) -> None:
        """The status bar."""

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
class _ConversationState:
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
    receipt: Receipt = field(default_factory=lambda: Receipt(0, 0, 0))
    draft: str = ""
    draft_unsaved: bool = False

    @property
    def unread(self) -> int:
        """What the cluster listed and what came since."""
        listed = self.unread_listed if self.read_up_to < self.listed_up_to else 0
        return listed + len(self.arrived)

    def latest(self) -> tuple[str, int, MessageStatus | None]:
        """What was said last: its text, when, and what is known of it where it is an own one."""
        last, own = self.last, self.own
        if own is not None and not own.message_id and (last is None or own.created_at_ms >= last.sent_at_ms):
            return own.body, own.created_at_ms, own.status
        if own is not None and own.message_id and (last is None or own.message_id >= last.id):
            return own.body, own.sent_at_ms, self.known(own.message_id)
        if last is None:
            return "", 0, None
        return last.body, last.sent_at_ms, self.known(last.id) if last.mine else None

    def known(self, message_id: int) -> MessageStatus:
        """How far the other party has come with an own message."""
        if message_id <= self.receipt.read_up_to:
            return MessageStatus.READ
        return MessageStatus.DELIVERED if message_id <= self.receipt.delivered_up_to else MessageStatus.ACCEPTED

    def read(self, up_to: int) -> None:
        """The person has seen everything up to here."""
        self.read_up_to = max(self.read_up_to, up_to)
        self.arrived = [message_id for message_id in self.arrived if message_id > self.read_up_to]


class ChatAppState:
    """The observable state."""

    def __init__(self, listener: Listener) -> None:
        """Nobody is signed in."""
        self._listener = listener
        self.page = VisiblePage.SIGN_IN
        self.account = ""
        self.client_state = ClientState()
        self.reason = ""
        self.open_key: Key | None = None
        self.attentive = False
        self._conversations: dict[Key, _ConversationState] = {}
        self._threads: dict[Key, Thread] = {}
        self._loading: set[tuple[Key, int]] = set()
        self._stalled: set[tuple[Key, int]] = set()

    # ---- what can be seen

    def items(self) -> list[ConversationItem]:
        """The conversation list, the latest first."""
        items = [self._item(key, conversation) for key, conversation in self._conversations.items()]
        return sorted(items, key=lambda item: (-item.at_ms, item.key))

    def thread(self, key: Key) -> Thread | None:
        """The rows of a conversation that was opened."""
        return self._threads.get(key)

    def peer(self, key: Key) -> str:
        """The name as its owner writes it."""
        conversation = self._conversations.get(key)
        return conversation.peer if conversation is not None else key

    def draft(self, key: Key) -> str:
        """What is half typed."""
        conversation = self._conversations.get(key)
        return conversation.draft if conversation is not None else ""

    @property
    def unread(self) -> int:
        """Unread messages in all conversations."""
        return sum(conversation.unread for conversation in self._conversations.values())

    # ---- what the person does

    def open(self, peer: str) -> tuple[Key, bool]:
        """Shows a conversation; returns its key and whether its history has to be fetched."""
        key = key_of(peer)
        conversation = self._conversations.setdefault(key, _ConversationState(peer))
        self.leave()
        known = key in self._threads
        thread = self._threads.pop(key, None) or Thread(self.account, conversation.peer)
        self._threads[key] = thread
        while len(self._threads) > MAX_THREADS:
            del self._threads[next(iter(self._threads))]
        self.open_key = key
        if not known:
            thread.move_receipts(conversation.receipt)
            thread.update(conversation.open.values())
        thread.set_divider(conversation.read_up_to if conversation.unread else None)
        self._listener.conversations_changed()
        return key, thread.verified_from is None

    def leave(self) -> None:
        """Nobody looks at the open conversation any more."""
        if self.open_key is not None and (thread := self._threads.get(self.open_key)) is not None:
            thread.set_divider(None)
            thread.trim()
        self.open_key = None

    def saw(self, key: Key, up_to: int) -> int | None:
        """The person has seen a conversation up to a message; returns its id where the cluster should be told."""
        conversation, thread = self._conversations.get(key), self._threads.get(key)
        if conversation is None or thread is None or up_to <= conversation.read_up_to or not thread.conversation_id:
            return None
        conversation.read(up_to)
        self._listener.conversations_changed()
        return thread.conversation_id

    def unread_in(self, key: Key) -> int:
        """Unread messages of one conversation."""
        conversation = self._conversations.get(key)
        return conversation.unread if conversation is not None else 0

    def keep_draft(self, key: Key, body: str) -> bool:
        """Notes what is half typed; false if that is no news."""
        conversation = self._conversations.get(key)
        if conversation is None or conversation.draft == body:
            return False
        conversation.draft, conversation.draft_unsaved = body, True
        return True

    def draft_unsaved(self, key: Key) -> bool:
        """Whether the draft changed since this was asked last."""
        conversation = self._conversations.get(key)
        if conversation is None or not conversation.draft_unsaved:
            return False
        conversation.draft_unsaved = False
        return True

    def draft_sent(self, key: Key) -> None:
        """The draft became a message; what it said is forgotten durably once the message is durable."""
        conversation, thread = self._conversations.get(key), self._threads.get(key)
        if conversation is not None:
            conversation.draft, conversation.draft_unsaved = "", False
        if thread is not None:
            self._tell(key, thread.set_divider(None))

    def return_to_draft(self, peer: str, body: str) -> str:
        """A text that was not taken, put before what is half typed; returns all of it."""
        conversation = self._conversations.setdefault(key_of(peer), _ConversationState(peer))
        conversation.draft = f"{body}\n{conversation.draft}" if conversation.draft else body
        self._listener.conversations_changed()
        return conversation.draft

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

    def apply(self, event: events.Event) -> None:
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
            case events.ReceiptsMoved(receipts):
                self._take_receipts(receipts)
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
        self.page = VisiblePage.CHAT
        self._listener.page_changed()

    def _sign_out(self, reason: str) -> None:
        self._forget()
        self.reason = reason
        self.page = VisiblePage.SIGN_IN
        self._listener.page_changed()

    def _forget(self) -> None:
        self._conversations, self._threads = {}, {}
        self._loading, self._stalled = set(), set()
        self.open_key = None
        self.account = ""

    def _take_state(self, state: ClientState) -> None:
        back = (
            state.connection is ConnectionState.CONNECTED
            and self.client_state.connection is not ConnectionState.CONNECTED
        )
        self.client_state = state
        self._listener.status_changed()
        if back:
            self._stalled.clear()
            self._listener.reconnected()

    def _take_outgoing(self, messages: Iterable[Outgoing]) -> None:
        by_key: dict[Key, list[Outgoing]] = {}
        for one in messages:
            key = key_of(one.recipient)
            conversation = self._conversations.setdefault(key, _ConversationState(one.recipient))
            if one.status in FINAL and one.status is not MessageStatus.FAILED:
                conversation.open.pop(one.local_id, None)
            else:
                conversation.open[one.local_id] = one
            if conversation.own is None or one.local_id >= conversation.own.local_id:
                conversation.own = one
            by_key.setdefault(key, []).append(one)
        for key, ones in by_key.items():
            if (thread := self._threads.get(key)) is not None:
                self._tell(key, thread.update(ones))
        if by_key:
            self._listener.conversations_changed()

    def _take_removed(self, local_ids: tuple[int, ...]) -> None:
        gone = set(local_ids)
        for key, conversation in self._conversations.items():
            mine = gone & conversation.open.keys()
            for local_id in mine:
                del conversation.open[local_id]
            if conversation.own is not None and conversation.own.local_id in gone:
                conversation.own = max(conversation.open.values(), key=lambda one: one.local_id, default=None)
            if (thread := self._threads.get(key)) is not None:
                self._tell(key, thread.withdraw(local_ids))
        self._listener.conversations_changed()

    def _take_receipts(self, receipts: tuple[Receipt, ...]) -> None:
        by_id = {receipt.conversation_id: receipt for receipt in receipts}
        for key, conversation in self._conversations.items():
            receipt = by_id.get(conversation.conversation_id)
            if receipt is None:
                continue
            conversation.receipt = receipt
            if (thread := self._threads.get(key)) is not None:
                self._tell(key, thread.move_receipts(receipt))
        self._listener.conversations_changed()

    def _take_arrived(self, messages: tuple[Message, ...]) -> None:
        by_key: dict[Key, list[Message]] = {}
        for message in messages:
            by_key.setdefault(key_of(message.peer), []).append(message)
        for key, ones in by_key.items():
            conversation = self._conversations.setdefault(key, _ConversationState(ones[0].peer))
            conversation.conversation_id = ones[-1].conversation_id
            if conversation.last is None or ones[-1].id > conversation.last.id:
                conversation.last = ones[-1]
            fresh = [m for m in ones if not m.mine and m.id > max(conversation.listed_up_to, conversation.read_up_to)]
            if fresh and not self._looking_at(key):
                self._begin_unread(key, conversation)
            conversation.arrived += [m.id for m in fresh]
            if (thread := self._threads.get(key)) is not None:
                self._tell(key, thread.arrive(ones))
            if fresh and not self._looking_at(key):
                self._listener.noticed(key, tuple(fresh))
        self._listener.conversations_changed()

    def _begin_unread(self, key: Key, conversation: _ConversationState) -> None:
        """The open conversation gets a new divider when somebody writes while nobody looks."""
        thread = self._threads.get(key)
        if key == self.open_key and thread is not None and not conversation.unread:
            self._tell(key, thread.set_divider(thread.last_message_id))

    def _looking_at(self, key: Key) -> bool:
        return self.attentive and key == self.open_key

    def _take_list(self, conversations: Iterable[Conversation]) -> None:
        for listed in conversations:
            conversation = self._conversations.setdefault(key_of(listed.peer), _ConversationState(listed.peer))
            conversation.peer, conversation.deleted, conversation.conversation_id = (
                listed.peer,
                listed.peer_deleted,
                listed.id,
            )
            if listed.last is not None and (conversation.last is None or listed.last.id >= conversation.last.id):
                conversation.last = listed.last
            up_to = listed.last.id if listed.last is not None else 0
            if up_to >= conversation.listed_up_to:
                conversation.unread_listed, conversation.listed_up_to = listed.unread, up_to
                conversation.arrived = [message_id for message_id in conversation.arrived if message_id > up_to]
            conversation.read(listed.read_up_to)
            conversation.receipt = Receipt(
                listed.id,
                max(conversation.receipt.delivered_up_to, listed.peer_delivered_up_to),
                max(conversation.receipt.read_up_to, listed.peer_read_up_to),
            )
            key = key_of(listed.peer)
            if (thread := self._threads.get(key)) is not None:
                self._tell(key, thread.move_receipts(conversation.receipt))
        self._listener.conversations_changed()

    def _take_history(self, event: events.HistoryLoaded | events.HistoryFailed) -> None:
        key = key_of(event.peer)
        self._loading.discard((key, event.before))
        if isinstance(event, events.HistoryFailed):
            self._stalled.add((key, event.before))
            self._listener.thread_edited(key, [])
            return
        thread, conversation = self._threads.get(key), self._conversations.get(key)
        if thread is None or conversation is None:
            return
        if event.page.cached and event.before:
            self._stalled.add((key, event.before))
        self._listener.thread_edited(key, thread.load(event.page, event.before))
        conversation.conversation_id = conversation.conversation_id or thread.conversation_id
        newest = event.page.messages[-1] if event.page.messages else None
        if newest is not None and (conversation.last is None or newest.id > conversation.last.id):
            conversation.last = newest
            self._listener.conversations_changed()

    def _take_draft(self, key: Key, body: str) -> None:
        conversation = self._conversations.get(key)
        if conversation is not None and body and not conversation.draft:
            conversation.draft = body
            self._listener.draft_arrived(key, body)
            self._listener.conversations_changed()

    def _tell(self, key: Key, edits: list[Edit]) -> None:
        if edits:
            self._listener.thread_edited(key, edits)

    def _item(self, key: Key, conversation: _ConversationState) -> ConversationItem:
        text, at_ms, status = conversation.latest()
        drafted = bool(conversation.draft.strip()) and key != self.open_key
        return ConversationItem(
            key,
            conversation.peer,
            preview(conversation.draft if drafted else text),
            at_ms,
            conversation.unread,
            None if drafted else status,
            drafted,
            conversation.deleted,
        )
