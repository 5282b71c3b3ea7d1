"""Clients that say or read nothing hold up nobody else, and one that is gone leaves no traceback."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import grpc.aio
import pytest
import structlog.testing

from parley_proto.v1 import accounts_pb2, admin_pb2, conversations_pb2
from parley_proto.v1 import messaging_pb2 as pb
from parleyd import call_places
from parleyd.api import admission, stream_ends
from parleyd.api.admission import CallLimits
from parleyd.api.patience import Patience
from parleyd.machine.features.history import History, HistoryPage
from tests.support.budgets import stream_budgets
from tests.support.logs import complaints
from tests.support.node import InProcessCluster, InProcessNode
from tests.support.raw import PASSWORD, Person, Raw, eventually, refused, until_so

# A client that accepts little: what it does not read stays with the node.
READS_LITTLE = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024))
HISTORY = "/parley.v1.Conversations/GetHistory"
STATUS = "/parley.v1.Admin/GetStatus"
GATEWAY = CallLimits(bodies=8, trusted_gateways=("127.0.0.1",))
SHORT = Patience(0.2, 5.0)


@asynccontextmanager
async def running(
    limits: CallLimits | None = None, pages: int = 1000, share: int = 1000
) -> AsyncIterator[tuple[InProcessCluster, InProcessNode, Raw]]:
    """One node with these bounds, and a client of it."""
    cluster = InProcessCluster()
    node = cluster.nodes[0]
    node.call_limits = limits or CallLimits()
    node.stream_budgets = stream_budgets(pages=pages, share=share)
    await node.start()
    async with AsyncExitStack() as stack:
        stack.push_async_callback(cluster.stop)
        yield cluster, node, Raw(await stack.enter_async_context(grpc.aio.insecure_channel(node.address)))


async def people(cluster: InProcessCluster, raw: Raw, names: Sequence[str], stored: int = 20) -> list[Person]:
    """Accounts with messages of 64 KiB that they sent to themselves."""
    for name in names:
        account = cluster.add_account(name, PASSWORD)
        for _ in range(stored):
            cluster.store(account, account, "x" * 65_536)
    return [await raw.log_in(name) for name in names]


def own_history(person: Person) -> conversations_pb2.GetHistoryRequest:
    return conversations_pb2.GetHistoryRequest(account_name=person.name, limit=100)


async def open_unread(channel: grpc.aio.Channel, person: Person, calls: int = 1) -> list[Any]:
    """Ask for pages and read nothing of them."""
    request = own_history(person)
    method: Any = channel.stream_stream(HISTORY, request_serializer=type(request).SerializeToString)
    opened = [method(metadata=person.metadata) for _ in range(calls)]
    for call in opened:
        await call.write(request)
    return opened


async def test_unread_pages_of_many_accounts_at_one_address_hold_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "ANSWER_PATIENCE", SHORT)
    names = [f"attacker{number}" for number in range(8)]
    async with running(CallLimits(pages=8)) as (cluster, node, raw):
        *attackers, ann = await people(cluster, raw, [*names, "ann"])
        [ben] = await people(cluster, raw, ["ben"], stored=1)
        async with grpc.aio.insecure_channel(node.address, options=READS_LITTLE) as channel:
            before = len(node.called)
            calls = [call for attacker in attackers for call in await open_unread(channel, attacker, 8)]
            await until_so(lambda: len(node.called) >= before + 8)
            for person in (ben, ann):
                page = await raw.conversations.GetHistory(own_history(person), metadata=person.metadata, timeout=10)
                assert page.messages
            del calls


async def test_small_answers_need_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "ANSWER_PATIENCE", Patience(60.0, 60.0))
    async with running(CallLimits(pages=1)) as (cluster, node, raw):
        [attacker] = await people(cluster, raw, ["attacker"])
        account = cluster.add_account("ben", PASSWORD)
        cluster.store(account, account, "short")
        ben = await raw.log_in("ben")
        async with grpc.aio.insecure_channel(node.address, options=READS_LITTLE) as channel:
            before = len(node.called)
            calls = await open_unread(channel, attacker)
            await until_so(lambda: len(node.called) > before)
            page = await raw.conversations.GetHistory(own_history(ben), metadata=ben.metadata, timeout=3)
            assert [message.body for message in page.messages] == ["short"]
            del calls


async def test_a_page_without_a_place_is_small_and_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "ANSWER_PATIENCE", Patience(60.0, 60.0))
    async with running(CallLimits(pages=1)) as (cluster, node, raw):
        [attacker] = await people(cluster, raw, ["attacker"])
        account = cluster.add_account("ben", PASSWORD)
        for _ in range(100):
            cluster.store(account, account, "x" * 1_000)
        ben = await raw.log_in("ben")
        async with grpc.aio.insecure_channel(node.address, options=READS_LITTLE) as channel:
            before = len(node.called)
            calls = await open_unread(channel, attacker)
            await until_so(lambda: len(node.called) > before)
            read: list[int] = []
            before_id = History.before

            def counted(history: History, *bounds: int) -> HistoryPage:
                read.append(history.account_id)
                return before_id(history, *bounds)

            monkeypatch.setattr(History, "before", counted)
            page = await raw.conversations.GetHistory(own_history(ben), metadata=ben.metadata, timeout=3)
            assert (page.has_older, 0 < page.ByteSize() <= admission.SMALL_ANSWER_BYTES) == (True, True)
            assert read.count(account.id) == 1
            for call in calls:
                call.cancel()


async def test_an_answer_that_nobody_reads_ends_and_gives_its_memory_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "ANSWER_PATIENCE", Patience(0.1, 0.2))
    async with running() as (cluster, node, raw):
        [attacker] = await people(cluster, raw, ["attacker"])
        async with grpc.aio.insecure_channel(node.address, options=READS_LITTLE) as channel:
            calls = await open_unread(channel, attacker, 8)
            await until_so(lambda: len(grpc_calls()) == 8)
            await until_so(lambda: not grpc_calls())
            await status(raw, "192.0.2.1")  # gRPC keeps the call that came last until there is another
            async with asyncio.timeout(10):
                assert [await _end_of(call) for call in calls] == [grpc.StatusCode.CANCELLED] * 8


async def test_to_end_a_call_nobody_searches_among_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "ANSWER_PATIENCE", Patience(0.1, 0.2))
    searches: list[object] = []
    for module, name in ((asyncio, "all_tasks"), (gc, "get_referents"), (gc, "get_referrers")):
        monkeypatch.setattr(module, name, _noted(getattr(module, name), searches))
    async with running() as (cluster, node, raw):
        [attacker] = await people(cluster, raw, ["attacker"])
        async with grpc.aio.insecure_channel(node.address, options=READS_LITTLE) as channel:
            with structlog.testing.capture_logs() as logs:
                calls = await open_unread(channel, attacker, 16)
                await until_so(lambda: [log["event"] for log in logs].count("stalled_client_left") == 16)
            await status(raw, "192.0.2.1")  # gRPC keeps the call that came last until there is another
            async with asyncio.timeout(10):
                assert [await _end_of(call) for call in calls] == [grpc.StatusCode.CANCELLED] * 16
    assert searches == []


def _noted(function: Callable[..., Any], notes: list[object]) -> Callable[..., Any]:
    def noted(*arguments: Any) -> Any:
        notes.append(function)
        return function(*arguments)

    return noted


async def _end_of(call: Any) -> grpc.StatusCode:
    """Read what has arrived of an answer, and return the status of the call."""
    with contextlib.suppress(grpc.aio.AioRpcError):
        while await call.read() is not grpc.aio.EOF:
            pass
    code: grpc.StatusCode = await call.code()
    return code


def grpc_calls() -> list[asyncio.Task[Any]]:
    """The tasks that gRPC has for calls which have not ended, on the server's side."""
    return [task for task in asyncio.all_tasks() if getattr(task.get_coro(), "__name__", "") == "_schedule_rpc_coro"]


