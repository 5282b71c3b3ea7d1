"""Records that several tests make: short to write, with everything that does not matter filled in."""

from dataclasses import replace

from parley import (
    Account,
    Conversation,
    ConversationKind,
    Member,
    MemberRole,
    Message,
    MessageKind,
    MessageStatus,
    Outgoing,
    Target,
)

OWN_ID = 1
BOB = Target(account="bob")


def outgoing(number: int, body: str = "x", target: Target = BOB) -> Outgoing:
    """Return an own message that was handed over under this number."""
    return Outgoing(number, target, body, 0, MessageStatus.SENDING, number)


def accepted(number: int, message_id: int, conversation_id: int = 7, sent_at_ms: int = 5) -> Outgoing:
    """Return the final result of a send number as the stream tells it."""
    return replace(
        outgoing(number),
        status=MessageStatus.ACCEPTED,
        message_id=message_id,
        conversation_id=conversation_id,
        sent_at_ms=sent_at_ms,
    )


def refused(number: int, detail: str = "no") -> Outgoing:
    """Return the final refusal of a send number as the stream tells it."""
    return replace(outgoing(number), status=MessageStatus.FAILED, detail=detail)


def message(id_: int, body: str = "hello", *, conversation_id: int = 7, mine: bool = False, number: int = 0) -> Message:
    """Return a text in a conversation, of account 2 or of the own one."""
    sender = OWN_ID if mine else 2
    return Message(conversation_id, id_, MessageKind.TEXT, sender, body, 1000 + id_, mine, number)


def account(id_: int, name: str) -> Account:
    """Return an account."""
    return Account(id_, name)


def direct(id_: int = 7, other: int = 2) -> Conversation:
    """Return a direct conversation of the own account with another."""
    members = (Member(OWN_ID), Member(other))
    return Conversation(id_, ConversationKind.DIRECT, members=members, member_count=2)


def channel(id_: int = 9, others: tuple[int, ...] = (2, 3), title: str = "ops") -> Conversation:
    """Return a channel that the own account owns."""
    members = (Member(OWN_ID, MemberRole.OWNER), *map(Member, others))
    return Conversation(id_, ConversationKind.CHANNEL, title, members, len(members))
