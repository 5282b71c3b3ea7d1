"""Fetching without a stream: each message is printed once, and acknowledged once it is stored.

What can go wrong: the answer, or the node, is lost; a message is acknowledged that is not in the file; a command that
dies swallows a message; two commands fetch at once; another command is connected; the files were copied; the cluster
went back; what waits in the outbox is sent twice.
"""

import asyncio
import json
import shutil
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest

from parley import BadInputError, FetchResult, Message, ParleyClient, UnreachableError
from parley.device import inbox, schema
from parley.device.inbox import load_cursor
from parley.terminal.exits import ExitCode
from tests.support.node import InProcessCluster, InProcessNode, running_cluster
from tests.unit.client.helpers import PASSWORD, make_client, signed_in, until
from tests.unit.client.test_command import signed_in as command_signed_in
from tests.unit.client.test_went_back import restore


@asynccontextmanager
async def fetching(tmp_path: Path, nodes: tuple[str, ...] = ("n1",)) -> AsyncIterator[tuple[InProcessCluster, Path]]:
    """A cluster with bob, and the state folder of anna, who has signed in and left."""
    async with running_cluster(nodes) as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path / "one"):
            pass
        for node in cluster.nodes:
            node.called.clear()
        yield cluster, tmp_path / "one"


def client_of(cluster: InProcessCluster, folder: Path, deadline_s: float = 30.0) -> ParleyClient:
    return make_client(cluster, folder, "anna", connect=False, deadline_s=deadline_s)


def tell(cluster: InProcessCluster, *said: str) -> list[int]:
    """What bob writes to anna; the ids."""
    return [cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], body).id for body in said]


def acknowledged(cluster: InProcessCluster) -> int:
    [device] = cluster.devices.values()
    return device.delivered_up_to


async def stored(client: ParleyClient) -> list[str]:
    """What a reader has not finished yet, and finishes now."""
    found: list[Message] = []
    async with await client.messages() as reader:
        while (message := await reader.next_stored()) is not None:
            found.append(message)
    return [message.body for message in found]


async def test_each_message_is_stored_once_and_acknowledged_by_the_next_fetch(tmp_path: Path) -> None:
    async with fetching(tmp_path) as (cluster, folder):
        ids = tell(cluster, "one", "two", "three")
        async with client_of(cluster, folder) as client:
            assert await client.fetch(limit=2) == FetchResult(received=2, more=True)
            assert (acknowledged(cluster), await stored(client)) == (0, ["one", "two"])
            assert await client.fetch() == FetchResult(received=1)
            assert acknowledged(cluster) == ids[1]
        async with client_of(cluster, folder) as client:
            assert await client.fetch() == FetchResult()
            assert (acknowledged(cluster), await stored(client)) == (ids[2], ["three"])
            assert "Connect" not in cluster.nodes[0].called
            assert client.account(cluster.accounts["bob"].id) is not None


async def test_a_lost_answer_is_fetched_again_and_stored_once(tmp_path: Path) -> None:
    async with fetching(tmp_path, ("n1", "n2")) as (cluster, folder):
        tell(cluster, "one")
        for node in cluster.nodes:
            node.faults.lose_answers = 1
        async with client_of(cluster, folder) as client:
            assert (await client.fetch()).received == 1
            assert await stored(client) == ["one"]
        assert [node.called.count("Fetch") for node in cluster.nodes] in ([2, 1], [1, 2])


async def test_what_was_being_stored_as_a_fetch_was_cancelled_reaches_the_reader_without_another_fetch(
    tmp_path: Path,
) -> None:
    async with fetching(tmp_path) as (cluster, folder), client_of(cluster, folder) as anna:
        tell(cluster, "hello")
        reader = await anna.messages()
        waiting = asyncio.ensure_future(anext(reader))
        go_on, queued = threading.Event(), threading.Event()
        insert = inbox.insert

        def slow(*arguments: Any, **named: Any) -> int:
            queued.set()
            go_on.wait(20)  # a slow disk
            return insert(*arguments, **named)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(inbox, "insert", slow)
            fetch = asyncio.ensure_future(anna.fetch())
            await until(queued.is_set, "the answer is being stored")
        fetch.cancel()
        await asyncio.gather(fetch, return_exceptions=True)
        go_on.set()
        async with asyncio.timeout(10):
            assert (await waiting).body == "hello"


async def test_a_fetch_knows_the_names_that_come_with_it_before_it_looks_for_mentions(tmp_path: Path) -> None:
    async with fetching(tmp_path) as (cluster, folder), client_of(cluster, folder) as anna:
        [path] = folder.glob("*/anna/client.sqlite")
        tell(cluster, "@anna", "@nobody")
        with closing(schema.open_database(path)) as file:
            file.execute("DELETE FROM accounts")
            assert (await anna.fetch()).received == 2
            assert file.execute("SELECT body FROM inbox WHERE mentions_me = 1").fetchall() == [("@anna",)]


async def test_it_waits_for_a_message_and_moves_to_another_node_if_its_own_dies(tmp_path: Path) -> None:
    async with fetching(tmp_path, ("n1", "n2")) as (cluster, folder), client_of(cluster, folder) as client:
        fetched = asyncio.create_task(client.fetch(wait=30))
        node = await _asked(cluster)
        await node.die()
        await _asked(cluster, besides=node)
        tell(cluster, "late")
        async with asyncio.timeout(20):
            assert (await fetched).received == 1


async def _asked(cluster: InProcessCluster, besides: InProcessNode | None = None) -> InProcessNode:
    """The node at which a fetch waits."""
    others = [node for node in cluster.nodes if node is not besides]
    await until(lambda: any(node.hub.connected for node in others), "a fetch waits")
    return next(node for node in others if node.hub.connected)


