"""Linearizable reads without writing to the log: ReadIndex (thesis §6.4, Raft §8).

A leader notes its commit index, has a majority confirm by a round of heartbeats that it still leads, and answers with
that index. It answers none before an entry of its own term is committed, since until then it does not know the
commit index of its predecessors. Followers forward the request and get the index back.
"""

from __future__ import annotations

from parleyd.raft.core import Core
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.quorum import VoteResult
from parleyd.raft.readqueue import ReadRequest
from parleyd.raft.types import NO_NODE, Index, NodeId, Role
from parleyd.raft.update import ReadReady


def request_read(core: Core, context: bytes) -> None:
    """A client of this server wants to read."""
    if core.role is Role.LEADER:
        if core.reads.has_room():
            _lead_read(core, ReadRequest(core.id, context))
        else:
            core.output.dropped_reads.append(context)
    elif core.leader != NO_NODE:
        # The oldest makes room: its request or its answer was lost, and nothing else would ever take it out.
        core.output.dropped_reads.extend(core.reads.forget_oldest_forwarded())
        core.reads.forwarded[context] = None
        core.send(MessageType.READ_INDEX, core.leader, context=context)
    else:
        core.output.dropped_reads.append(context)


def handle_read_request(core: Core, message: Message) -> None:
    """Another server forwards a read. Who does not lead is silent: the sender drops it on hearing of a new leader."""
    if core.role is Role.LEADER and core.reads.has_room():
        _lead_read(core, ReadRequest(message.sender, message.context))


def handle_read_response(core: Core, message: Message) -> None:
    """The leader answers a forwarded read; a second answer, or a late one, finds nothing waiting."""
    if message.context in core.reads.forwarded:
        del core.reads.forwarded[message.context]
        core.output.reads.append(ReadReady(message.context, message.index))


def _lead_read(core: Core, request: ReadRequest) -> None:
    if not core.committed_in_current_term():
        # Also when alone: after a restart the commit index on disk may be behind what was acknowledged.
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
    """The first entry of this term is committed: reads may begin, all of them with one round of heartbeats."""
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
    """A follower confirms that it follows; a majority makes the round, and all before it, linearizable."""
    started = core.reads.rounds.get(message.context)
    if started is None:
        return
    started.acks[message.sender] = True
    if core.vote_result(started.acks) is VoteResult.WON:
        _confirm(core, message.context)


def recount(core: Core) -> None:
    """The membership has changed: what was too few may be a majority now, and nobody would say so again."""
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
    """Send everyone a heartbeat carrying `token`."""
    for node in core.progress:
        if node != core.id:
            _send_heartbeat(core, node, token)


def _send_heartbeat(core: Core, node: NodeId, token: bytes) -> None:
    progress = core.progress[node]
    # A follower may lack entries up to the commit index: never tell it more than it is known to have.
    commit = min(progress.match_index, core.log.commit_index)
    core.send(MessageType.HEARTBEAT, node, commit=commit, context=token)
    progress.commit_sent = commit
