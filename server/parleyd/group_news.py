"""Passes a group's news to the node: new messages, other members, the end of the membership."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import structlog

from parleyd.delivery.device_hub import DeviceHub
from parleyd.delivery.device_stream import CloseReason
from parleyd.group.leadership import OWN_LOG
from parleyd.group.runner import GroupRunner
from parleyd.machine.features.levels import LevelRaised
from parleyd.machine.machine import ApplyOutcome
from parleyd.machine.records import MemberRow
from parleyd.membership.addresses import AddressPublisher
from parleyd.membership.members import ClusterMembers, to_peer_info
from parleyd.raft.types import NodeId
from parleyd.storage.identity import PeerInfo
from parleyd.transport.bootstrap import decode_peer_info
from parleyd.transport.peer_registry import PeerRegistry
from parleyd.transport.vouching import Vouching
from parleyd.trust import StateTrust

LOST_ENTRIES_EFFECT = "The disk lost confirmed entries, so this node serves no clients, and it neither votes nor leads"
LOST_ENTRIES_ADVICE = (
    "The other members have the entries. Remove this member (parley cluster remove NAME), move its data directory "
    "away, start it with --join, and admit it as a new one: parley cluster add NAME HOST:PORT"
)
CLOCK_EFFECT = (
    "The cluster goes by the time that a majority of the voters has reached. A leader whose clock is wrong steps down"
)
CLOCK_ADVICE = "Set the clocks of these nodes, for example with NTP"


class GroupNews:
    """Passes a group's news to the parts of a node."""

    def __init__(
        self, node: NodeId, registry: PeerRegistry, vouching: Vouching, hub: DeviceHub, status_due: asyncio.Event
    ) -> None:
        self._node = node
        self._registry = registry
        self._vouching = vouching
        self._hub = hub
        self._status_due = status_due
        self._addresses: AddressPublisher | None = None
        self._trust: StateTrust | None = None
        self._runner: GroupRunner | None = None
        self._revoked: frozenset[tuple[bytes, str]] | None = None  # digests and members; None before the first look
        self._wrong_clocks: Mapping[str, int] = {}
        self._logger = structlog.get_logger("node")

    def follow(self, runner: GroupRunner, addresses: AddressPublisher, trust: StateTrust) -> None:
        """Begin with what `runner` has applied before this start."""
        self._addresses, self._trust, self._runner = addresses, trust, runner
        self.members_changed(runner.members)
        trust.state_replaced()  # the node whose copy this state may come from has the same state
        self.trust_changed()
        if runner.retired:
            self.retired(OWN_LOG)

    def applied(self, outcome: ApplyOutcome) -> None:
        """Give what is new to the connected devices."""
        self._hub.publish(outcome.effects)
        if self._addresses is not None and any(isinstance(effect, LevelRaised) for effect in outcome.effects):
            self._addresses.members_changed()  # a level may have something more to publish
        if self._trust is not None:
            self._trust.applied(outcome)

    def members_changed(self, members: ClusterMembers) -> None:
        """Connect to the present members."""
        self._tell_revocations(members.revocations())
        known = [_peer_info(row) for row in members.rows.values()]
        self._registry.update(
            known,
            members.removed,
            (barred.key_digest for barred in members.barred),
            (revoked.digest for revoked in members.revoked),
        )
        self._vouching.update(known)
        if self._trust is not None:
            self._trust.members_changed(members)
        if self._addresses is not None:
            self._addresses.members_changed()
        self._status_due.set()

    def _tell_revocations(self, now: frozenset[tuple[bytes, str]]) -> None:
        before, self._revoked = self._revoked, now
        if before is None:
            return  # of before this start
        for digest, member in sorted(now - before):
            self._logger.warning("certificate_revoked", member=member or None, sha256=digest.hex())
        for digest, member in sorted(before - now):
            self._logger.warning("certificate_restored", member=member or None, sha256=digest.hex())

    def state_replaced(self) -> None:
        """Restart the devices' streams, because they may lack what the snapshot brought."""
        self._hub.close_all(CloseReason.REPLACED)
        if self._trust is not None:
            self._trust.state_replaced()

    def trust_changed(self) -> None:
        """Make the clients of a fenced node move to another node."""
        if self._trust is not None and self._trust.guard.fence is not None:
            self._hub.shut(CloseReason.STOPPING)
        self._status_due.set()

    def retired(self, told_by: str) -> None:
        """Stop serving and standing for elections, because this node was removed; an operator ends the process."""
        self._logger.error(
            "node_removed",
            effect="this node serves no clients any more",
            advice="Stop it; to bring the machine back, move its data directory away, start it with --join, and admit "
            "it: parley cluster add NAME HOST:PORT",
            told_by=told_by,
        )
        self._registry.update((), [self._node])
        self._hub.shut(CloseReason.STOPPING)
        self._status_due.set()

    @property
    def clock_text(self) -> str:
        """Return the text for operators about wrong clocks; empty while this node knows of none."""
        return "; ".join(
            f"the clock of {name} is {abs(offset_ms) / 1000:.0f} s {'ahead of' if offset_ms > 0 else 'behind'} the "
            f"time that a majority of the voters has reached. {name} should not lead. Set its clock"
            for name, offset_ms in sorted(self._wrong_clocks.items())
        )

    def clocks_judged(self, offsets_ms: Mapping[NodeId, int]) -> None:
        """Report wrong clocks, which this node knows as the leader."""
        names = {} if self._runner is None else {node: row.name for node, row in self._runner.members.rows.items()}
        self._wrong_clocks = {names.get(node, str(node)): offset_ms for node, offset_ms in offsets_ms.items()}
        if offsets_ms:
            self._logger.error(
                "clocks_differed", offsets_ms=self._wrong_clocks, effect=CLOCK_EFFECT, advice=CLOCK_ADVICE
            )
        else:
            self._logger.info("clocks_agreed")
        self._status_due.set()

    def entries_lost(self, detail: str) -> None:
        """Stop serving, because this node's disk lost entries that a majority may have counted."""
        self._logger.error("log_entries_lost", detail=detail, effect=LOST_ENTRIES_EFFECT, advice=LOST_ENTRIES_ADVICE)
        if self._trust is not None:
            self._trust.entries_lost(detail, f"{detail}. {LOST_ENTRIES_EFFECT}. {LOST_ENTRIES_ADVICE}")
        self._hub.shut(CloseReason.STOPPING)


def _peer_info(row: MemberRow) -> PeerInfo:
    return decode_peer_info(to_peer_info(row))
