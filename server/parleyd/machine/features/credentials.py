"""Passwords after registration: a person changes the own one, an administrator gives a new one. Level 3."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import AuditAction
from parleyd.machine.authorisation import Action
from parleyd.machine.feature import Feature, SignedInCommand, result
from parleyd.machine.features import audit, failed_log_ins, sessions
from parleyd.machine.limits import MAX_HASH_BYTES

if TYPE_CHECKING:
    from parleyd.machine.features.sessions import Actor
    from parleyd.machine.state import State

CREDENTIALS_LEVEL: Final = 3


def change_password(state: State, actor: Actor, command: pb.ChangePassword) -> pb.CommandResult:
    """Set the caller's password and sign out its other devices. A retry finds it done."""
    account = actor.account
    if not 0 < len(command.new_hash) <= MAX_HASH_BYTES:
        return result(pb.RESULT_CODE_INVALID_LENGTH)
    if account.password_hash == command.new_hash:
        return result(pb.RESULT_CODE_OK)
    if account.password_hash != command.old_hash:
        return result(pb.RESULT_CODE_CREDENTIALS_CHANGED)
    state.accounts.set_password(account, command.new_hash)
    sessions.end_others(state, account.id, actor.device_id)
    audit.record(state, account.name, AuditAction.PASSWORD_CHANGED, account.name)
    return result(pb.RESULT_CODE_OK)


def reset_password(state: State, actor: Actor, command: pb.ResetPassword) -> pb.CommandResult:
    """Set the password of an account, sign out all its devices and lift its delay. A retry finds it done."""
    if not 0 < len(command.password_hash) <= MAX_HASH_BYTES:
        return result(pb.RESULT_CODE_INVALID_LENGTH)
    account = state.accounts.named(command.account)
    if account is None:
        return result(pb.RESULT_CODE_NO_SUCH_ACCOUNT)
    if account.password_hash != command.password_hash:
        state.accounts.set_password(account, command.password_hash)
        sessions.end_others(state, account.id, 0)
        failed_log_ins.lift(state, account.id)
        audit.record(state, actor.account.name, AuditAction.PASSWORD_RESET, account.name)
    return result(pb.RESULT_CODE_OK)


FEATURE = Feature(
    "credentials",
    commands={
        "change_password": SignedInCommand(
            change_password, Action.CHANGE_OWN_PASSWORD, CREDENTIALS_LEVEL, audits=(AuditAction.PASSWORD_CHANGED,)
        ),
        "reset_password": SignedInCommand(
            reset_password, Action.RESET_PASSWORD, CREDENTIALS_LEVEL, audits=(AuditAction.PASSWORD_RESET,)
        ),
    },
)
