"""The cluster has older data than a device had seen: the device says what happened and goes on.

What can go wrong: the client is locked out for ever with a text about something else; it shows messages that are no
longer there; it takes new messages with old ids for those it had.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from parley import ConnectionState, ParleyClient, RefusedError
from parley.chat import status_line
from parley.device import identity
from parley.wire.position import Position
from tests.support.node import InProcessCluster, running_cluster
from tests.unit.client.helpers import PASSWORD, make_client, signed_in, until

FAR_AHEAD = Position(0, ((0, 1_000_000),))


@asynccontextmanager
async def one_message_sent(cluster: InProcessCluster, state_dir: Path) -> AsyncIterator[ParleyClient]:
    """Anna's client, after bob was sent "before"."""
    cluster.add_account("bob", PASSWORD)
    async with signed_in(cluster, state_dir) as anna:
        await (await anna.send("bob", "before")).accepted(30)
        yield anna


async def see_more_than_there_is(client: ParleyClient) -> None:
    """The device has seen entries that the cluster does not have any more."""
    account = client._account
    assert account is not None
    account.seen(FAR_AHEAD)
    await account.store.write(lambda c: identity.raise_position(c, FAR_AHEAD))


async def expect_to_go_on(cluster: InProcessCluster, client: ParleyClient) -> None:
    await until(lambda: bool(client.state.notice), "it says what happened", 30)
    await client.wait_until(ConnectionState.CONNECTED, timeout=30)
    said = status_line(client.state, client.state.last_heard, client.state.last_heard or 0.0).text
    assert "older data" in said
    await (await client.send("bob", "and on it goes")).accepted(30)
    assert cluster.bodies_for("bob")[-1] == "and on it goes"
    reader = await client.messages()
    stored = cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], "welcome back")
    async for message in reader:
        if message.id == stored.id:
            break
    assert [each.body for each in (await client.history("bob")).messages][-1] == "welcome back"


async def test_a_connected_client_says_what_happened_and_goes_on(tmp_path: Path) -> None:
    async with running_cluster() as cluster, one_message_sent(cluster, tmp_path) as anna:
        await see_more_than_there_is(anna)
        cluster.nodes[0].close_streams()
        await expect_to_go_on(cluster, anna)


async def test_a_client_that_starts_says_what_happened_and_goes_on(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        async with one_message_sent(cluster, tmp_path) as anna:
            await see_more_than_there_is(anna)
        async with make_client(cluster, tmp_path, "anna") as anna:
            await expect_to_go_on(cluster, anna)


async def test_a_log_in_goes_on_as_well(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        async with one_message_sent(cluster, tmp_path) as anna:
            await see_more_than_there_is(anna)
        cluster.end_sessions()
        async with make_client(cluster, tmp_path, "anna", connect=True) as anna:
            await anna.login("anna", PASSWORD)
            await expect_to_go_on(cluster, anna)


async def test_without_a_stream_one_request_says_it_and_the_next_is_answered(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        async with one_message_sent(cluster, tmp_path) as anna:
            await see_more_than_there_is(anna)
        async with make_client(cluster, tmp_path, "anna", connect=False) as anna:
            with pytest.raises(RefusedError, match="behind"):
                await anna.history("bob")
            assert [message.body for message in (await anna.history("bob")).messages] == ["before"]


async def test_a_request_about_the_own_account_says_it_and_the_next_is_answered(tmp_path: Path) -> None:
    """The same object goes on: it does not keep the position that the cluster does not have."""
    async with running_cluster() as cluster:
        async with one_message_sent(cluster, tmp_path) as anna:
            await see_more_than_there_is(anna)
        async with make_client(cluster, tmp_path, "anna", connect=False) as anna:
            account = await anna.own_account()
            with pytest.raises(RefusedError, match="behind"):
                await account.devices()
            assert "older data" in anna.state.notice
            assert [device.current for device in await account.devices()] == [True]


def restore(cluster: InProcessCluster) -> None:
    """The cluster begins its next life. Its log goes on at the same indices, so only the generation shows it."""
    machine = cluster.machine
    machine._state.meta.generation += 1
    machine._state.write_meta()
    machine._publish_position()
    for node in cluster.nodes:
        node.announce()


async def expect_to_notice(cluster: InProcessCluster, client: ParleyClient) -> None:
    await until(lambda: "restored" in client.state.notice, "it says what happened", 30)
    await client.wait_until(ConnectionState.CONNECTED, timeout=30)
    generation = cluster.machine.generation
    account = client._account
    assert account is not None
    await until(lambda: account.position.generation == generation, "it has seen the new generation", 30)
    await (await client.send("bob", "and on it goes")).accepted(30)
    assert [each.body for each in (await client.history("bob")).messages] == ["before", "and on it goes"]


async def test_a_connected_client_notices_that_the_cluster_was_restored(tmp_path: Path) -> None:
    async with running_cluster() as cluster, one_message_sent(cluster, tmp_path) as anna:
        restore(cluster)
        cluster.nodes[0].close_streams()
        await expect_to_notice(cluster, anna)
        reported = anna.state.notice
        cluster.nodes[0].close_streams()
        await (await anna.send("bob", "later")).accepted(30)
        assert anna.state.notice == reported, "it is said once"


async def test_an_answer_of_the_restored_cluster_does_not_hide_it_from_the_next_stream(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        async with one_message_sent(cluster, tmp_path):
            pass
        restore(cluster)
        async with make_client(cluster, tmp_path, "anna", connect=False) as anna:
            assert [each.body for each in (await anna.history("bob")).messages] == ["before"]
        async with make_client(cluster, tmp_path, "anna") as anna:
            await expect_to_notice(cluster, anna)


async def test_a_log_in_to_the_restored_cluster_does_not_hide_it_either(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        async with one_message_sent(cluster, tmp_path):
            pass
        restore(cluster)
        cluster.end_sessions()
        async with make_client(cluster, tmp_path, "anna") as anna:
            await anna.login("anna", PASSWORD)
            await expect_to_notice(cluster, anna)


async def test_a_new_device_of_a_cluster_that_was_restored_long_ago_has_nothing_to_notice(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        restore(cluster)
        async with signed_in(cluster, tmp_path) as anna:
            await (await anna.send("bob", "before")).accepted(30)
            assert anna.state.notice == ""
