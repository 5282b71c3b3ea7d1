"""What somebody with a certificate, or a member gone wrong, can do to a real cluster over its peer ports: nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import grpc
import pytest

from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1 import state_pb2
from parley_proto.v1.messaging_pb2 import SEND_STATUS_ACCEPTED
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.types import Entry, Index, NodeId, Term
from parleyd.transport.codec import encode_message
from scripts.cluster_local import LocalCluster
from tests.cluster.peer_caller import Caller, issue, node_ids, pair_of, peer_stub, replace_pair
from tests.cluster.raw import raw_client

pytestmark = pytest.mark.asyncio(loop_scope="module")

Fresh = Callable[[str], str]


async def deliver(cluster: LocalCluster, node: str, caller: Caller, message: pb.RaftMessage) -> grpc.StatusCode:
    """Give one node a message as `caller`, and return how the call ended."""
    async with peer_stub(cluster, node, caller) as (stub, metadata), asyncio.timeout(10):
        call = cast("Any", stub).Deliver(iter([pb.RaftBatch(messages=[message])]), metadata=metadata)
        return cast("grpc.StatusCode", await call.code())


async def send_one(cluster: LocalCluster, node: str, name: str) -> None:
    """The cluster takes a message at `node`."""
    async with raw_client(cluster, node) as raw:
        await raw.register(name)
        ann = await raw.log_in(name)
        async with raw.session(ann) as stream:
            assert (await stream.send_surely(1, name, "to myself")).status == SEND_STATUS_ACCEPTED


async def test_who_was_never_admitted_forwards_no_commands(cluster: LocalCluster, fresh: Fresh) -> None:
    leader = await cluster.wait_for_leader()
    await send_one(cluster, leader, name := fresh("ann"))
    # Session ids are small: one of these is ann's.
    commands = [
        state_pb2.Command(set_role=state_pb2.SetRole(session_id=number, account=name, administrator=True))
        for number in range(1, 20)
    ]
    stranger = Caller(77, "n9", issue(cluster.layout, "n9"))
    async with peer_stub(cluster, leader, stranger) as (stub, metadata), asyncio.timeout(10):
        call = cast("Any", stub).Forward(
            iter([pb.ForwardBatch(requests=[pb.ForwardRequest(request_id=1, commands=commands)])]), metadata=metadata
        )
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(
    "fields",
    [{"term": (1 << 63) - 1}, {"term": (1 << 62) + 1}, {"commit": 1 << 40}, {"type": pb.MESSAGE_TYPE_PROPOSE}],
    ids=str,
)
async def test_no_message_of_a_member_ends_a_node(cluster: LocalCluster, fresh: Fresh, fields: dict[str, int]) -> None:
    leader = await cluster.wait_for_leader()
    node, other = cluster.others(leader)
    ids = await node_ids(cluster, node)
    before = await cluster.status(node)
    assert before is not None
    heartbeat = Message(
        MessageType.HEARTBEAT, NodeId(ids[other]), NodeId(ids[node]), Term(before.term), commit=Index(0)
    )
    message = encode_message(heartbeat, 0)
    message.MergeFrom(pb.RaftMessage(**fields))  # type: ignore[arg-type]
    await deliver(cluster, node, Caller(ids[other], other, pair_of(cluster.layout, other)), message)
    await send_one(cluster, node, fresh("ann"))
    assert all(cluster.is_up(name) for name in cluster.names)
    await cluster.wait_until_equal()
    after = await cluster.status(node)
    assert after is not None
    assert after.term < before.term + 100


async def test_who_was_never_admitted_leads_nobody(cluster: LocalCluster, fresh: Fresh) -> None:
    leader = await cluster.wait_for_leader()
    node = cluster.others(leader)[0]
    ids, before = await node_ids(cluster, node), await cluster.status(node)
    assert before is not None
    stranger = Caller(77, "n9", issue(cluster.layout, "n9"))
    lied = Term(before.term + 1000)
    entry = Entry(lied, Index(before.last_index + 1))
    lies = [
        Message(
            kind,
            NodeId(stranger.node_id),
            NodeId(ids[node]),
            lied,
            index=Index(before.last_index),
            log_term=Term(before.term),
            commit=Index(before.last_index + 1),
            entries=(entry,) if kind is MessageType.APPEND else (),
        )
        for kind in (MessageType.HEARTBEAT, MessageType.VOTE, MessageType.TIMEOUT_NOW, MessageType.APPEND)
    ]
    # The node asks the members about the stranger before it refuses, for some seconds.
    ends = await asyncio.gather(*(deliver(cluster, node, stranger, encode_message(lie, 0)) for lie in lies))
    assert set(ends) == {grpc.StatusCode.UNAVAILABLE}
    await send_one(cluster, node, fresh("ann"))
    after = await cluster.status(node)
    assert after is not None
    # The machine may be so slow that the nodes elect another leader by themselves.
    assert after.leader in cluster.names
    assert after.term < lied
    await cluster.wait_until_equal()


async def test_a_key_that_a_node_has_replaced_is_believed_by_no_node(cluster: LocalCluster, fresh: Fresh) -> None:
    leader = await cluster.wait_for_leader()
    robbed, other = cluster.others(leader)
    ids, status = await node_ids(cluster, other), await cluster.status(other)
    assert status is not None
    thief = Caller(ids[robbed], robbed, pair_of(cluster.layout, robbed))
    harmless = Message(MessageType.HEARTBEAT, NodeId(ids[robbed]), NodeId(ids[other]), Term(1), commit=Index(0))

    async def is_heard() -> bool:
        return await deliver(cluster, other, thief, encode_message(harmless, 0)) is grpc.StatusCode.OK

    assert await is_heard()
    replace_pair(cluster.layout, robbed)
    await cluster.restart(robbed)
    await send_one(cluster, robbed, fresh("ann"))
    async with asyncio.timeout(30):
        while await is_heard():
            continue  # each look is a call, which gives way
    await cluster.restart(robbed)
    await send_one(cluster, robbed, fresh("ann"))
    assert not await is_heard()
