"""Maps the core's messages to the wire's, field by field, and checks what comes from the wire.

Decoding raises `PeerProtocolError`. The sender of such a message is disconnected and the node continues.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from parley_proto.v1 import peer_pb2 as pb
from parleyd.raft.errors import PeerProtocolError
from parleyd.raft.membership import decode_conf_change
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.types import ConfState, Entry, EntryType, Index, NodeId, SnapshotMeta, Term

# Numbers are stored in signed columns of 64 bits and counted up. Below this bound they never run out.
MAX_NUMBER = 1 << 62
# Terms grow by elections. 2**32 elections take more than a century, so a term that far ahead was invented.
MAX_TERM_LEAD = 1 << 32
MAX_CONTEXT_BYTES = 1 << 10


def encode_message(message: Message, group: int) -> pb.RaftMessage:
    """Encode `message`, which concerns the log of `group`."""
    encoded = pb.RaftMessage(
        type=message.type.value,  # type: ignore[arg-type]  # the numbers are the same by definition
        to=message.to,
        term=message.term,
        log_term=message.log_term,
        index=message.index,
        commit=message.commit,
        vote=message.vote,
        reject=message.reject,
        reject_hint=message.reject_hint,
        context=message.context,
        entries=[encode_entry(entry) for entry in message.entries],
        snapshot=None if message.snapshot is None else encode_snapshot(message.snapshot),
        group=group,
        is_notice=message.is_notice,
    )
    setattr(encoded, "from", message.sender)  # a keyword in Python
    return encoded


def decode_message(encoded: pb.RaftMessage, own_term: int) -> Message:
    """Decode a message for a node in term `own_term`.

    Raises PeerProtocolError for what no correct node sends: an unknown type, a proposal, a number out of its range, a
    term far beyond this node's, or entries out of sequence. The receiver checks the group: the core receives only
    messages of its own log.
    """
    try:
        kind = MessageType(encoded.type)
    except ValueError:
        raise PeerProtocolError(f"unknown message type {encoded.type}") from None
    if kind is MessageType.PROPOSE:
        raise PeerProtocolError("a proposal comes through Forward, not as a Raft message")
    _check_ranges(encoded, own_term)
    entries = tuple(decode_entry(entry) for entry in encoded.entries)
    _check_sequence(entries)
    return Message(
        type=kind,
        sender=NodeId(getattr(encoded, "from")),
        to=NodeId(encoded.to),
        term=Term(encoded.term),
        log_term=Term(encoded.log_term),
        index=Index(encoded.index),
        commit=Index(encoded.commit),
        vote=NodeId(encoded.vote),
        reject=encoded.reject,
        reject_hint=Index(encoded.reject_hint),
        context=encoded.context,
        entries=entries,
        snapshot=decode_snapshot(encoded.snapshot) if encoded.HasField("snapshot") else None,
        is_notice=encoded.is_notice,
    )


def encode_entry(entry: Entry) -> pb.Entry:
    """Encode one log entry."""
    return pb.Entry(term=entry.term, index=entry.index, type=entry.type.value, data=entry.data)  # type: ignore[arg-type]


def decode_entry(encoded: pb.Entry) -> Entry:
    """Decode one log entry; raises PeerProtocolError for an unknown type, or a membership change that is none."""
    try:
        kind = EntryType(encoded.type)
    except ValueError:
        raise PeerProtocolError(f"unknown entry type {encoded.type} at index {encoded.index}") from None
    if kind is not EntryType.NORMAL and encoded.data:
        try:
            decode_conf_change(encoded.data)
        except ValueError as error:
            raise PeerProtocolError(f"entry {encoded.index} is no membership change: {error}") from error
    return Entry(term=Term(encoded.term), index=Index(encoded.index), type=kind, data=encoded.data)


def _check_ranges(encoded: pb.RaftMessage, own_term: int) -> None:
    terms = [encoded.term, encoded.log_term, encoded.snapshot.term, *(entry.term for entry in encoded.entries)]
    if max(terms) > min(MAX_NUMBER, own_term + MAX_TERM_LEAD):
        raise PeerProtocolError(f"term {max(terms)} is out of range for a node in term {own_term}")
    numbers = (encoded.index, encoded.commit, encoded.reject_hint, encoded.vote, encoded.snapshot.index)
    if max(numbers) > MAX_NUMBER or max((entry.index for entry in encoded.entries), default=0) > MAX_NUMBER:
        raise PeerProtocolError("a number is out of range")
    if len(encoded.context) > MAX_CONTEXT_BYTES:
        raise PeerProtocolError(f"a context of {len(encoded.context)} bytes is out of range")


def _check_sequence(entries: tuple[Entry, ...]) -> None:
    for previous, entry in itertools.pairwise(entries):
        if entry.index != previous.index + 1 or entry.term < previous.term:
            raise PeerProtocolError(f"entries out of sequence at index {entry.index}")


def encode_snapshot(meta: SnapshotMeta) -> pb.SnapshotMetadata:
    """Encode a snapshot's identity."""
    return pb.SnapshotMetadata(index=meta.index, term=meta.term, conf_state=_conf_state(meta.conf_state))


def decode_snapshot(encoded: pb.SnapshotMetadata) -> SnapshotMeta:
    """Decode a snapshot's identity."""
    return SnapshotMeta(
        index=Index(encoded.index), term=Term(encoded.term), conf_state=_from_conf_state(encoded.conf_state)
    )


def encode_membership(conf_state: ConfState) -> bytes:
    """Encode a membership as the opaque bytes that the state machine stores beside its applied index."""
    return _conf_state(conf_state).SerializeToString(deterministic=True)


def decode_membership(data: bytes) -> ConfState:
    """Decode what `encode_membership` made."""
    return _from_conf_state(pb.ConfState.FromString(data))


def _conf_state(conf_state: ConfState) -> pb.ConfState:
    return pb.ConfState(
        voters=conf_state.voters,
        learners=conf_state.learners,
        voters_outgoing=conf_state.voters_outgoing,
        learners_next=conf_state.learners_next,
        auto_leave=conf_state.auto_leave,
    )


def _from_conf_state(encoded: pb.ConfState) -> ConfState:
    return ConfState(
        voters=_ids(encoded.voters),
        learners=_ids(encoded.learners),
        voters_outgoing=_ids(encoded.voters_outgoing),
        learners_next=_ids(encoded.learners_next),
        auto_leave=encoded.auto_leave,
    )


def _ids(values: Iterable[int]) -> tuple[NodeId, ...]:
    return tuple(NodeId(value) for value in values)
