"""Publishes this node's addresses, levels and key to the cluster, whenever they differ from what it has."""

from __future__ import annotations

import asyncio
import dataclasses

from parley_proto.v1 import state_pb2
from parleyd.group.command_router import CommandRouter
from parleyd.group.errors import OverloadedError, UnavailableError
from parleyd.group.proposals import AppliedCommands
from parleyd.group.runner import GroupRunner
from parleyd.machine.levels import NODE_KEYS_LEVEL
from parleyd.machine.records import MemberRow
from parleyd.retry import ask_until_answered
from parleyd.storage.identity import PeerInfo

PUBLISH_TIMEOUT_S = 10.0
PUBLISH_RETRY_INTERVAL_S = 0.5


class AddressPublisher:
    """Publishes when the applied members have this node with another record."""

    def __init__(self, own: PeerInfo, runner: GroupRunner, router: CommandRouter) -> None:
        self._own = own
        self._runner = runner
        self._router = router
        self._members_changed = asyncio.Event()

    def members_changed(self) -> None:
        """Compare with the members again."""
        self._members_changed.set()

    async def run(self) -> None:
        """Publish whenever the cluster has something else; return if it refuses."""
        while True:
            known = self._runner.members.rows.get(self._own.node_id)
            if known is None or known == MemberRow(*dataclasses.astuple(self._record())):
                self._members_changed.clear()
                await self._members_changed.wait()
                continue
            applied = await ask_until_answered(self._publish, _pause)
            await self._runner.wait_applied(applied.index)
            if applied.results[0].code != state_pb2.RESULT_CODE_OK:
                return

    def _record(self) -> PeerInfo:
        """Return what this node publishes at the cluster's level."""
        has_keys = self._runner.level >= NODE_KEYS_LEVEL
        return self._own if has_keys else dataclasses.replace(self._own, key_digest=b"")

    async def _publish(self) -> AppliedCommands | None:
        record = self._record()
        own = state_pb2.PublishMember(
            node_id=record.node_id,
            name=record.name,
            peer_address=record.peer_address,
            client_address=record.client_address,
            min_level=record.min_level,
            max_level=record.max_level,
            key_digest=record.key_digest,
        )
        try:
            return await self._router.submit([state_pb2.Command(publish_member=own)], timeout_s=PUBLISH_TIMEOUT_S)
        except (OverloadedError, UnavailableError):
            return None


async def _pause() -> None:
    # Otherwise a full queue would never empty: the refusal comes at once.
    await asyncio.sleep(PUBLISH_RETRY_INTERVAL_S)
