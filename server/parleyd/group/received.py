"""Checks a peer's message against this node's log, before the core sees it.

The core stops its server where a message contradicts an invariant. A peer may be wrong or hostile, so nothing that it
sends may come that far. The codec has checked the ranges already (transport/codec.py).

A leader sends a commit index only up to what it knows to be in the follower's log. If this node's own leader sends a
higher one, this node confirmed entries that its log does not have any more: its disk lost them.
"""

from __future__ import annotations

from dataclasses import replace

from parleyd.raft.errors import PeerProtocolError
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.raft import Raft
from parleyd.raft.types import NO_INDEX, Role


class EntriesLostError(Exception):
    """This node confirmed entries that are not in its log. It must neither vote nor serve any more."""


def check_received(message: Message, raft: Raft) -> Message:
    """Return the message that the core may take; raises PeerProtocolError, or EntriesLostError about this node."""
    last_index = raft.last_index
    match message.type:
        case MessageType.HEARTBEAT if message.commit > last_index and message.term >= raft.term:
            if message.sender == raft.leader and message.term == raft.term:
                raise EntriesLostError(
                    f"the leader knows entries up to {message.commit} to be confirmed by this node, but its log ends "
                    f"at {last_index}"
                )
            # The core may follow this sender. If it leads, its next heartbeat shows whether the commit index is true.
            return replace(message, commit=NO_INDEX)
        case MessageType.APPEND_RESPONSE if not message.reject and message.index > last_index:
            # A server that led this term before it crashed may lack entries that it had sent. It leads no more.
            if raft.role is Role.LEADER and message.term == raft.term:
                raise PeerProtocolError(
                    f"node {message.sender} confirms entry {message.index}, past the end {last_index}"
                )
        case MessageType.SNAPSHOT if message.snapshot is not None and message.snapshot.term > message.term:
            raise PeerProtocolError(f"node {message.sender} sent a snapshot of a later term than its own")
        case _:
            pass
    return message
