"""What a serving node tells monitoring systems, read from its parts when somebody asks.

It stands here, beside node.py, because it knows parts of many layers. It only reads. One reading is one turn of the
event loop, and takes a bounded time: what it visits are members, kinds and methods, never sessions or messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from parleyd.backup.schedule import BackupSchedule
from parleyd.budgets import StreamBudgets
from parleyd.delivery.device_hub import DeviceHub
from parleyd.group.command_router import CommandRouter
from parleyd.group.disk_monitor import DiskMonitor
from parleyd.group.member_room import Room
from parleyd.group.parts import GroupParts
from parleyd.group.runner import GroupRunner
from parleyd.group.snapshot_store import SnapshotStore
from parleyd.http.health import Condition
from parleyd.http.history import Sight
from parleyd.observability.figures import Sample, ServiceFigures
from parleyd.presence.clients import ConnectedClients
from parleyd.raft.status import RaftStatus
from parleyd.raft.types import NO_NODE, NodeId, Role
from parleyd.settings.table import Settings

REASONS = ("behind", "calls", "commands", "disk", "no_majority", "password_checks", "reads", "send_bytes")


class RoleCounts:
    """Counts terms, leaders and won elections from now on."""

    def __init__(self, runner: GroupRunner) -> None:
        self.elections = 0
        self.leader_changes = 0
        self.leaderships = 0
        self._runner = runner
        self._last = runner.role
        self._last_leader = runner.role.leader
        self._follow()

    def _follow(self) -> None:
        # Called before the group's next turn, so that no change is passed over.
        self._runner.next_role_change().add_done_callback(lambda _: self._changed())

    def _changed(self) -> None:
        role = self._runner.role
        self.elections += max(0, role.term - self._last.term)
        if role.leader not in (NO_NODE, self._last_leader):
            self.leader_changes += 1
            self._last_leader = role.leader
        if role.role is Role.LEADER and self._last.role is not Role.LEADER:
            self.leaderships += 1
        self._last = role
        self._follow()


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """The parts of a serving node, for reading.

    `places` are those of the calls of clients: in use, and the bound. `connected` tells of this node's own links.
    """

    settings: Settings
    parts: GroupParts
    runner: GroupRunner
    roles: RoleCounts
    router: CommandRouter
    snapshots: SnapshotStore
    disk: DiskMonitor
    backups: BackupSchedule
    hub: DeviceHub
    clients: ConnectedClients
    budgets: StreamBudgets
    service: ServiceFigures
    places: Callable[[], Mapping[str, tuple[int, int]]]
    connected: Callable[[NodeId], bool]
    has_majority: Callable[[], bool]
    is_fenced: Callable[[], bool]

    def condition(self) -> Condition:
        """Return what decides whether clients should use this node."""
        raft, room = self.runner.raft.status(), self.disk.room
        return Condition(
            has_leader=self.runner.role.leader != NO_NODE,
            is_serving=self.runner.serving,
            has_majority=self.has_majority(),
            is_fenced=self.is_fenced(),
            is_removed=self.runner.retired,
            is_disk_full=room is Room.FULL,
            is_disk_low=room is Room.LOW,
            is_receiving=self.snapshots.arriving > 0,
            lag_entries=self._lag_entries(raft),
        )

    def _lag_entries(self, status: RaftStatus) -> int:
        # A follower commits what it has. So what it lacks shows in what the leader tells.
        return max(status.commit_index, self.parts.group.leader_commit) - status.applied_index

    def sight(self) -> Sight:
        """Return what the dashboard remembers of this moment."""
        role, members = self.runner.role, self.runner.members.rows
        unreached = (row.name for node, row in members.items() if not self._reaches(node))
        leader = members.get(role.leader)
        return Sight(
            "" if leader is None else leader.name,
            role.term,
            self.has_majority(),
            frozenset(unreached),
            self.hub.stored,
            self.router.message_seconds.read(),
            self.runner.members.revocations(),
        )

    def _reaches(self, node: NodeId) -> bool:
        return node == self.runner.node_id or self.connected(node)

    def samples(self) -> Iterator[Sample]:
        """Return all figures of this moment."""
        status = self.runner.raft.status()
        yield "parley_node_fenced", (), self.is_fenced()
        yield "parley_node_removed", (), self.runner.retired
        yield "parley_cluster_level", (), self.runner.level
        yield from self._consensus(status)
        yield from self._members(status)
        yield from self._storage(status)
        yield from self._backups()
        yield from self._service()
        yield from self._bounds(status)

    def _consensus(self, status: RaftStatus) -> Iterator[Sample]:
        yield from one_of("parley_raft_role", [role.value for role in Role], status.role.value)
        yield "parley_raft_is_leader", (), self.runner.is_leader
        yield "parley_raft_has_leader", (), self.runner.role.leader != NO_NODE
        yield "parley_cluster_has_majority", (), self.has_majority()
        yield "parley_raft_term", (), status.term
        yield "parley_raft_commit_index", (), status.commit_index
        yield "parley_raft_applied_index", (), status.applied_index
        yield "parley_raft_lag_entries", (), self._lag_entries(status)
        yield "parley_raft_elections_total", (), self.roles.elections
        yield "parley_raft_leader_changes_total", (), self.roles.leader_changes
        yield "parley_raft_leaderships_total", (), self.roles.leaderships
        yield from counted("parley_raft_handovers_total", self.parts.group.handed_over)
        yield "parley_event_loop_sustained_lag_seconds", (), self.parts.group.loop_lag_ms / 1000

    def _members(self, status: RaftStatus) -> Iterator[Sample]:
        voters = {*status.conf_state.voters, *status.conf_state.voters_outgoing}
        yield "parley_cluster_members", ("voter",), len(voters)
        yield "parley_cluster_members", ("learner",), len(status.conf_state.learners)
        for node, row in sorted(self.runner.members.rows.items()):
            is_own = node == self.runner.node_id
            yield "parley_raft_leader", (row.name,), node == self.runner.role.leader
            yield "parley_member_connected", (row.name,), self._reaches(node)
            clients = self.clients.clients_of(node)
            if clients is not None:
                yield "parley_presence_clients", (row.name,), clients
            progress = status.progress.get(node)  # of a leader only
            if progress is not None:
                match = status.last_index if is_own else progress.match_index
                yield "parley_member_match_index", (row.name,), match
                yield "parley_member_lag_entries", (row.name,), status.last_index - match

    def _storage(self, status: RaftStatus) -> Iterator[Sample]:
        files = self.parts.files
        yield "parley_log_first_index", (), status.first_index
        yield "parley_log_last_index", (), status.last_index
        yield "parley_log_bytes", (), files.log_bytes
        yield "parley_log_write_seconds", (), files.write_seconds.read()
        yield "parley_apply_seconds", (), files.apply_seconds.read()
        yield from counted("parley_snapshots_total", self.snapshots.events)
        yield "parley_disk_free_bytes", (), self.disk.free_bytes
        yield "parley_disk_reserve_bytes", (), self.disk.reserve_bytes
        yield from one_of("parley_disk_room", [room.value for room in Room], self.disk.room.value)

    def _backups(self) -> Iterator[Sample]:
        backups = self.backups
        yield "parley_backup_interval_seconds", (), backups.interval_s
        yield "parley_backup_age_seconds", (), backups.age_s()
        yield from counted("parley_backups_total", backups.outcomes)

    def _service(self) -> Iterator[Sample]:
        yield "parley_clients_connected", (), self.hub.connected
        yield "parley_command_answer_seconds", ("message",), self.router.message_seconds.read()
        yield "parley_command_answer_seconds", ("other",), self.router.other_seconds.read()
        yield from counted("parley_commands_total", self.router.outcomes)
        yield "parley_messages_accepted_total", (), self.service.accepted
        yield "parley_messages_stored_total", (), self.hub.stored
        yield "parley_messages_delivered_total", (), self.service.delivered
        for (method, code), count in self.service.calls.items():
            yield "parley_calls_total", (method, code), count
        yield from counted("parley_refusals_total", {reason: self.service.refusals[reason] for reason in REASONS})

    def _bounds(self, status: RaftStatus) -> Iterator[Sample]:
        queued, queued_bytes = self.parts.group.queued
        settings, budgets = self.settings, self.budgets
        used_bytes = {
            "sends": (budgets.sends.in_use, budgets.sends.most),
            "session_queues": (budgets.live.in_use, budgets.live.most),
            "read_marks": (budgets.marks.in_use, budgets.marks.most),
            "queued_commands": (queued_bytes, settings.max_queued_bytes),
            "uncommitted": (status.uncommitted_bytes, settings.max_uncommitted_bytes),
        }
        for name, (used, most) in used_bytes.items():
            yield "parley_budget_used_bytes", (name,), used
            yield "parley_budget_max_bytes", (name,), most
        places = {
            **self.places(),
            "stored_pages": (budgets.pages.used, budgets.pages.total),
            "queued_commands": (queued, settings.max_queued_commands),
            "commands_for_leader": (self.router.waiting, settings.max_queued_commands),
        }
        for name, (used, most) in places.items():
            yield "parley_places_used", (name,), used
            yield "parley_places_max", (name,), most


def one_of(name: str, values: list[str], current: str) -> Iterator[Sample]:
    """Return 1 for the current one of a closed set of values, and 0 for the others."""
    for value in values:
        yield name, (value,), float(value == current)


def counted(name: str, counts: Mapping[str, int]) -> Iterator[Sample]:
    """Return counts that have one label."""
    for label, count in counts.items():
        yield name, (label,), count
