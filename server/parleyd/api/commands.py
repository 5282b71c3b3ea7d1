"""Submits the api's commands to the log: checks them against the cluster's level, and checks their results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import grpc

from parley_proto.v1 import state_pb2
from parleyd.api.errors import ApiError, check_result
from parleyd.group.proposals import AppliedCommands
from parleyd.machine.levels import RELEASES
from parleyd.machine.registry import COMMANDS

SUBMIT_TIMEOUT_S = 10.0


class Submitter(Protocol):
    """The router to the leader."""

    async def submit(self, commands: Sequence[state_pb2.Command], *, timeout_s: float) -> AppliedCommands:
        """Have `commands` applied; raises OverloadedError or UnavailableError."""


class Commands:
    """Submits commands of the cluster's level, and refuses others before they reach the log."""

    def __init__(self, submitter: Submitter, level: Callable[[], int]) -> None:
        self._submitter = submitter
        self._level = level

    @property
    def level(self) -> int:
        """Return the cluster's level."""
        return self._level()

    async def submit(self, commands: Sequence[state_pb2.Command]) -> AppliedCommands:
        """Get `commands` applied, all in one log entry.

        Raises ApiError for a command above the cluster's level, OverloadedError, and UnavailableError if the outcome
        may be unknown. Repeating the commands is safe.
        """
        self.check(commands)
        return await self._submitter.submit(commands, timeout_s=SUBMIT_TIMEOUT_S)

    def check(self, commands: Sequence[state_pb2.Command]) -> None:
        """Raise ApiError for a command above the cluster's level."""
        level = self._level()
        for command in commands:
            check_level(command, level)

    async def apply(self, command: state_pb2.Command) -> tuple[int, state_pb2.CommandResult]:
        """Get one command applied; return its index and result. Raises as `submit`, and ApiError for a refusal."""
        applied = await self.submit([command])
        return applied.index, check_result(applied.results[0], after_unknown=applied.after_unknown)


def check_level(command: state_pb2.Command, level: int) -> None:
    """Raise ApiError FAILED_PRECONDITION for a command that the cluster's level does not have yet."""
    name = command.WhichOneof("command")
    needed = COMMANDS[name].level if name is not None else level
    if needed > level:
        release = RELEASES.get(needed, "of that level")
        raise ApiError(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"This needs level {needed}, and the cluster has level {level}. Nothing was changed. Update all nodes to "
            f"release {release} or newer; the level rises by itself then.",
        )
