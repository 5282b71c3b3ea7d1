"""The state of the window: the conversations of the account in use, the account, and the state of the cluster.

Views only draw this state. `apply` applies one event and notifies the listener of the changes. `parley.chat` computes
conversations and threads.
"""

from collections.abc import Iterable
from dataclasses import replace
from enum import Enum, auto
from typing import Protocol, assert_never

from parley import Account, AccountPresence, Changes, ClientState, ConnectionState, LostMessage, Message, Target
from parley.chat import (
    Chats,
    ConversationItem,
    ConversationKey,
    Edit,
    ListChanged,
    Noticed,
    Output,
    Thread,
    ThreadEdited,
    ThreadReplaced,
    Typists,
    conversation_key,
    to_draw,
)
from parley.gui import events


class VisiblePage(Enum):
    """The page that fills the window."""

    SIGN_IN = auto()
    CHAT = auto()


class Listener(Protocol):
    """The object that redraws after changes."""

    def page_changed(self) -> None:
        """Show the sign-in page or the chat page."""

    def conversations_changed(self) -> None:
        """Redraw the conversation list."""

    def thread_edited(self, key: ConversationKey, edits: Iterable[Edit]) -> None:
        """Apply edits to the rows of a conversation."""

    def thread_replaced(self, key: ConversationKey) -> None:
        """Show all rows of a conversation again, because it has another key."""

    def begins_anew(self) -> None:
        """Store what the person has typed, because the conversations are shown anew."""

    def reopen(self, target: Target) -> None:
        """Open a conversation again."""

    def lost_changed(self, messages: tuple[LostMessage, ...]) -> None:
        """Show what the cluster does not have any more."""

    def status_changed(self) -> None:
        """Redraw the status bar."""

    def reconnected(self) -> None:
        """Request again what could not be fetched, because a session began."""

    def draft_arrived(self, key: ConversationKey, body: str) -> None:
        """Show a loaded draft."""

    def accounts_found(self, prefix: str, accounts: tuple[Account, ...]) -> None:
        """Show accounts whose names begin with `prefix`."""

    def presence_changed(self) -> None:
        """Show who types, or whether the other person is there."""

    def account_told(self, answer: events.AccountTold) -> None:
        """Show the answer to a request about the account."""

    def channels_told(self, answer: events.ChannelsTold) -> None:
        """Show the answer to a request about channels, or about who has a message."""

    def refused(self, refusal: events.Refused) -> None:
        """Show why something was not done."""

    def noticed(self, key: ConversationKey, messages: tuple[Message, ...]) -> None:
        """Notify the person of messages of others that arrived unseen."""


ANSWERING = (ConnectionState.CONNECTED, ConnectionState.SHARED)
"""While the connection is one of these, the cluster can be asked."""


