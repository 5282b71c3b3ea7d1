"""Accounts that an administrator makes at once, for example those of another system. Level 3.

Nothing is hashed for it: an account comes with a hash, or without a password. The rules for names are those of
`register`. A retry finds the accounts that exist, and changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import AuditAction
from parleyd.machine.authorisation import Action, Role
from parleyd.machine.feature import Feature, SignedInCommand, result
from parleyd.machine.features import accounts, audit, display_names
from parleyd.machine.limits import MAX_HASH_BYTES, MAX_IMPORTED_ACCOUNTS

if TYPE_CHECKING:
    from parleyd.machine.features.sessions import Actor
    from parleyd.machine.state import State

IMPORT_LEVEL: Final = 3


def import_accounts(state: State, actor: Actor, command: pb.ImportAccounts) -> pb.CommandResult:
    """Make each account that may be made. One that is refused holds up no other."""
    if not 0 < len(command.accounts) <= MAX_IMPORTED_ACCOUNTS:
        return result(pb.RESULT_CODE_INVALID_LENGTH)
    codes = [_make(state, account) for account in command.accounts]
    made = [account for account, code in zip(command.accounts, codes, strict=True) if code == pb.RESULT_CODE_OK]
    if made:
        detail = f"{len(made)} accounts, {sum(bool(account.password_hash) for account in made)} with a password"
        names = " ".join(account.name for account in made)
        audit.record(state, actor.account.name, AuditAction.ACCOUNTS_IMPORTED, names, detail)
    return pb.CommandResult(code=pb.RESULT_CODE_OK, import_accounts=pb.ImportAccountsResult(codes=codes))


def _make(state: State, account: pb.NewAccount) -> pb.ResultCode.ValueType:
    if not accounts.is_name(account.name):
        return pb.RESULT_CODE_INVALID_NAME
    if not display_names.is_display_name(state, account.display_name):
        return pb.RESULT_CODE_INVALID_DISPLAY_NAME
    if len(account.password_hash) > MAX_HASH_BYTES:
        return pb.RESULT_CODE_INVALID_LENGTH
    refused = accounts.name_refusal(state, account.name)
    if refused is not None:
        return refused
    account_id = accounts.add(state, account.name, account.password_hash, Role.USER)
    if account.display_name:
        display_names.show_as(state, account_id, account.display_name)
    return pb.RESULT_CODE_OK


FEATURE = Feature(
    "account_import",
    commands={
        "import_accounts": SignedInCommand(
            import_accounts, Action.IMPORT_ACCOUNTS, IMPORT_LEVEL, grows=True, audits=(AuditAction.ACCOUNTS_IMPORTED,)
        ),
    },
)
