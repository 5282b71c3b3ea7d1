"""Receipts of a real cluster: the names of the nodes that have a message on disk, while one is down and after it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from parley_proto.v1 import conversations_pb2 as pb
from parley_proto.v1 import messaging_pb2, model_pb2
from parley_proto.v1.messaging_pb2 import SEND_STATUS_ACCEPTED
from parleyd.machine.features.channel_counts import MARKS_TOLD_UP_TO
from scripts.cluster_local import LocalCluster
from tests.cluster.raw import raw_client
from tests.support.raw import Stream, eventually, until_true

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_node_that_is_down_is_missing_in_a_receipt_until_it_is_back(
    cluster: LocalCluster, fresh: Callable[[str], str]
) -> None:
    leader = await cluster.wait_for_leader()
    other, down = cluster.others(leader)
    names = fresh("ann"), fresh("ben")
    async with raw_client(cluster, leader) as at_leader, raw_client(cluster, other) as at_other:
        for name in names:
            await at_leader.register(name)
        ann, ben = [await at_leader.log_in(name) for name in names]
        cluster.kill(down)
        async with at_leader.session(ann) as sending:
            sent = await sending.send_surely(1, ben.name, "while one node is down")
        assert sent.status == SEND_STATUS_ACCEPTED
        request = pb.GetReceiptsRequest(
            conversation_id=sent.conversation_id, message_id=sent.message_id, seen=at_leader.seen
        )

        async def says(nodes: set[str], others: set[str]) -> None:
            """The leader and the node that asks it say the same."""
            for raw in (at_leader, at_other):
                answer = await raw.conversations.GetReceipts(request, metadata=ann.metadata, timeout=10)
                assert answer.disks.known
                assert (set(answer.disks.nodes), set(answer.disks.others)) == (nodes, others)
                assert (answer.disks.term > 0, answer.disks.log_index > 0) == (True, True)
                assert (answer.counts.others, answer.counts.delivered) == (1, 0)

        await until_true(lambda: says({leader, other}, {down}))
        cluster.start(down)
        await until_true(lambda: says({leader, other, down}, set()))


async def test_without_a_majority_a_receipt_says_that_it_is_not_known_where_the_message_is(
    cluster: LocalCluster, fresh: Callable[[str], str]
) -> None:
    leader = await cluster.wait_for_leader()
    others = cluster.others(leader)
    names = fresh("ann"), fresh("ben")
    async with raw_client(cluster, others[0]) as raw:
        for name in names:
            await raw.register(name)
        ann, ben = [await raw.log_in(name) for name in names]
        async with raw.session(ann) as sending:
            sent = await sending.send_surely(1, ben.name, "before")
            request = pb.GetReceiptsRequest(
                conversation_id=sent.conversation_id, message_id=sent.message_id, seen=raw.seen
            )

            async def is_known(known: bool) -> None:
                answer = await raw.conversations.GetReceipts(request, metadata=ann.metadata, timeout=10)
                assert (answer.disks.known, bool(answer.disks.nodes), answer.counts.others) == (known, known, 1)

            await until_true(lambda: is_known(True))  # from here on this node has applied what the sender has seen
            cluster.kill(leader)
            cluster.kill(others[1])
            await until_true(lambda: is_known(False))
        cluster.start(leader)
        cluster.start(others[1])
        await cluster.wait_for_leader()


async def count_of(stream: Stream, read: int) -> messaging_pb2.ReceiptCount:
    """The first counts that say that so many have read; no mark of a member comes before them."""
    while True:
        batch = (await stream.next("receipts")).receipts
        assert not batch.receipts
        for count in batch.counts:
            if count.read == read:
                return count


async def test_a_sender_in_a_large_channel_is_told_counts_by_any_node_also_after_the_death_of_its_own(
    cluster: LocalCluster, fresh: Callable[[str], str]
) -> None:
    leader = await cluster.wait_for_leader()
    dying, other = cluster.others(leader)
    names = [fresh("ann"), *(fresh(f"user{number}") for number in range(MARKS_TOLD_UP_TO))]
    async with (
        raw_client(cluster, leader) as at_leader,
        raw_client(cluster, dying) as at_dying,
        raw_client(cluster, other) as at_other,
    ):
        for name in names:  # one after the other: a node checks two passwords at a time, and each call has its deadline
            await at_leader.register(name)
        ann, ben, cid = [await at_leader.log_in(name) for name in names[:3]]
        request = pb.CreateChannelRequest(title="all of us", members=names[1:], request_id=b"large channel 16")
        channel = (
            await eventually(lambda: at_leader.conversations.CreateChannel(request, metadata=ann.metadata, timeout=10))
        ).conversation_id
        async with at_dying.session(ann) as sending:
            [sent] = await sending.send_all_surely(model_pb2.Send(number=1, conversation_id=channel, body="hello"))
            assert sent.status == SEND_STATUS_ACCEPTED
            async with at_leader.session(ben, seen=at_dying.seen) as reading:
                await reading.mark_read(channel, sent.message_id)
                found = await count_of(sending, 1)
            assert (found.message_id, found.others, found.delivered) == (sent.message_id, MARKS_TOLD_UP_TO, 1)
        cluster.kill(dying)
        async with at_other.session(ann, seen=at_dying.seen) as again:
            assert (await count_of(again, 1)).message_id == sent.message_id
            async with at_leader.session(cid, seen=at_dying.seen) as reading:
                await reading.mark_read(channel, sent.message_id)
                assert (await count_of(again, 2)).delivered == 2
