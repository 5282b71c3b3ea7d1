"""Raising the cluster's level: once every member supports the next one, and never back.

The tables of a level come inside the transaction of the entry that raises it, so that a file of a level is the same
whoever made it, and a snapshot fits every member that may be sent one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.feature import Command, Feature, result
from parleyd.machine.features import members

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
    """Raise the level by one. An entry that raises it above this release's maximum is never applied here."""
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
    state.begin_level(command.level)
    state.connection.execute(
        "INSERT INTO raised_levels(level, release) VALUES(?, ?)", (command.level, command.release[:MAX_RELEASE_CHARS])
    )
    state.effects.append(LevelRaised(command.level))
    return result(pb.RESULT_CODE_OK)


FEATURE = Feature("levels", tables={1: TABLES}, commands={"raise_level": Command(raise_level)})
