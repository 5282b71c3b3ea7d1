"""Folds the events of the SDK into conversations, threads and unread counts. No other module computes these.

Pure and single-threaded. Every method records an event and returns what a front end has to draw again.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby

from parley.chat.accounts import AccountBook
from parley.chat.conversations import Conversations
from parley.chat.item import ConversationItem
from parley.chat.keys import ConversationKey, conversation_key
from parley.chat.known import Known, named_in
from parley.chat.outputs import ListChanged, Noticed, Output, ThreadEdited, ThreadReplaced
from parley.chat.paging import Paging
from parley.chat.previews import marked, preview
from parley.chat.rows import Edit
from parley.chat.standing import Standing
from parley.chat.thread import Thread
from parley.chat.threads import Threads
from parley.chat.titles import row_text
from parley.model import Account, Conversation, HistoryPage, LostMessage, Message, Outgoing, Receipt, Target
from parley.receipts import Progress, progress, with_progress
from parley.state_publisher import Changes


class Chats:
    """The conversations of one account."""

    def __init__(self, own_name: str = "") -> None:
        """Begin empty. `own_name` is the account that is signed in."""
        self.book = AccountBook(own_name)
        self.conversations = Conversations(self.book)
        self.paging = Paging()
        self.open_key: ConversationKey | None = None
        self.attentive = False
        self._threads = Threads()
        self._lost: tuple[LostMessage, ...] = ()

    def begin_anew(self) -> None:
        """Forget everything, because ids mean others now. No conversation is open any more."""
        self.book = AccountBook(self.book.own_name)
        self.conversations = Conversations(self.book)
        self.paging = Paging(answering=self.paging.answering)
        self.open_key = None
        self._threads, self._lost = Threads(), ()

    # ---- what can be seen

    def items(self) -> list[ConversationItem]:
        """Return the conversation list, the latest first, and what was put away at its end."""
        return self.conversations.items(self.open_key)

    def item(self, key: ConversationKey) -> ConversationItem:
        """Return one line of the list. The conversation need not be in it yet."""
        return self.conversations.item(key)

    def thread(self, key: ConversationKey) -> Thread | None:
        """Return the thread of a conversation that was opened, or None."""
        return self._threads.get(self.conversations.resolve(key))

    def key_of(self, target: str | Target) -> ConversationKey:
        """Return the key of the conversation of a target."""
        return self.conversations.key_of(target)

    def target(self, key: ConversationKey) -> Target:
        """Return the target for messages of a conversation."""
        return self.conversations.look(key).target(self.book)

    def title(self, key: ConversationKey) -> str:
        return self.conversations.look(key).title(self.book)

    def conversation_id(self, key: ConversationKey) -> int:
        """Return the id of a conversation, or 0 while it is not known."""
        return self.conversations.look(key).conversation_id

    def partner_id(self, key: ConversationKey) -> int:
        """Return the other account of a direct conversation; 0 for a channel, for notes, and if it is not known."""
        line = self.conversations.look(key)
        partner = None if line.channel else line.partner(self.book)
        return 0 if partner is None or partner.id == self.book.own_id else partner.id

    def standing(self, key: ConversationKey) -> Standing:
        """Return whether the person can write in a conversation, and whether anybody else is there."""
        return self.conversations.look(key).standing(self.book)

    def draft(self, key: ConversationKey) -> str:
        return self.conversations.look(key).draft

    def unread_in(self, key: ConversationKey) -> int:
        """Return the number of unread messages of one conversation."""
        return self.conversations.look(key).unread

    def notice(self, message: Message) -> str:
        """Return a new message in one line. In a channel it includes the name of the sender."""
        line = self.conversations.look(conversation_key(message.conversation_id))
        text = marked(row_text(message, self.book), urgent=message.urgent)
        return preview(f"{self.book.name(message.sender_id)}: {text}" if line.channel else text)

    def progress(self, one: Outgoing) -> Outgoing:
        """Return an own message with the status that the marks of the other members give it."""
        line = self.conversations.look(self.conversations.key_of_own(one))
        return with_progress(one, line.conversation, self.book.own_id)

    def counts(self, one: Outgoing) -> Progress:
        """Count how many other members of a channel have an own message. All are 0 for direct conversations."""
        line = self.conversations.look(self.conversations.key_of_own(one))
        if not line.channel or line.conversation is None or not one.message_id:
            return Progress()
        return progress(one.message_id, line.conversation, self.book.own_id)

    def read_up_to(self, key: ConversationKey) -> int:
        """Return up to which message the person has read a conversation."""
        return self.conversations.look(key).read_up_to

    @property
    def unread(self) -> int:
        """Return the number of unread messages in all conversations that are not put away."""
        return sum(line.unread for _, line in self.conversations if not line.put_away)

    @property
    def mentions(self) -> int:
        """Return the number of unread messages that name the own account, where nothing is put away."""
        return sum(len(line.mentions) for _, line in self.conversations if not line.put_away)

    # ---- what the person does

    def open(self, target: str | Target | ConversationKey) -> tuple[ConversationKey, bool, list[Output]]:
        """Show a conversation. Return its key and whether its history has to be fetched."""
        key = self.conversations.resolve(target) if isinstance(target, ConversationKey) else self.key_of(target)
        line = self.conversations.line(key)
        self.leave()
        thread, is_new = self._threads.open(key, lambda: Thread(self.book, line.conversation))
        self.open_key = key
        if is_new:
            thread.update(line.open.values())
        thread.set_lost(self._lost_of(key))  # also those that were trimmed
        thread.set_stuck(stuck=not self.paging.answering)
        thread.set_divider(line.read_up_to if line.unread else None)
        return key, thread.verified_from is None, [ListChanged()]

    def divide(self, key: ConversationKey) -> list[Output]:
        """Put the unread divider of a conversation above the first message that is unread now."""
        thread, line = self.thread(key), self.conversations.look(key)
        return [] if thread is None or not line.unread else self._edited(key, thread.set_divider(line.read_up_to))

    def leave(self) -> None:
        """Record that nobody looks at the open conversation any more."""
        if (thread := self._threads.get(self.open_key)) is not None:
            thread.set_divider(None)
            thread.trim()
        self.open_key = None

    def saw(self, key: ConversationKey, up_to: int) -> tuple[int, list[Output]]:
        """Record the read position. Return the conversation id if the cluster should be told, otherwise 0."""
        line, thread = self.conversations.get(key), self.thread(key)
        if line is None or up_to <= line.read_up_to or not line.conversation_id:
            return 0, []
        if thread is not None:
            line.unread_listed -= thread.count_unread(line.read_up_to, min(up_to, line.listed_up_to))
        line.read(up_to)
        return line.conversation_id, [ListChanged()]

    def keep_draft(self, key: ConversationKey, body: str) -> bool:
        """Record the draft. Return false if it is unchanged."""
        line = self.conversations.get(key)
        return line is not None and line.keep_draft(body)

    def ask_draft(self, key: ConversationKey) -> Target:
        """Record that the stored draft of a conversation is asked for now. Return the conversation."""
        line = self.conversations.line(key)
        line.draft_typed = line.draft_unsaved
        return line.target(self.book)

    def take_unsaved_draft(self, key: ConversationKey) -> bool:
        """Return true if the draft changed since the last call."""
        line = self.conversations.get(key)
        if line is None or not line.draft_unsaved:
            return False
        line.draft_unsaved = False
        return True

    def draft_sent(self, key: ConversationKey) -> list[Output]:
        """Remove the draft, which became a message. The stored draft is removed once the message is durable."""
        line, thread = self.conversations.get(key), self.thread(key)
        if line is not None:
            line.keep_draft("", unsaved=False)
        return self._edited(key, thread.set_divider(None) if thread is not None else [])

    def return_to_draft(self, target: Target, body: str) -> tuple[str, list[Output]]:
        """Put a text that was not sent before the draft. Return the new draft."""
        line = self.conversations.line(self.key_of(target))
        line.keep_draft(f"{body}\n{line.draft}" if line.draft else body, unsaved=False)
        return line.draft, [ListChanged()]

    def load_draft(self, target: Target, body: str) -> list[Output]:
        """Record a stored draft, unless something was typed since."""
        line = self.conversations.get(self.key_of(target))
        return [ListChanged()] if line is not None and line.take_stored_draft(body) else []

    def wants_history(self, key: ConversationKey, first_visible_row: int) -> int | None:
        """Return the page to request, at most once at a time, or None if there is nothing to fetch.

        While the cluster cannot be asked, this is a page that this device has.
        """
        key, thread = self.conversations.resolve(key), self.thread(key)
        return None if thread is None else self.paging.next_page(key, thread, first_visible_row)

    # ---- what the SDK tells

    def changed(self, changes: Changes) -> list[Output]:
        """Record the changes that a watcher of the client received."""
        if changes.anew:
            self.begin_anew()
        out = self.take_accounts(changes.accounts)
        out += self.take_conversations(changes.conversations)
        out += self.take_outgoing(changes.outgoing)
        out += self.take_removed(changes.removed)
        return out + self.take_receipts(changes.receipts)

    def take_answering(self, *, answering: bool) -> list[Output]:
        """Record whether the cluster can be asked for pages."""
        self.paging.take_answering(answering=answering)
        threads = self._threads.items()
        return [one for key, thread in threads for one in self._edited(key, thread.set_stuck(stuck=not answering))]

    def take_accounts(self, accounts: Iterable[Account]) -> list[Output]:
        """Record new accounts, or new names of known ones."""
        if not self.conversations.learn_accounts(accounts):
            return []
        return self._merge_keys() + self.redraw()

    def redraw(self) -> list[Output]:
        """Make all rows again, after a change of names or of the time zone."""
        edits = [one for key, thread in self._threads.items() for one in self._edited(key, thread.redraw())]
        return [*edits, ListChanged()]

    def take_conversations(self, conversations: Sequence[Conversation]) -> list[Output]:
        """Record what conversations are, and their members. `last` and `unread` are ignored."""
        if not conversations:
            return []
        for conversation in conversations:
            self.conversations.learn(conversation)
        out = self._merge_keys()
        for conversation in conversations:
            out += self._members_changed(conversation_key(conversation.id))
        return [*out, ListChanged()]

    def take_list(self, conversations: Sequence[Conversation]) -> list[Output]:
        """Record the whole list, as the cluster or this device has it."""
        out = self.take_conversations(conversations)
        for listed in conversations:
            self.conversations.line(conversation_key(listed.id)).take_listed(listed)
        return [*out, ListChanged()]

    def take_outgoing(self, messages: Iterable[Outgoing]) -> list[Output]:
        """Record newer states of own messages of this device."""
        out: list[Output] = []
        by_key: dict[ConversationKey, list[Outgoing]] = {}
        for one in messages:
            former, key = self.key_of(one.target), self.conversations.key_of_own(one)
            line = self.conversations.line(key)
            if former != key and line.partner(self.book) is None:
                self.conversations.alias(self.conversations.unresolved_key_of(one.target), key)
                if not former.conversation_id:
                    out += self._merge(former, key)
            line.take_own(one)
            by_key.setdefault(key, []).append(one)
        for key, ones in by_key.items():
            if (thread := self._threads.get(key)) is not None:
                out += self._edited(key, thread.update(ones))
        return [*out, ListChanged()] if by_key else []

    def take_removed(self, local_ids: Sequence[int]) -> list[Output]:
        """Remove own messages that were withdrawn."""
        if not local_ids:
            return []
        out: list[Output] = []
        for key, line in self.conversations:
            line.withdraw(set(local_ids))
            if (thread := self._threads.get(key)) is not None:
                out += self._edited(key, thread.withdraw(local_ids))
        return [*out, ListChanged()]

    def take_lost(self, messages: Sequence[LostMessage]) -> list[Output]:
        """Record which messages of this device the cluster does not have any more."""
        self._lost = tuple(messages)
        threads = self._threads.items()
        return [edited for key, one in threads for edited in self._edited(key, one.set_lost(self._lost_of(key)))]

    def _lost_of(self, key: ConversationKey) -> list[LostMessage]:
        return [one for one in self._lost if self.conversations.key_of_lost(one) == key]

    def take_receipts(self, receipts: Iterable[Receipt]) -> list[Output]:
        """Record new marks of other members."""
        moved = set()
        for receipt in receipts:
            line = self.conversations.get(conversation_key(receipt.conversation_id))
            if line is not None and line.move_mark(receipt) is not None:
                moved.add(receipt.conversation_id)
        out: list[Output] = [ListChanged()] if moved else []
        for conversation_id in sorted(moved):
            out += self._members_changed(conversation_key(conversation_id))
        return out

    def take_arrived(self, messages: Iterable[Message]) -> list[Output]:
        """Record messages that are new on this device, including own ones of other devices."""
        out: list[Output] = []
        ordered = sorted(messages, key=lambda message: (message.conversation_id, message.id))
        for conversation_id, group in groupby(ordered, key=lambda message: message.conversation_id):
            out += self._arrive(conversation_key(conversation_id), list(group))
        return [*out, ListChanged()] if ordered else []

    def _arrive(self, key: ConversationKey, messages: list[Message]) -> list[Output]:
        line, thread = self.conversations.line(key), self._threads.get(key)
        before = line.unread
        fresh = line.take_arrived(messages)
        looking = self.attentive and key == self.open_key
        out: list[Output] = []
        if fresh and not looking and not before and key == self.open_key and thread is not None:
            out += self._edited(key, thread.set_divider(thread.last_message_id))  # somebody writes while nobody looks
        line.count(fresh, messages, self.book)
        if thread is not None:
            out += self._edited(key, thread.arrive(messages))
        if (noticed := line.noticed(fresh)) and not looking:
            out.append(Noticed(key, noticed))
        return out

    def load(self, target: Target, before_id: int, page: HistoryPage) -> list[Output]:
        """Record a page of history. `before_id` is the requested place, 0 for the end."""
        asked = self.key_of(target)
        self.paging.came(asked, before_id)
        out: list[Output] = []
        if page.conversation is not None and page.conversation.id:
            out += self.take_conversations((page.conversation,))
        key = self.key_of(target)
        thread, line = self._threads.get(key), self.conversations.get(key)
        if line is not None and page.messages:
            line.conversation_id = line.conversation_id or page.messages[-1].conversation_id
            if line.take_last(page.messages[-1]) | line.read(page.read_up_to):
                out.append(ListChanged())
        if thread is None or line is None:
            return out
        if page.cached_because:
            self.paging.failed(key, before_id)
        edits = thread.set_stuck(stuck=bool(page.cached_because) or not self.paging.answering)
        return [*out, ThreadEdited(key, (*edits, *thread.load(page, before_id)))]

    def load_failed(self, target: Target, before_id: int) -> list[Output]:
        """Record that a page could not be loaded."""
        key = self.key_of(target)
        self.paging.failed(key, before_id)
        thread = self.thread(key)
        return [ThreadEdited(key, () if thread is None else tuple(thread.set_stuck(stuck=True)))]

    def look_up(
        self,
        known: Known,
        messages: Sequence[Message] = (),
        conversations: Sequence[Conversation] = (),
        conversation_ids: Iterable[int] = (),
    ) -> list[Output]:
        """Record all accounts and conversations that are named and known on this device."""
        accounts, found = named_in(
            known, messages=messages, conversations=conversations, conversation_ids=conversation_ids
        )
        return self.take_accounts(accounts) + self.take_conversations(found)

    # ---- inside

    def _merge_keys(self) -> list[Output]:
        out: list[Output] = []
        for former, key in self.conversations.superseded():
            out += self._merge(former, key)
        return out

    def _merge(self, former: ConversationKey, key: ConversationKey) -> list[Output]:
        self.conversations.merge(former, key)
        self.paging.forget(former)
        if self.open_key == former:
            self.open_key = key
        thread = self._threads.merge(former, key)
        if thread is None:
            return []
        line = self.conversations.line(key)
        if line.conversation is not None:
            thread.set_conversation(line.conversation)
        thread.set_lost(self._lost_of(key))
        return [ThreadReplaced(former, key)]

    def _members_changed(self, key: ConversationKey) -> list[Output]:
        thread, line = self._threads.get(key), self.conversations.get(key)
        if thread is None or line is None or line.conversation is None:
            return []
        return self._edited(key, thread.set_conversation(line.conversation))

    @staticmethod
    def _edited(key: ConversationKey, edits: list[Edit]) -> list[Output]:
        return [ThreadEdited(key, tuple(edits))] if edits else []
