"""The in-process node does what its fault switches say, and what nodes share survives each of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from parley_proto.v1 import accounts_pb2
from parley_proto.v1 import messaging_pb2 as pb
from parleyd.delivery.device_stream import CloseReason
from tests.support.node import InProcessCluster, InProcessNode, running_cluster
from tests.support.raw import PASSWORD, Person, Raw, bodies, refused

Code = grpc.StatusCode
ACCEPTED, RETRY, GAP = pb.SEND_STATUS_ACCEPTED, pb.SEND_STATUS_RETRY, pb.SEND_STATUS_GAP


@asynccontextmanager
async def client_of(node: InProcessNode) -> AsyncIterator[Raw]:
    async with grpc.aio.insecure_channel(node.address) as channel:
        yield Raw(channel)


@pytest.fixture
async def ann(cluster: InProcessCluster, raw: Raw) -> Person:
    cluster.add_account("ann", PASSWORD)
    cluster.add_account("ben", PASSWORD)
    return await raw.log_in("ann")


async def test_nodes_share_one_state_and_a_dead_one_comes_back_on_its_port() -> None:
    async with running_cluster(("n1", "n2")) as cluster:
        one, two = cluster.nodes
        cluster.add_account("ann", PASSWORD)
        cluster.add_account("ben", PASSWORD)
        async with client_of(one) as here, client_of(two) as there:
            ann, ben = await here.log_in("ann"), await here.log_in("ben")
            async with there.session(ben) as receiving:
                assert {info.name: info.client_address for info in receiving.welcome.status.nodes} == {
                    "n1": one.address,
                    "n2": two.address,
                }
                async with here.session(ann) as sending:
                    assert (await sending.send_surely(1, "ben", "one")).status == ACCEPTED
                    assert bodies(await receiving.messages(1)) == ["one"]
                    address = one.address
                    await one.die()
                    code, _ = await sending.refusal()
                    assert code in (Code.UNAVAILABLE, Code.CANCELLED)
                status = (await receiving.next("status")).status
                assert (status.leader, [info.up for info in status.nodes]) == ("n2", [False, True])
            async with there.session(ann) as sending:
                assert sending.welcome.last_send_number == 1
                assert (await sending.send_surely(1, "ben", "one")).status == ACCEPTED
            await one.start()
            assert one.address == address
        assert cluster.bodies_for("ben") == ["one"]
        assert cluster.resent_differently == []


async def test_answers_are_lost_after_they_were_applied(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw
) -> None:
    node.faults.lose_answers = 1
    request = accounts_pb2.RegisterRequest(name="ann", password=PASSWORD, request_id=bytes(16))
    assert (await refused(raw.accounts.Register(request)))[0] is Code.INTERNAL
    assert list(cluster.accounts) == ["ann"]
    assert (await raw.accounts.Register(request)).account_id == 1
    assert node.called == ["Register", "Register"]


@pytest.mark.parametrize(
    ("fault", "status"), [("retry", RETRY), ("gap", GAP), ("no_majority", RETRY), ("overloaded", RETRY)]
)
async def test_sends_are_not_taken(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, ann: Person, fault: str, status: int
) -> None:
    setattr(node.faults, fault, True)
    async with raw.session(ann) as stream:
        await stream.send((1, "ben", "x"))
        [result] = await stream.results(1)
        assert (result.status, bool(result.detail)) == (status, True)
        assert cluster.bodies_for("ben") == []
        node.faults.no_majority = False
        await stream.send((1, "ben", "x"))
        assert [result.status for result in await stream.results(1)] == [ACCEPTED]


async def test_results_are_lost_and_asked_for_again(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, ann: Person
) -> None:
    node.faults.lose_results = True
    applied = asyncio.Event()
    cluster.listeners.append(lambda effects: applied.set() if effects else None)
    async with raw.session(ann) as stream:
        await stream.send((1, "ben", "x"))
        await applied.wait()
        assert cluster.bodies_for("ben") == ["x"]
        # What is lost is written before the answer to a later ping.
        await stream.write(pb.ClientFrame(ping=pb.Ping(nonce=1)))
        await stream.next("pong")
        node.faults.lose_results = False
        cluster.broadcast(
            pb.ServerFrame(results=pb.SendResultBatch(results=[cluster.devices[1, ann.device_id].result(1)]))
        )
        [result] = await stream.results(1)
        await stream.send((1, "ben", "x"))
        [again] = await stream.results(1)
        assert (result.message_id, result.conversation_id) == (again.message_id, again.conversation_id)


async def test_a_stream_breaks_after_its_sends_were_applied(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, ann: Person
) -> None:
    node.faults.break_after_sends = 2
    async with raw.session(ann) as stream:
        assert (await stream.send_surely(1, "ben", "one")).status == ACCEPTED
        await stream.send((2, "ben", "two"))
        code, text = await stream.refusal()
    assert (code, text) == (Code.UNAVAILABLE, "Connection reset by fault")
    assert cluster.bodies_for("ben") == ["one", "two"]


async def test_a_silent_node_says_nothing_until_it_is_released(node: InProcessNode, raw: Raw, ann: Person) -> None:
    async with raw.session(ann) as stream:
        await stream.until_caught_up()
        node.faults.hang = True
        await stream.write(pb.ClientFrame(ping=pb.Ping(nonce=7)))
        asking = asyncio.ensure_future(stream.next("pong"))
        done, _ = await asyncio.wait((asking,), timeout=0.05)
        assert not done
        node.release()
        assert (await asking).pong.nonce == 7
    assert node.pings == 1


async def test_calls_and_streams_are_refused(node: InProcessNode, raw: Raw, ann: Person) -> None:
    node.faults.unauthenticated = 1
    async with raw.stream(ann.metadata) as stream:
        assert (await stream.refusal())[0] is Code.UNAUTHENTICATED
    node.faults.unavailable = "starting"
    async with raw.stream(ann.metadata) as stream:
        assert await stream.refusal() == (Code.UNAVAILABLE, "starting")
    request = accounts_pb2.ListAccountsRequest()
    assert await refused(raw.accounts.ListAccounts(request, metadata=ann.metadata)) == (Code.UNAVAILABLE, "starting")


async def test_streams_are_closed_and_messages_sent_again_below_the_cursor(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, ann: Person
) -> None:
    ben = cluster.accounts["ben"]
    for body in ("one", "two", "three"):
        cluster.store(ben, cluster.accounts["ann"], body)
    async with raw.session(ann) as stream:
        assert bodies(await stream.until_caught_up()) == ["one", "two", "three"]
        cursor = stream.cursor
        node.close_streams(CloseReason.TAKEN_OVER)
        assert (await stream.refusal())[0] is Code.ABORTED
    node.faults.redeliver = 2
    node.faults.max_in_flight = 5
    async with raw.session(ann, cursor=cursor) as stream:
        assert bodies(await stream.until_caught_up()) == ["two", "three"]
        assert stream.welcome.max_sends_in_flight == 5
    assert [hello.cursor for hello in node.hellos] == [b"", cursor]
    assert node.sessions == 2


async def test_numbers_can_be_rewritten_and_sessions_ended(cluster: InProcessCluster, raw: Raw, ann: Person) -> None:
    [device] = cluster.devices.values()
    device.set_last_send_number(7)
    async with raw.session(ann) as stream:
        assert stream.welcome.last_send_number == 7
        assert (await stream.send_surely(8, "ben", "x")).status == ACCEPTED
        assert device.last_send_number == 8
        cluster.end_sessions()
        assert (await stream.refusal())[0] is Code.UNAUTHENTICATED
    cluster.delete_account(cluster.accounts["ben"])
    assert list(cluster.accounts) == ["ann"]
