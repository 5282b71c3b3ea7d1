"""Raises the cluster's level when every member supports the next one. The level never falls.

The tables of a level are made inside the transaction of the entry that raises it. So a file of a level is the same on
every node, and a snapshot fits every member that may receive it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import AuditAction
from parleyd.machine.errors import MachineReleaseError
from parleyd.machine.feature import Command, Feature, result
from parleyd.machine.features import audit, members
from parleyd.machine.files import release_text
from parleyd.machine.levels import MAX_LEVEL

if TYPE_CHECKING:
    from parleyd.machine.state import State


@dataclass(frozen=True, slots=True)
class LevelRaised:
    """The cluster has a new level."""

    level: int


MAX_RELEASE_CHARS = 64

TABLES = """
CREATE TABLE raised_levels(
    level INTEGER PRIMARY KEY,
    release TEXT NOT NULL
) STRICT;
"""


def raise_level(state: State, command: pb.RaiseLevel) -> pb.CommandResult:
    """Raise the level by one. Raises MachineReleaseError, and writes nothing, if this release has no such level."""
    level = state.meta.level
    if command.level == level:
        return result(pb.RESULT_CODE_OK)
    if command.level != level + 1:
        return result(pb.RESULT_CODE_LEVEL_NOT_NEXT)
    limit = state.settings.value("level_limit")
    if limit and command.level > limit:
        return result(pb.RESULT_CODE_LEVEL_HELD)
    if not all(row.min_level <= command.level <= row.max_level for row in members.read(state.connection).rows):
        return result(pb.RESULT_CODE_LEVEL_NOT_SUPPORTED)
    # Checked last: a refused raise, for example because of a member that has just joined, must not stop that member.
    if command.level > MAX_LEVEL:
        entry = f"entry {state.meta.applied_index + 1} of the log"
        raise MachineReleaseError(release_text(entry, command.level, command.release))
    state.begin_level(command.level)
    state.connection.execute(
        "INSERT INTO raised_levels(level, release) VALUES(?, ?)", (command.level, command.release[:MAX_RELEASE_CHARS])
    )
    release = command.release[:MAX_RELEASE_CHARS]
    audit.record(state, audit.CLUSTER, AuditAction.LEVEL_RAISED, str(command.level), release)
    state.effects.append(LevelRaised(command.level))
    return result(pb.RESULT_CODE_OK)


FEATURE = Feature(
    "levels", tables={1: TABLES}, commands={"raise_level": Command(raise_level, audits=(AuditAction.LEVEL_RAISED,))}
)
