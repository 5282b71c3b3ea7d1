"""Quotas of single accounts, which stand above the setting `max_account_bytes`. Level 3.

stored_bytes.py counts what an account has stored, and asks here how much it may.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import AuditAction
from parleyd.machine.authorisation import Action
from parleyd.machine.feature import Feature, SignedInCommand, result
from parleyd.machine.features import audit, settings

if TYPE_CHECKING:
    from parleyd.machine.features.sessions import Actor
    from parleyd.machine.reader import StateReader
    from parleyd.machine.state import State

QUOTAS_LEVEL: Final = 3
SETTING: Final = "max_account_bytes"

TABLES = """
CREATE TABLE account_quotas(
    account_id INTEGER PRIMARY KEY,
    max_bytes INTEGER NOT NULL
) STRICT;
"""
_SELECT = "SELECT max_bytes FROM account_quotas WHERE account_id = ?"


def set_quota(state: State, actor: Actor, command: pb.SetQuota) -> pb.CommandResult:
    """Give an account a quota of its own, or that of the setting again. What it has stored stays."""
    account = state.accounts.named(command.account)
    if account is None:
        return result(pb.RESULT_CODE_NO_SUCH_ACCOUNT)
    bounds = settings.SETTINGS[SETTING]
    wanted = command.max_bytes if command.HasField("max_bytes") else None
    if wanted is not None and not bounds.minimum <= wanted <= bounds.maximum:
        return result(pb.RESULT_CODE_INVALID_SETTING)
    before: int | None = state.connection.execute(_SELECT, (account.id,)).get
    if wanted == before:
        return result(pb.RESULT_CODE_OK)
    if wanted is None:
        forget(state, account.id)
    else:
        query = "INSERT OR REPLACE INTO account_quotas(account_id, max_bytes) VALUES(?, ?)"
        state.connection.execute(query, (account.id, wanted))
        state.stored_bytes.quota_changed(account.id)
    audit.record(state, actor.account.name, AuditAction.QUOTA_SET, account.name, f"{_text(before)} -> {_text(wanted)}")
    return result(pb.RESULT_CODE_OK)


def _text(quota: int | None) -> str:
    return "that of the cluster" if quota is None else str(quota)


def own(state: State, account_id: int) -> int | None:
    """Return the quota of its own that an account has, 0 for no limit; None if that of the setting counts."""
    found: int | None = state.connection.execute(_SELECT, (account_id,)).get
    return found


def forget(state: State, account_id: int) -> None:
    """Remove the quota of its own."""
    state.connection.execute("DELETE FROM account_quotas WHERE account_id = ?", (account_id,))
    state.stored_bytes.quota_changed(account_id)


FEATURE = Feature(
    "quotas",
    tables={QUOTAS_LEVEL: TABLES},
    commands={"set_quota": SignedInCommand(set_quota, Action.SET_QUOTA, QUOTAS_LEVEL, audits=(AuditAction.QUOTA_SET,))},
)


# ---- queries


@dataclass(frozen=True, slots=True)
class Usage:
    """What an account has stored and may store, in bytes; 0 is no limit. `is_own`: it has a quota of its own."""

    stored_bytes: int
    max_bytes: int
    is_own: bool


def usage(reader: StateReader, account_id: int) -> Usage:
    """Return what an account has stored and may store."""
    with reader.consistent():
        if reader.level() < QUOTAS_LEVEL:
            return Usage(0, 0, is_own=False)
        stored = reader.rows("SELECT bytes FROM stored_bytes WHERE account_id = ?", (account_id,))
        quota = reader.rows(_SELECT, (account_id,))
        max_bytes = quota[0][0] if quota else settings.all_values(reader)[SETTING]
        return Usage(stored[0][0] if stored else 0, max_bytes, is_own=bool(quota))
