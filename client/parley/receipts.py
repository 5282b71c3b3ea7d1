"""Computes DELIVERED and READ of own messages from the marks of the members. No other module does this.

A message counts as delivered or read only if all other members have received or read it. Members whose marks are not
known count as not having it.
"""

from dataclasses import dataclass, replace

from parley.model import Conversation, MessageStatus, Outgoing


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
    others = [member for member in conversation.members if member.account_id != own_id]
    read = sum(member.read_up_to >= message_id for member in others)
    delivered = sum(max(member.delivered_up_to, member.read_up_to) >= message_id for member in others)
    return Progress(delivered, read, max(len(others), conversation.member_count - 1))


def with_progress(message: Outgoing, conversation: Conversation | None, own_id: int) -> Outgoing:
    """Return an accepted message as DELIVERED or READ if all other members have received or read it."""
    if message.status is not MessageStatus.ACCEPTED or conversation is None or not message.message_id:
        return message
    return replace(message, status=progress(message.message_id, conversation, own_id).status)
