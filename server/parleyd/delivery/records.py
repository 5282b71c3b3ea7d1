"""Converts the state machine's records for clients."""

from __future__ import annotations

from collections.abc import Iterable

from parley_proto.v1 import messaging_pb2, model_pb2
from parleyd.machine.features import accounts, conversations, memberships, mutes, put_away
from parleyd.machine.features.accounts import AccountCard
from parleyd.machine.features.channel_counts import SenderCounts
from parleyd.machine.features.conversations import ConversationRecord
from parleyd.machine.features.memberships import MemberRecord
from parleyd.machine.features.messages import MessageRecord
from parleyd.machine.reader import StateReader

# The most that an account takes in an answer: id, two names of 64 characters, of which one may have 4 bytes each.
MAX_ACCOUNT_INFO_BYTES = 384
# The most that a member takes: five numbers, and the tags and lengths.
MAX_MEMBER_INFO_BYTES = 64
# The most that a channel takes without members: title and topic with 4 bytes a character, numbers, tags and lengths.
MAX_CHANNEL_INFO_BYTES = 1_500


def message(record: MessageRecord) -> model_pb2.Message:
    """Convert one row of a conversation."""
    return model_pb2.Message(
        conversation_id=record.conversation_id,
        id=record.id,
        kind=record.kind,  # type: ignore[arg-type] # the state holds the enum's numbers
        sender_id=record.sender_id,
        body=record.body,
        sent_at_ms=record.sent_at_ms,
        device_id=record.device_id,
        send_number=record.send_number,
        subjects=record.subjects,
        priority=record.priority,  # type: ignore[arg-type] # the same
    )


def receipt(conversation_id: int, account_id: int, delivered_up_to: int, read_up_to: int) -> messaging_pb2.Receipt:
    """Convert one member's marks."""
    return messaging_pb2.Receipt(
        conversation_id=conversation_id, account_id=account_id, delivered_up_to=delivered_up_to, read_up_to=read_up_to
    )


def receipt_count(counts: SenderCounts) -> messaging_pb2.ReceiptCount:
    """Convert the counts of a sender's newest message in a large channel."""
    return messaging_pb2.ReceiptCount(
        conversation_id=counts.conversation_id,
        message_id=counts.message_id,
        others=counts.others,
        delivered=counts.delivered,
        read=counts.read,
        delivered_to_all_up_to=counts.delivered_to_all,
        read_by_all_up_to=counts.read_by_all,
        sent_from=counts.sent_from,
    )


def account_info(card: AccountCard) -> model_pb2.AccountInfo:
    """Convert an account's public data."""
    return model_pb2.AccountInfo(id=card.id, name=card.name, display_name=card.display_name, deleted=card.deleted)


def member_info(record: MemberRecord) -> model_pb2.MemberInfo:
    """Convert a member and its marks."""
    return model_pb2.MemberInfo(
        account_id=record.account_id,
        role=record.role,  # type: ignore[arg-type] # the state holds the enum's numbers
        delivered_up_to=record.delivered_up_to,
        read_up_to=record.read_up_to,
        first_message_id=record.first_message_id,
    )


def conversation_info(reader: StateReader, record: ConversationRecord, account_id: int) -> model_pb2.ConversationInfo:
    """Convert a conversation with its first members, for the account that is told."""
    return model_pb2.ConversationInfo(
        id=record.id,
        kind=record.kind,  # type: ignore[arg-type] # the state holds the enum's numbers
        title=record.title,
        member_count=record.member_count,
        members=[member_info(member) for member in record.members],
        topic=record.topic,
        public=record.public,
        archived=record.archived,
        open_history=record.open_history,
        muted=mutes.is_muted(reader, account_id, record.id),
        put_away_up_to=put_away.put_away_up_to(reader, account_id, record.id),
        removed_up_to=memberships.removed_up_to(reader, record.id, account_id),
    )


def accounts_of(messages: Iterable[MessageRecord], shown: Iterable[ConversationRecord]) -> set[int]:
    """Return the ids of all accounts that these messages and conversations name."""
    ids: set[int] = set()
    for record in messages:
        ids.update((record.sender_id, *record.subjects))
    for conversation in shown:
        ids.update(member.account_id for member in conversation.members)
    return ids


def accounts_named(reader: StateReader, account_ids: Iterable[int]) -> list[model_pb2.AccountInfo]:
    """Return these accounts, by id."""
    return [account_info(card) for card in accounts.cards(reader, set(account_ids))]


def directory(
    reader: StateReader, account_id: int, account_ids: Iterable[int], conversation_ids: Iterable[int]
) -> messaging_pb2.Directory:
    """Return these accounts and conversations, and the members that the conversations show, as of one moment.

    `account_id`: who asks. It sees of a conversation what it may.
    """
    with reader.consistent():
        found = [conversations.as_seen_by(reader, one, account_id) for one in sorted(conversation_ids)]
        shown = [record for record in found if record is not None]
        return messaging_pb2.Directory(
            accounts=accounts_named(reader, accounts_of((), shown).union(account_ids)),
            conversations=[conversation_info(reader, record, account_id) for record in shown],
        )
