"""Publishes this node's addresses and levels to the cluster, if they differ from what it has."""

from __future__ import annotations

import asyncio
import dataclasses

from parley_proto.v1 import state_pb2
from parleyd.group.command_router import CommandRouter
from parleyd.group.errors import OverloadedError, UnavailableError
from parleyd.group.proposals import AppliedCommands
from parleyd.group.runner import GroupRunner
from parleyd.machine.records import MemberRow
from parleyd.retry import ask_until_answered
from parleyd.storage.identity import PeerInfo

PUBLISH_TIMEOUT_S = 10.0
PUBLISH_RETRY_INTERVAL_S = 0.5


class AddressPublisher:
    """Publishes once, when the applied members have this node with other addresses or levels."""

    def __init__(self, own: PeerInfo, runner: GroupRunner, router: CommandRouter) -> None:
        self._own = own
        self._runner = runner
        self._router = router
        self._members_changed = asyncio.Event()

    def members_changed(self) -> None:
        """Compare with the members again."""
        self._members_changed.set()

    async def run(self) -> None:
        """Return when the cluster has this node's addresses, or refuses them."""
        while not self._is_known():
            if await self._differs_once_known():
                applied = await ask_until_answered(self._publish, _pause)
                await self._runner.wait_applied(applied.index)
                if applied.results[0].code != state_pb2.RESULT_CODE_OK:
                    return

    def _is_known(self) -> bool:
        known = self._runner.members.rows.get(self._own.node_id)
        return known is not None and known == MemberRow(*dataclasses.astuple(self._own))

    async def _differs_once_known(self) -> bool:
        """Wait until this node is a member; return whether its published addresses or levels differ."""
        while self._own.node_id not in self._runner.members.rows:
            self._members_changed.clear()
            await self._members_changed.wait()
        return not self._is_known()

    async def _publish(self) -> AppliedCommands | None:
        own = state_pb2.PublishMember(
            node_id=self._own.node_id,
            name=self._own.name,
            peer_address=self._own.peer_address,
            client_address=self._own.client_address,
            min_level=self._own.min_level,
            max_level=self._own.max_level,
        )
        try:
            return await self._router.submit([state_pb2.Command(publish_member=own)], timeout_s=PUBLISH_TIMEOUT_S)
        except (OverloadedError, UnavailableError):
            return None


async def _pause() -> None:
    # Otherwise a full queue would never empty: the refusal comes at once.
    await asyncio.sleep(PUBLISH_RETRY_INTERVAL_S)
