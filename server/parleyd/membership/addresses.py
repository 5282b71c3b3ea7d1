"""Publishes this node's addresses, levels and key to the cluster, whenever they differ from what it has."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Protocol

import structlog

from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1 import state_pb2
from parleyd.group.command_router import CommandRouter
from parleyd.group.errors import OverloadedError, UnavailableError
from parleyd.group.proposals import AppliedCommands
from parleyd.group.runner import GroupRunner
from parleyd.machine.levels import NODE_KEYS_LEVEL
from parleyd.machine.records import MemberRow
from parleyd.raft.types import NO_NODE
from parleyd.retry import ask_until_answered
from parleyd.storage.identity import PeerInfo
from parleyd.transport.bootstrap import encode_peer_info

PUBLISH_TIMEOUT_S = 3.0
REFUSED_ADVICE = (
    "The other members have no present address and key of this node. If its key is an older one, make a new one "
    "(parleyd cert node) and restart the node"
)
PUBLISH_RETRY_INTERVAL_S = 0.5


class Announcements(Protocol):
    """Tells other members about this node."""

    async def announce(self, record: pb.PeerInfo) -> None:
        """Send this node's record to every member that it reaches; returns within a bounded time, never raises."""


def publication(record: PeerInfo, level: int) -> state_pb2.Command:
    """Return the command that publishes a member's record to a cluster of `level`."""
    return state_pb2.Command(
        publish_member=state_pb2.PublishMember(
            node_id=record.node_id,
            name=record.name,
            peer_address=record.peer_address,
            client_address=record.client_address,
            min_level=record.min_level,
            max_level=record.max_level,
            key_digest=record.key_digest if level >= NODE_KEYS_LEVEL else b"",
        )
    )


class AddressPublisher:
    """Publishes when the applied members have this node with another record.

    A node that moved alone hears of no leader, because the members call its old address. But it can call them. So while
    it knows no leader, it announces itself to every member that it reaches, and they publish for it.
    """

    def __init__(self, own: PeerInfo, runner: GroupRunner, router: CommandRouter, others: Announcements) -> None:
        self._own = own
        self._runner = runner
        self._router = router
        self._others = others
        self._members_changed = asyncio.Event()

    def members_changed(self) -> None:
        """Compare with the members again."""
        self._members_changed.set()

    def key_changed(self, key_digest: bytes) -> None:
        """Publish this key from now on."""
        self._own = dataclasses.replace(self._own, key_digest=key_digest)
        self._members_changed.set()

    async def run(self) -> None:
        """Publish whenever the cluster has something else; return if it refuses."""
        while True:
            if not self._differs():
                self._members_changed.clear()
                await self._members_changed.wait()
                continue
            applied = await ask_until_answered(self._publish, _pause)
            await self._runner.wait_applied(applied.index)
            code = applied.results[0].code
            if code != state_pb2.RESULT_CODE_OK:
                structlog.get_logger("members").error(
                    "publication_refused", code=state_pb2.ResultCode.Name(code)[12:], advice=REFUSED_ADVICE
                )
                return

    def _differs(self) -> bool:
        known = self._runner.members.rows.get(self._own.node_id)
        return known is not None and known != MemberRow(*dataclasses.astuple(self._record()))

    def _record(self) -> PeerInfo:
        """Return what this node publishes at the cluster's level."""
        has_keys = self._runner.level >= NODE_KEYS_LEVEL
        return self._own if has_keys else dataclasses.replace(self._own, key_digest=b"")

    async def _publish(self) -> AppliedCommands | None:
        if self._runner.role.leader == NO_NODE:
            await self._others.announce(encode_peer_info(self._own))
        command = publication(self._own, self._runner.level)
        try:
            return await self._router.submit([command], timeout_s=PUBLISH_TIMEOUT_S)
        except (OverloadedError, UnavailableError):
            return None


async def _pause() -> None:
    # Otherwise a full queue would never empty: the refusal comes at once.
    await asyncio.sleep(PUBLISH_RETRY_INTERVAL_S)
