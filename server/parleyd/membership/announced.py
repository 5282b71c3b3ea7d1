"""Publishes the records that other members announce to this node, because they hear of no leader themselves."""

from __future__ import annotations

import dataclasses

from parleyd.group.command_router import CommandRouter
from parleyd.group.errors import OverloadedError, UnavailableError
from parleyd.group.runner import GroupRunner
from parleyd.machine.records import MemberRow
from parleyd.membership.addresses import PUBLISH_TIMEOUT_S, publication
from parleyd.storage.identity import PeerInfo


class AnnouncedRecords:
    """Publishes announced records, one at a time for each member."""

    def __init__(self, runner: GroupRunner, router: CommandRouter) -> None:
        self._runner = runner
        self._router = router
        self._publishing: set[int] = set()

    async def publish(self, record: PeerInfo) -> bool:
        """Publish a member's record, if the cluster has another one; False if no leader took it."""
        known = self._runner.members.rows.get(record.node_id)
        if known == MemberRow(*dataclasses.astuple(record)):
            return True
        if record.node_id in self._publishing:
            return False
        self._publishing.add(record.node_id)
        try:
            command = publication(record, self._runner.level)
            await self._router.submit([command], timeout_s=PUBLISH_TIMEOUT_S)
        except (OverloadedError, UnavailableError):
            return False
        finally:
            self._publishing.discard(record.node_id)
        return True