async def silent(channel: grpc.aio.Channel, method: str, metadata: Any, count: int) -> list[Any]:
    """Begin calls and send no request."""
    calls: list[Any] = [channel.stream_stream(method)(metadata=metadata) for _ in range(count)]
    for call in calls:
        await call.wait_for_connection()
    return calls


def status(raw: Raw, address: str) -> Awaitable[admin_pb2.GetStatusResponse]:
    return raw.admin.GetStatus(admin_pb2.GetStatusRequest(), metadata=(("x-forwarded-for", address),), timeout=10)


async def test_silent_calls_of_one_network_take_no_place_of_others() -> None:
    async with running(GATEWAY) as (_, node, raw), grpc.aio.insecure_channel(node.address) as channel:
        calls: list[Any] = []
        for number in range(16):
            metadata = (("x-forwarded-for", f"2001:db8:0:{number:x}::1"),)
            calls += await silent(channel, STATUS, metadata, 8)
        await asyncio.wait_for(status(raw, "192.0.2.1"), 1)
        await asyncio.wait_for(status(raw, "2001:db8:1::1"), 1)
        assert not all(call.done() for call in calls)


async def test_calls_of_one_network_leave_room_for_strangers_elsewhere() -> None:
    limits = CallLimits(calls=32, calls_per_address=4, trusted_gateways=("127.0.0.1",))
    async with running(limits) as (_, node, raw):
        node.faults.hang = True
        calls = [asyncio.ensure_future(status(raw, f"10.0.0.{number % 8}")) for number in range(32)]
        await until_so(lambda: (len(node.called), sum(call.done() for call in calls)) == (12, 20))
        node.faults.hang = False
        assert await status(raw, "192.0.2.1")
        node.release()
        codes = [
            getattr(answer, "code", lambda: None)() for answer in await asyncio.gather(*calls, return_exceptions=True)
        ]
        assert codes.count(grpc.StatusCode.RESOURCE_EXHAUSTED) == 20


