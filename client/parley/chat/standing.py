"""Whether the person can write in a conversation, and whether anybody else is there to read it."""

from enum import StrEnum

from parley.model import Conversation, ConversationKind, Message, MessageKind


class Standing(StrEnum):
    """How the own account stands to a conversation. Direct conversations are always OPEN."""

    OPEN = "open"
    ALONE = "alone"
    ARCHIVED = "archived"
    LEFT = "left"

    @property
    def takes_messages(self) -> bool:
        """Return false if the cluster refuses every message there."""
        return self in (Standing.OPEN, Standing.ALONE)

    @property
    def text(self) -> str:
        """Return a sentence for the person, empty for OPEN."""
        return _TEXTS[self]


_TEXTS = {
    Standing.OPEN: "",
    Standing.ALONE: "Nobody else is here.",
    Standing.ARCHIVED: "This channel is archived. It can be read, and nobody can write in it.",
    Standing.LEFT: "You are no longer in this channel. What was written while you were in it can be read.",
}
_MEMBERSHIP = (MessageKind.MEMBERS_JOINED, MessageKind.MEMBERS_LEFT)


def standing_of(conversation: Conversation | None, last: Message | None, own_id: int) -> Standing:
    """Return the standing of the own account. `last` is the newest row of the conversation that is known here."""
    if conversation is None or conversation.kind is not ConversationKind.CHANNEL:
        return Standing.OPEN
    if _has_left(conversation, last, own_id):
        return Standing.LEFT
    if conversation.archived:
        return Standing.ARCHIVED
    return Standing.ALONE if conversation.member_count == 1 else Standing.OPEN


def _has_left(conversation: Conversation, last: Message | None, own_id: int) -> bool:
    """Return whether the own account is a member no longer.

    Who has left a channel gets no row after the one that says so. So the newest row decides, if it is about the own
    membership. Otherwise the list of members decides, if it is whole.
    """
    if not own_id:
        return False
    if last is not None and own_id in last.subjects and last.kind in _MEMBERSHIP:
        return last.kind is MessageKind.MEMBERS_LEFT
    if len(conversation.members) < conversation.member_count:
        return False
    return all(member.account_id != own_id for member in conversation.members)
