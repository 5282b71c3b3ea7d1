"""Sending and receiving through the SDK: what was accepted arrives once and in order, whatever the node does."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import NoReturn

import apsw
import pytest

from parley import (
    BadInputError,
    ConnectionState,
    MessageFailedError,
    MessageStatus,
    Outgoing,
    ParleyClient,
    StillWaitingError,
    StoreError,
)
from parley.account import LocalAccount
from parley.device import inbox, outbox
from parley.device.store import Store
from tests.support.node import running_cluster
from tests.support.raw import until_true
from tests.unit.client.helpers import PASSWORD, make_client, signed_in, until


async def own_status(client: ParleyClient, *statuses: MessageStatus) -> None:
    """Wait until the client's own messages have come this far."""
    async with asyncio.timeout(5), aclosing(client.watch()) as changes:
        async for _ in changes:
            if [message.status for message in await client.outgoing()] == list(statuses):
                return


def store_of(client: ParleyClient) -> Store:
    """The store of the account in use."""
    account = client._account
    assert account is not None
    return account.store


async def reads_are_sent(client: ParleyClient) -> None:
    """All read positions of the device were written to a stream."""
    assert await store_of(client).read(inbox.unsent_reads) == []


async def test_a_message_is_accepted_and_arrives_once(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path / "a") as anna, signed_in(cluster, tmp_path / "b", "bob") as bob:
            view = await (await anna.send("bob", "hello")).accepted(5)
            assert (view.status, view.number) == (MessageStatus.ACCEPTED, 1)
            message = await anext(await bob.messages())
            sender = bob.account(message.sender_id)
            assert sender is not None
            assert (sender.name, message.body, message.mine) == ("anna", "hello", False)
            assert (message.conversation_id, message.id) == (view.conversation_id, view.message_id)


