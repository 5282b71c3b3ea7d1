"""Conversations that an account has muted: its devices notify nobody of their messages. Level 3.

Who leaves a channel and comes back finds it muted as before. The rows of an account are at most the conversations that
it may read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import NotAudited
from parleyd.machine.authorisation import Action
from parleyd.machine.feature import Feature, SignedInCommand, result
from parleyd.machine.features.memberships import was_member

if TYPE_CHECKING:
    from parleyd.machine.features.sessions import Actor
    from parleyd.machine.reader import StateReader
    from parleyd.machine.state import State

MUTES_LEVEL: Final = 3

TABLES = """
CREATE TABLE muted_conversations(
    account_id INTEGER NOT NULL,
    conversation_id INTEGER NOT NULL,
    PRIMARY KEY(account_id, conversation_id)
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class ConversationMuted:
    """An account muted a conversation, or ended that."""

    account_id: int
    conversation_id: int


def set_muted(state: State, actor: Actor, command: pb.SetMuted) -> pb.CommandResult:
    """Mute a conversation for the caller, or end that; the same again changes nothing."""
    key = (actor.account.id, command.conversation_id)
    if not was_member(state, *key):
        return result(pb.RESULT_CODE_NO_SUCH_CONVERSATION)
    if command.muted:
        query = "INSERT INTO muted_conversations(account_id, conversation_id) VALUES(?, ?) ON CONFLICT DO NOTHING"
    else:
        query = "DELETE FROM muted_conversations WHERE account_id = ? AND conversation_id = ?"
    state.connection.execute(query, key)
    if state.connection.changes():
        state.effects.append(ConversationMuted(*key))
    return result(pb.RESULT_CODE_OK)


def forget(state: State, account_id: int) -> None:
    """Remove what is kept about an account."""
    state.connection.execute("DELETE FROM muted_conversations WHERE account_id = ?", (account_id,))


FEATURE = Feature(
    "mutes",
    tables={MUTES_LEVEL: TABLES},
    commands={
        "set_muted": SignedInCommand(set_muted, Action.MUTE_CONVERSATION, MUTES_LEVEL, audits=NotAudited.OWN_VIEW)
    },
)


# ---- queries


def is_muted(reader: StateReader, account_id: int, conversation_id: int) -> bool:
    """Return whether the account has muted the conversation."""
    if reader.level() < MUTES_LEVEL:
        return False
    query = "SELECT 1 FROM muted_conversations WHERE account_id = ? AND conversation_id = ?"
    return bool(reader.rows(query, (account_id, conversation_id)))
