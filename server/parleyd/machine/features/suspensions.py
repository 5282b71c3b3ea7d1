"""Suspended accounts: since when, by whom and why. Level 3.

A suspended account has no session and opens none until it is released. Everything else of it stays: its name, its
memberships, its devices, and what others send to it meanwhile. administration.py has the commands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from parleyd.machine.feature import Feature
from parleyd.machine.limits import MAX_ID

if TYPE_CHECKING:
    from parleyd.machine.reader import StateReader
    from parleyd.machine.state import State

SUSPENSIONS_LEVEL: Final = 3

TABLES = """
CREATE TABLE suspended_accounts(
    account_id INTEGER PRIMARY KEY,
    since_ms INTEGER NOT NULL,
    suspended_by INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT;
"""


def is_suspended(state: State, account_id: int) -> bool:
    """Return whether an account is suspended."""
    if state.meta.level < SUSPENSIONS_LEVEL:
        return False
    query = "SELECT 1 FROM suspended_accounts WHERE account_id = ?"
    return state.connection.execute(query, (account_id,)).get is not None


def add(state: State, account_id: int, suspended_by: int, reason: str) -> None:
    """Suspend an account that is not suspended."""
    state.connection.execute(
        "INSERT INTO suspended_accounts(account_id, since_ms, suspended_by, reason) VALUES(?, ?, ?, ?)",
        (account_id, state.meta.now_ms, suspended_by, reason),
    )


def remove(state: State, account_id: int) -> None:
    """Release an account."""
    state.connection.execute("DELETE FROM suspended_accounts WHERE account_id = ?", (account_id,))


FEATURE = Feature("suspensions", tables={SUSPENSIONS_LEVEL: TABLES})


# ---- queries


@dataclass(frozen=True, slots=True)
class Suspension:
    """Why an account cannot log in. `suspended_by` is the name of an administrator."""

    since_ms: int
    suspended_by: str
    reason: str


def among(reader: StateReader, account_ids: set[int]) -> dict[int, Suspension]:
    """Return which of these accounts are suspended."""
    if reader.level() < SUSPENSIONS_LEVEL:
        return {}
    query = (
        "SELECT s.since_ms, coalesce(a.name, ''), s.reason FROM suspended_accounts s "
        "LEFT JOIN accounts a ON a.id = s.suspended_by WHERE s.account_id = ?"
    )
    found = {one: reader.rows(query, (one,)) for one in sorted(account_ids) if one <= MAX_ID}
    return {one: Suspension(*rows[0]) for one, rows in found.items() if rows}
