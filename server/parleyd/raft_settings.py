"""What the settings of a node mean for its consensus core, which counts in ticks."""

from __future__ import annotations

import secrets

from parleyd.raft.config import RaftConfig
from parleyd.raft.types import NodeId
from parleyd.settings.table import Settings


def raft_config(settings: Settings, node_id: NodeId) -> RaftConfig:
    """Return the configuration of a node's consensus core."""
    return RaftConfig(
        node_id=node_id,
        election_timeout_ticks=max(1, settings.election_timeout_min_ms // settings.tick_ms),
        election_timeout_spread_ticks=max(
            1, (settings.election_timeout_max_ms - settings.election_timeout_min_ms) // settings.tick_ms
        ),
        heartbeat_ticks=max(1, settings.heartbeat_ms // settings.tick_ms),
        pre_vote=True,
        check_quorum=True,
        commit_notices=True,
        max_uncommitted_bytes=settings.max_uncommitted_bytes,
        max_inflight_messages=settings.max_inflight_messages,
        max_inflight_bytes=settings.max_inflight_bytes,
        max_applying_bytes=settings.max_apply_bytes,
        seed=secrets.randbits(63),
    )