async def test_without_a_node_it_says_so_and_keeps_everything(tmp_path: Path) -> None:
    async with fetching(tmp_path) as (cluster, folder), client_of(cluster, folder, deadline_s=0.3) as client:
        tell(cluster, "one")
        await client.fetch()
        cluster.nodes[0].faults.unavailable = "starting"
        with pytest.raises(UnreachableError):
            await client.fetch()
        assert await stored(client) == ["one"]


async def test_a_client_with_a_stream_does_not_fetch(tmp_path: Path) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path) as client:
        with pytest.raises(BadInputError, match="has a stream"):
            await client.fetch()


async def test_beside_a_connected_process_nothing_is_fetched_and_the_wait_ends(tmp_path: Path) -> None:
    async with fetching(tmp_path) as (cluster, folder), make_client(cluster, folder, "anna") as connected:
        await until(lambda: connected.state.caught_up, "it has caught up")
        async with client_of(cluster, folder) as client:
            assert (await client.fetch(wait=0.1)).is_connected_elsewhere
        assert "Fetch" not in cluster.nodes[0].called


async def test_a_copy_of_the_files_reads_and_acknowledges_nothing(tmp_path: Path) -> None:
    async with fetching(tmp_path) as (cluster, folder):
        ids = tell(cluster, "one")
        async with client_of(cluster, folder) as client:
            await client.fetch()
        shutil.copytree(folder, tmp_path / "copy")
        async with client_of(cluster, folder):
            pass  # opened once more: it is the newer one
        async with client_of(cluster, folder) as client:
            for _ in range(2):
                await client.fetch()
            assert await client.push() == 0
        tell(cluster, "two")
        async with client_of(cluster, tmp_path / "copy") as copy, client_of(cluster, folder) as client:
            await client.send("bob", "from the device")
            assert await client.push() == 0
            result = await copy.fetch()
            assert (result.received, result.superseded) == (1, True)
            await copy.fetch()
            assert acknowledged(cluster) == ids[0]
            assert await stored(copy) == ["one", "two"]


async def test_after_a_restore_it_says_so_and_shows_nothing_twice(tmp_path: Path) -> None:
    async with fetching(tmp_path) as (cluster, folder), client_of(cluster, folder) as client:
        tell(cluster, "one")
        await client.fetch()
        restore(cluster)
        assert (await client.fetch()).received == 0
        assert "restored" in client.state.notice
        tell(cluster, "two")
        assert (await client.fetch()).received == 1


async def test_what_waits_is_pushed_once_even_if_the_answer_is_lost(tmp_path: Path) -> None:
    async with fetching(tmp_path) as (cluster, folder):
        async with client_of(cluster, folder) as client:
            one, two = await client.send_many([("bob", "one"), ("nobody", "two")])
            cluster.nodes[0].faults.retry = 2
            assert await client.push() == 2
            assert await client.push() == 0
            assert (await one.accepted(5)).message_id
            assert "no such account" in two.view.detail
            await client.send("bob", "three")
            cluster.nodes[0].faults.lose_answers = 1
            assert await client.push() == 0
        assert cluster.bodies_for("bob") == ["one", "three"]
        assert "Connect" not in cluster.nodes[0].called


async def test_the_cursor_of_the_file_moves_with_its_messages_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with fetching(tmp_path) as (cluster, folder), client_of(cluster, folder) as client:
        tell(cluster, "one")
        before = await client._in_use().store.read(load_cursor)
        with monkeypatch.context() as patched:
            patched.setattr("parley.device.directory.learn", _fail)
            with pytest.raises(OSError, match="disk"):
                await client.fetch()
        assert await client._in_use().store.read(load_cursor) == before
        await client.fetch()
        assert await stored(client) == ["one"]


def _fail(*_: object) -> None:
    raise OSError("disk")


# ---- the command


async def test_the_command_prints_each_message_once_and_acknowledges_it(tmp_path: Path) -> None:
    async with command_signed_in(tmp_path) as (cluster, parley):
        ids = tell(cluster, "one", "two")
        done = await parley("fetch", "--json", "--limit", "1")
        assert [json.loads(line)["body"] for line in done.out.splitlines()] == ["one"]
        assert acknowledged(cluster) == ids[0], "what is stored is acknowledged, and nothing else"
        done = await parley("fetch")
        assert (done.code, done.err, done.out.count("two"), done.out.count("one")) == (0, "", 1, 0)
        assert acknowledged(cluster) == ids[1]
        again = await parley("fetch")
        assert (again.code, again.out, again.err) == (0, "", "")
        assert "Connect" not in cluster.nodes[0].called


async def test_the_command_waits_for_a_message_and_sends_what_waits(tmp_path: Path) -> None:
    async with command_signed_in(tmp_path) as (cluster, parley):
        node = cluster.nodes[0]
        async with parley.running("fetch", "--wait", "30") as fetching, asyncio.timeout(40):
            await _asked(cluster)
            sent = await parley("send", "bob", "meanwhile")
            assert (sent.code, cluster.bodies_for("bob")) == (0, ["meanwhile"])
            tell(cluster, "late")
            assert fetching.stdout is not None
            assert b"late" in await fetching.stdout.read()
            assert await fetching.wait() == 0
        assert "Connect" not in node.called
        assert "Push" in node.called


async def test_the_command_ends_with_a_code_of_its_own_when_no_node_is_there(tmp_path: Path) -> None:
    async with command_signed_in(tmp_path) as (cluster, parley):
        await cluster.nodes[0].die()
        done = await parley("fetch")
        assert (done.code, done.out) == (ExitCode.UNREACHABLE, "")
