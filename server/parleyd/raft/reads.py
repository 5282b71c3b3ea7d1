"""Linearizable reads without writing to the log: ReadIndex (thesis §6.4, Raft §8).

A leader records its commit index, lets a majority confirm its leadership by a round of heartbeats, and answers with
that index. It answers only after an entry of its own term is committed, because its commit index is incomplete before.
Followers forward the request and get the index back.
"""

from __future__ import annotations

from parleyd.raft.core import Core
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.quorum import VoteResult
from parleyd.raft.readqueue import ReadRequest
from parleyd.raft.types import NO_NODE, Index, NodeId, Role
from parleyd.raft.update import ReadReady


def request_read(core: Core, context: bytes) -> None:
    """Take a read request of this server's own client."""
    if core.role is Role.LEADER:
        if core.reads.has_room():
            _lead_read(core, ReadRequest(core.id, context))
        else:
            core.output.dropped_reads.append(context)
    elif core.leader != NO_NODE:
        # The oldest is removed: its request or its answer was lost, and nothing else would remove it.
        core.output.dropped_reads.extend(core.reads.forget_oldest_forwarded())
        core.reads.forwarded[context] = None
        core.send(MessageType.READ_INDEX, core.leader, context=context)
    else:
        core.output.dropped_reads.append(context)


def handle_read_request(core: Core, message: Message) -> None:
    """Take a read that another server forwards. A server that does not lead sends no answer.

    The sender drops the read when it learns of a new leader.
    """
    if core.role is Role.LEADER and core.reads.has_room():
        _lead_read(core, ReadRequest(message.sender, message.context))


def handle_read_response(core: Core, message: Message) -> None:
    """Take the leader's answer to a forwarded read; ignore a second or late answer."""
    if message.context in core.reads.forwarded:
        del core.reads.forwarded[message.context]
        core.output.reads.append(ReadReady(message.context, message.index))


def _lead_read(core: Core, request: ReadRequest) -> None:
    if not core.committed_in_current_term():
        # Also needed alone: after a restart the commit index on disk may be lower than what was acknowledged.
        core.reads.postponed.append(request)
    elif core.config.lease_reads or core.is_only_voter():
        _answer(core, request, core.log.commit_index)
    else:
        broadcast_heartbeat(core, _begin_round(core, request))


def _begin_round(core: Core, request: ReadRequest) -> bytes:
    token, started = core.reads.begin(request, core.current_term, core.log.commit_index)
    started.acks[core.id] = True
    return token


def release_postponed(core: Core) -> None:
    """Begin the postponed reads, all with one round of heartbeats: the first entry of this term is committed."""
    if not core.reads.postponed or not core.committed_in_current_term():
        return
    requests = core.reads.postponed
    core.reads.postponed = []
    if core.config.lease_reads or core.is_only_voter():
        for request in requests:
            _answer(core, request, core.log.commit_index)
        return
    token = b""
    for request in requests:
        token = _begin_round(core, request)
    broadcast_heartbeat(core, token)


def handle_heartbeat_ack(core: Core, message: Message) -> None:
    """Count a follower's confirmation; a majority completes the round and all before it."""
    started = core.reads.rounds.get(message.context)
    if started is None:
        return
    started.acks[message.sender] = True
    if core.vote_result(started.acks) is VoteResult.WON:
        _confirm(core, message.context)


def recount(core: Core) -> None:
    """Count the rounds again after a change of membership, because no follower confirms them again."""
    for token in reversed(core.reads.rounds):
        if core.vote_result(core.reads.rounds[token].acks) is VoteResult.WON:
            _confirm(core, token)
            return


def _confirm(core: Core, token: bytes) -> None:
    for confirmed in core.reads.confirm(token):
        _answer(core, confirmed.request, confirmed.index)


def _answer(core: Core, request: ReadRequest, index: Index) -> None:
    if request.requester == core.id:
        core.output.reads.append(ReadReady(request.context, index))
    else:
        core.send(MessageType.READ_INDEX_RESPONSE, request.requester, index=index, context=request.context)


def broadcast_heartbeat(core: Core, token: bytes) -> None:
    """Send all nodes a heartbeat with `token`."""
    for node in core.progress:
        if node != core.id:
            _send_heartbeat(core, node, token)


def _send_heartbeat(core: Core, node: NodeId, token: bytes) -> None:
    progress = core.progress[node]
    # A follower may lack entries up to the commit index. It gets no higher index than what it is known to have.
    commit = min(progress.match_index, core.log.commit_index)
    core.send(MessageType.HEARTBEAT, node, commit=commit, context=token)
    progress.commit_sent = commit