async def test_calls_that_say_nothing_give_way_to_strangers_and_keep_nobody_with_a_session_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(call_places, "SURE_S", 0.0)
    monkeypatch.setattr(admission, "BODY_PATIENCE", Patience(60.0, 60.0))
    limits = CallLimits(calls=32, trusted_gateways=("127.0.0.1",), bodies=64)
    async with running(limits) as (cluster, node, raw), grpc.aio.insecure_channel(node.address) as channel:
        [ann] = await people(cluster, raw, ["ann"], stored=0)
        calls: list[Any] = []
        for number in range(16):
            calls += await silent(channel, STATUS, (("x-forwarded-for", f"10.0.{number}.1"),), 1)
        await until_so(lambda: len(grpc_calls()) >= 16)
        assert await raw.conversations.ListConversations(
            conversations_pb2.ListConversationsRequest(), metadata=ann.metadata, timeout=3
        )
        assert not any(call.done() for call in calls)
        # The last of the calls may not wait for its request yet. Then it gives way to nobody.
        refusals = {grpc.StatusCode.RESOURCE_EXHAUSTED}
        assert await eventually(lambda: status(raw, "192.0.2.1"), 5, while_it_says=refusals)
        ended = [call for call in calls if call.done()]
        assert [await call.code() for call in ended] == [grpc.StatusCode.RESOURCE_EXHAUSTED]


async def test_an_unread_answer_gives_its_place_to_a_call_that_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call_places, "SURE_S", 0.0)
    monkeypatch.setattr(admission, "SMALL_ANSWER_BYTES", 1 << 30)
    async with running(CallLimits(calls_per_account=2)) as (cluster, node, raw):
        [ann] = await people(cluster, raw, ["ann"])
        async with grpc.aio.insecure_channel(node.address, options=READS_LITTLE) as channel:
            before = len(node.called)
            calls = await open_unread(channel, ann, 2)
            await until_so(lambda: len(node.called) == before + 2)
            # The answers may still be read from the state. Then they wait for nobody yet.
            page = await eventually(
                lambda: raw.conversations.GetHistory(own_history(ann), metadata=ann.metadata, timeout=3),
                5,
                while_it_says={grpc.StatusCode.RESOURCE_EXHAUSTED},
            )
            assert page.messages
            assert {await _end_of(call) for call in calls} == {grpc.StatusCode.CANCELLED, grpc.StatusCode.OK}


