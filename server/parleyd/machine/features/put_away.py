"""Conversations that an account has put away: its devices list them when something newer comes. Level 3.

A conversation is put away up to a message. Whether it is in the list follows from that message and the newest one, so a
message costs no row. The rows of an account are at most the conversations that it may read.
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

PUT_AWAY_LEVEL: Final = 3

TABLES = """
CREATE TABLE put_away_conversations(
    account_id INTEGER NOT NULL,
    conversation_id INTEGER NOT NULL,
    up_to INTEGER NOT NULL,
    PRIMARY KEY(account_id, conversation_id)
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class ConversationPutAway:
    """An account put a conversation away, or brought it back."""

    account_id: int
    conversation_id: int


def set_put_away(state: State, actor: Actor, command: pb.SetPutAway) -> pb.CommandResult:
    """Put a conversation away for the caller, or bring it back. The same again changes nothing.

    A device that has not received the newest messages yet does not take back what another device has put away.
    """
    key = (actor.account.id, command.conversation_id)
    conversation = state.conversations.find(command.conversation_id)
    last = 0 if conversation is None else last_of(state, actor.account.id, conversation)
    if not last:
        return result(pb.RESULT_CODE_NO_SUCH_CONVERSATION)
    if command.up_to:
        state.connection.execute(
            "INSERT INTO put_away_conversations(account_id, conversation_id, up_to) VALUES(?, ?, ?) "
            "ON CONFLICT DO UPDATE SET up_to = excluded.up_to WHERE excluded.up_to > up_to",
            (*key, min(command.up_to, last)),
        )
    else:
        query = "DELETE FROM put_away_conversations WHERE account_id = ? AND conversation_id = ?"
        state.connection.execute(query, key)
    if state.connection.changes():
        state.effects.append(ConversationPutAway(*key))
    return result(pb.RESULT_CODE_OK)


def forget(state: State, account_id: int) -> None:
    """Remove what is kept about an account."""
    state.connection.execute("DELETE FROM put_away_conversations WHERE account_id = ?", (account_id,))


FEATURE = Feature(
    "put_away",
    tables={PUT_AWAY_LEVEL: TABLES},
    commands={
        "set_put_away": SignedInCommand(
            set_put_away, Action.PUT_CONVERSATION_AWAY, PUT_AWAY_LEVEL, audits=NotAudited.OWN_VIEW
        )
    },
)


# ---- queries


def put_away_up_to(reader: StateReader, account_id: int, conversation_id: int) -> int:
    """Return up to which message the account has put the conversation away, 0 if it has not."""
    if reader.level() < PUT_AWAY_LEVEL:
        return 0
    query = "SELECT up_to FROM put_away_conversations WHERE account_id = ? AND conversation_id = ?"
    return sum(up_to for (up_to,) in reader.rows(query, (account_id, conversation_id)))
