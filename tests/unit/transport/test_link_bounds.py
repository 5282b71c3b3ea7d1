"""A link drops rather than grows, and says what it dropped."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any, cast

import grpc.aio
import pytest

from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1 import state_pb2
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.types import Entry, Index, NodeId, SnapshotMeta, Term
from parleyd.transport import forwards, peers, service
from parleyd.transport.peer_calls import CallMetadata, ForwardFailedError
from parleyd.transport.peers import LinkSetup, PeerLink, SnapshotSource

ME, PEER = NodeId(1), NodeId(2)
GROUP = 5


class Reports:
    """What the link told its node."""

    def __init__(self) -> None:
        self.unreachable = 0
        self.snapshots: list[bool] = []

    def peer_connected(self, node: NodeId) -> None:
        raise AssertionError

    def peer_lost(self, node: NodeId) -> None:
        raise AssertionError

    def removed_from_cluster(self, by: str) -> None:
        raise AssertionError

    def peer_unreachable(self, node: NodeId, group: int) -> None:
        self.unreachable += 1

    def snapshot_sent(self, node: NodeId, group: int, *, ok: bool) -> None:
        self.snapshots.append(ok)


def make_link(*, connected: bool) -> tuple[PeerLink, Reports]:
    reports = Reports()
    setup = LinkSetup(
        CallMetadata("cluster", ME, pb.HandshakeInfo()),
        lambda name, address: cast(grpc.aio.Channel, None),
        reports,
        cast(SnapshotSource, None),
        lambda: None,
        loop_lag_ms=lambda: 0,
    )
    link = PeerLink(PEER, "n2", ["127.0.0.1:1"], setup)
    link.connected = connected
    return link, reports


def append(size_bytes: int = 1) -> Message:
    entry = Entry(Term(1), Index(1), data=b"x" * size_bytes)
    return Message(MessageType.APPEND, sender=ME, to=PEER, entries=(entry,))


def heartbeat() -> Message:
    return Message(MessageType.HEARTBEAT, sender=ME, to=PEER)


def snapshot() -> Message:
    return Message(MessageType.SNAPSHOT, sender=ME, to=PEER, snapshot=SnapshotMeta(Index(1), Term(1)))


async def test_more_messages_than_the_queue_holds_are_dropped_and_the_core_probes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(peers, "MAX_QUEUED_MESSAGES", 3)
    link, reports = make_link(connected=True)
    for _ in range(5):
        link.send(append(), GROUP)
    assert reports.unreachable == 2
    batch = link._next_batch()
    assert len(batch.messages) == 3
    link.send(append(), GROUP)
    assert reports.unreachable == 2, "there is room again"


def notice(commit: int, term: int = 1) -> Message:
    return Message(MessageType.APPEND, sender=ME, to=PEER, term=Term(term), commit=Index(commit), is_notice=True)


async def test_clock_and_lag_go_with_heartbeats_and_not_with_what_comes_at_the_rate_of_the_load() -> None:
    link, _ = make_link(connected=True)
    link.send(append(), GROUP)
    without = link._next_batch()
    assert (without.wall_ms, without.HasField("loop_lag_ms")) == (0, False)
    link.send(append(), GROUP)
    link.send(heartbeat(), GROUP)
    with_clock = link._next_batch()
    assert with_clock.wall_ms > 0
    assert with_clock.HasField("loop_lag_ms"), "a lag of 0 is told, too"


async def test_a_commit_index_alone_waits_a_moment_and_then_goes() -> None:
    link, _ = make_link(connected=True)
    link.send(notice(4), GROUP)
    assert not link._queue_filled.is_set()
    await asyncio.wait_for(link._queue_filled.wait(), 5)
    assert [message.commit for message in link._next_batch().messages] == [4]
    assert not link._queue_filled.is_set()


async def test_any_other_message_takes_the_commit_index_along() -> None:
    link, _ = make_link(connected=True)
    link.send(notice(4), GROUP)
    link.send(heartbeat(), GROUP)
    assert link._queue_filled.is_set()
    assert [message.commit for message in link._next_batch().messages] == [4, 0]


async def test_a_commit_index_that_the_next_append_brings_is_not_sent_by_itself() -> None:
    link, _ = make_link(connected=True)
    link.send(notice(4), GROUP)
    link.send(notice(5), GROUP)
    link.send(replace(append(), term=Term(1), commit=Index(5)), GROUP)
    assert [message.is_notice for message in link._next_batch().messages] == [False]
    assert link._queued_bytes == 0


async def test_a_commit_index_of_another_term_or_group_is_kept() -> None:
    link, _ = make_link(connected=True)
    link.send(notice(4, term=1), GROUP)
    link.send(notice(5, term=2), GROUP)
    link.send(notice(6, term=2), GROUP + 1)
    assert [message.commit for message in link._next_batch().messages] == [4, 5, 6]


async def test_more_bytes_than_the_queue_holds_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "MAX_QUEUED_BYTES", 1000)
    link, reports = make_link(connected=True)
    link.send(append(600), GROUP)
    link.send(append(600), GROUP)
    link.send(heartbeat(), GROUP)
    assert reports.unreachable == 1
    assert [message.type for message in link._next_batch().messages] == [
        pb.MESSAGE_TYPE_APPEND,
        pb.MESSAGE_TYPE_HEARTBEAT,
    ]


async def test_a_batch_is_no_larger_than_its_bound_and_keeps_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "MAX_BATCH_BYTES", 1000)
    link, _ = make_link(connected=True)
    sizes = [700, 700, 10, 700]
    for size in sizes:
        link.send(append(size), GROUP)
    batches = [link._next_batch() for _ in range(2)]
    assert [[len(m.entries[0].data) for m in batch.messages] for batch in batches] == [[700, 700], [10, 700]]


async def test_nothing_is_kept_for_a_peer_that_is_not_there() -> None:
    link, reports = make_link(connected=False)
    link.send(append(), GROUP)
    link.send(heartbeat(), GROUP)
    assert reports.unreachable == 1
    assert len(link._next_batch().messages) == 0
    with pytest.raises(ForwardFailedError) as failed:
        await link.forward([state_pb2.Command()], GROUP)
    assert not failed.value.sent


async def test_a_second_snapshot_for_the_same_peer_is_refused_while_one_waits() -> None:
    link, reports = make_link(connected=True)
    link.send(snapshot(), GROUP)
    link.send(snapshot(), GROUP)
    assert reports.snapshots == [False]


async def test_more_commands_than_may_be_on_their_way_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forwards, "MAX_IN_FLIGHT", 2)
    link, _ = make_link(connected=True)
    waiting = [link.forward([state_pb2.Command()], GROUP) for _ in range(3)]
    assert [each.done() for each in waiting] == [False, False, True]
    with pytest.raises(ForwardFailedError, match="too many") as failed:
        await waiting[2]
    assert not failed.value.sent


async def test_commands_on_their_way_are_bounded_in_bytes_and_one_may_always_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forwards, "MAX_IN_FLIGHT_BYTES", 1000)
    link, _ = make_link(connected=True)
    large = [state_pb2.Command(register_account=state_pb2.RegisterAccount(name="x" * 2000))]
    first, second = link.forward(large, GROUP), link.forward([state_pb2.Command()], GROUP)
    assert (first.done(), second.done()) == (False, True)
    with pytest.raises(ForwardFailedError, match="too many"):
        await second
    link._forwards.answered(pb.ForwardReply(request_id=1))
    assert not link.forward(large, GROUP).done(), "the answer made room"


async def test_commands_that_wait_share_frames_in_their_order_up_to_the_size_of_a_frame(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(forwards, "MAX_FRAME_BYTES", 1000)
    link, _ = make_link(connected=True)
    command = [state_pb2.Command(register_account=state_pb2.RegisterAccount(name="x" * 400))]
    for _ in range(4):
        link.forward(command, GROUP)
    waiting = link._forwards
    assert [request.request_id for request in waiting.next_batch().requests] == [1, 2, 3], "the third fills the frame"
    assert waiting.filled.is_set()
    assert [request.request_id for request in waiting.next_batch().requests] == [4]
    assert not waiting.filled.is_set()


async def test_replies_that_wait_share_frames_and_the_end_comes_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MAX_FRAME_BYTES", 20)
    waiting: asyncio.Queue[pb.ForwardReply | None] = asyncio.Queue()
    for number in range(2, 12):
        waiting.put_nowait(pb.ForwardReply(request_id=number, status=pb.FORWARD_STATUS_APPLIED, index=number))
    waiting.put_nowait(None)
    first = pb.ForwardReply(request_id=1, status=pb.FORWARD_STATUS_APPLIED, index=1)
    frames = [service.with_waiting(first, waiting)]
    while (reply := waiting.get_nowait()) is not None:
        frames.append(service.with_waiting(reply, waiting))
    assert [reply.request_id for frame in frames for reply in frame.replies] == list(range(1, 12))
    assert [len(frame.replies) for frame in frames] == [4, 4, 3]
    assert waiting.empty()


async def test_what_speaks_for_a_log_names_its_group() -> None:
    link, _ = make_link(connected=True)
    link.send(heartbeat(), 1)
    link.send(heartbeat(), 2)
    link.forward([state_pb2.Command()], 3)
    assert [message.group for message in link._next_batch().messages] == [1, 2]
    assert [request.group for request in link._forwards.next_batch().requests] == [3]


async def test_a_call_that_dies_with_its_channel_fails_and_ends_nobody_who_waits() -> None:
    class Stub:
        async def ChangeCluster(self, *_: object, **__: object) -> None:
            raise asyncio.CancelledError

        Rebuild = ChangeCluster

    link, _ = make_link(connected=True)
    link._stub = cast(Any, Stub())
    for call in (link.change(pb.ClusterChange(), 1), link.rebuild(pb.RebuildRequest(), 1)):
        with pytest.raises(ForwardFailedError, match="connection was closed") as failed:
            await call
        assert failed.value.sent


class Clients:
    """Reports that are made when they are asked for."""

    def __init__(self) -> None:
        self.made = 0
        self.began: list[NodeId] = []

    def link_began(self, node: NodeId) -> None:
        self.began.append(node)

    def next_report(self, _: NodeId) -> pb.PresenceReport | None:
        self.made += 1
        return pb.PresenceReport(sequence=self.made)


async def test_a_report_about_clients_is_made_when_it_can_be_written_so_none_waits_for_a_slow_peer() -> None:
    link, _ = make_link(connected=True)
    clients = Clients()
    link._setup = replace(link._setup, presence=clients)
    for _ in range(10):
        link.send_presence()
    assert clients.made == 0
    assert link._queue_filled.is_set()
    assert link._next_batch().presence.sequence == 1
    assert not link._next_batch().HasField("presence")


async def test_a_link_that_is_down_asks_for_no_report() -> None:
    link, _ = make_link(connected=False)
    link.send_presence()
    assert not link._queue_filled.is_set()
