"""Conversations that an account has removed for itself, each up to a message. Level 3.

Nothing is deleted: the messages are stored once for all members, and the others read them as before. The message up to
which a conversation was removed is a lower bound of what this account is given of it: its history, its queue, its list
and its unread messages (memberships.py has the bound for all of them). It only rises, so a retry and a device that is
behind change nothing. The rows of an account are at most the conversations that it may read.

A device that was away learns what was removed with the first page of its queue. `at_message_id` is the newest message
of the cluster at that time: a device whose cursor is beyond it knows of the removal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import NotAudited
from parleyd.machine.authorisation import Action
from parleyd.machine.feature import Feature, SignedInCommand, result
from parleyd.machine.features.memberships import last_of

if TYPE_CHECKING:
    from parleyd.machine.features.sessions import Actor
    from parleyd.machine.reader import StateReader
    from parleyd.machine.state import State

REMOVALS_LEVEL: Final = 3
MAX_TOLD: Final = 10_000
"""So many removals, the newest ones, a device is told after it was away. It keeps no more conversations itself."""

TABLES = """
CREATE TABLE removed_conversations(
    account_id INTEGER NOT NULL,
    conversation_id INTEGER NOT NULL,
    up_to INTEGER NOT NULL,
    at_message_id INTEGER NOT NULL,
    PRIMARY KEY(account_id, conversation_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX removed_conversations_at ON removed_conversations(account_id, at_message_id);
"""
_BOUND = "SELECT up_to FROM removed_conversations WHERE account_id = ? AND conversation_id = ?"


@dataclass(frozen=True, slots=True)
class ConversationRemoved:
    """An account removed a conversation up to a message."""

    account_id: int
    conversation_id: int
    up_to: int


def remove_conversation(state: State, actor: Actor, command: pb.RemoveConversation) -> pb.CommandResult:
    """Remove a conversation for the caller. What came after `up_to` stays; the same again changes nothing.

    A mark that had put it away goes: what comes next brings the conversation back.
    """
    key = (actor.account.id, command.conversation_id)
    conversation = state.conversations.find(command.conversation_id)
    last = 0 if conversation is None else last_of(state, actor.account.id, conversation)
    if not last:
        return result(pb.RESULT_CODE_NO_SUCH_CONVERSATION)
    former = max(state.ids(_BOUND, key), default=0)
    up_to = max(former, min(command.up_to, last))
    if up_to > former:
        state.connection.execute(
            "INSERT OR REPLACE INTO removed_conversations(account_id, conversation_id, up_to, at_message_id) "
            "VALUES(?, ?, ?, ?)",
            (*key, up_to, state.meta.last_message_id),
        )
        state.effects.append(ConversationRemoved(*key, up_to))
        query = "DELETE FROM put_away_conversations WHERE account_id = ? AND conversation_id = ? AND up_to <= ?"
        state.connection.execute(query, (*key, up_to))
    removed = pb.RemoveConversationResult(removed_up_to=up_to)
    return pb.CommandResult(code=pb.RESULT_CODE_OK, remove_conversation=removed)


def forget(state: State, account_id: int) -> None:
    """Remove what is kept about an account."""
    state.connection.execute("DELETE FROM removed_conversations WHERE account_id = ?", (account_id,))


FEATURE = Feature(
    "removals",
    tables={REMOVALS_LEVEL: TABLES},
    commands={
        "remove_conversation": SignedInCommand(
            remove_conversation, Action.REMOVE_CONVERSATION, REMOVALS_LEVEL, audits=NotAudited.OWN_VIEW
        )
    },
)


# ---- queries


def since(reader: StateReader, account_id: int, after_id: int) -> tuple[tuple[int, int], ...]:
    """Return conversation and message of what the account has removed while `after_id` was the newest or later."""
    if reader.level() < REMOVALS_LEVEL:
        return ()
    query = (
        "SELECT conversation_id, up_to FROM removed_conversations WHERE account_id = ? AND at_message_id >= ? "
        "ORDER BY at_message_id DESC LIMIT ?"
    )
    found = reader.rows(query, (account_id, after_id, MAX_TOLD))
    return tuple((conversation_id, up_to) for conversation_id, up_to in found)
