"""The wire keeps every field, and bytes that no correct node sends are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley_proto.v1 import peer_pb2 as pb
from parleyd.raft.errors import PeerProtocolError
from parleyd.raft.membership import ConfChange, ConfChangeType, SingleChange, encode_conf_change
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.types import ConfState, Entry, EntryType, Index, NodeId, SnapshotMeta, Term
from parleyd.transport.codec import (
    MAX_CONTEXT_BYTES,
    MAX_NUMBER,
    MAX_TERM_LEAD,
    decode_membership,
    decode_message,
    encode_membership,
    encode_message,
)

NUMBERS = st.integers(0, MAX_NUMBER)
OWN_TERM = MAX_NUMBER  # no term is too far ahead of it
NODE_IDS = st.builds(NodeId, NUMBERS)
ID_TUPLES = st.lists(NODE_IDS, max_size=4).map(tuple)
CONF_STATES = st.builds(
    ConfState,
    voters=ID_TUPLES,
    learners=ID_TUPLES,
    voters_outgoing=ID_TUPLES,
    learners_next=ID_TUPLES,
    auto_leave=st.booleans(),
)
SNAPSHOTS = st.builds(
    SnapshotMeta, index=st.builds(Index, NUMBERS), term=st.builds(Term, NUMBERS), conf_state=CONF_STATES
)


CHANGES = st.builds(
    lambda node, context: encode_conf_change(
        ConfChange((SingleChange(ConfChangeType.ADD_LEARNER, node),), context=context)
    ),
    NODE_IDS,
    st.binary(max_size=20),
)
DATA = {
    EntryType.NORMAL: st.binary(max_size=20),
    EntryType.CONF_CHANGE: st.just(b"") | CHANGES,
    EntryType.CONF_CHANGE_V2: st.just(b"") | CHANGES,
}


@st.composite
def entry_runs(draw: st.DrawFn) -> tuple[Entry, ...]:
    first = draw(st.integers(1, 1000))
    steps = draw(st.lists(st.integers(0, 2), max_size=5))
    term, entries = 1, []
    for offset, step in enumerate(steps):
        term += step
        kind = draw(st.sampled_from(EntryType))
        entries.append(Entry(Term(term), Index(first + offset), kind, draw(DATA[kind])))
    return tuple(entries)


MESSAGES = st.builds(
    Message,
    type=st.sampled_from([kind for kind in MessageType if kind is not MessageType.PROPOSE]),
    sender=NODE_IDS,
    to=NODE_IDS,
    term=st.builds(Term, NUMBERS),
    log_term=st.builds(Term, NUMBERS),
    index=st.builds(Index, NUMBERS),
    commit=st.builds(Index, NUMBERS),
    vote=NODE_IDS,
    reject=st.booleans(),
    reject_hint=st.builds(Index, NUMBERS),
    context=st.binary(max_size=20),
    entries=entry_runs(),
    snapshot=st.none() | SNAPSHOTS,
)


@given(MESSAGES)
def test_a_message_survives_the_wire(message: Message) -> None:
    data = encode_message(message, 0).SerializeToString()
    assert decode_message(pb.RaftMessage.FromString(data), OWN_TERM) == message


@given(CONF_STATES)
def test_a_membership_survives_as_bytes(conf_state: ConfState) -> None:
    assert decode_membership(encode_membership(conf_state)) == conf_state


def test_a_message_names_the_group_whose_log_it_speaks_of() -> None:
    message = Message(MessageType.HEARTBEAT, sender=NodeId(1), to=NodeId(2))
    assert encode_message(message, 7).group == 7


def test_an_unknown_message_type_is_refused() -> None:
    with pytest.raises(PeerProtocolError, match="unknown message type"):
        decode_message(pb.RaftMessage(), OWN_TERM)


@pytest.mark.parametrize(
    "entries",
    [
        [pb.Entry(term=1, index=5), pb.Entry(term=1, index=7)],
        [pb.Entry(term=1, index=5), pb.Entry(term=1, index=5)],
        [pb.Entry(term=2, index=5), pb.Entry(term=1, index=6)],
    ],
    ids=["gap", "twice", "term falls"],
)
def test_entries_out_of_sequence_are_refused(entries: list[pb.Entry]) -> None:
    with pytest.raises(PeerProtocolError, match="out of sequence"):
        decode_message(pb.RaftMessage(type=pb.MESSAGE_TYPE_APPEND, entries=entries), OWN_TERM)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"term": MAX_NUMBER + 1}, "term"),
        ({"term": 2**63 - 1}, "term"),
        ({"term": 8 + MAX_TERM_LEAD}, "term"),
        ({"log_term": 8 + MAX_TERM_LEAD}, "term"),
        ({"entries": [pb.Entry(term=8 + MAX_TERM_LEAD, index=1)]}, "term"),
        ({"snapshot": pb.SnapshotMetadata(term=8 + MAX_TERM_LEAD, index=1)}, "term"),
        ({"commit": MAX_NUMBER + 1}, "number"),
        ({"index": 2**64 - 1}, "number"),
        ({"reject_hint": MAX_NUMBER + 1}, "number"),
        ({"entries": [pb.Entry(term=1, index=2**64 - 1)]}, "number"),
        ({"snapshot": pb.SnapshotMetadata(term=1, index=MAX_NUMBER + 1)}, "number"),
        ({"context": bytes(MAX_CONTEXT_BYTES + 1)}, "context"),
        ({"type": pb.MESSAGE_TYPE_PROPOSE}, "proposal"),
        ({"entries": [pb.Entry(term=1, index=1, type=pb.ENTRY_TYPE_CONF_CHANGE, data=b"no change")]}, "no membership"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_no_correct_node_sends_is_refused_before_it_becomes_a_message(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(PeerProtocolError, match=why):
        decode_message(pb.RaftMessage(**{"type": pb.MESSAGE_TYPE_HEARTBEAT, **fields}), own_term=7)


def test_a_term_that_elections_can_reach_is_taken() -> None:
    encoded = pb.RaftMessage(type=pb.MESSAGE_TYPE_HEARTBEAT, term=7 + MAX_TERM_LEAD)
    assert decode_message(encoded, own_term=7).term == 7 + MAX_TERM_LEAD
