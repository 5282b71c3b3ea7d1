"""Raft messages of peers: bytes, and sequences of messages to a whole group in any state.

A message may be refused. It never raises anything else, never moves the term beyond its bounds, and never commits what
the log does not have. Membership entries are left out of the sequences: a member that leads can have a change committed
that does not fit, and Raft does not protect against members that lie.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from google.protobuf.message import DecodeError
from hypothesis import strategies as st

from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1 import state_pb2
from parleyd.group.effects import StartApply, StartInstall, StartWrite
from parleyd.group.group import Group
from parleyd.group.inputs import (
    EntriesApplied,
    Input,
    MessageReceived,
    ProposeCommands,
    SnapshotInstalled,
    Written,
)
from parleyd.raft.errors import PeerProtocolError
from parleyd.raft.types import NodeId
from parleyd.transport.codec import MAX_NUMBER, MAX_TERM_LEAD, decode_message
from tests.fuzz.engine import Target
from tests.unit.group.test_group import COMMAND, ME, TICK_MS, Dialogue, members, results_of

SENDERS = (2, 3, 9)  # two members, and a node that is none
EDGES = [
    0, 1, 2, 3, 4, 5, 6, 7, (1 << 32) - 1, 1 << 32, (1 << 32) + 7, 1 << 40, MAX_NUMBER - 1, MAX_NUMBER, MAX_NUMBER + 1,
    (1 << 63) - 1, 1 << 63, (1 << 64) - 1,
]  # fmt: skip
NUMBERS = st.sampled_from(EDGES) | st.integers(0, 12)
SMALL = st.integers(0, 12)
PAYLOAD = state_pb2.CommandBatch(level=1, commands=[COMMAND]).SerializeToString()


@st.composite
def entry_runs(draw: st.DrawFn) -> list[pb.Entry]:
    """Entries, mostly in sequence."""
    first, term = draw(SMALL), draw(st.integers(1, 9))
    run = [
        pb.Entry(term=term, index=first + offset, data=draw(st.sampled_from([b"", PAYLOAD])))
        for offset in range(draw(st.integers(0, 4)))
    ]
    if run and draw(st.integers(0, 9)) == 0:
        run[-1].index = draw(NUMBERS)
    return run


CONF_STATES = st.builds(
    pb.ConfState,
    voters=st.lists(st.sampled_from([1, 2, 3, 9]), max_size=4),
    learners=st.lists(st.sampled_from([1, 2, 9]), max_size=2),
    voters_outgoing=st.lists(st.sampled_from([1, 2, 3]), max_size=2),
    learners_next=st.lists(st.sampled_from([3, 9]), max_size=1),
    auto_leave=st.booleans(),
)
SNAPSHOTS = st.builds(pb.SnapshotMetadata, index=NUMBERS, term=NUMBERS, conf_state=CONF_STATES)
KINDS = [kind for kind in pb.MessageType.values() if kind != pb.MESSAGE_TYPE_UNSPECIFIED]
MESSAGES = st.builds(
    lambda sender, **fields: pb.RaftMessage(to=ME, **{"from": sender}, **fields),
    sender=st.sampled_from(SENDERS),
    type=st.sampled_from(KINDS),
    term=NUMBERS,
    log_term=SMALL | NUMBERS,
    index=SMALL | NUMBERS,
    commit=SMALL | NUMBERS,
    reject=st.booleans(),
    reject_hint=SMALL | NUMBERS,
    context=st.sampled_from([b"", b"transfer", b"x" * 16]) | st.binary(max_size=40),
    entries=entry_runs(),
    snapshot=st.none() | SNAPSHOTS,
)


@dataclass(frozen=True)
class Scene:
    """What a group was before, and what comes."""

    leads: bool
    steps: list[pb.RaftMessage | str]


STEPS = MESSAGES | st.sampled_from(["time", "propose", "disk"])
SCENES = st.builds(Scene, leads=st.booleans(), steps=st.lists(STEPS, min_size=1, max_size=25))


class FuzzedGroup(Dialogue):
    """A group with a disk and a state machine that also installs snapshots."""

    def disk(self) -> None:
        """Everything that was asked for is done, in order."""
        while self._done < len(self.said):
            effect = self.said[self._done]
            self._done += 1
            done = self._completion(effect)
            if done is not None:
                self.tell(done)

    def _completion(self, effect: object) -> Input | None:
        match effect:
            case StartWrite():
                return Written()
            case StartApply(entries):
                return EntriesApplied([results_of(entry) for entry in entries], 1)
            case StartInstall():
                return SnapshotInstalled(members(1, 2, 3), 1)
            case _:
                return None


def check_scene(scene: Scene) -> None:
    """Whatever comes, the group goes on, and its log and term stay within their bounds."""
    one = FuzzedGroup(NodeId(1), NodeId(2), NodeId(3))
    if scene.leads:
        one.lead()
    for number, step in enumerate(scene.steps):
        before = one.group.raft.term
        match step:
            case "time":
                one.after(TICK_MS * 20)
            case "propose":
                one.tell(ProposeCommands(number, [COMMAND]))
            case "disk":
                one.disk()
            case pb.RaftMessage():
                with suppress(PeerProtocolError):
                    one.tell(MessageReceived(decode_message(step, one.group.raft.term)))
        check_bounds(one.group, before)
    one.disk()


def check_bounds(group: Group, term_before: int) -> None:
    """The rules that no message may break."""
    raft = group.raft
    assert raft.applied_index <= raft.commit_index <= raft.last_index
    assert term_before <= raft.term <= min(MAX_NUMBER + 100, term_before + MAX_TERM_LEAD + 100)


def check_bytes(data: bytes) -> None:
    """Any bytes are a batch of checked messages, or refused."""
    with suppress(DecodeError, PeerProtocolError):
        for encoded in pb.RaftBatch.FromString(data).messages:
            message = decode_message(encoded, 7)
            numbers: tuple[Any, ...] = (message.term, message.index, message.commit, message.log_term)
            assert max(numbers) <= MAX_NUMBER


def cut(batch: bytes, at: int, byte: int) -> bytes:
    """Bytes of real messages, with one of them changed or the rest gone."""
    place = at % max(len(batch), 1)
    return batch[:place] if byte > 255 else batch[:place] + bytes([byte]) + batch[place + 1 :]


BATCHES = st.lists(MESSAGES, max_size=3).map(lambda found: pb.RaftBatch(messages=found).SerializeToString())
BYTES = st.binary(max_size=200) | st.builds(cut, BATCHES, st.integers(0, 1 << 16), st.integers(0, 300))

TARGETS = (Target("peer-messages", SCENES, check_scene), Target("peer-bytes", BYTES, check_bytes))
