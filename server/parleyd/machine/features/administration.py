"""Administration of accounts: who is an administrator, and who is suspended.

At least one administrator who can log in always remains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import AuditAction
from parleyd.machine.authorisation import Action, Role
from parleyd.machine.feature import Feature, SignedInCommand, result
from parleyd.machine.features import audit, sessions, suspensions
from parleyd.machine.features.suspensions import SUSPENSIONS_LEVEL
from parleyd.machine.limits import MAX_REASON_CHARS
from parleyd.machine.texts import is_short_text

if TYPE_CHECKING:
    from parleyd.machine.features.accounts import AccountRow
    from parleyd.machine.features.sessions import Actor
    from parleyd.machine.state import State


def set_role(state: State, actor: Actor, command: pb.SetRole) -> pb.CommandResult:
    """Make an account an administrator, or revoke that; the last one is never revoked."""
    account = state.accounts.named(command.account)
    if account is None:
        return result(pb.RESULT_CODE_NO_SUCH_ACCOUNT)
    if not command.administrator and is_last_administrator(state, account):
        return result(pb.RESULT_CODE_LAST_ADMINISTRATOR)
    role = Role.ADMINISTRATOR if command.administrator else Role.USER
    if account.role != role:
        state.accounts.set_role(account, role)
        action = AuditAction.ROLE_GRANTED if command.administrator else AuditAction.ROLE_REVOKED
        audit.record(state, actor.account.name, action, account.name)
    return result(pb.RESULT_CODE_OK)


def suspend(state: State, actor: Actor, command: pb.SuspendAccount) -> pb.CommandResult:
    """Suspend another account and end its sessions. The caller stays, so it is never the last administrator.

    Applied again, it changes nothing, so the first reason stays.
    """
    if not is_short_text(command.reason, MAX_REASON_CHARS, state.level):
        return result(pb.RESULT_CODE_INVALID_REASON)
    account = state.accounts.named(command.account)
    if account is None:
        return result(pb.RESULT_CODE_NO_SUCH_ACCOUNT)
    if account.id == actor.account.id:
        return result(pb.RESULT_CODE_OWN_ACCOUNT)
    if not suspensions.is_suspended(state, account.id):
        suspensions.add(state, account.id, actor.account.id, command.reason)
        sessions.end_others(state, account.id, 0)
        audit.record(state, actor.account.name, AuditAction.ACCOUNT_SUSPENDED, account.name, command.reason)
    return result(pb.RESULT_CODE_OK)


def release(state: State, actor: Actor, command: pb.ReleaseAccount) -> pb.CommandResult:
    """End a suspension. The account logs in again; its sessions stay ended."""
    account = state.accounts.named(command.account)
    if account is None:
        return result(pb.RESULT_CODE_NO_SUCH_ACCOUNT)
    if suspensions.is_suspended(state, account.id):
        suspensions.remove(state, account.id)
        audit.record(state, actor.account.name, AuditAction.ACCOUNT_RELEASED, account.name)
    return result(pb.RESULT_CODE_OK)


def is_last_administrator(state: State, account: AccountRow) -> bool:
    """Return whether this account is the only administrator who can log in, or would be if it were released."""
    if not account.active or account.role != Role.ADMINISTRATOR:
        return False
    query = "SELECT 1 FROM accounts WHERE id <> ? AND role = ? AND status = 1"
    if state.meta.level >= SUSPENSIONS_LEVEL:
        query += " AND id NOT IN (SELECT account_id FROM suspended_accounts)"
    return state.connection.execute(f"{query} LIMIT 1", (account.id, Role.ADMINISTRATOR)).get is None


FEATURE = Feature(
    "administration",
    commands={
        "set_role": SignedInCommand(
            set_role, Action.SET_ROLE, audits=(AuditAction.ROLE_GRANTED, AuditAction.ROLE_REVOKED)
        ),
        "suspend_account": SignedInCommand(
            suspend, Action.SUSPEND_ACCOUNT, SUSPENSIONS_LEVEL, audits=(AuditAction.ACCOUNT_SUSPENDED,)
        ),
        "release_account": SignedInCommand(
            release, Action.RELEASE_ACCOUNT, SUSPENSIONS_LEVEL, audits=(AuditAction.ACCOUNT_RELEASED,)
        ),
    },
)
