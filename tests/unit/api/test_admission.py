"""A caller is authenticated before this node spends anything on it, and every bound holds in sum over all callers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import grpc
import grpc.aio
import pytest
import structlog.testing

from parley_proto.v1 import accounts_pb2, admin_pb2, conversations_pb2, messaging_pb2
from parley_proto.v1 import messaging_pb2 as pb
from parleyd import budgets
from parleyd.api import admission, messages, stream_ends
from parleyd.api.admission import ACCESS, CallLimits
from parleyd.api.callers import source_of
from parleyd.api.errors import Context
from parleyd.api.patience import Patience
from parleyd.status_publisher import SERVICE_NAMES
from tests.support.node import InProcessCluster, InProcessNode
from tests.support.raw import PASSWORD, Person, Raw, refused, until_so

Code = grpc.StatusCode
MODULES = (accounts_pb2, admin_pb2, conversations_pb2, messaging_pb2)


@asynccontextmanager
async def running(limits: CallLimits) -> AsyncIterator[tuple[InProcessCluster, InProcessNode, Raw]]:
    """One node with these bounds, and a client of it."""
    cluster = InProcessCluster()
    node = cluster.nodes[0]
    node.call_limits = limits
    await node.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(cluster.stop)
        yield cluster, node, Raw(await stack.enter_async_context(grpc.aio.insecure_channel(node.address)))


def status(raw: Raw) -> Awaitable[admin_pb2.GetStatusResponse]:
    return raw.admin.GetStatus(admin_pb2.GetStatusRequest(), timeout=10)


async def at_the_node(node: InProcessNode, calls: int) -> None:
    """Wait until so many calls have reached the node's methods."""
    async with asyncio.timeout(5):
        while len(node.called) < calls:
            node.reached.clear()
            await node.reached.wait()


@pytest.mark.parametrize("method", ["/parley.v1.Accounts/LogIn", "/parley.v1.Messaging/Connect"])
@pytest.mark.parametrize("content", [b"\x00", b"\x0a\x02a", b"\x0a\x01\xff"], ids=["no field", "cut short", "no text"])
async def test_bytes_that_are_no_message_are_refused_without_a_traceback(
    cluster: InProcessCluster, raw: Raw, node: InProcessNode, method: str, content: bytes
) -> None:
    cluster.add_account("ann", PASSWORD)
    ann = await raw.log_in("ann")
    async with grpc.aio.insecure_channel(node.address) as channel:
        call: Any = channel.stream_stream(method, None, None)(metadata=ann.metadata, timeout=10)
        with structlog.testing.capture_logs() as logs:
            await call.write(content)
            code = await call.code()
    assert code is Code.INVALID_ARGUMENT
    assert "no message of this method" in await call.details()
    assert logs == []


