"""Administration: the accounts that may administer the cluster. At least one always remains."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.authorisation import Action, Role
from parleyd.machine.feature import Feature, SignedInCommand, result

if TYPE_CHECKING:
    from parleyd.machine.features.accounts import AccountRow
    from parleyd.machine.features.sessions import Actor
    from parleyd.machine.state import State


def set_role(state: State, _: Actor, command: pb.SetRole) -> pb.CommandResult:
    """Make an account an administrator, or revoke that; the last one is never revoked."""
    account = state.accounts.named(command.account)
    if account is None:
        return result(pb.RESULT_CODE_NO_SUCH_ACCOUNT)
    if not command.administrator and is_last_administrator(state, account):
        return result(pb.RESULT_CODE_LAST_ADMINISTRATOR)
    role = Role.ADMINISTRATOR if command.administrator else Role.USER
    state.accounts.set_role(account, role)
    return result(pb.RESULT_CODE_OK)


def is_last_administrator(state: State, account: AccountRow) -> bool:
    """Return whether this account is the only administrator."""
    if not account.active or account.role != Role.ADMINISTRATOR:
        return False
    query = "SELECT 1 FROM accounts WHERE id <> ? AND role = ? AND status = 1 LIMIT 1"
    return state.connection.execute(query, (account.id, Role.ADMINISTRATOR)).get is None


FEATURE = Feature("administration", commands={"set_role": SignedInCommand(set_role, Action.SET_ROLE)})
