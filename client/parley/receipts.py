"""Computes DELIVERED and READ of own messages from the marks of the members. No other module does this.

A message counts as delivered or read only if all other members that it was sent to have received or read it. Who joined
later was not sent it. Members whose marks are not known count as not having it. In a channel of more than SHOWN_MEMBERS
members the node reports counts instead of marks.
"""

from dataclasses import dataclass, replace

from parley.model import Conversation, MessageStatus, Outgoing, ReceiptCounts

SHOWN_MEMBERS = 64
"""A node reports so many members of a conversation with their marks."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How many of the `others` in a conversation have received and read one message.

    All are 0 if there are no others.
    """

    delivered: int = 0
    read: int = 0
    others: int = 0

    @property
    def status(self) -> MessageStatus:
        """Return the status of an accepted message. A message to oneself stays ACCEPTED."""
        if self.others and self.read >= self.others:
            return MessageStatus.READ
        if self.others and self.delivered >= self.others:
            return MessageStatus.DELIVERED
        return MessageStatus.ACCEPTED


def progress(message_id: int, conversation: Conversation, own_id: int) -> Progress:
    """Count how many of the other members have received and read an own message. Reading it includes receiving it."""
    known = [member for member in conversation.members if member.account_id != own_id]
    others = [member for member in known if member.first_message_id <= message_id]
    read = sum(member.read_up_to >= message_id for member in others)
    delivered = sum(max(member.delivered_up_to, member.read_up_to) >= message_id for member in others)
    unknown = max(0, conversation.member_count - 1 - len(known))
    by_member = Progress(delivered, read, len(others) + unknown)
    if conversation.counts is None or conversation.member_count <= SHOWN_MEMBERS:
        return by_member
    return _counted(message_id, conversation.counts, by_member)


def _counted(message_id: int, counts: ReceiptCounts, by_member: Progress) -> Progress:
    """Return what the counts of a large channel say of a message; the marks that are known may be old."""
    if message_id == counts.message_id:
        return Progress(counts.delivered, counts.read, counts.others)
    others = by_member.others
    if message_id < counts.sent_from:
        return by_member
    delivered = others if message_id <= counts.delivered_to_all else by_member.delivered
    read = others if message_id <= counts.read_by_all else by_member.read
    return Progress(max(delivered, read), read, others)


def with_progress(message: Outgoing, conversation: Conversation | None, own_id: int) -> Outgoing:
    """Return an accepted message as DELIVERED or READ if all other members have received or read it."""
    if message.status is not MessageStatus.ACCEPTED or conversation is None or not message.message_id:
        return message
    return replace(message, status=progress(message.message_id, conversation, own_id).status)