def test_every_method_has_a_row_that_says_who_may_call_it() -> None:
    methods = {
        f"/{service.full_name}/{method.name}"
        for module in MODULES
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert {
        name for module in MODULES for name in (s.full_name for s in module.DESCRIPTOR.services_by_name.values())
    } == {*SERVICE_NAMES}
    assert set(ACCESS) == methods


async def test_a_stranger_is_refused_before_its_request_is_read_or_waited_for(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw
) -> None:
    request = accounts_pb2.ListAccountsRequest(pattern="x" * (200 << 10))
    request.seen.groups.add(group=0, index=1 << 40)
    for metadata in ((), (("authorization", "Bearer " + "A" * 43),)):
        code, _ = await refused(raw.accounts.ListAccounts(request, metadata=metadata))
        assert code is Code.UNAUTHENTICATED
    assert node.called == []


@pytest.mark.parametrize("method", sorted(name for name, access in ACCESS.items() if access.name != "PUBLIC"))
async def test_a_method_without_a_session_never_runs(node: InProcessNode, raw: Raw, method: str) -> None:
    call: Any = raw.channel.stream_stream(method)()
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call.read()
    assert error.value.code() is Code.UNAUTHENTICATED
    assert node.called == []


async def test_a_request_that_no_valid_one_is_as_large_as_is_refused(node: InProcessNode, raw: Raw) -> None:
    padded = accounts_pb2.LogInRequest(name="x" * (65 << 10))
    code, text = await refused(raw.accounts.LogIn(padded))
    assert (code, "more than 65536 bytes" in text) == (Code.INVALID_ARGUMENT, True)
    assert node.called == []


async def test_a_request_that_does_not_arrive_ends(
    node: InProcessNode, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "BODY_PATIENCE", Patience(0.1, 0.1))
    call: Any = raw.channel.stream_stream("/parley.v1.Admin/GetStatus")()
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call.read()
    assert error.value.code() is Code.DEADLINE_EXCEEDED
    assert await status(raw), "its place is free again"


async def test_a_position_that_the_cluster_cannot_have_is_answered_at_once(cluster: InProcessCluster, raw: Raw) -> None:
    cluster.add_account("ann", PASSWORD)
    ann = await raw.log_in("ann")
    raw.seen.groups[0].index = cluster.index + 1
    request = accounts_pb2.ListAccountsRequest(seen=raw.seen)
    code, text = await refused(raw.accounts.ListAccounts(request, metadata=ann.metadata, timeout=2))
    assert code is Code.DATA_LOSS
    assert f"the cluster has {cluster.index} entries, and this client has seen entry {cluster.index + 1}" in text
    async with raw.stream(ann.metadata) as stream:
        await stream.write(pb.ClientFrame(hello=pb.Hello(seen=raw.seen)))
        assert (await stream.refusal()) == (code, text)


async def test_calls_are_bounded_by_address() -> None:
    async with running(CallLimits(calls_per_address=3)) as (_, node, raw):
        node.faults.hang = True
        calls = [asyncio.ensure_future(status(raw)) for _ in range(3)]
        await at_the_node(node, 3)
        code, text = await refused(status(raw))
        assert (code, "3 are in progress from the same source" in text) == (Code.RESOURCE_EXHAUSTED, True)
        node.release()
        await asyncio.gather(*calls)
        assert await status(raw)


async def test_calls_are_bounded_by_account_and_others_are_served() -> None:
    async with running(CallLimits(calls_per_account=2)) as (cluster, node, raw):
        people = []
        for name in ("ann", "ben"):
            cluster.add_account(name, PASSWORD)
            people.append(await raw.log_in(name))
        ann, ben = people
        node.faults.hang = True
        before = len(node.called)
        calls = [asyncio.ensure_future(accounts(raw, ann)) for _ in range(2)]
        await at_the_node(node, before + 2)
        assert (await refused(accounts(raw, ann)))[0] is Code.RESOURCE_EXHAUSTED
        calls.append(asyncio.ensure_future(accounts(raw, ben)))
        await at_the_node(node, before + 3)
        node.release()
        await asyncio.gather(*calls)


def accounts(raw: Raw, person: Person) -> Awaitable[accounts_pb2.ListAccountsResponse]:
    return raw.accounts.ListAccounts(accounts_pb2.ListAccountsRequest(), metadata=person.metadata, timeout=10)


async def test_streams_without_a_session_take_no_clients_place() -> None:
    async with running(CallLimits(streams=1)) as (cluster, _, raw):
        cluster.add_account("ann", PASSWORD)
        ann = await raw.log_in("ann")
        async with AsyncExitStack() as stack:
            for _ in range(25):
                await stack.enter_async_context(raw.stream(()))
            async with raw.session(ann), raw.stream(ann.metadata) as second:
                assert (await second.refusal())[0] is Code.RESOURCE_EXHAUSTED


async def test_streams_are_bounded_by_account() -> None:
    async with running(CallLimits(streams_per_account=2)) as (cluster, _, raw):
        cluster.add_account("ann", PASSWORD)
        cluster.add_account("ben", PASSWORD)
        ann, ben = await raw.log_in("ann"), await raw.log_in("ben")
        async with raw.session(ann), raw.session(await raw.log_in("ann")):
            async with raw.stream(ann.metadata) as third:
                assert (await third.refusal())[0] is Code.RESOURCE_EXHAUSTED
            async with raw.session(ben):
                pass


async def test_a_stream_without_its_first_frame_ends(
    cluster: InProcessCluster, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "HELLO_TIMEOUT_S", 0.1)
    cluster.add_account("ann", PASSWORD)
    async with raw.stream((await raw.log_in("ann")).metadata) as stream:
        assert (await stream.refusal())[0] is Code.DEADLINE_EXCEEDED


async def test_pages_that_nobody_reads_are_bounded_and_others_get_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budgets, "PLACE_TIMEOUT_S", 0.2)
    async with running(CallLimits(pages=8)) as (cluster, node, raw):
        ann, ben = cluster.add_account("ann", PASSWORD), cluster.add_account("ben", PASSWORD)
        for _ in range(20):
            cluster.store(ann, ben, "x" * 65_536)
        attacker, innocent = await raw.log_in("ann"), await raw.log_in("ben")
        request = conversations_pb2.GetHistoryRequest(account_name="ben", limit=1000)
        # A client that accepts little: what it does not read stays with the node.
        options = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536))
        async with grpc.aio.insecure_channel(node.address, options=options) as channel:
            method: Any = channel.stream_stream(
                "/parley.v1.Conversations/GetHistory", request_serializer=type(request).SerializeToString
            )
            unread = method(metadata=attacker.metadata)
            await unread.write(request)
            await unread.initial_metadata()
            code, text = await refused(raw.conversations.GetHistory(request, metadata=attacker.metadata, timeout=10))
            assert (code, "wait for their readers" in text) == (Code.RESOURCE_EXHAUSTED, True)
            request.account_name = "ann"
            page = await raw.conversations.GetHistory(request, metadata=innocent.metadata, timeout=10)
            assert page.messages


