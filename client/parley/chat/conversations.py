"""All known conversations by key. The key of an account becomes the key of the conversation.

Invariant: a conversation has one line. When the account of a direct conversation and its id are both known, the two
keys are merged. The key of the account then leads to the conversation.
"""

from collections.abc import Iterable, Iterator

from parley.chat.accounts import AccountBook
from parley.chat.item import ConversationItem
from parley.chat.keys import ConversationKey, account_key, conversation_key
from parley.chat.line import ConversationLine
from parley.chat.previews import preview
from parley.chat.safe_text import safe_name
from parley.chat.titles import direct_partner
from parley.model import Account, Conversation, ConversationKind, LostMessage, Outgoing, Target


class Conversations:
    """The lines of the list by key."""

    def __init__(self, book: AccountBook) -> None:
        self.book = book
        self._lines: dict[ConversationKey, ConversationLine] = {}
        self._direct: dict[int, ConversationKey] = {}
        self._aliases: dict[ConversationKey, ConversationKey] = {}

    def __iter__(self) -> Iterator[tuple[ConversationKey, ConversationLine]]:
        return iter(self._lines.items())

    # ---- keys

    def key_of(self, target: str | Target) -> ConversationKey:
        """Return the key of the conversation of a target."""
        return self.resolve(self.unresolved_key_of(Target.of(target)))

    def unresolved_key_of(self, target: Target) -> ConversationKey:
        """Return the key by which a target names its conversation."""
        if target.conversation_id:
            return conversation_key(target.conversation_id)
        return account_key(target.account) if target.account else ConversationKey(account_id=target.account_id)

    def key_of_own(self, one: Outgoing) -> ConversationKey:
        """Return the key of the conversation of an own message."""
        return conversation_key(one.conversation_id) if one.conversation_id else self.key_of(one.target)

    def key_of_lost(self, one: LostMessage) -> ConversationKey | None:
        """Return the key of the conversation of a lost message, None if the cluster does not have it any more."""
        if one.conversation_id:
            return conversation_key(one.conversation_id)
        return None if one.target is None else self.key_of(one.target)

    def resolve(self, key: ConversationKey) -> ConversationKey:
        """Return the present key of a conversation: its id, as soon as the id is known."""
        if key.conversation_id:
            return key
        account = self.book.get(key.account_id) if key.account_id else self.book.find(key.account)
        if account is not None and account.id in self._direct:
            return self._direct[account.id]
        if key.account_id and account is not None and not account.deleted:
            return self.resolve(account_key(account.name))
        alias = self._aliases.get(key, key)
        return key if account is not None and self._partner_of(alias) not in (0, account.id) else alias

    def alias(self, former: ConversationKey, key: ConversationKey) -> None:
        """Record the conversation into which the cluster has put a message for an account.

        A newer account of a name has a newer conversation, and ids grow.
        """
        if key.conversation_id >= self._aliases.get(former, key).conversation_id:
            self._aliases[former] = key

    def learn_accounts(self, accounts: Iterable[Account]) -> bool:
        """Record new accounts, or new names of known ones. Return false if there are none."""
        own_id = self.book.own_id
        changed = self.book.add(accounts)
        is_own_new = self.book.own_id != own_id
        if is_own_new:
            self._direct = {}  # who the partner is depends on the own account
        for line in self._lines.values() if changed else ():
            if is_own_new:
                self._index(line)
            if is_own_new or line.depends_on(changed):
                line.made = None
        return bool(changed)

    def _index(self, line: ConversationLine) -> None:
        conversation = line.conversation
        if conversation is not None and conversation.kind is ConversationKind.DIRECT:
            partner_id = self._partner_of(conversation_key(conversation.id))
            if partner_id:
                self._direct[partner_id] = conversation_key(conversation.id)

    def _partner_of(self, key: ConversationKey) -> int:
        """Return the account id of the partner, 0 if it is not known. A name may have had another account before."""
        line = self._lines.get(key)
        conversation = None if line is None else line.conversation
        return 0 if conversation is None else direct_partner(conversation.members, self.book.own_id)

    def superseded(self) -> list[tuple[ConversationKey, ConversationKey]]:
        """Return the keys of accounts whose conversation has an id now, each with its new key."""
        pairs = ((key, self.resolve(key)) for key in self._lines if not key.conversation_id)
        return [(former, key) for former, key in pairs if former != key]

    def merge(self, former: ConversationKey, key: ConversationKey) -> None:
        """Merge the lines of two keys."""
        line = self._lines.pop(former, None)
        if line is not None:
            self.line(key).absorb(line)

    # ---- lines

    def get(self, key: ConversationKey) -> ConversationLine | None:
        """Return the line of a conversation, or None."""
        return self._lines.get(self.resolve(key))

    def look(self, key: ConversationKey) -> ConversationLine:
        """Return the line of a conversation, or an empty one. Stores nothing."""
        return self._lines.get(self.resolve(key)) or _new_line(key)

    def line(self, key: ConversationKey) -> ConversationLine:
        """Return the line of a conversation. Add an empty one if there is none."""
        line = self._lines.get(key)
        if line is None:
            line = self._lines[key] = _new_line(key)
        return line

    def learn(self, conversation: Conversation) -> ConversationLine:
        """Record what a conversation is, and its members."""
        line = self.line(conversation_key(conversation.id))
        line.learn(conversation)
        self._index(line)
        return line

    # ---- what can be seen

    def item(self, key: ConversationKey) -> ConversationItem:
        """Return one line of the list. The conversation need not be known."""
        return self._item(self.resolve(key), self.look(key), None)

    def items(self, open_key: ConversationKey | None) -> list[ConversationItem]:
        """Return the conversation list, the latest first, and what was put away at its end.

        The draft of the open conversation is not shown. What was opened by a name and has nothing in it is shown only
        while it is open. The name may not exist. The item of a line that has not changed is the same object as before.
        """
        items = []
        for key, line in self._lines.items():
            if key == open_key:
                items.append(self._item(key, line, open_key))
            elif line.made is not None:
                items.append(line.made)
            elif not line.is_empty:
                line.made = self._item(key, line, None)
                items.append(line.made)
        return sorted(
            items, key=lambda item: (item.put_away, -item.at_ms, item.title.casefold(), item.key.conversation_id)
        )

    def _item(self, key: ConversationKey, line: ConversationLine, open_key: ConversationKey | None) -> ConversationItem:
        text, at_ms, status = line.latest(self.book)
        drafted = bool(line.draft.strip()) and key != open_key
        partner: Account | None = None if line.channel else line.partner(self.book)
        title = line.title(self.book)
        conversation = line.conversation
        return ConversationItem(
            key,
            title,
            preview(line.draft) if drafted else text,
            at_ms,
            line.unread,
            None if drafted else status,
            drafted,
            partner is not None and partner.deleted,
            line.channel,
            conversation.member_count if line.channel and conversation is not None else 0,
            partner.name if partner is not None else title,
            safe_name(conversation.topic) if line.channel and conversation is not None else "",
            line.standing(self.book),
            line.muted,
            line.put_away,
            line.urgent,
            len(line.mentions),
        )


def _new_line(key: ConversationKey) -> ConversationLine:
    return ConversationLine(key.account, key.account_id, None, key.conversation_id)
