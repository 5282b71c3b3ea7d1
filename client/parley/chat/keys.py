"""The keys by which a front end identifies conversations."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConversationKey:
    """A conversation id, or an account for a direct conversation whose id is not known yet.

    Exactly one field is set. `Conversations.resolve` turns the key of an account into the key of the conversation once
    its id is known.
    """

    conversation_id: int = 0
    account: str = ""
    account_id: int = 0


def conversation_key(conversation_id: int) -> ConversationKey:
    """Return the key of a conversation whose id is known."""
    return ConversationKey(conversation_id)


def account_key(name: str) -> ConversationKey:
    """Return the key of the direct conversation with an account. Names are case-insensitive."""
    return ConversationKey(account=name.casefold())
