"""Accounts that the lists of connected accounts leave out. Level 3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import NotAudited
from parleyd.machine.authorisation import Action
from parleyd.machine.feature import Feature, SignedInCommand, result
from parleyd.machine.limits import MAX_ID

if TYPE_CHECKING:
    from parleyd.machine.features.sessions import Actor
    from parleyd.machine.reader import StateReader
    from parleyd.machine.state import State

HIDDEN_LEVEL: Final = 3

TABLES = "CREATE TABLE hidden_accounts(account_id INTEGER PRIMARY KEY) STRICT;"


def set_hidden(state: State, actor: Actor, command: pb.SetHidden) -> pb.CommandResult:
    """Hide the caller or show it; the same again changes nothing."""
    if command.hidden:
        query = "INSERT INTO hidden_accounts(account_id) VALUES(?) ON CONFLICT(account_id) DO NOTHING"
        state.connection.execute(query, (actor.account.id,))
    else:
        forget(state, actor.account.id)
    return result(pb.RESULT_CODE_OK)


def forget(state: State, account_id: int) -> None:
    """Remove what is kept about an account."""
    state.connection.execute("DELETE FROM hidden_accounts WHERE account_id = ?", (account_id,))


FEATURE = Feature(
    "hidden_accounts",
    tables={HIDDEN_LEVEL: TABLES},
    commands={"set_hidden": SignedInCommand(set_hidden, Action.HIDE_ITSELF, HIDDEN_LEVEL, audits=NotAudited.OWN_VIEW)},
)


# ---- queries


def among(reader: StateReader, account_ids: set[int]) -> set[int]:
    """Return which of these accounts hide."""
    if reader.level() < HIDDEN_LEVEL:
        return set()
    query = "SELECT account_id FROM hidden_accounts WHERE account_id = ?"
    return {one for one in account_ids if one <= MAX_ID and reader.rows(query, (one,))}
