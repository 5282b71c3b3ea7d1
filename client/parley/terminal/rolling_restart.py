"""`parley cluster rolling-restart`: one node after the other, the leader last.

The leader permits each restart only while all other voters have caught up. This module asks, and waits until the node
is back: it answers as a new process, serves, has applied what the leader had committed, and the leader is connected to
it.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from parley import (
    BadInputError,
    ClusterStatus,
    NodeStatus,
    OutcomeUnknownError,
    OverloadedError,
    ParleyError,
    RefusedError,
    UnreachableError,
)
from parley.terminal.commands import note
from parley.terminal.options import ConnectionOptions

POLL_S = 0.2
RETRY_S = 0.5


class Restarts(Protocol):
    """The requests of an administrator that this needs."""

    async def restart_node(self, name: str) -> str:
        """Have a node stop and start again. Return why it does not yet."""

    async def transfer_leadership(self, name: str) -> str:
        """Transfer leadership."""


async def run(options: ConnectionOptions, names: Sequence[str], *, timeout_s: float) -> None:
    """Restart the nodes with these names, or all."""
    options.must_name_account()
    async with options.client() as client:
        rolling = RollingRestart(client.cluster_status, await client.administration(), timeout_s)
        await rolling.run(names)


class RollingRestart:
    """Restarts nodes one after the other."""

    def __init__(
        self,
        status: Callable[[], Awaitable[ClusterStatus]],
        administration: Restarts,
        timeout_s: float,
        say: Callable[[str], None] = note,
    ) -> None:
        """Keep the parts. Each wait for a node ends after `timeout_s`."""
        self._status = status
        self._administration = administration
        self._timeout_s = timeout_s
        self._say = say

    async def run(self, names: Sequence[str]) -> None:
        """Restart these nodes, or all. Raise an error that names the node at which it stopped, and how to go on."""
        left = self._chosen(await self._status(), names)
        done: list[str] = []
        while left:
            name = left[0]
            try:
                name = await self._next(left)
                seconds = await self._restart(name)
            except (RefusedError, OverloadedError, UnreachableError) as error:
                raise type(error)(_stopped_at(name, done, left, error)) from error
            self._say(f"{name} was restarted: it serves again and has caught up, after {seconds:.1f} s.")
            left.remove(name)
            done.append(name)

    def _chosen(self, status: ClusterStatus, names: Sequence[str]) -> list[str]:
        members = [member.name for node in status.nodes for member in node.members]
        known = sorted(dict.fromkeys(members))
        if strangers := [name for name in names if name not in known]:
            raise BadInputError(
                f"{', '.join(strangers)}: no such member. Nothing was restarted. The members are {', '.join(known)}."
            )
        answering = {node.name for node in status.nodes if not node.error}
        if missing := [name for name in known if name not in answering]:
            raise UnreachableError(
                f"{', '.join(missing)} did not answer. Nothing was restarted, because a restart needs all others. "
                "Start them first, or give their addresses with --host."
            )
        return list(dict.fromkeys(names)) or known

    async def _next(self, left: Sequence[str]) -> str:
        """Return a node that does not lead; after the others, transfer leadership away from the last."""
        leader = (await self._status()).leader
        for name in left:
            if name != leader:
                return name
        new = await self._administration.transfer_leadership("")
        self._say(f"{new} leads now, so that {leader} can be restarted.")
        return leader

    async def _restart(self, name: str) -> float:
        """Restart a node and wait until it is back. Return the seconds from its stop on."""
        until = time.monotonic() + self._timeout_s
        asked_at = await self._ask(name, until)
        goal: int | None = None
        while True:
            status = await self._status()
            if (node := _new_process(status, name, time.monotonic() - asked_at)) is not None:
                leader = _leader_with(status, name)
                if goal is None and leader is not None:
                    goal = leader.commit_index
                if goal is not None and node.applied_index >= goal:
                    return time.monotonic() - asked_at
            if time.monotonic() > until:
                raise UnreachableError(f"It was asked to restart, and is not back after {self._timeout_s:.0f} s.")
            await asyncio.sleep(POLL_S)

    async def _ask(self, name: str, until: float) -> float:
        """Ask until the restart is permitted. Return when the request left that was answered."""
        while True:
            asked_at = time.monotonic()
            try:
                why_not_yet = await self._administration.restart_node(name)
            except OutcomeUnknownError:
                return asked_at  # the status tells whether it restarts
            except (OverloadedError, UnreachableError) as error:
                why_not_yet = error.text  # perhaps an election
            if not why_not_yet:
                return asked_at
            if asked_at > until:
                raise UnreachableError(f"It was not permitted to restart: {why_not_yet.rstrip('.')}.")
            await asyncio.sleep(RETRY_S)


def _stopped_at(name: str, done: Sequence[str], left: Sequence[str], error: ParleyError) -> str:
    parts = [f"Stopped at {name}: {error.text}"]
    if done:
        parts.append(f"{', '.join(done)} {'was' if len(done) == 1 else 'were'} restarted.")
    if isinstance(error, RefusedError):
        parts.append(f"{name} was not restarted and runs as before. When it is permitted, go on with:")
    else:
        parts.append(
            "Nothing is lost: messages are on a majority of disks. Look at the log of "
            f"{name} and at parley cluster status, start {name} if it does not run, then go on with:"
        )
    return " ".join((*parts, "parley cluster rolling-restart", *left))


def _new_process(status: ClusterStatus, name: str, since_s: float) -> NodeStatus | None:
    """Return the node's status if it serves and has started within `since_s`."""
    nodes = (node for node in status.nodes if node.name == name and not node.error)
    return next((node for node in nodes if node.serving and node.uptime_s < since_s), None)


def _leader_with(status: ClusterStatus, name: str) -> NodeStatus | None:
    """Return the status of the leader if it is connected to this node."""
    leader = next((node for node in status.nodes if node.name == status.leader and not node.error), None)
    has_it = leader is not None and any(member.name == name and member.connected for member in leader.members)
    return leader if has_it else None
