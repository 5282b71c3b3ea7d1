"""The name that is shown beside an account's own. Level 2. Its column belongs to the table of accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import NotAudited
from parleyd.machine.authorisation import Action
from parleyd.machine.feature import Feature, SignedInCommand, result
from parleyd.machine.features.accounts import DISPLAY_NAME_LEVEL, AccountChanged
from parleyd.machine.limits import MAX_NAME_CHARS
from parleyd.machine.texts import is_short_text

if TYPE_CHECKING:
    from parleyd.machine.features.sessions import Actor
    from parleyd.machine.state import State


def set_display_name(state: State, actor: Actor, command: pb.SetDisplayName) -> pb.CommandResult:
    """Set the name shown beside the caller's account name; the same name again changes nothing."""
    if not is_display_name(state, command.display_name):
        return result(pb.RESULT_CODE_INVALID_DISPLAY_NAME)
    if show_as(state, actor.account.id, command.display_name):
        state.effects.append(AccountChanged(actor.account.id))
    return result(pb.RESULT_CODE_OK)


def is_display_name(state: State, text: str) -> bool:
    """Return whether an account may be shown so. Empty is for none."""
    return is_short_text(text, MAX_NAME_CHARS, state.level)


def show_as(state: State, account_id: int, display_name: str) -> bool:
    """Store a display name. Return whether it is another one."""
    query = "UPDATE accounts SET display_name = ?1 WHERE id = ?2 AND display_name <> ?1"
    state.connection.execute(query, (display_name, account_id))
    return state.connection.changes() > 0


FEATURE = Feature(
    "display_names",
    commands={
        "set_display_name": SignedInCommand(
            set_display_name, Action.SET_OWN_DISPLAY_NAME, DISPLAY_NAME_LEVEL, audits=NotAudited.OWN_VIEW
        ),
    },
)
