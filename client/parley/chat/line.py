"""The state behind one line of the conversation list.

Unread counts are those of the cluster's list plus the messages that arrived since. The read position of the person on
this device is newer than the cluster's and takes precedence over both.

An item of the list depends on the fields of its line, and on the accounts that it names. So `made` is valid until a
field is set, the contents of `open` or `mentions` change, or such an account changes.
"""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass, field, replace

from parley.chat.accounts import AccountBook
from parley.chat.item import ConversationItem
from parley.chat.previews import marked, preview
from parley.chat.standing import Standing, standing_of
from parley.chat.titles import EVERYONE_TITLE, conversation_title, direct_partner, partner_title, row_text
from parley.mentions import names_account
from parley.model import (
    EVERYONE,
    FINAL,
    MAX_UNREAD_MENTIONS,
    Account,
    Conversation,
    ConversationKind,
    Member,
    MemberRole,
    Message,
    MessageKind,
    MessageStatus,
    Outgoing,
    Receipt,
    Target,
)
from parley.receipts import progress


@dataclass(slots=True)
class ConversationLine:
    """One conversation. `account` is the name by which a direct conversation was opened while its id is not known.

    `mentions` are the ids of unread messages that name the own account, in order. `made` is the item of this line as it
    is while the conversation is not open, None if it has to be made.
    """

    account: str = ""
    account_id: int = 0
    conversation: Conversation | None = None
    conversation_id: int = 0
    last: Message | None = None
    unread_listed: int = 0
    listed_up_to: int = 0
    read_up_to: int = 0
    arrived: list[int] = field(default_factory=list)
    mentions: list[int] = field(default_factory=list)
    open: dict[int, Outgoing] = field(default_factory=dict)
    own: Outgoing | None = None
    draft: str = ""
    draft_unsaved: bool = False
    draft_typed: bool = False
    urgent_up_to: int = 0
    made: ConversationItem | None = None

    def __setattr__(self, name: str, value: object) -> None:
        """Set a field. The item has to be made again."""
        object.__setattr__(self, name, value)
        if name != "made":
            self._changed()

    def _changed(self) -> None:
        object.__setattr__(self, "made", None)

    @property
    def unread(self) -> int:
        """Return the number of unread messages: those the cluster listed and those that came since."""
        listed = max(0, self.unread_listed) if self.read_up_to < self.listed_up_to else 0
        return listed + len(self.arrived)

    @property
    def urgent(self) -> bool:
        """Return true if an urgent message that this device knows is unread."""
        return bool(self.unread) and self.urgent_up_to > self.read_up_to

    @property
    def is_empty(self) -> bool:
        """Return true if there is nothing but the name by which somebody opened it, or if all of it was removed."""
        known = self.conversation is not None and not self.removed_up_to
        return not (known or self.last or self.own or self.open or self.draft.strip())

    @property
    def removed_up_to(self) -> int:
        """Return up to which message the account has removed the conversation, or 0."""
        return 0 if self.conversation is None else self.conversation.removed_up_to

    def _forget_own_removed(self) -> None:
        if self.own is not None and 0 < self.own.message_id <= self.removed_up_to:
            self.own = max(self.open.values(), key=lambda one: one.local_id, default=None)

    @property
    def muted(self) -> bool:
        return self.conversation is not None and self.conversation.muted

    @property
    def newest(self) -> int:
        """Return the id of the newest message that is known here, or 0."""
        return max(self.last.id if self.last is not None else 0, self.own.message_id if self.own is not None else 0)

    @property
    def put_away(self) -> bool:
        """Return true while the conversation is left out of the list.

        Something newer brings it back, for a muted one only an unread message that is urgent or names the own account.
        Own messages that wait, or need the person, are never out of sight.
        """
        up_to = 0 if self.conversation is None else self.conversation.put_away_up_to
        if not up_to or self.open:
            return False
        is_named = bool(self.mentions) and self.mentions[-1] > up_to
        return self.newest <= up_to or (self.muted and not self.urgent and not is_named)

    def noticed(self, messages: Sequence[Message]) -> tuple[Message, ...]:
        """Return the messages of which a person is notified.

        Of a muted conversation these are the urgent ones, and those that name the own account.
        """
        return tuple(one for one in messages if one.urgent or not self.muted or one.id in self.mentions)

    def names_me(self, message: Message, book: AccountBook) -> bool:
        """Return whether a message of somebody else in a channel, or to everyone, names the own account."""
        if message.mine or message.kind is not MessageKind.TEXT or "@" not in message.body:
            return False
        is_shared = self.conversation_id == EVERYONE.conversation_id
        if self.conversation is not None:
            is_shared = self.conversation.is_shared
        return is_shared and names_account(message.body, book.own_name, lambda name: book.find(name) is not None)

    @property
    def channel(self) -> bool:
        return self.conversation is not None and self.conversation.kind is ConversationKind.CHANNEL

    def partner(self, book: AccountBook) -> Account | None:
        """Return the other account of a direct conversation, or None if it is not known here."""
        if self.conversation is not None and self.conversation.kind is ConversationKind.DIRECT:
            found = book.get(direct_partner(self.conversation.members, book.own_id))
            if found is not None:
                return found
        return book.get(self.account_id) if self.account_id else book.find(self.account) if self.account else None

    def depends_on(self, account_ids: Set[int]) -> bool:
        """Return true if one of these accounts may be named in the item of this line."""
        if self.conversation is None or self.account or self.account_id in account_ids:
            return True
        last = self.last
        if last is not None and (last.sender_id in account_ids or any(one in account_ids for one in last.subjects)):
            return True
        direct = self.conversation.kind is ConversationKind.DIRECT
        return direct and any(member.account_id in account_ids for member in self.conversation.members)

    def title(self, book: AccountBook) -> str:
        if self.conversation is not None and self.conversation.kind is not ConversationKind.DIRECT:
            return conversation_title(self.conversation, book)
        partner = self.partner(book)
        if partner is not None:
            return partner_title(partner.id, book)
        if self.conversation is not None:
            return conversation_title(self.conversation, book)
        if self.account:
            return book.label_of_name(self.account)
        if self.conversation_id == EVERYONE.conversation_id:
            return EVERYONE_TITLE
        return book.label(self.account_id) if self.account_id else f"Conversation #{self.conversation_id}"

    def target(self, book: AccountBook) -> Target:
        """Return the target of messages and drafts: the account by name while it exists, otherwise the conversation."""
        partner = self.partner(book)
        if partner is not None and not partner.deleted:
            return Target(account=partner.name)
        if self.conversation_id:
            return Target(conversation_id=self.conversation_id)
        return Target(account=self.account) if self.account else Target(account_id=self.account_id)

    def standing(self, book: AccountBook) -> Standing:
        """Return whether the person can write here, and whether anybody else is here."""
        return standing_of(self.conversation, self.last, book.own_id)

    def latest(self, book: AccountBook) -> tuple[str, int, MessageStatus | None]:
        """Return text, time and status of the latest message. The status is None unless it is an own message."""
        last, own = self.last, self.own
        if own is not None and not own.message_id and (last is None or own.created_at_ms >= last.sent_at_ms):
            return preview(marked(own.body, urgent=own.urgent)), own.created_at_ms, own.status
        if own is not None and own.message_id and (last is None or own.message_id >= last.id):
            return preview(marked(own.body, urgent=own.urgent)), own.sent_at_ms, self._status(own.message_id, book)
        if last is None:
            return "", 0, None
        text = marked(row_text(last, book), urgent=last.urgent)
        own_text = last.mine and last.kind is MessageKind.TEXT
        named = self.channel and last.kind is MessageKind.TEXT and not last.mine
        said = preview(f"{book.name(last.sender_id)}: {text}" if named else text)
        return said, last.sent_at_ms, self._status(last.id, book) if own_text else None

    def _status(self, message_id: int, book: AccountBook) -> MessageStatus:
        if self.conversation is None:
            return MessageStatus.ACCEPTED
        return progress(message_id, self.conversation, book.own_id).status

    # ---- what happens

    def keep_draft(self, body: str, *, unsaved: bool = True) -> bool:
        """Record what the person typed. It is newer than a stored draft that was asked for before.

        Return false if it is unchanged.
        """
        if unsaved and self.draft == body:
            return False
        self.draft, self.draft_unsaved, self.draft_typed = body, unsaved, True
        return True

    def take_stored_draft(self, body: str) -> bool:
        """Record the stored draft, unless something was typed since it was asked for. Return false if it is no news."""
        if self.draft_typed or self.draft == body:
            return False
        self.draft = body
        return True

    def read(self, up_to: int) -> bool:
        """Record that the person has read everything up to here. Return false if that was known."""
        is_news = up_to > self.read_up_to
        self.read_up_to = max(self.read_up_to, up_to)
        self._forget_counted(self.read_up_to)
        return is_news

    def _forget_counted(self, up_to: int) -> None:
        """Count nothing up to a message any more."""
        self.arrived = [message_id for message_id in self.arrived if message_id > up_to]
        self._mention(())

    def learn(self, conversation: Conversation) -> Conversation:
        """Record what the conversation is. Marks only move forward. Return the resulting conversation."""
        known = self.conversation.members if self.conversation is not None else ()
        before = {member.account_id: member for member in known}
        members = tuple(_forward(before.get(member.account_id), member) for member in conversation.members)
        counts = conversation.counts or (self.conversation.counts if self.conversation is not None else None)
        former, removed = self.removed_up_to, max(self.removed_up_to, conversation.removed_up_to)
        self.conversation = replace(
            conversation,
            members=members,
            last=None,
            unread=0,
            read_up_to=0,
            counts=counts,
            removed_up_to=removed,
            mentions=(),
        )
        self.conversation_id = conversation.id
        if removed > former:
            self._forget_removed()
            if not self.draft_unsaved:
                self.draft = ""
        return self.conversation

    def _forget_removed(self) -> None:
        """Forget what the account has removed. Own messages that wait, or need the person, stay."""
        removed = self.removed_up_to
        if self.last is not None and self.last.id <= removed:
            self.last = None
        self._forget_own_removed()
        if self.listed_up_to <= removed:
            self.unread_listed = 0
        self._forget_counted(removed)

    def move_mark(self, receipt: Receipt) -> Conversation | None:
        """Record the mark of a member. Return the conversation, or None if it is not known yet."""
        if self.conversation is None:
            return None
        members = {member.account_id: member for member in self.conversation.members}
        former = members.get(receipt.account_id)
        if former is not None or len(members) < self.conversation.member_count:
            role = former.role if former is not None else MemberRole.UNKNOWN
            first = former.first_message_id if former is not None else 0
            marks = Member(receipt.account_id, role, receipt.delivered_up_to, receipt.read_up_to, first)
            members[receipt.account_id] = _forward(former, marks)
        ordered = tuple(members[account_id] for account_id in sorted(members))
        self.conversation = replace(self.conversation, members=ordered)
        return self.conversation

    def take_listed(self, listed: Conversation) -> None:
        """Record the cluster's count of unread messages, unless this device has a newer one."""
        if listed.last is not None and listed.last.id <= self.removed_up_to:
            return  # the list is older than the removal
        self.take_last(listed.last)
        up_to = listed.last.id if listed.last is not None else 0
        is_behind = up_to == self.listed_up_to and listed.read_up_to < self.read_up_to
        if up_to >= self.listed_up_to and not is_behind:  # otherwise the mark of this device is still on its way
            self.unread_listed, self.listed_up_to = listed.unread, up_to
            self.arrived = [message_id for message_id in self.arrived if message_id > up_to]
        self._mention(listed.mentions)
        self.read(listed.read_up_to)

    def take_last(self, message: Message | None) -> bool:
        """Record the newest message of a page or a list. Return false if a newer one is known, or if it is removed."""
        if message is not None and message.id <= self.removed_up_to:
            return False
        if message is not None and message.urgent and not message.mine:
            self.urgent_up_to = max(self.urgent_up_to, message.id)
        if message is None or (self.last is not None and message.id < self.last.id):
            return False
        changed = self.last != message
        self.last = message
        return changed

    def take_arrived(self, messages: Iterable[Message]) -> list[Message]:
        """Record messages that are new on this device, in order. Return those that count as unread."""
        fresh = []
        for message in messages:
            self.conversation_id = message.conversation_id
            if message.id <= self.removed_up_to:
                continue  # it was on its way
            self.take_last(message)
            counted = not message.mine and message.kind is MessageKind.TEXT
            if counted and message.id > max(self.listed_up_to, self.read_up_to):
                fresh.append(message)
        return fresh

    def count(self, fresh: Sequence[Message], arrived: Sequence[Message], book: AccountBook) -> None:
        """Count `fresh` messages as unread, and those that name the own account, of all that arrived, as mentions.

        The cluster's list counts as unread what has not arrived yet, but only this device finds mentions in it.
        """
        self.arrived += [message.id for message in fresh]
        if named := [message.id for message in arrived if self.names_me(message, book)]:
            self._mention(named)

    def _mention(self, message_ids: Iterable[int]) -> None:
        """Count these mentions, too, and none any more that was read or removed. The newest ones are counted."""
        bound = max(self.read_up_to, self.removed_up_to)
        found = sorted(one for one in {*self.mentions, *message_ids} if one > bound)
        self.mentions[:] = found[-MAX_UNREAD_MENTIONS:]
        self._changed()

    def take_own(self, one: Outgoing) -> None:
        """Record a newer state of an own message of this device."""
        self._changed()
        if one.status in FINAL and not one.status.needs_person:
            self.open.pop(one.local_id, None)
        else:
            self.open[one.local_id] = one
        if self.own is None or one.local_id >= self.own.local_id:
            self.own = one
            self._forget_own_removed()

    def withdraw(self, local_ids: set[int]) -> None:
        """Remove own messages that were cancelled."""
        if local_ids & self.open.keys():
            self._changed()
        for local_id in local_ids & self.open.keys():
            del self.open[local_id]
        if self.own is not None and self.own.local_id in local_ids:
            self.own = max(self.open.values(), key=lambda one: one.local_id, default=None)

    def absorb(self, other: "ConversationLine") -> None:
        """Merge the line of another key of the same conversation."""
        self.account, self.account_id = self.account or other.account, self.account_id or other.account_id
        self.take_last(other.last)
        self.open |= other.open
        if other.own is not None:
            self.take_own(other.own)
        if other.listed_up_to > self.listed_up_to:
            self.unread_listed, self.listed_up_to = other.unread_listed, other.listed_up_to
        self.arrived = sorted({*self.arrived, *other.arrived})
        self._mention(other.mentions)
        self.read(other.read_up_to)
        self.urgent_up_to = max(self.urgent_up_to, other.urgent_up_to)
        if not self.draft:
            self.draft, self.draft_unsaved = other.draft, other.draft_unsaved
        if self.removed_up_to:
            self._forget_removed()


def _forward(old: Member | None, new: Member) -> Member:
    if old is None:
        return new
    return replace(
        new,
        delivered_up_to=max(old.delivered_up_to, new.delivered_up_to),
        read_up_to=max(old.read_up_to, new.read_up_to),
    )
