"""`parley cluster replace NAME`: a node that is lost is removed, and a new one of its name becomes a voter.

The command keeps nothing: each step follows from what the cluster says. So it can be interrupted at any time and
repeated. It removes a node only while that does not answer and a majority of the others does.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from parley import ClusterMember, ClusterStatus, NodeStatus, RefusedError, UnreachableError
from parley.terminal.commands import note, say
from parley.terminal.options import ConnectionOptions

POLL_S = 1.0
LOOKS = 3
"""So often in a row a node must be silent before it is removed."""
TOKEN_HOURS = 24


class Administrator(Protocol):
    """The requests of an administrator that a replacement needs."""

    async def remove_member(self, name: str, *, force: bool) -> None:
        """Remove a member for good."""

    async def invite_node(self, valid_s: int) -> str:
        """Return a join token."""


class Replacement:
    """One run of the command. `pause` is what it waits between two looks."""

    def __init__(
        self,
        name: str,
        look: Callable[[], Awaitable[ClusterStatus]],
        administrator: Administrator,
        pause: Callable[[], Awaitable[None]],
        print_token: Callable[[str], None] = say,
        tell: Callable[[str], None] = note,
    ) -> None:
        self._name = name
        self._look = look
        self._administrator = administrator
        self._pause = pause
        self._print_token = print_token
        self._tell = tell
        self._told = ""

    async def run(self) -> None:
        """Do what is left to do, and return when the new node is a voter."""
        leader = _leader_of(await self._look())
        row = _member(leader, self._name)
        if row is None:
            names = ", ".join(member.name for member in leader.members)
            self._tell(f"{self._name} is no member now, of {names}. A new node of this name can join.")
            await self._invite(leader)
        elif row.voter:
            await self._check_silent(row)
            await self._remove(leader, row)
            await self._invite(leader)
        await self._until_voter()
        self._tell(f"{self._name} is a voter now.")

    async def _check_silent(self, row: ClusterMember | None) -> None:
        """Raise RefusedError if the node answers in one of several looks."""
        for _ in range(LOOKS):
            if row is not None and row.connected:
                raise RefusedError(
                    f"{self._name} answers and is a voter. Nothing was changed. If it is to be replaced although it "
                    "works, stop it first. If an earlier run of this command replaced it, that is done."
                )
            await self._pause()
            row = _member(_leader_of(await self._look()), self._name)

    async def _remove(self, leader: NodeStatus, row: ClusterMember) -> None:
        others = [member for member in leader.members if member.voter and member.name != self._name]
        silent = [member.name for member in others if not member.connected]
        if 2 * len(silent) >= len(others):
            raise RefusedError(
                f"Without {self._name}, too few voters answer: {', '.join(silent)} do not. Nothing was changed. Start "
                "them first. If a majority is lost for good: parleyd recover --help."
            )
        await self._administrator.remove_member(self._name, force=False)
        self._tell(f"{self._name} (id {row.node_id}) was removed. Never start its old data directory again.")

    async def _invite(self, leader: NodeStatus) -> None:
        self._print_token(await self._administrator.invite_node(TOKEN_HOURS * 3600))
        others = [member for member in leader.members if member.name != self._name]
        join = ", ".join(f'{member.name} = "{member.peer_address}"' for member in others)
        self._tell(
            f"Give the new {self._name} an empty data directory, and this token in the file that join_token_file "
            f"names. Put [join] with the others into the place of [peers], a line for each: {join}. Then start it. The "
            f"token is valid for {TOKEN_HOURS} hours. This command waits. It can be interrupted and repeated."
        )

    async def _until_voter(self) -> None:
        while True:
            try:
                leader = _leader_of(await self._look())
            except UnreachableError as error:
                self._tell_once(error.text)
            else:
                row = _member(leader, self._name)
                if row is not None and row.voter and row.connected:
                    return
                self._tell_once(_progress(leader, row, self._name))
            await self._pause()

    def _tell_once(self, text: str) -> None:
        if text != self._told:
            self._tell(text)
        self._told = text


def _progress(leader: NodeStatus, row: ClusterMember | None, name: str) -> str:
    if row is None:
        return f"Waiting for {name} to join."
    if not row.connected:
        return f"{name} is a learner and does not answer now. If its data is lost: parley cluster remove {name}"
    done = min(100, row.match_index * 100 // max(1, leader.commit_index))
    return f"{name} is a learner and has {done}% of the entries."


def _leader_of(status: ClusterStatus) -> NodeStatus:
    """Return what the leader says. Only it knows how far the others are. Raises UnreachableError without one."""
    for node in status.nodes:
        if not node.error and node.role == "leader" and node.serving and node.version:
            return node
    raise UnreachableError("No leader answers. Nothing was changed. Try again when the cluster has a majority.")


def _member(leader: NodeStatus, name: str) -> ClusterMember | None:
    return next((member for member in leader.members if member.name == name), None)


async def replace(options: ConnectionOptions, name: str) -> None:
    """Replace a node."""
    options.must_name_account()
    async with options.client() as client:
        administration = await client.administration()
        await Replacement(name, client.cluster_status, administration, lambda: asyncio.sleep(POLL_S)).run()
