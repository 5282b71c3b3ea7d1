"""Failed log-ins in a row on new devices, so that a change of leader does not forget them. Level 3.

The leader counts failed log-ins in memory (security/log_in_throttle.py). Only counts of 10, 30 and 100 become entries,
so that wrong guesses do not fill the log. A device that has logged in before has a count of its own, in memory only. So
its log-in does not end this count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import AuditAction
from parleyd.machine.authorisation import Action
from parleyd.machine.feature import Command, Feature, SignedInCommand, result
from parleyd.machine.features import audit

if TYPE_CHECKING:
    from parleyd.machine.features.sessions import Actor
    from parleyd.machine.reader import StateReader
    from parleyd.machine.state import State

FAILED_LOG_INS_LEVEL: Final = 3

# lifted: how often the count began anew, so that a count from before is recognised.
TABLES = """
CREATE TABLE failed_log_ins(
    account_id INTEGER PRIMARY KEY,
    failures INTEGER NOT NULL,
    lifted INTEGER NOT NULL
) STRICT;
"""


def count_failures(state: State, command: pb.CountFailures) -> pb.CommandResult:
    """Keep the count of an account, unless it began anew after these failures."""
    account = state.accounts.find(command.account_id)
    if account is None or not account.active:
        return result(pb.RESULT_CODE_NO_SUCH_ACCOUNT)
    before = _kept(state, account.id)
    state.connection.execute(
        "INSERT INTO failed_log_ins(account_id, failures, lifted) VALUES(?1, ?2, ?3) ON CONFLICT(account_id) "
        "DO UPDATE SET failures = max(failures, ?2) WHERE lifted = ?3",
        (account.id, command.failures, command.lifted),
    )
    if _kept(state, account.id) > before:
        audit.record(
            state,
            audit.CLUSTER,
            AuditAction.LOG_INS_FAILED,
            account.name,
            f"{command.failures} wrong passwords in a row",
        )
    return result(pb.RESULT_CODE_OK)


def lift_delay(state: State, actor: Actor, command: pb.LiftDelay) -> pb.CommandResult:
    """Forget the failed log-ins of an account."""
    account = state.accounts.named(command.account)
    if account is None:
        return result(pb.RESULT_CODE_NO_SUCH_ACCOUNT)
    if _kept(state, account.id):
        audit.record(state, actor.account.name, AuditAction.DELAY_LIFTED, account.name)
    lift(state, account.id)
    return result(pb.RESULT_CODE_OK)


def _kept(state: State, account_id: int) -> int:
    query = "SELECT failures FROM failed_log_ins WHERE account_id = ?"
    return cast("int", state.connection.execute(query, (account_id,)).get or 0)


# ---- for other features


def logged_in_on_new_device(state: State, account_id: int) -> None:
    """Begin the count anew, if one was kept: whoever logged in knows the password."""
    query = "UPDATE failed_log_ins SET failures = 0, lifted = lifted + 1 WHERE account_id = ? AND failures > 0"
    state.connection.execute(query, (account_id,))


def lift(state: State, account_id: int) -> None:
    """Begin the count anew."""
    state.connection.execute(
        "INSERT INTO failed_log_ins(account_id, failures, lifted) VALUES(?, 0, 1) ON CONFLICT(account_id) "
        "DO UPDATE SET failures = 0, lifted = lifted + 1",
        (account_id,),
    )


def forget(state: State, account_id: int) -> None:
    """Remove the count of a deleted account."""
    state.connection.execute("DELETE FROM failed_log_ins WHERE account_id = ?", (account_id,))


FEATURE = Feature(
    "failed_log_ins",
    tables={FAILED_LOG_INS_LEVEL: TABLES},
    commands={
        "count_failures": Command(count_failures, FAILED_LOG_INS_LEVEL, audits=(AuditAction.LOG_INS_FAILED,)),
        "lift_delay": SignedInCommand(
            lift_delay, Action.LIFT_DELAY, FAILED_LOG_INS_LEVEL, audits=(AuditAction.DELAY_LIFTED,)
        ),
    },
)


# ---- queries


@dataclass(frozen=True, slots=True)
class Failures:
    """Failed log-ins in a row as last kept, and how often their count began anew."""

    count: int = 0
    lifted: int = 0


def of_account(reader: StateReader, account_id: int) -> Failures:
    """Return the kept count of an account."""
    if reader.level() < FAILED_LOG_INS_LEVEL:
        return Failures()
    rows = reader.rows("SELECT failures, lifted FROM failed_log_ins WHERE account_id = ?", (account_id,))
    return Failures(*rows[0]) if rows else Failures()
