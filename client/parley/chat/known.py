"""Looks up the accounts and conversations that messages and conversations name.

The SDK reports accounts and conversations when they change. A front end that begins later, or shows one page only,
looks them up here before it folds what names them.
"""

from collections.abc import Iterable, Sequence
from typing import Protocol

from parley.mentions import mentions
from parley.model import EVERYONE, Account, Conversation, Message, MessageKind


class Known(Protocol):
    """The part of ParleyClient that answers from memory."""

    @property
    def me(self) -> Account | None: ...

    def account(self, account_id: int) -> Account | None: ...

    def account_named(self, name: str) -> Account | None: ...

    def conversation(self, conversation_id: int) -> Conversation | None: ...


def named_in(
    known: Known,
    *,
    messages: Sequence[Message] = (),
    conversations: Sequence[Conversation] = (),
    conversation_ids: Iterable[int] = (),
) -> tuple[list[Account], list[Conversation]]:
    """Return the accounts and conversations that are named, with the own account first."""
    ids = {*conversation_ids, *(message.conversation_id for message in messages)}
    found = [one for one in map(known.conversation, sorted(ids)) if one is not None]
    people = {member.account_id for one in (*conversations, *found) for member in one.members}
    people |= {account_id for message in messages for account_id in (message.sender_id, *message.subjects)}
    accounts = [known.me, *map(known.account, sorted(people)), *_mentioned(known, messages)]
    return [account for account in accounts if account is not None], found


def _mentioned(known: Known, messages: Iterable[Message]) -> list[Account | None]:
    """Return the accounts that texts mention, so that a front end finds the mentions that the device has found."""
    names = set[str]()
    for message in messages:
        if message.kind is MessageKind.TEXT and "@" in message.body and _is_shared(known, message.conversation_id):
            found = mentions(message.body, lambda name: known.account_named(name) is not None)
            names |= {mention.name.casefold() for mention in found}
    return list(map(known.account_named, sorted(names)))


def _is_shared(known: Known, conversation_id: int) -> bool:
    conversation = known.conversation(conversation_id)
    return conversation_id == EVERYONE.conversation_id if conversation is None else conversation.is_shared
