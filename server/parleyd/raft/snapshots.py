"""Snapshots: installing one from a leader, and the outcome of those sent (Raft §7).

A snapshot replaces log, state and membership at once. Until it is durable this server neither applies nor campaigns.
This package handles only the metadata of snapshots.
"""

from __future__ import annotations

from parleyd.raft import reconfigure, replication
from parleyd.raft.core import Core
from parleyd.raft.errors import PeerProtocolError
from parleyd.raft.membership import NextMembership, check_conf_state, members_of
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.progress import ProgressState
from parleyd.raft.types import NO_INDEX, Index, NodeId, Role, SnapshotMeta


def check_snapshot(message: Message) -> None:
    """Refuse a snapshot message without a usable snapshot, before anything is changed."""
    if message.snapshot is None or message.snapshot.index == NO_INDEX or not message.snapshot.conf_state.voters:
        raise PeerProtocolError(f"node {message.sender} sent a snapshot without index or membership")
    try:
        check_conf_state(message.snapshot.conf_state)
    except ValueError as error:
        raise PeerProtocolError(f"node {message.sender} sent a snapshot with a broken membership: {error}") from error


def handle_snapshot(core: Core, message: Message) -> None:
    """Install the leader's snapshot if it is ahead; answer with the end of this log."""
    snapshot = message.snapshot
    if snapshot is not None and _restore(core, snapshot):
        core.send(MessageType.APPEND_RESPONSE, message.sender, index=core.log.last_index)
    else:
        core.send(MessageType.APPEND_RESPONSE, message.sender, index=core.log.commit_index)


def _restore(core: Core, snapshot: SnapshotMeta) -> bool:
    if snapshot.index <= core.log.commit_index:
        return False
    if core.id not in members_of(snapshot.conf_state):
        return False  # it would make this server a non-member of its own cluster
    if core.log.matches(snapshot.index, snapshot.term):
        core.log.commit_to(snapshot.index)  # all its entries are in the log already
        return False
    core.log.restore(snapshot)
    core.progress = {}
    reconfigure.switch_to(core, NextMembership(snapshot.conf_state, members_of(snapshot.conf_state)))
    core.progress[core.id].acknowledge(core.log.last_index)
    return True


def snapshot_installed(core: Core, index: Index) -> None:
    """Record that storage has installed the snapshot at `index`, in log and state machine."""
    core.log.snapshot_stable(index)
    reconfigure.applied_to(core, index)


def snapshot_available(core: Core, snapshot: SnapshotMeta) -> None:
    """Record that state as of `snapshot` can be sent from now on; forget older ones."""
    known = core.snapshot_available
    if known is None or snapshot.index >= known.index:
        core.snapshot_available = snapshot
    if core.role is Role.LEADER:
        replication.send_what_waits_for_a_snapshot(core)


def snapshot_status(core: Core, node: NodeId, *, ok: bool) -> None:
    """Record the end of a transfer; the follower's next response decides where to continue."""
    progress = core.progress.get(node)
    if core.role is not Role.LEADER or progress is None or progress.state is not ProgressState.SNAPSHOT:
        return
    if not ok:
        progress.pending_snapshot = NO_INDEX
    progress.become_probe()
    progress.paused_by_flow = True