async def test_a_session_that_reads_nothing_ends_and_gives_back_what_it_has_in_use(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream_ends, "PAGE_PATIENCE", Patience(0.2, 0.2))
    async with running(CallLimits()) as (cluster, node, raw):
        ann, ben = cluster.add_account("ann", PASSWORD), cluster.add_account("ben", PASSWORD)
        for _ in range(20):
            cluster.store(ann, ben, "x" * 65_536)
        reader = await raw.log_in("ben")
        options = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 65_536))
        async with (
            grpc.aio.insecure_channel(node.address, options=options) as channel,
            Raw(channel).session(reader),
            asyncio.timeout(10),
        ):
            await nobody_is_connected(node)
        assert node.stream_budgets.pages.used == 0


async def nobody_is_connected(node: InProcessNode) -> None:
    """Wait until no device is connected."""
    await until_so(lambda: not node.hub.connected)


class Call:
    """What `source_of` reads of a call."""

    def __init__(self, peer: str, *metadata: tuple[str, str]) -> None:
        self._peer = peer
        self._metadata = metadata

    def peer(self) -> str:
        return self._peer

    def invocation_metadata(self) -> Any:
        return self._metadata


@pytest.mark.parametrize(
    ("peer", "forwarded", "source"),
    [
        ("ipv4:10.0.0.7:4711", "", "10.0.0.7"),
        ("ipv6:%5B2001:db8::1%5D:4711", "", "2001:db8::/64"),
        ("ipv4:10.0.0.7:4711", "192.0.2.1", "10.0.0.7"),
        ("ipv4:10.0.0.5:4711", "192.0.2.1", "192.0.2.1"),
        ("ipv4:10.0.0.5:4711", "198.51.100.1, 192.0.2.1", "192.0.2.1"),
        ("ipv4:10.0.0.5:4711", "", "10.0.0.5"),
        ("unix:", "", "unix:"),
        ("ipv6:%5Bfe80::1%25eth0%5D:4711", "", "fe80::/64"),
        ("ipv6:%5B::ffff:10.0.0.7%5D:4711", "", "10.0.0.7"),
        ("ipv6:%5B::ffff:10.0.0.5%5D:4711", "192.0.2.1", "192.0.2.1"),
        ("ipv4:10.0.0.5:4711", "2001:db8::1", "2001:db8::/64"),
    ],
)
def test_the_source_of_a_call_is_its_address_or_what_a_trusted_gateway_says(
    peer: str, forwarded: str, source: str
) -> None:
    metadata = [("x-forwarded-for", forwarded)] if forwarded else []
    assert source_of(cast(Context, Call(peer, *metadata)), ("10.0.0.5",)) == source
