"""Makes the Raft group of a node from its settings and its data directory."""

from __future__ import annotations

import random
import secrets

from parleyd.group.files import GroupFiles
from parleyd.group.group import Group
from parleyd.group.leader_watch import SilenceBounds
from parleyd.group.opening import log_generation, open_files, recover
from parleyd.group.parts import GroupObserver, GroupParts
from parleyd.group.readers import StateReaders
from parleyd.group.retention import LogBounds
from parleyd.group.runner import now_ms
from parleyd.group.settings import GroupSettings, GroupStart
from parleyd.group.snapshot_store import SnapshotStore
from parleyd.machine.registry import GROWING
from parleyd.membership.members import ClusterMembers
from parleyd.raft.raft import Raft
from parleyd.raft.types import NodeId
from parleyd.raft_settings import raft_config
from parleyd.settings.table import Settings
from parleyd.storage.data_directory import DataDirectory
from parleyd.transport.peer_links import GroupLinks

ENOUGH_BYTES = 2 << 10
"""Commands that are worth an entry while another one is under way: about six short messages. With more of them, a
client with 64 in flight waits for itself (docs/PERFORMANCE.md).
"""


def open_group(
    settings: Settings,
    data: DataDirectory,
    node_id: NodeId,
    snapshot_store: SnapshotStore,
    outbound: GroupLinks,
    observer: GroupObserver,
) -> GroupParts:
    """Open the files of a node's group, and make the group with them."""
    log, machine = open_files(data, settings.state_cache_bytes)
    recovered = recover(log, machine)
    log_generation(data)
    files = GroupFiles(log, machine, StateReaders(data.state_db), snapshot_store)
    group = Group(
        Raft(raft_config(settings, node_id), recovered.initial_state()),
        GroupSettings(
            tick_ms=settings.tick_ms,
            retry_ms=settings.election_timeout_max_ms,
            log_bounds=LogBounds(settings.log_retain_entries, settings.log_retain_bytes),
            max_entry_bytes=settings.max_entry_bytes,
            max_waiting_proposals=settings.max_queued_commands,
            max_waiting_bytes=settings.max_queued_bytes,
            max_pipeline_bytes=settings.max_pipeline_bytes,
            enough_bytes=ENOUGH_BYTES,
            growing_commands=GROWING,
            loop_lag_ms=settings.loop_lag_ms,
            silence=SilenceBounds(
                tick_ms=settings.tick_ms,
                heartbeat_ms=settings.heartbeat_ms,
                least_ms=settings.missed_heartbeats * settings.heartbeat_ms,
                election_timeout_min_ms=settings.election_timeout_min_ms,
                election_timeout_max_ms=settings.election_timeout_max_ms,
            ),
        ),
        GroupStart(
            members=ClusterMembers.of(machine.members()),
            level=machine.level,
            kept_entries=recovered.applied_entries(),
            now_ms=now_ms(),
            rng=random.Random(secrets.randbits(63)),  # noqa: S311 - delays and names of questions, no secret
        ),
    )
    return GroupParts(group, files, outbound, observer)
