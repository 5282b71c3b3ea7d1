"""Raises the cluster's level: the leader proposes the next level when every member supports it.

The decision is pure (`next_level`), and apply repeats it for the members of that moment. `LevelRaiser` decides again
only after a change of what it depends on: the members, the role, the settings, the level, or a known divergence. A
proposal with an unknown outcome is made again, because raising a level that is reached changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from parley_proto.v1 import state_pb2 as pb
from parleyd.group.errors import ProposalError
from parleyd.group.proposals import AppliedCommands
from parleyd.machine.levels import MAX_LEVEL, release_of
from parleyd.machine.records import MemberRow

PROPOSAL_TIMEOUT_S = 5.0
RETRY_INTERVAL_S = 0.5


@dataclass(frozen=True, slots=True)
class LevelState:
    """What the decision depends on, as of the last applied entry; `limit` 0 means no limit."""

    level: int
    limit: int
    members: tuple[MemberRow, ...]
    has_divergence: bool


def next_level(state: LevelState, own_maximum: int = MAX_LEVEL) -> int | None:
    """Return the level to propose, or None if the level has to stay."""
    level = state.level + 1
    is_held = bool(state.limit) and level > state.limit
    if is_held or state.has_divergence or level > own_maximum or not supported_by_all(level, state.members):
        return None
    return level


def supported_by_all(level: int, members: Iterable[MemberRow]) -> bool:
    """Return whether every member supports `level`, learners and absent members included."""
    ranges = [(row.min_level, row.max_level) for row in members]
    return bool(ranges) and all(low <= level <= high for low, high in ranges)


class Proposer(Protocol):
    """The access to the log, while this node leads."""

    @property
    def is_leader(self) -> bool:
        """Return whether this node leads."""

    def propose(self, commands: Sequence[pb.Command]) -> asyncio.Future[AppliedCommands]:
        """Put commands in the log."""


class LevelRaiser:
    """Proposes the next level while this node leads."""

    def __init__(self, proposer: Proposer, read_state: Callable[[], Awaitable[LevelState]]) -> None:
        self._proposer = proposer
        self._read_state = read_state
        self._changed = asyncio.Event()
        self._changed.set()
        self._logger = structlog.get_logger("levels")

    def changed(self) -> None:
        """Record that something that the decision depends on may have changed."""
        self._changed.set()

    async def run(self) -> None:
        """Decide again after each change, until cancelled."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._proposer.is_leader and not await self._raise_if_due():
                asyncio.get_running_loop().call_later(RETRY_INTERVAL_S, self._changed.set)

    async def _raise_if_due(self) -> bool:
        """Propose the next level if it is due; return False if the outcome is unknown and this must be repeated."""
        level = next_level(await self._read_state())
        if level is None:
            return True
        command = pb.Command(raise_level=pb.RaiseLevel(level=level, release=release_of(level)))
        try:
            async with asyncio.timeout(PROPOSAL_TIMEOUT_S):
                applied = await self._proposer.propose([command])
        except (ProposalError, TimeoutError):
            return False
        code = applied.results[0].code
        if code == pb.RESULT_CODE_OK:
            self._logger.info("level_raised", level=level, release=release_of(level), index=applied.index)
            self._changed.set()  # the next one may be due
        else:
            self._logger.info("level_refused", level=level, code=pb.ResultCode.Name(code))
        return True