async def test_silent_calls_of_many_accounts_at_one_address_hold_up_nobody() -> None:
    async with (
        running(CallLimits(bodies=8)) as (cluster, node, raw),
        grpc.aio.insecure_channel(node.address) as channel,
    ):
        *attackers, ann = await people(cluster, raw, [*"abcdefgh", "ann"], stored=0)
        calls: list[Any] = []
        for attacker in attackers:
            calls += await silent(channel, "/parley.v1.Accounts/ListDevices", attacker.metadata, 16)
        async with asyncio.timeout(3):
            await Raw(channel).conversations.ListConversations(
                conversations_pb2.ListConversationsRequest(), metadata=ann.metadata
            )
        del calls


async def test_streams_that_read_nothing_hold_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_ends, "PAGE_PATIENCE", SHORT)
    names = [f"attacker{number}" for number in range(4)]
    async with running(pages=4, share=1) as (cluster, node, raw), AsyncExitStack() as stack:
        *attackers, ann = await people(cluster, raw, [*names, "ann"])
        [ben] = await people(cluster, raw, ["ben"], stored=0)
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(node.address, options=READS_LITTLE))
        for attacker in attackers:
            await stack.enter_async_context(Raw(channel).session(attacker))
        await until_so(lambda: node.stream_budgets.pages.used >= 2)
        async with asyncio.timeout(5):
            async with raw.session(ben) as quiet:
                assert await quiet.until_caught_up() == []
            async with raw.session(ann) as behind:
                assert len(await behind.messages(20)) == 20


async def test_a_client_that_is_gone_leaves_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async with running() as (cluster, node, raw), _Gateway(node.port) as gateway:
        person, *_ = await people(cluster, raw, ["ann"])
        with caplog.at_level(logging.INFO, logger="grpc._cython.cygrpc"):
            for _ in range(3):
                await _vanish(gateway, person, node)
        assert complaints(caplog) == []


async def _vanish(gateway: _Gateway, person: Person, node: InProcessNode) -> None:
    """Have pages and frames that are not read, and end the connection without a word."""
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{gateway.port}", options=READS_LITTLE) as channel,
        AsyncExitStack() as stack,
    ):
        calls = await open_unread(channel, person, 16)
        for _ in range(16):
            stream = await stack.enter_async_context(Raw(channel).stream(person.metadata))
            await stream.write(pb.ClientFrame(hello=pb.Hello()))
        # The pages and one stream: the others are ended by it, because all are of one device.
        await until_so(lambda: node.hub.connected > 0 and len(grpc_calls()) >= 16)
        gateway.abort()
        await until_so(lambda: not grpc_calls())
        del calls


class _Gateway:
    """Passes bytes on, until it breaks its connections."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Future[None]] = []

    async def __aenter__(self) -> _Gateway:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self.abort()
        self._server.close()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def abort(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._writers += [writer, back]
        for source, sink in ((reader, back), (there, writer)):
            self._tasks.append(asyncio.ensure_future(_pass_on(source, sink)))


async def _pass_on(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    try:
        while content := await source.read(65_536):
            sink.write(content)
            await sink.drain()
    except OSError:
        pass
    sink.close()


async def test_a_failed_log_in_through_a_gateway_counts_for_the_person_and_not_for_the_device_of_the_account() -> None:
    async with running(GATEWAY) as (cluster, _, raw):
        cluster.add_account("ben", PASSWORD)
        ben = await raw.log_in("ben")
        wrong = accounts_pb2.LogInRequest(name="ben", password="a wrong guess", device_id=ben.device_id)
        with structlog.testing.capture_logs() as logged:
            for metadata in ((("x-forwarded-for", "192.0.2.7"),), ()):
                code, _ = await refused(raw.accounts.LogIn(wrong, metadata=metadata, timeout=10))
                assert code is grpc.StatusCode.UNAUTHENTICATED
        failed = [(one["address"], one["failures"]) for one in logged if one["event"] == "login_failed"]
        assert [address for address, _ in failed] == ["192.0.2.7", "127.0.0.1"]
        assert [count for _, count in failed] == [1, 1], "a guess at a gateway is none of the device's own"
