"""The holders of an entry come from the leader's match indices, and only of entries that it knows to be committed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from parley_proto.v1 import peer_pb2 as pb
from parleyd.entry_holders import EntryHolders
from parleyd.raft.progress import ProgressState
from parleyd.raft.status import ProgressStatus, RaftStatus
from parleyd.raft.types import NO_NODE, ConfState, Index, NodeId, Role, Term
from parleyd.transport.peer_calls import ForwardFailedError

ME, OTHER, THIRD = NodeId(1), NodeId(2), NodeId(3)


def matches(index: int) -> ProgressStatus:
    return ProgressStatus(
        match_index=Index(index),
        next_index=Index(index + 5),  # sent and not confirmed
        state=ProgressState.REPLICATE,
        inflight=0,
        recent_active=True,
        paused=False,
        pending_snapshot=Index(0),
        is_learner=False,
    )


LEADING = RaftStatus(
    id=ME,
    role=Role.LEADER,
    term=Term(4),
    voted_for=ME,
    leader=ME,
    commit_index=Index(10),
    applied_index=Index(9),
    first_index=Index(1),
    last_index=Index(12),
    conf_state=ConfState(voters=(ME, OTHER, THIRD)),
    transferee=NO_NODE,
    uncommitted_bytes=0,
    progress={ME: matches(11), OTHER: matches(12), THIRD: matches(8)},
)
FOLLOWING = replace(LEADING, role=Role.FOLLOWER, leader=OTHER, progress={})


async def nobody(node: NodeId, request: pb.ListHoldersRequest, timeout_s: float) -> pb.ListHoldersReply:
    raise AssertionError("another node was asked")


@pytest.mark.parametrize(
    ("index", "holders"),
    [(8, {ME, OTHER, THIRD}), (9, {ME, OTHER}), (10, {ME, OTHER}), (11, None), (12, None), (0, None)],
    ids=["all", "one lags", "the last committed one", "not committed", "not on its own disk", "no entry"],
)
async def test_a_leader_names_who_has_a_committed_entry(index: int, holders: set[NodeId] | None) -> None:
    expected = None if holders is None else frozenset[int](holders)
    assert await EntryHolders(ME, lambda: LEADING, nobody).of(index) == expected


async def test_a_leader_does_not_count_itself_before_its_own_disk_has_the_entry() -> None:
    slow = replace(LEADING, progress={ME: matches(7), OTHER: matches(10), THIRD: matches(10)})
    assert await EntryHolders(ME, lambda: slow, nobody).of(10) == frozenset[int]({OTHER, THIRD})


async def test_another_node_asks_the_leader() -> None:
    asked: list[tuple[NodeId, int]] = []

    async def ask(node: NodeId, request: pb.ListHoldersRequest, timeout_s: float) -> pb.ListHoldersReply:
        asked.append((node, request.index))
        return EntryHolders(OTHER, lambda: replace(LEADING, id=OTHER, leader=OTHER), nobody).answer(request)

    assert await EntryHolders(ME, lambda: FOLLOWING, ask).of(9) == frozenset[int]({ME, OTHER})
    assert asked == [(OTHER, 9)]


async def test_without_a_leader_that_answers_nothing_is_known() -> None:
    async def dead(node: NodeId, request: pb.ListHoldersRequest, timeout_s: float) -> pb.ListHoldersReply:
        raise ForwardFailedError("no connection", sent=False)

    async def deposed(node: NodeId, request: pb.ListHoldersRequest, timeout_s: float) -> pb.ListHoldersReply:
        return EntryHolders(OTHER, lambda: FOLLOWING, nobody).answer(request)

    for ask in (dead, deposed):
        assert await EntryHolders(ME, lambda: FOLLOWING, ask).of(9) is None
    alone = replace(FOLLOWING, leader=NO_NODE)
    assert await EntryHolders(ME, lambda: alone, nobody).of(9) is None