async def test_many_messages_keep_the_order_they_were_sent_in(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        cluster.nodes[0].faults.max_in_flight = 64
        async with signed_in(cluster, tmp_path / "a") as anna:
            sent = await anna.send_many([("bob", f"m{i}") for i in range(1000)])
            await asyncio.gather(*(message.accepted(20) for message in sent))
        assert cluster.bodies_for("bob") == [f"m{i}" for i in range(1000)]
        frames = [f for f in cluster.nodes[0].frames if f.WhichOneof("frame") == "sends"]
        assert len(frames) < 300, "sends that wait together go up together"


async def test_results_lost_with_their_stream_are_asked_for_again_under_the_same_numbers(tmp_path: Path) -> None:
    async with running_cluster(("n1", "n2")) as cluster:
        cluster.add_account("bob", PASSWORD)
        for node in cluster.nodes:
            node.faults.break_after_sends = 1
        async with signed_in(cluster, tmp_path / "a") as anna:
            sent = await anna.send_many([("bob", f"m{i}") for i in range(20)])
            await asyncio.gather(*(message.accepted(10) for message in sent))
        assert cluster.bodies_for("bob") == [f"m{i}" for i in range(20)]
        assert cluster.resent_differently == []


@pytest.mark.parametrize("fault", ["retry", "gap"])
async def test_what_was_not_taken_is_sent_again_in_order(tmp_path: Path, fault: str) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        setattr(cluster.nodes[0].faults, fault, 3)
        async with signed_in(cluster, tmp_path / "a") as anna:
            sent = await anna.send_many([("bob", f"m{i}") for i in range(10)])
            await asyncio.gather(*(message.accepted(10) for message in sent))
        assert cluster.bodies_for("bob") == [f"m{i}" for i in range(10)]


async def test_a_refused_message_fails_with_its_reason_and_holds_nothing_up(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path / "a") as anna:
            refused, fine = await anna.send_many([("nobody", "hello?"), ("bob", "hello")])
            with pytest.raises(MessageFailedError, match="There is no such account"):
                await refused.accepted(5)
            assert (await fine.accepted(5)).status is MessageStatus.ACCEPTED
            cluster.add_account("nobody", PASSWORD)
            again = await anna.retry(refused.local_id)
            assert (await again.accepted(5)).number == 3


async def test_messages_typed_without_any_node_go_out_at_the_next_start(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path):
            pass
        node = cluster.nodes[0]
        await node.die()
        async with make_client(cluster, tmp_path, "anna") as anna:
            message = await anna.send("bob", "kept")
            with pytest.raises(StillWaitingError, match="kept in the outbox"):
                await message.accepted(0.05)
            assert anna.state.waiting == 1
        await node.start()
        async with make_client(cluster, tmp_path, "anna") as anna:
            (waiting,) = await anna.waiting()
            await waiting.accepted(5)
            await until(lambda: anna.state.waiting == 0, "the outbox is empty")
        assert cluster.bodies_for("bob") == ["kept"]


async def test_redelivered_messages_are_shown_once_across_streams_and_restarts(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        bob, anna = cluster.add_account("bob", PASSWORD), cluster.add_account("anna", PASSWORD)
        node = cluster.nodes[0]
        seen = []
        async with signed_in(cluster, tmp_path, "bob") as client:
            cluster.store(anna, bob, "one")
            cluster.store(anna, bob, "two")
            reader = await client.messages()
            seen += [(await anext(reader)).body for _ in range(2)]
            node.faults.redeliver = 10
            await node.die()
            await node.start()
            await client.wait_until(ConnectionState.CONNECTED, timeout=5)
            await until(lambda: node.sessions == 2, "a second session")
            cluster.store(anna, bob, "three")
            seen.append((await anext(reader)).body)
        cluster.store(anna, bob, "four")
        async with make_client(cluster, tmp_path, "bob") as client:
            seen.append((await anext(await client.messages())).body)
        assert seen == ["one", "two", "three", "four"]


async def test_messages_are_acknowledged_only_up_to_what_is_stored(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        bob, anna = cluster.add_account("bob", PASSWORD), cluster.add_account("anna", PASSWORD)
        for i in range(500):
            cluster.store(anna, bob, f"m{i}")
        async with signed_in(cluster, tmp_path, "bob") as client:
            device = next(iter(cluster.devices.values()))
            await until(lambda: device.delivered_up_to == 500, "everything acknowledged")
            assert len((await client.cached_history("anna", limit=1000)).messages) == 500
        acknowledgements = [f for f in cluster.nodes[0].frames if f.WhichOneof("frame") == "delivered"]
        assert len(acknowledgements) <= 5, "acknowledgements are gathered"


async def test_a_slow_reader_loses_nothing(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        bob, anna = cluster.add_account("bob", PASSWORD), cluster.add_account("anna", PASSWORD)
        async with signed_in(cluster, tmp_path, "bob") as client:
            reader = await client.messages()
            for i in range(3000):
                cluster.store(anna, bob, f"m{i}")
            device = next(iter(cluster.devices.values()))
            await until(lambda: device.delivered_up_to == 3000, "all stored before any was read")
            assert [(await anext(reader)).body for _ in range(3000)] == [f"m{i}" for i in range(3000)]


async def test_delivered_and_read_marks_change_what_is_known_of_own_messages(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path / "a") as anna:
            await (await anna.send("bob", "hello")).accepted(5)
            assert [m.status for m in await anna.outgoing()] == [MessageStatus.ACCEPTED]
            async with signed_in(cluster, tmp_path / "b", "bob") as bob:
                message = await anext(await bob.messages())
                await own_status(anna, MessageStatus.DELIVERED)
                await bob.mark_read(message.conversation_id, message.id)
                await own_status(anna, MessageStatus.READ)


async def test_a_wrong_read_mark_does_not_end_the_stream(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path / "a") as anna:
            await anna.mark_read(4711, 3)
            await (await anna.send("bob", "hello")).accepted(5)
            await until_true(lambda: reads_are_sent(anna))
            with pytest.raises(BadInputError):
                await anna.mark_read(-1, 3)
            # As an earlier release stored it: such a mark cannot even be put into a frame.
            account = anna._account
            assert account is not None
            await account.store.write(lambda c: inbox.set_read(c, -1, 3))
            cluster.nodes[0].close_streams()
            await (await anna.send("bob", "again")).accepted(5)
            assert cluster.nodes[0].sessions == 2


async def test_all_read_marks_are_sent_however_many_wait(tmp_path: Path) -> None:
    """At most 256 were fetched, and nothing fetched the rest."""
    async with running_cluster() as cluster, signed_in(cluster, tmp_path / "a") as anna:
        await (await anna.send("anna", "hello")).accepted(5)
        account = anna._account
        assert account is not None

        def read_many(connection: apsw.Connection) -> None:
            for conversation_id in range(1, 3 * inbox.MAX_READS_FETCHED):
                inbox.set_read(connection, conversation_id, 1)

        await account.store.write(read_many)
        cluster.nodes[0].close_streams()
        await until_true(lambda: reads_are_sent(anna))


async def test_history_tells_which_own_messages_this_device_sent_under_which_number(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path / "a") as here, signed_in(cluster, tmp_path / "b", seed=2) as elsewhere:
            await (await here.send("bob", "from here")).accepted(5)
            await (await elsewhere.send("bob", "from elsewhere")).accepted(5)
            page = await here.history("bob")
            assert [(message.body, message.number) for message in page.messages] == [
                ("from here", 1),
                ("from elsewhere", 0),
            ]


async def test_a_long_running_client_forgets_what_is_old_and_settled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parley.account.PRUNE_EVERY", 50)
    monkeypatch.setattr("parley.device.outbox.KEEP_SETTLED", 20)
    monkeypatch.setattr("parley.device.inbox.KEEP_MESSAGES", 30)
    async with running_cluster() as cluster:
        bob, anna = cluster.add_account("bob", PASSWORD), cluster.add_account("anna", PASSWORD)
        async with signed_in(cluster, tmp_path) as client:
            for i in range(120):
                cluster.store(bob, anna, f"in {i}")
            for _ in range(4):
                sent = await client.send_many([("bob", "out")] * 30)
                await sent[-1].accepted(5)
            device = next(iter(cluster.devices.values()))
            await until(lambda: device.delivered_up_to >= 120, "all received")
            assert len(await client.outgoing(limit=1000)) < 120
            assert len((await client.cached_history("bob", limit=1000)).messages) >= 120, "no reader has had them yet"


async def test_a_slow_reader_misses_nothing_when_old_messages_are_pruned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parley.account.PRUNE_EVERY", 10)
    monkeypatch.setattr("parley.device.inbox.KEEP_MESSAGES", 5)
    monkeypatch.setattr("parley.reader.PAGE", 4)
    async with running_cluster() as cluster:
        bob, anna = cluster.add_account("bob", PASSWORD), cluster.add_account("anna", PASSWORD)
        async with signed_in(cluster, tmp_path) as client:
            reader = await client.messages()
            for i in range(60):
                cluster.store(bob, anna, f"m{i}")
            device = next(iter(cluster.devices.values()))
            await until(lambda: device.delivered_up_to == 60, "all received and pruned meanwhile")
            assert [(await anext(reader)).body for _ in range(60)] == [f"m{i}" for i in range(60)]
            assert reader.missed == 0


async def test_a_reader_that_missed_messages_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parley.account.PRUNE_EVERY", 10)
    monkeypatch.setattr("parley.device.inbox.KEEP_MESSAGES", 5)
    monkeypatch.setattr("parley.device.inbox.MAX_UNREAD", 20)
    async with running_cluster() as cluster:
        bob, anna = cluster.add_account("bob", PASSWORD), cluster.add_account("anna", PASSWORD)
        async with signed_in(cluster, tmp_path) as client:
            for i in range(60):
                cluster.store(bob, anna, f"m{i}")
            device = next(iter(cluster.devices.values()))
            await until(lambda: device.delivered_up_to == 60, "all received")
            account = client._account
            assert account is not None
            await account.store.write(inbox.prune)
            reader = await client.messages()
            assert (await anext(reader)).body == "m40"
            assert reader.missed == 40


async def test_a_result_that_could_not_be_stored_is_asked_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message was stored in the cluster, and waited here as long as the stream lasted."""
    settle, failures = outbox.settle, [apsw.FullError("the disk is full")]

    def fail_once(connection: apsw.Connection, messages: Sequence[Outgoing]) -> None:
        if failures:
            raise failures.pop()
        settle(connection, messages)

    monkeypatch.setattr(outbox, "settle", fail_once)
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            await anna.send("bob", "hello")

            async def settled() -> None:
                assert failures == []
                assert await store_of(anna).read(outbox.count_open) == 0

            await until_true(settled)
        assert failures == []
        assert cluster.bodies_for("bob") == ["hello"]


async def test_what_another_process_wrote_is_read_again_after_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody tells it again: a sender was told that its message waits, and never that it was accepted."""
    follow, calls = LocalAccount._follow_others, 0

    async def fail_once(account: LocalAccount) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise StoreError("The file cannot be read.")
        await follow(account)

    async with running_cluster() as cluster, signed_in(cluster, tmp_path) as anna:
        monkeypatch.setattr(LocalAccount, "_follow_others", fail_once)
        account = anna._account
        assert account is not None
        account._foreign()
        await until(lambda: calls == 2, "it reads again", 20)


async def test_a_first_log_in_that_cannot_be_stored_leaves_no_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try of a script left one, until the account had too many devices."""

    open_files = LocalAccount.open

    async def fail(account: LocalAccount, device_id: bytes) -> NoReturn:
        await open_files(account, device_id)
        raise StoreError("The folder cannot be written.")

    async with running_cluster() as cluster:
        cluster.add_account("anna", PASSWORD)
        async with make_client(cluster, tmp_path) as anna:
            with monkeypatch.context() as patch:
                patch.setattr(LocalAccount, "open", fail)
                with pytest.raises(StoreError):
                    await anna.login("anna", PASSWORD)
            assert cluster.rows("SELECT count(*) FROM sessions WHERE closed = 0") == [(0,)]
            await anna.login("anna", PASSWORD)
