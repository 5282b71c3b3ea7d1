"""Settings and start values of a group."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from parleyd.group.leader_watch import NO_SUSPICION, SilenceBounds
from parleyd.group.retention import LogBounds
from parleyd.membership.members import ClusterMembers
from parleyd.raft.types import Entry


@dataclass(frozen=True, slots=True)
class GroupSettings:
    """Times and bounds of one group.

    `tick_ms` is the unit of the core's clock. A question for a read index is asked again after `retry_ms`, and a
    transfer of leadership has failed after twice that. If a write takes longer than `disk_stall_ms`, the leader tries
    to transfer leadership. `max_waiting_proposals` bounds the callers that wait for the next entry, and
    `max_waiting_bytes` their commands. Nothing is proposed while `max_pipeline_bytes` are not yet applied, and less
    than `enough_bytes` not while any entry is.
    `growing_commands` are the fields of `Command` that make the data grow. Disks that are nearly full do not take them.
    A leader whose event loop is later than `loop_lag_ms` looks for a punctual member to lead; 0: it never does.
    `silence` says after which silence a node asks for votes early.
    """

    tick_ms: float
    retry_ms: float
    log_bounds: LogBounds
    disk_stall_ms: float = 2_000
    max_entry_bytes: int = 512 * 1024
    max_waiting_proposals: int = 16_384
    growing_commands: frozenset[str] = frozenset()
    max_waiting_bytes: int = 16 << 20
    max_pipeline_bytes: int = 1 << 20
    enough_bytes: int = 0
    silence: SilenceBounds = NO_SUSPICION
    loop_lag_ms: float = 0


@dataclass(frozen=True, slots=True)
class GroupStart:
    """Start values of a group: members and level as applied, applied entries still in the log, time, randomness."""

    members: ClusterMembers
    level: int
    kept_entries: Sequence[Entry]
    now_ms: float
    rng: random.Random
