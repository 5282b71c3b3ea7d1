"""Transfer of leadership to a chosen follower (thesis §3.10).

The leader stops accepting proposals, brings the follower up to date, and makes it campaign at once. If the follower
does not lead within an election timeout, the leader accepts proposals again.
"""

from __future__ import annotations

from parleyd.raft import replication
from parleyd.raft.core import Core
from parleyd.raft.messages import MessageType
from parleyd.raft.types import NO_NODE, NodeId, Role


def transfer_leader(core: Core, target: NodeId) -> None:
    """Transfer leadership to `target`; if this server is the target and no leader, request it from the leader."""
    if core.role is not Role.LEADER:
        if target == core.id and core.leader != NO_NODE:
            core.send(MessageType.TRANSFER_LEADER, core.leader)
        return
    progress = core.progress.get(target)
    if progress is None or progress.is_learner or target == core.transferee:
        return
    core.transferee = NO_NODE
    if target == core.id:
        return
    core.election_elapsed = 0
    core.transferee = target
    if progress.match_index == core.log.last_index:
        core.send(MessageType.TIMEOUT_NOW, target)
    else:
        replication.send_append(core, target)
