"""Submits the api's commands to the log: checks them against the cluster's level, and checks their results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import grpc
import structlog

from parley_proto.v1 import state_pb2
from parleyd.api.errors import ApiError, check_result
from parleyd.group.proposals import AppliedCommands
from parleyd.machine.levels import RELEASES
from parleyd.machine.registry import COMMANDS

SUBMIT_TIMEOUT_S = 10.0
MAX_LOGGED = 64
"""How many commands of one entry are logged one by one. The marks of all devices of a node can be thousands."""


class Submitter(Protocol):
    """The router to the leader."""

    async def submit(self, commands: Sequence[state_pb2.Command], *, timeout_s: float) -> AppliedCommands:
        """Have `commands` applied; raises OverloadedError or UnavailableError."""


class Commands:
    """Submits commands of the cluster's level, and refuses others before they reach the log."""

    def __init__(self, submitter: Submitter, level: Callable[[], int], *, log_commands: bool = False) -> None:
        """With `log_commands`, log kind and size of each command when it is submitted."""
        self._submitter = submitter
        self._level = level
        self._logger = structlog.get_logger("commands") if log_commands else None

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
        if self._logger is not None:
            _log(self._logger, commands)
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


def _log(logger: Any, commands: Sequence[state_pb2.Command]) -> None:
    """Log what is submitted, without anything that a person wrote."""
    for command in commands[:MAX_LOGGED]:
        kind = command.WhichOneof("command")
        messages = {"messages": len(command.send_messages.sends)} if kind == "send_messages" else {}
        logger.info("command_submitted", kind=kind, bytes=command.ByteSize(), **messages)
    if len(commands) > MAX_LOGGED:
        logger.info("commands_left_out", commands=len(commands) - MAX_LOGGED)


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
