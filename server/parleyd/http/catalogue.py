"""Every metric of a node: its name, kind, labels and meaning. docs/METRICS.md shows this table.

Labels have values of closed sets only: members, methods, codes, and words of this program. No account and nothing that
a person wrote is in a metric.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


class Kind(enum.Enum):
    """How a metric behaves."""

    GAUGE = "gauge"  # goes up and down
    COUNTER = "counter"  # only grows, until the process ends
    HISTOGRAM = "histogram"  # counts by size
    INFO = "info"  # always 1; the labels are what it says


@dataclass(frozen=True, slots=True)
class Metric:
    """One row. `name` is the one that Prometheus stores; a histogram's has `_bucket`, `_sum` and `_count` added."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """Return the unit, which is the end of the name; empty for a plain number."""
        stem = self.name.removesuffix("_total")
        return next((unit for unit in ("seconds", "bytes") if stem.endswith(f"_{unit}")), "")


_G, _C, _H, _I = Kind.GAUGE, Kind.COUNTER, Kind.HISTOGRAM, Kind.INFO

_ROWS = (
    # ---- the node
    Metric("parley_build_info", _I, "Release of Parley and of Python.", ("version", "python")),
    Metric(
        "parley_node_info", _I, "Name of this node and id of its cluster; empty before it has one.", ("node", "cluster")
    ),
    Metric(
        "parley_node_phase",
        _G,
        "1 for the phase of this node's life, 0 for the others: entering, starting, serving, stopping, failed.",
        ("phase",),
    ),
    Metric("parley_node_ready", _G, "1 if /readyz answers 200."),
    Metric("parley_node_fenced", _G, "1 if this node's state or log is not trusted, so it serves no clients."),
    Metric("parley_node_removed", _G, "1 if this node was removed from the cluster."),
    Metric("parley_cluster_level", _G, "Level of the replicated state, as applied here."),
    # ---- consensus
    Metric("parley_raft_role", _G, "1 for this node's role, 0 for the others.", ("role",)),
    Metric("parley_raft_is_leader", _G, "1 if this node leads, as far as it can tell."),
    Metric("parley_raft_has_leader", _G, "1 if this node knows a leader."),
    Metric(
        "parley_raft_leader", _G, "1 for the member that leads, as this node knows it, 0 for the others.", ("member",)
    ),
    Metric("parley_cluster_has_majority", _G, "1 if commands can be committed, as far as this node can tell."),
    Metric("parley_raft_term", _G, "Current term."),
    Metric("parley_raft_commit_index", _G, "Index of the last entry that this node knows to be committed."),
    Metric("parley_raft_applied_index", _G, "Index of the last entry that this node has applied."),
    Metric("parley_raft_lag_entries", _G, "Committed entries that this node has not applied, as far as it knows."),
    Metric("parley_raft_elections_total", _C, "Terms that began while this node ran."),
    Metric(
        "parley_raft_leader_changes_total", _C, "Leaders that this node has followed one after the other, itself too."
    ),
    Metric("parley_raft_leaderships_total", _C, "Elections that this node has won."),
    Metric(
        "parley_raft_handovers_total",
        _C,
        "Transfers of leadership that this node began because it was slow, by reason: disk, loop.",
        ("reason",),
    ),
    Metric("parley_cluster_members", _G, "Members by their part in majorities: voter, learner.", ("part",)),
    Metric("parley_member_connected", _G, "1 if this node's own link to the member is up.", ("member",)),
    Metric(
        "parley_member_match_index",
        _G,
        "Last entry that the member has on disk, as the leader knows; only on the leader.",
        ("member",),
    ),
    Metric(
        "parley_member_lag_entries",
        _G,
        "Entries of the leader's log that the member lacks, as the leader knows; only on the leader.",
        ("member",),
    ),
    # ---- log, state and disk
    Metric("parley_log_first_index", _G, "Index of the first entry in this node's log."),
    Metric("parley_log_last_index", _G, "Index of the last entry in this node's log."),
    Metric("parley_log_bytes", _G, "Size of the entries in this node's log."),
    Metric("parley_log_write_seconds", _H, "Time of a durable write of the log: one transaction and one fsync."),
    Metric("parley_apply_seconds", _H, "Time to apply a batch of committed entries to the state."),
    Metric(
        "parley_snapshots_total",
        _C,
        "Copies of the state: created for others, failed to be created, received, refused, installed here.",
        ("event",),
    ),
    Metric(
        "parley_disk_free_bytes", _G, "Free space of the disk of the data directory, at the last of two looks a second."
    ),
    Metric("parley_disk_reserve_bytes", _G, "Free space that is kept for running (disk_reserve_bytes)."),
    Metric("parley_disk_room", _G, "1 for the room on the disk, 0 for the others: enough, low, full.", ("room",)),
    Metric("parley_backup_interval_seconds", _G, "Time between the backups that this node writes by itself; 0: none."),
    Metric(
        "parley_backup_age_seconds",
        _G,
        "Age of the newest backup that this node wrote by itself. Before the first one: since this node started. "
        "0 if it writes none.",
    ),
    Metric(
        "parley_backups_total",
        _C,
        "Backups that this node wrote by itself, and attempts that failed: written, failed.",
        ("outcome",),
    ),
    # ---- service
    Metric("parley_clients_connected", _G, "Devices with an open stream to this node."),
    Metric("parley_presence_clients", _G, "Devices connected to each member that this node hears from.", ("member",)),
    Metric(
        "parley_command_answer_seconds",
        _H,
        "Time from a command's arrival at this node until its result is known, the way "
        "to the leader included: of messages, and of all other commands.",
        ("kind",),
    ),
    Metric(
        "parley_commands_total",
        _C,
        "Commands that this node submitted, by outcome: applied, refused (nothing was done), "
        "unknown (it may have been done).",
        ("outcome",),
    ),
    Metric("parley_messages_accepted_total", _C, "Messages that clients of this node sent and the cluster accepted."),
    Metric("parley_messages_stored_total", _C, "Messages that this node has stored, of all nodes' clients."),
    Metric(
        "parley_messages_delivered_total", _C, "Messages handed to devices of this node; one counts for each device."
    ),
    Metric("parley_calls_total", _C, "Ended calls of clients, by method and gRPC code.", ("method", "code")),
    Metric(
        "parley_refusals_total",
        _C,
        "Refusals by reason: calls, commands, disk, reads, password_checks, send_bytes, no_majority, behind.",
        ("reason",),
    ),
    Metric("parley_budget_used_bytes", _G, "Bytes in use of each bound that all callers share.", ("budget",)),
    Metric("parley_budget_max_bytes", _G, "The bound.", ("budget",)),
    Metric("parley_places_used", _G, "Places in use of each bound that all callers share.", ("place",)),
    Metric("parley_places_max", _G, "The bound.", ("place",)),
    # ---- the process
    Metric("parley_event_loop_lag_seconds", _H, "Lateness of a timer of the event loop, four times a second."),
    Metric("parley_event_loop_sustained_lag_seconds", _G, "Lateness that half of the last seconds exceeded."),
    Metric(
        "parley_certificate_expiry_timestamp_seconds",
        _G,
        "Unix time at which a certificate in use expires: ca, node, http.",
        ("certificate",),
    ),
    Metric("process_cpu_seconds_total", _C, "CPU time of the process."),
    Metric("process_resident_memory_bytes", _G, "Memory of the process."),
    Metric("process_virtual_memory_bytes", _G, "Address space of the process."),
    Metric("process_start_time_seconds", _G, "Unix time at which the process started."),
    Metric("process_open_fds", _G, "Open files of the process."),
    Metric("process_max_fds", _G, "Bound of the open files of the process."),
)

METRICS: Mapping[str, Metric] = MappingProxyType({row.name: row for row in _ROWS})