class ChatAppState:
    """The observable state."""

    def __init__(self, listener: Listener) -> None:
        """Begin signed out."""
        self._listener = listener
        self.page = VisiblePage.SIGN_IN
        self.client_state = ClientState()
        self.reason = ""
        self.cluster_note = ""
        """What people should know of the cluster, beside the state of the connection."""
        self.chats = Chats()
        self.typists = Typists()
        self.presence: AccountPresence | None = None
        """Of the other account in the open conversation, as it was told last."""

    # ---- what can be seen

    @property
    def account(self) -> str:
        """Return the name of the account in use, or an empty string."""
        return self.chats.book.own_name

    @property
    def open_key(self) -> ConversationKey | None:
        """Return the key of the conversation that is shown, or None."""
        return self.chats.open_key

    @property
    def attentive(self) -> bool:
        """Return true while the person can be looking at the open conversation."""
        return self.chats.attentive

    @attentive.setter
    def attentive(self, attentive: bool) -> None:
        self.chats.attentive = attentive

    def items(self) -> list[ConversationItem]:
        """Return the conversation list, the latest first."""
        return self.chats.items()

    def open_thread(self) -> Thread | None:
        """Return the thread of the conversation that is shown, or None."""
        return self.chats.thread(self.open_key) if self.open_key is not None else None

    # ---- what the person does

    def open(self, target: str | Target | ConversationKey) -> tuple[ConversationKey, bool]:
        """Show a conversation. Return its key and whether its history has to be fetched."""
        key, fetch, out = self.chats.open(target)
        self._tell(out)
        return key, fetch

    def leave(self) -> None:
        """Show no conversation any more."""
        self.chats.leave()
        self._listener.conversations_changed()

    def redraw(self) -> None:
        """Make all rows again."""
        self._tell(self.chats.redraw())

    def saw(self, key: ConversationKey, up_to: int) -> int:
        """Record that the person has read a conversation up to a message.

        Return its id if the cluster should be told, otherwise 0.
        """
        conversation_id, out = self.chats.saw(key, up_to)
        self._tell(out)
        return conversation_id

    def divide(self, key: ConversationKey) -> None:
        """Put the unread divider above the first message that is unread now."""
        self._tell(self.chats.divide(key))

    def draft_sent(self, key: ConversationKey) -> None:
        """Remove the draft, which became a message."""
        self._tell(self.chats.draft_sent(key))

    def return_to_draft(self, target: Target, body: str) -> str:
        """Put a text that was not sent before the draft. Return the new draft."""
        draft, out = self.chats.return_to_draft(target, body)
        self._tell(out)
        return draft

    # ---- what the SDK tells

    def apply(self, event: events.Event) -> None:
        """Apply one event."""
        match event:
            case events.SignedIn(account):
                self._enter(VisiblePage.CHAT, account, "")
            case events.SignedOut(reason):
                self._enter(VisiblePage.SIGN_IN, "", reason)
            case events.StateChanged(state):
                self._take_state(state)
            case events.Changed(changes):
                self._take_changes(changes)
            case events.DraftLoaded(target, body):
                self._take_draft(target, body)
            case events.AccountsFound(prefix, accounts):
                self._tell(self.chats.take_accounts(accounts))
                self._listener.accounts_found(prefix, accounts)
            case events.PresenceTold(account_id, presence):
                self._take_presence(account_id, presence)
            case events.Refused():
                self._listener.refused(event)
            case (
                events.PasswordChanged()
                | events.DevicesListed()
                | events.HiddenTold()
                | events.NameTold()
                | events.Unlocked()
                | events.RightsTold()
                | events.ClusterTold()
                | events.LeaderTold()
                | events.SuspensionTold()
                | events.InvitationMade()
                | events.InvitationWithdrawn()
            ):
                self._listener.account_told(event)
            case events.ClusterNoted(text):
                self.cluster_note = text
                self._listener.status_changed()
            case events.ChannelsListed() | events.ChannelJoined() | events.MembersTold() | events.ReceiptsTold():
                self._listener.channels_told(event)
            case _:
                self._tell(self._fold(event))

    def _fold(self, event: events.Folded) -> list[Output]:
        match event:
            case events.Learned(accounts, conversations):
                return [*self.chats.take_accounts(accounts), *self.chats.take_conversations(conversations)]
            case events.LostListed(messages):
                self._listener.lost_changed(messages)
                return self.chats.take_lost(messages)
            case events.OwnListed(own):
                return self.chats.take_outgoing(own)
            case events.Arrived(messages):
                self.typists.wrote(messages)
                self._listener.presence_changed()
                return self.chats.take_arrived(messages)
            case events.ConversationsListed(conversations):
                return self.chats.take_list(conversations)
            case events.ReadHere(positions):
                read = [self.chats.saw(conversation_key(id_), up_to) for id_, up_to in positions.items()]
                return [one for _, out in read for one in out]
            case events.HistoryLoaded(target, before_id, page):
                return self.chats.load(target, before_id, page)
            case events.HistoryFailed(target, before_id):
                return self.chats.load_failed(target, before_id)
            case _:
                assert_never(event)

    def _enter(self, page: VisiblePage, account: str, reason: str) -> None:
        """Change the page. Another account sees no data of the account before."""
        self.chats = Chats(account)
        self.chats.take_answering(answering=self.client_state.connection in ANSWERING)
        self.typists, self.presence = Typists(), None
        self.page, self.reason, self.cluster_note = page, reason, ""
        self._listener.page_changed()

    def _take_changes(self, changes: Changes) -> None:
        if changes.anew:
            self._begin_anew()
        self._take_state(changes.state)
        self._tell(self.chats.changed(replace(changes, anew=False)))
        if changes.typing:
            self.typists.take(changes.typing)
            self._listener.presence_changed()

    def _begin_anew(self) -> None:
        """Forget what ids meant, because the cluster was restored. Open the same conversation again by its name."""
        self._listener.begins_anew()
        target = None if self.open_key is None else self.chats.target(self.open_key)
        self.chats.begin_anew()
        self.presence = None
        self._listener.page_changed()
        if target is not None and target.account:
            self._listener.reopen(target)

    def _take_state(self, state: ClientState) -> None:
        if state == self.client_state:
            return
        before, self.client_state = self.client_state.connection, state
        self._listener.status_changed()
        if state.connection is before:
            return
        self._tell(self.chats.take_answering(answering=state.connection in ANSWERING))
        if state.connection in ANSWERING:
            self._listener.reconnected()

    def _take_presence(self, account_id: int, presence: AccountPresence | None) -> None:
        if self.open_key is not None and account_id == self.chats.partner_id(self.open_key):
            self.presence = presence
            self._listener.presence_changed()

    def _take_draft(self, target: Target, body: str) -> None:
        out = self.chats.load_draft(target, body)
        if out:
            self._listener.draft_arrived(self.chats.key_of(target), body)
        self._tell(out)

    def _tell(self, out: list[Output]) -> None:
        for one in to_draw(out):
            match one:
                case ListChanged():
                    self._listener.conversations_changed()
                case ThreadEdited(key, edits):
                    self._listener.thread_edited(key, edits)
                case ThreadReplaced(_, key):
                    self._listener.thread_replaced(key)
                case Noticed(key, messages):
                    self._listener.noticed(key, messages)
