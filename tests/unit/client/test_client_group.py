"""Many accounts in one process: they share connections to the nodes and one thread, and one's failure is its own."""

import asyncio
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import grpc
import pytest

from parley import (
    EVERYONE,
    BadInputError,
    ClientGroup,
    ConnectionManagerSettings,
    ConnectionState,
    MessageStatus,
    MessageStreamSettings,
    NotSignedInError,
    ParleyClient,
    PolicySettings,
)
from parley.device import outbox, schema
from parley.device.store import Store
from parley.device.store_thread import MOST_LOOKED, StoreThread
from parley.errors import StoreError
from parley.net.channel import STARTS_AT_ONCE, STREAMS_PER_CHANNEL, ChannelPool, Security
from parley.wire.endpoints import parse_endpoints
from parleyd.api import callers
from tests.support.node import PASSWORD, InProcessCluster, running_cluster
from tests.unit.client.helpers import QUICK
from tests.unit.client.records import BOB

MANY = 500
CALM = ConnectionManagerSettings(
    stream=MessageStreamSettings(ping_interval_s=5.0), policy=PolicySettings(attempt_timeouts_s=(60.0,))
)
"""For 500 clients of a node of the same process: none of them may take it for silent while it serves the others."""


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses to which channels were opened."""
    found: list[str] = []
    original = grpc.aio.insecure_channel

    def counting(address: str, *given: Any, **more: Any) -> grpc.aio.Channel:
        found.append(address)
        return original(address, *given, **more)

    monkeypatch.setattr(grpc.aio, "insecure_channel", counting)
    return found


def make_group(cluster: InProcessCluster, state_dir: Path, settings: ConnectionManagerSettings = QUICK) -> ClientGroup:
    hosts = [node.address for node in cluster.nodes]
    return ClientGroup(hosts, insecure=True, state_dir=state_dir, deadline_s=60.0, settings=settings, rng=Random(1))


@asynccontextmanager
async def group_of(
    cluster: InProcessCluster, state_dir: Path, names: Sequence[str], settings: ConnectionManagerSettings = QUICK
) -> AsyncIterator[tuple[ClientGroup, list[ParleyClient]]]:
    """Clients of one group, each signed in to an account of its own."""
    async with make_group(cluster, state_dir, settings) as group, AsyncExitStack() as stack:
        clients = []
        for name in names:
            cluster.add_account(name, PASSWORD)
            client = await stack.enter_async_context(group.client())
            await client.login(name, PASSWORD)
            clients.append(client)
        yield group, clients


@pytest.mark.campaign
@pytest.mark.timeout(240)
async def test_500_accounts_in_one_process_make_neither_500_threads_nor_500_connections(
    tmp_path: Path, opened: list[str]
) -> None:
    threads = threading.active_count()
    async with running_cluster() as cluster:
        names = [f"person-{number}" for number in range(MANY)]
        async with group_of(cluster, tmp_path, names, CALM) as (_, clients):
            async with asyncio.timeout(120):
                for client in clients:
                    await client.wait_until(ConnectionState.CONNECTED)
            # Channels: the streams', one for single calls. Threads: of gRPC, of executors, of the in-process node.
            assert len(opened) <= -(-MANY // STREAMS_PER_CHANNEL) + 1
            assert [thread.name for thread in threading.enumerate()].count("parley-store") == 1
            assert threading.active_count() - threads < 50
            sent = await clients[0].send(EVERYONE, "hello")
            await sent.accepted(60)
            readers = [await client.messages() for client in clients[1:]]
            async with asyncio.timeout(60):
                assert {(await anext(reader)).body for reader in readers} == {"hello"}
    assert "parley-store" not in [thread.name for thread in threading.enumerate()]


async def test_a_client_that_leaves_takes_no_connection_from_the_others(tmp_path: Path, opened: list[str]) -> None:
    async with (
        running_cluster() as cluster,
        group_of(cluster, tmp_path, ["anna", "ben"]) as (group, (anna, ben)),
    ):
        await asyncio.gather(*(one.wait_until(ConnectionState.CONNECTED, timeout=30) for one in (anna, ben)))
        cluster.add_account("carl", PASSWORD)
        async with group.client() as carl:
            await carl.login("carl", PASSWORD)
            await carl.wait_until(ConnectionState.CONNECTED, timeout=30)
        await (await anna.send("ben", "still here")).accepted(30)
        assert (await anext(await ben.messages())).body == "still here"
        assert len(opened) == 2  # one for streams, one for calls


async def test_all_accounts_of_a_node_that_dies_go_on_at_another_and_nothing_is_lost_or_doubled(
    tmp_path: Path,
) -> None:
    names = [f"a{number}" for number in range(6)]
    async with running_cluster(("n1", "n2")) as cluster, group_of(cluster, tmp_path, names) as (_, clients):
        await asyncio.gather(*(one.wait_until(ConnectionState.CONNECTED, timeout=30) for one in clients))
        lost = clients[0].state.node
        sent = [await one.send("a0", f"{index} before") for index, one in enumerate(clients[1:])]
        await next(node for node in cluster.nodes if node.name == lost).die()
        sent += [await one.send("a0", f"{index} after") for index, one in enumerate(clients[1:])]
        assert {(await one.accepted(60)).status for one in sent} == {MessageStatus.ACCEPTED}
        reader = await clients[0].messages()
        async with asyncio.timeout(30):
            got = [(await anext(reader)).body for _ in sent]
        assert sorted(got) == sorted(f"{index} {when}" for index in range(5) for when in ("before", "after"))
        assert await reader.next_stored() is None


async def test_the_time_of_a_node_begins_when_it_is_the_turn_of_a_stream_to_start(tmp_path: Path) -> None:
    """After a node is lost, hundreds of streams start. Those that wait are not taken for unanswered."""
    attempt_s = 0.3
    settings = replace(QUICK, policy=PolicySettings(attempt_timeouts_s=(attempt_s, 30.0)))
    async with running_cluster() as cluster, make_group(cluster, tmp_path, settings) as group:
        cluster.add_account("anna", PASSWORD)
        async with AsyncExitStack() as taken, group.client() as anna:
            for _ in range(STARTS_AT_ONCE):
                await taken.enter_async_context(group._shared.sessions.starts)
            await anna.login("anna", PASSWORD)
            loop = asyncio.get_running_loop()
            until = loop.time() + 2 * attempt_s
            while loop.time() < until:
                await anna.ping(count=1)  # calls need no turn
            assert anna.state.connection is ConnectionState.CONNECTING
            assert anna.state.problem == ""
            await taken.aclose()
            await anna.wait_until(ConnectionState.CONNECTED, timeout=30)


async def test_connections_of_many_accounts_bear_a_longer_silence(tmp_path: Path) -> None:
    def limit_ms(pool: ChannelPool) -> int:
        return dict(pool._options)["grpc.keepalive_timeout_ms"]

    alone = ChannelPool(Security(insecure=True))
    async with running_cluster() as cluster, make_group(cluster, tmp_path) as group:
        for pool in (group._shared.sessions, group._shared.calls):
            assert limit_ms(pool) >= 3 * limit_ms(alone)


async def test_a_client_of_a_group_is_not_the_last_sign_in_of_the_machine(tmp_path: Path) -> None:
    async with running_cluster() as cluster, group_of(cluster, tmp_path, ["anna"]) as (_, (anna,)):
        assert anna.signed_in_as == "anna"
        assert not (tmp_path / "last.json").exists()


async def test_a_stored_session_of_a_group_is_resumed(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        async with group_of(cluster, tmp_path, ["anna"]) as (_, (anna,)):
            assert await anna.has_session()
        async with make_group(cluster, tmp_path) as group, group.client(account="anna") as again:
            await again.wait_until(ConnectionState.CONNECTED, timeout=30)
            with pytest.raises(NotSignedInError):
                async with group.client() as nobody:
                    await nobody.send("anna", "hello")


async def test_a_group_needs_a_host(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="No host"):
        ClientGroup([], insecure=True, state_dir=tmp_path)


async def test_what_needs_no_session_carries_the_address_of_the_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []
    original = callers.source_of

    def recording(context: Any, gateways: Sequence[str]) -> str:
        seen.append(dict(context.invocation_metadata()).get("x-forwarded-for", ""))
        return original(context, gateways)

    monkeypatch.setattr(callers, "source_of", recording)
    async with running_cluster() as cluster, make_group(cluster, tmp_path) as group:
        async with group.client(on_behalf_of="192.0.2.7", connect=False) as anna:
            await anna.register("anna", PASSWORD)
            await anna.login("anna", PASSWORD)
        assert seen[0] == seen[-1] == "192.0.2.7"  # registering, and logging in


# ---- the pool


async def test_streams_share_a_channel_until_it_is_full_or_broken(opened: list[str]) -> None:
    (endpoint,) = parse_endpoints(["127.0.0.1:1"])
    pool = ChannelPool(Security(insecure=True))
    try:
        taken = [pool.take(endpoint) for _ in range(STREAMS_PER_CHANNEL)]
        assert len({id(one) for one in taken}) == len(opened) == 1
        more = pool.take(endpoint)
        assert more is not taken[0]
        more.is_broken = True
        await pool.release(taken.pop())
        assert pool.take(endpoint) is taken[0]
        assert len(opened) == 2
        taken[0].is_broken = True
        assert pool.take(endpoint) not in (taken[0], more)
        assert len(opened) == 3
    finally:
        await pool.close()


async def test_the_last_stream_closes_the_channel_so_that_the_next_one_connects_anew(opened: list[str]) -> None:
    (endpoint,) = parse_endpoints(["127.0.0.1:1"])
    pool = ChannelPool(Security(insecure=True))
    try:
        first = pool.take(endpoint)
        await pool.release(first)
        assert pool.take(endpoint) is not first
        assert len(opened) == 2
    finally:
        await pool.close()


# ---- the thread


async def test_stores_share_a_thread_and_each_keeps_its_own_failures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = StoreThread()
    good, bad = (Store(tmp_path / f"{name}.sqlite", thread=thread) for name in ("good", "bad"))
    await asyncio.gather(good.open(), bad.open())

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(bad, "_run", broken)
    async with asyncio.timeout(10):
        with pytest.raises(StoreError, match="a defect"):
            await bad.read(lambda _: 1)
        assert await good.read(lambda _: 1) == 1
        await bad.close()
        assert await good.read(lambda _: 2) == 2
        await good.close()
    thread.end()
    await asyncio.to_thread(thread.join)


async def test_a_closed_store_is_not_opened_again_by_a_turn_that_was_due(tmp_path: Path) -> None:
    thread = StoreThread()
    store = Store(tmp_path / "s.sqlite", thread=thread)
    await store.open()
    await store.close()
    assert not store.turn(look=False)
    assert not store.turn(look=True)
    with pytest.raises(StoreError, match="closed"):
        await store.read(lambda _: 1)
    thread.end()
    await asyncio.to_thread(thread.join)


async def test_a_shared_thread_notices_other_processes_in_every_file_however_many_there_are(tmp_path: Path) -> None:
    thread = StoreThread(0.001)
    count = 2 * MOST_LOOKED + 3
    noticed = [asyncio.Event() for _ in range(count)]
    stores = [
        Store(tmp_path / f"{index}.sqlite", thread=thread, on_foreign_change=event.set)
        for index, event in enumerate(noticed)
    ]
    await asyncio.gather(*(store.open() for store in stores))
    for index in range(count):
        other = schema.open_database(tmp_path / f"{index}.sqlite")
        with other:
            outbox.add(other, [(BOB, "from elsewhere")], 1)
        other.close()
    async with asyncio.timeout(30):
        await asyncio.gather(*(event.wait() for event in noticed))
        await asyncio.gather(*(store.close() for store in stores))
    thread.end()
    await asyncio.to_thread(thread.join)
