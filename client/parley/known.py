"""The accounts and conversations that this process knows, for questions that must be answered at once.

This is a copy of the file (device/directory.py) in memory, with the same bounds. The entries that were recorded longest
ago are removed first.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from parley.device.directory import KEEP_ACCOUNTS, KEEP_CONVERSATIONS
from parley.model import Account, Conversation, Member, MemberRole, Receipt, ReceiptCounts

T = TypeVar("T")


class Known:
    """Accounts and conversations by id. Conversations hold no messages and no read positions."""

    def __init__(self) -> None:
        self._accounts: dict[int, Account] = {}
        self._ids: dict[str, int] = {}  # of each name the newest account, because a name is given anew
        self._conversations: dict[int, Conversation] = {}

    def account(self, account_id: int) -> Account | None:
        """Return an account, or None if it is not known."""
        return self._accounts.get(account_id)

    def account_named(self, name: str) -> Account | None:
        """Return the account that has a name now, whatever its case, or None if it is not known."""
        account = self._accounts.get(self._ids.get(name.casefold(), 0))
        return None if account is None or account.deleted else account

    def conversation(self, conversation_id: int) -> Conversation | None:
        """Return kind, title and members of a conversation, or None if it is not known."""
        return self._conversations.get(conversation_id)

    def learn_accounts(self, accounts: Iterable[Account]) -> tuple[Account, ...]:
        """Record accounts. Return those that are new or changed."""
        changed = tuple(account for account in accounts if self._accounts.get(account.id) != account)
        for account in changed:
            self._accounts.pop(account.id, None)
            self._accounts[account.id] = account
            name = account.name.casefold()
            self._ids[name] = max(account.id, self._ids.get(name, 0))
        for gone in _keep_newest(self._accounts, KEEP_ACCOUNTS):
            if self._ids.get(gone.name.casefold()) == gone.id:
                del self._ids[gone.name.casefold()]
        return changed

    def learn_conversations(self, conversations: Iterable[Conversation]) -> tuple[Conversation, ...]:
        """Record conversations. Return those that are new or changed, with all known members."""
        changed = []
        for told in conversations:
            before = self._conversations.get(told.id)
            merged = _merge(before, told)
            if merged != before:
                self._conversations.pop(told.id, None)
                self._conversations[told.id] = merged
                changed.append(merged)
        _keep_newest(self._conversations, KEEP_CONVERSATIONS)
        return tuple(changed)

    def remove(self, removed: Iterable[tuple[int, int]]) -> tuple[Conversation, ...]:
        """Record up to which message conversations were removed. Return those that are known here and changed."""
        known = ((self._conversations.get(id_), up_to) for id_, up_to in removed)
        return self.learn_conversations([replace(one, removed_up_to=up_to) for one, up_to in known if one is not None])

    def move(self, receipts: Sequence[Receipt]) -> tuple[Receipt, ...]:
        """Record the marks of members. Return the marks as they stand now."""
        return tuple(map(self._move_one, receipts))

    def count(self, counts: Sequence[tuple[int, ReceiptCounts]]) -> tuple[Conversation, ...]:
        """Record the counts of large channels. Return the channels that are known here."""
        found = []
        for channel_id, counted in counts:
            channel = self._conversations.get(channel_id)
            if channel is not None:
                self._conversations[channel_id] = replace(channel, counts=later_counts(channel.counts, counted))
                found.append(self._conversations[channel_id])
        return tuple(found)

    def _move_one(self, receipt: Receipt) -> Receipt:
        conversation = self._conversations.get(receipt.conversation_id)
        if conversation is None:
            return receipt
        members = {member.account_id: member for member in conversation.members}
        before = members.get(receipt.account_id, Member(receipt.account_id, MemberRole.UNKNOWN))
        now = _further(before, receipt.delivered_up_to, receipt.read_up_to)
        members[receipt.account_id] = now
        self._conversations[conversation.id] = replace(conversation, members=_ordered(members.values()))
        return replace(receipt, delivered_up_to=now.delivered_up_to, read_up_to=now.read_up_to)


def _merge(before: Conversation | None, told: Conversation) -> Conversation:
    """Return `told`, with marks that only move forward, and removed as far as was known.

    If `told` does not hold all members, it holds the first ones. Known members behind them stay.
    """
    known = {} if before is None else {member.account_id: member for member in before.members}
    last = told.members[-1].account_id if told.members else 0
    is_whole = len(told.members) >= told.member_count
    members = {} if is_whole else {id_: member for id_, member in known.items() if id_ > last}
    for member in told.members:
        former = known.get(member.account_id, member)
        members[member.account_id] = _further(member, former.delivered_up_to, former.read_up_to)
    counts = later_counts(None if before is None else before.counts, told.counts)
    removed_up_to = max(0 if before is None else before.removed_up_to, told.removed_up_to)
    return replace(
        told,
        members=_ordered(members.values()),
        last=None,
        unread=0,
        mentions=(),
        read_up_to=0,
        counts=counts,
        removed_up_to=removed_up_to,
    )


def later_counts(before: ReceiptCounts | None, told: ReceiptCounts | None) -> ReceiptCounts | None:
    """Return the counts that say more. Counts of an older message come late, from a node that was connected before."""
    if before is None or told is None:
        return told or before
    return told if (told.message_id, told.delivered_to_all) >= (before.message_id, before.delivered_to_all) else before


def _further(member: Member, delivered_up_to: int, read_up_to: int) -> Member:
    return replace(
        member,
        delivered_up_to=max(member.delivered_up_to, delivered_up_to),
        read_up_to=max(member.read_up_to, read_up_to),
    )


def _ordered(members: Iterable[Member]) -> tuple[Member, ...]:
    return tuple(sorted(members, key=lambda member: member.account_id))


def _keep_newest(table: dict[int, T], limit: int) -> list[T]:
    """Remove the oldest entries beyond `limit`. Return them."""
    return [table.pop(oldest) for oldest in list(table)[: max(0, len(table) - limit)]]
