"""Messages between servers: one record for all kinds, because most fields are shared.

| type                  | fields besides from, to, term                                                    |
|-----------------------|----------------------------------------------------------------------------------|
| VOTE, PRE_VOTE        | index, log_term: the candidate's last entry; context: b"transfer" for a transfer |
| *_VOTE_RESPONSE       | reject; if no voter any more: commit, log_term (of the entry there)              |
| APPEND                | index, log_term: the entry before `entries`; commit; is_notice: no answer needed |
| APPEND_RESPONSE       | index: last appended, or the rejected one; reject, reject_hint, log_term (hint)  |
| SNAPSHOT              | snapshot                                                                         |
| HEARTBEAT             | commit, context (read token)                                                     |
| HEARTBEAT_RESPONSE    | context                                                                          |
| TIMEOUT_NOW           |                                                                                  |
| READ_INDEX(_RESPONSE) | context: the reader's token; response: index                                     |
| TRANSFER_LEADER       | the sender requests leadership                                                   |
| PROPOSE               | entries forwarded to the leader                                                  |
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from parleyd.raft.types import NO_INDEX, NO_NODE, NO_TERM, Entry, Index, NodeId, SnapshotMeta, Term


class MessageType(enum.IntEnum):
    """Kinds of messages; the numbers are those of the wire (proto/parley_proto/v1/peer.proto)."""

    VOTE = 1
    VOTE_RESPONSE = 2
    PRE_VOTE = 3
    PRE_VOTE_RESPONSE = 4
    APPEND = 5
    APPEND_RESPONSE = 6
    SNAPSHOT = 7
    HEARTBEAT = 8
    HEARTBEAT_RESPONSE = 9
    TIMEOUT_NOW = 10
    READ_INDEX = 11
    READ_INDEX_RESPONSE = 12
    TRANSFER_LEADER = 13
    PROPOSE = 14


@dataclass(frozen=True, slots=True)
class Message:
    """One message from one server to another. The table above lists the fields of each type."""

    type: MessageType
    sender: NodeId
    to: NodeId
    term: Term = NO_TERM
    log_term: Term = NO_TERM
    index: Index = NO_INDEX
    commit: Index = NO_INDEX
    vote: NodeId = NO_NODE
    reject: bool = False
    reject_hint: Index = NO_INDEX
    context: bytes = b""
    entries: tuple[Entry, ...] = ()
    snapshot: SnapshotMeta | None = None
    is_notice: bool = False
