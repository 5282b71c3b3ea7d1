"""Four people and what they say: short ways to make the SDK's records, for dialogues with the folding."""

from __future__ import annotations

from parley import (
    Account,
    Conversation,
    ConversationKind,
    HistoryPage,
    Member,
    Message,
    MessageKind,
    MessageStatus,
    Outgoing,
    Target,
)

ANN, BEN, DANA, CARL = Account(1, "ann"), Account(2, "ben", "Ben Ortiz"), Account(3, "dana"), Account(4, "carl")
PEOPLE = (ANN, BEN, DANA, CARL)
WITH_BEN, WITH_DANA, NOTES, WARD = 7, 8, 9, 70


def message(
    message_id: int, body: str = "", *, sender: Account = BEN, conversation_id: int = WITH_BEN, at_ms: int = 0
) -> Message:
    """A message of somebody; ann is who looks."""
    return Message(
        conversation_id,
        message_id,
        MessageKind.TEXT,
        sender.id,
        body or f"m{message_id}",
        at_ms or message_id * 1000,
        sender is ANN,
    )


def event(message_id: int, kind: MessageKind, body: str = "", *subjects: Account, sender: Account = BEN) -> Message:
    """Something that happened in the ward."""
    of = tuple(one.id for one in subjects)
    return Message(WARD, message_id, kind, sender.id, body, message_id * 1000, sender is ANN, 0, of)


def own(
    local_id: int,
    status: MessageStatus,
    *,
    message_id: int = 0,
    target: str | Target = "ben",
    body: str = "",
    conversation_id: int = WITH_BEN,
    number: int = 0,
) -> Outgoing:
    """An own message of this device."""
    return Outgoing(
        local_id,
        Target.of(target),
        body or f"own{local_id}",
        10**9,
        status,
        number,
        message_id,
        conversation_id if message_id else 0,
        message_id * 1000,
    )


def direct(
    conversation_id: int = WITH_BEN,
    other: Account = BEN,
    *,
    delivered: int = 0,
    read: int = 0,
    last: Message | None = None,
    unread: int = 0,
    read_up_to: int = 0,
) -> Conversation:
    """A direct conversation of ann with somebody, perhaps herself; `delivered` and `read` are the other's marks."""
    members = (Member(ANN.id),) if other is ANN else (Member(ANN.id), _marked(other, delivered, read))
    return Conversation(conversation_id, ConversationKind.DIRECT, "", members, len(members), last, unread, read_up_to)


def channel(
    *marks: tuple[Account, int, int],
    title: str = "Ward 4",
    last: Message | None = None,
    unread: int = 0,
    read_up_to: int = 0,
    member_count: int = 0,
) -> Conversation:
    """A channel of ann and others, each with their marks: (account, delivered, read)."""
    members = (Member(ANN.id), *(_marked(*mark) for mark in marks))
    return Conversation(
        WARD, ConversationKind.CHANNEL, title, members, member_count or len(members), last, unread, read_up_to
    )


def page(
    *messages: Message, conversation: Conversation | None = None, more: bool = False, cached: bool = False
) -> HistoryPage:
    """A page of history."""
    return HistoryPage(messages, more, conversation, cached=cached)


def _marked(account: Account, delivered: int, read: int) -> Member:
    return Member(account.id, delivered_up_to=delivered, read_up_to=read)
