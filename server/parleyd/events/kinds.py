"""Which lines of the log are events, what of them is kept, and which belong to the Raft history.

An event has the name of its line in the log. So who reads an event finds its line, and nothing is told twice in the
code. A name that stands here and is logged nowhere fails a test.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


class Topic(enum.Enum):
    """What an event is about."""

    RAFT = "raft"
    LIFE = "life"
    CONNECTIONS = "connections"
    DISK = "disk"
    CLOCKS = "clocks"
    CERTIFICATES = "certificates"
    BACKUPS = "backups"
    ADMINISTRATION = "administration"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of event. `fields` of the log's line are kept. `is_history`: the journal on disk has it, too."""

    topic: Topic
    meaning: str
    fields: tuple[str, ...] = ()
    is_history: bool = False


def _history(meaning: str, *fields: str, topic: Topic = Topic.RAFT) -> Kind:
    return Kind(topic, meaning, fields, is_history=True)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        # Raft
        "role_changed": _history(
            "The role, the term or the known leader of the node changed.", "role", "term", "leader"
        ),
        "election_started": _history("The node asked for votes.", "term", "reason"),
        "vote_given": _history("The node gave its vote in a term.", "term", "candidate"),
        "membership_changed": _history("The members changed.", "names"),
        "level_raised": _history("The cluster's level rose.", "level", "release", "index"),
        "snapshot_requested": _history("Nodes need entries that the log does not have any more.", "nodes"),
        "snapshot_created": _history("The node made a snapshot.", "index", "bytes"),
        "snapshot_failed": _history("The node could not make a snapshot.", "error"),
        "snapshot_installed": _history("A snapshot replaced the node's state.", "index", "term"),
        "disk_stalled": _history("A write took too long, and the leader transfers leadership.", "target"),
        "event_loop_lags": _history("The event loop is late for seconds, so every caller waits.", "lag_ms"),
        "event_loop_punctual_again": _history("The event loop is punctual again.", "lag_ms"),
        "leadership_left_by_late_loop": _history(
            "The event loop is late, and the leader transfers leadership.", "target"
        ),
        "leadership_transferred": _history("The node stops and has transferred leadership."),
        "leadership_transfer_timed_out": _history("The node stops, and no other node took over in time."),
        "node_fenced": _history("The node's state is not trusted.", "reason", "index"),
        "divergence_found": _history("The states of nodes differ.", "detail"),
        "divergence_ended": _history("The states of the nodes are equal again."),
        "log_entries_lost": _history("The disk lost entries that the node had confirmed.", "detail"),
        "node_removed": _history("The node was removed from the cluster.", "told_by"),
        "rebuild_started": _history("The node replaces its state by the leader's."),
        "events_not_recorded": _history("The journal left out events, because the disk did not take them.", "count"),
        # Life
        "node_started": _history("The process started.", "release", "process", topic=Topic.LIFE),
        "cluster_bootstrapped": _history("The node founded the cluster with others.", "cluster", topic=Topic.LIFE),
        "cluster_joined": _history("The node joined the cluster.", "cluster", topic=Topic.LIFE),
        "serving_started": _history("The node began to serve.", "clients", "peers", topic=Topic.LIFE),
        "node_restarted": _history("The node began anew within its process.", "reason", topic=Topic.LIFE),
        "shutdown_started": _history("The node began to stop.", "restarts", topic=Topic.LIFE),
        "node_stopped": _history("The node stopped.", "release", "reason", "exit_code", topic=Topic.LIFE),
        "unhandled_error": _history("An unexpected error stopped the node.", topic=Topic.LIFE),
        # What else an operator asks for
        "peer_connected": Kind(Topic.CONNECTIONS, "The connection to another node came up.", ("peer", "address")),
        "peer_disconnected": Kind(Topic.CONNECTIONS, "The connection to another node broke.", ("peer", "reason")),
        "disk_space_ran_low": Kind(Topic.DISK, "Less than the reserve is free.", ("free_bytes", "reserve_bytes")),
        "disk_space_ran_out": Kind(
            Topic.DISK, "Less than half of the reserve is free.", ("free_bytes", "reserve_bytes")
        ),
        "disk_space_returned": Kind(Topic.DISK, "Enough is free again.", ("free_bytes", "reserve_bytes")),
        "disk_not_measured": Kind(Topic.DISK, "The system did not say how much is free.", ("error",)),
        "clocks_differed": Kind(Topic.CLOCKS, "The leader knows of wrong clocks.", ("offsets_ms",)),
        "clocks_agreed": Kind(Topic.CLOCKS, "The leader knows of no wrong clock any more."),
        "certificate_reloaded": Kind(
            Topic.CERTIFICATES, "The node uses a new certificate.", ("expires", "sha256", "new_key")
        ),
        "key_changed": Kind(Topic.CERTIFICATES, "The node's new key is published, so the others refuse the old one."),
        "certificate_not_reloaded": Kind(
            Topic.CERTIFICATES, "The new certificate cannot be used, and the one before stays.", ("reason",)
        ),
        "certificate_revoked": Kind(
            Topic.CERTIFICATES,
            "An administrator revoked a certificate or key: the node refuses it. `member` had it, if one did.",
            ("member", "sha256"),
        ),
        "certificate_restored": Kind(
            Topic.CERTIFICATES, "An administrator took a revocation back.", ("member", "sha256")
        ),
        "certificate_warning": Kind(Topic.CERTIFICATES, "The certificate needs attention.", ("detail",)),
        "backup_written": Kind(Topic.BACKUPS, "The node wrote a backup.", ("file", "bytes")),
        "admin_action": Kind(Topic.ADMINISTRATION, "An administrator asked for something.", ("action", "by", "about")),
        "admin_action_failed": Kind(
            Topic.ADMINISTRATION,
            "It was refused or failed, or its outcome is not known. The code is that of gRPC.",
            ("action", "by", "about", "code"),
        ),
        "backup_failed": Kind(Topic.BACKUPS, "The node could not write a backup.", ("folder", "error")),
    }
)
