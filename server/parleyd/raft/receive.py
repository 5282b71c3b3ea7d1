"""Handles a message: first its term, then the part of the protocol that it belongs to (Raft §5.1).

A higher term makes a server a follower in it. A lower one is out of date. Pre-votes contain terms that may never begin.
Messages from other servers and a server's promises to itself are handled in the same way.
"""

from __future__ import annotations

from collections.abc import Callable

from parleyd.invariants import check_invariant
from parleyd.raft import election, proposals, reads, replication, snapshots, transfer
from parleyd.raft.core import Core
from parleyd.raft.errors import InvariantError, PeerProtocolError
from parleyd.raft.events import Persisted
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.types import NO_INDEX, NO_NODE, NodeId, Role

_RESPONSES = frozenset(
    {
        MessageType.VOTE_RESPONSE,
        MessageType.PRE_VOTE_RESPONSE,
        MessageType.APPEND_RESPONSE,
        MessageType.HEARTBEAT_RESPONSE,
        MessageType.READ_INDEX_RESPONSE,
    }
)
_VOTE_RESPONSES = frozenset({MessageType.VOTE_RESPONSE, MessageType.PRE_VOTE_RESPONSE})
_FROM_LEADER = frozenset({MessageType.APPEND, MessageType.HEARTBEAT, MessageType.SNAPSHOT})
_VOTE_REQUESTS = frozenset({MessageType.VOTE, MessageType.PRE_VOTE})
_WITHOUT_TERM = frozenset({MessageType.PROPOSE, MessageType.READ_INDEX})


def receive(core: Core, message: Message) -> None:
    """Take a message from the network."""
    _check(message, core.id)
    if message.type in _RESPONSES and message.sender not in core.progress:
        return  # of a past membership
    if message.type in _VOTE_RESPONSES and message.commit != NO_INDEX:
        election.learn_commit(core, message)
    _handle(core, message)


def persisted(core: Core, event: Persisted) -> None:
    """Record that storage has carried out a write, and all before it."""
    check_invariant(
        event.term <= core.current_term, "storage acknowledged a write of a term not yet reached", InvariantError
    )
    for message in event.messages:
        _handle(core, message)
    # A write that is still in progress may have overwritten entries acknowledged in an earlier term (ABA).
    if event.last_index != NO_INDEX and event.term == core.current_term:
        core.log.stable_to(event.last_index, event.last_term)
    if event.snapshot_index != NO_INDEX:
        snapshots.snapshot_installed(core, event.snapshot_index)


def _check(message: Message, own: NodeId) -> None:
    """Refuse what no correct server sends, before anything is changed."""
    if message.to != own or message.sender in (own, NO_NODE):
        raise PeerProtocolError(f"a message from node {message.sender} to node {message.to} reached node {own}")
    if message.type is MessageType.APPEND:
        replication.check_append(message)
    elif message.type is MessageType.SNAPSHOT:
        snapshots.check_snapshot(message)
    elif message.type is MessageType.PROPOSE:
        proposals.check_forwarded(message)


def _handle(core: Core, message: Message) -> None:
    if message.type not in _WITHOUT_TERM and message.term != core.current_term:
        if message.term < core.current_term:
            _answer_lower_term(core, message)
            return
        if not _enter_higher_term(core, message):
            return
    _HANDLERS[message.type](core, message)


def _enter_higher_term(core: Core, message: Message) -> bool:
    """Enter the message's term if the message shows that it has begun; return False if the message is ignored."""
    kind = message.type
    if kind in _VOTE_REQUESTS:
        chosen_by_leader = message.context == election.TRANSFER_CONTEXT
        if election.ignores_candidates(core) and not chosen_by_leader:
            return False
    if kind is MessageType.PRE_VOTE or (kind is MessageType.PRE_VOTE_RESPONSE and not message.reject):
        return True
    election.become_follower(core, message.term, message.sender if kind in _FROM_LEADER else NO_NODE)
    return True


def _answer_lower_term(core: Core, message: Message) -> None:
    kind = message.type
    if kind in (MessageType.APPEND, MessageType.HEARTBEAT) and (core.config.check_quorum or core.config.pre_vote):
        # With pre-vote or stickiness this server may be unable to win an election. A leader of an earlier term could
        # then keep leading. The term of the answer makes it step down.
        core.send(MessageType.APPEND_RESPONSE, message.sender)
    elif kind is MessageType.PRE_VOTE:
        # Without an answer, a candidate with a long log and a low term could keep asking forever.
        election.refuse_vote(core, message.sender, MessageType.PRE_VOTE_RESPONSE)


def _follow(core: Core, message: Message) -> None:
    """Follow the sender: it leads this term, which has no other leader (§5.2)."""
    if core.role is Role.LEADER:
        raise PeerProtocolError(f"node {message.sender} claims to lead term {message.term}, which this node leads")
    if core.role is Role.FOLLOWER:
        core.election_elapsed = 0
        core.leader = message.sender
    else:
        election.become_follower(core, message.term, message.sender)
    if message.type is MessageType.APPEND:
        replication.handle_append(core, message)
    elif message.type is MessageType.HEARTBEAT:
        replication.handle_heartbeat(core, message)
    else:
        snapshots.handle_snapshot(core, message)


def _append_response(core: Core, message: Message) -> None:
    if _leads_with(core, message.sender):
        replication.handle_append_response(core, message)


def _heartbeat_response(core: Core, message: Message) -> None:
    if _leads_with(core, message.sender):
        replication.handle_heartbeat_response(core, message)


def _leads_with(core: Core, node: NodeId) -> bool:
    return core.role is Role.LEADER and node in core.progress


def _timeout_now(core: Core, _: Message) -> None:
    if core.role is Role.FOLLOWER:
        election.start_election(core, election.CampaignKind.TRANSFER)


def _transfer_request(core: Core, message: Message) -> None:
    if core.role is Role.LEADER:
        transfer.transfer_leader(core, message.sender)


_HANDLERS: dict[MessageType, Callable[[Core, Message], None]] = {
    MessageType.VOTE: election.handle_vote_request,
    MessageType.PRE_VOTE: election.handle_vote_request,
    MessageType.VOTE_RESPONSE: election.handle_vote_response,
    MessageType.PRE_VOTE_RESPONSE: election.handle_vote_response,
    MessageType.APPEND: _follow,
    MessageType.HEARTBEAT: _follow,
    MessageType.SNAPSHOT: _follow,
    MessageType.APPEND_RESPONSE: _append_response,
    MessageType.HEARTBEAT_RESPONSE: _heartbeat_response,
    MessageType.TIMEOUT_NOW: _timeout_now,
    MessageType.READ_INDEX: reads.handle_read_request,
    MessageType.READ_INDEX_RESPONSE: reads.handle_read_response,
    MessageType.TRANSFER_LEADER: _transfer_request,
    MessageType.PROPOSE: proposals.take_forwarded,
}
