"""What the person has read on this machine counts as read, also while the cluster does not know it yet."""

from __future__ import annotations

import asyncio
from pathlib import Path

from parley import ConnectionState, HistoryStart, ParleyClient
from parley.device import inbox
from parley.device.store import Store
from parley.model import Message, MessageKind
from tests.support.node import InProcessCluster, running_cluster
from tests.support.raw import until_true
from tests.unit.client.helpers import PASSWORD, make_client, signed_in


async def test_lists_of_the_cluster_know_what_was_read_here_a_moment_ago(tmp_path: Path) -> None:
    """`parley history --read` and then `parley conversations` listed as unread what the person had just read."""
    async with running_cluster(("n1",)) as cluster:
        async with signed_in(cluster, tmp_path / "anna") as anna:
            cluster.add_account("bob", PASSWORD)
            bob, me = cluster.accounts["bob"], cluster.accounts["anna"]
            channel = cluster.create_channel(bob, "Ward", [me])
            for body in ("one", "two", "three"):
                cluster.store(bob, channel, body)
            heard: list[Message] = []
            async with asyncio.timeout(20), await anna.messages() as reader:
                while not heard or heard[-1].body != "three":
                    heard.append(await anext(reader))
        texts = [message for message in heard if message.kind is MessageKind.TEXT]
        async with make_client(cluster, tmp_path / "anna", "anna", connect=False) as anna:  # so no mark is sent
            [listed], [kept] = await anna.conversations(), await anna.cached_conversations()
            assert (listed.unread, kept.unread) == (3, 3), "that the channel was created is no message of anybody"
            seen = []
            for message in (heard[0], *texts):
                await anna.mark_read(message.conversation_id, message.id)
                [listed] = await anna.conversations()
                [kept] = await anna.cached_conversations()
                seen.append((listed.unread, kept.unread, listed.read_up_to == kept.read_up_to == message.id))
            assert seen == [(3, 3, True), (2, 2, True), (1, 1, True), (0, 0, True)]


async def test_what_another_device_read_is_not_unread_here(tmp_path: Path) -> None:
    """An older position of this device changes nothing in the cluster's list."""
    async with (
        running_cluster(("n1",)) as cluster,
        signed_in(cluster, tmp_path / "anna") as anna,
        signed_in(cluster, tmp_path / "2") as elsewhere,
    ):
        cluster.add_account("bob", PASSWORD)
        bob, me = cluster.accounts["bob"], cluster.accounts["anna"]
        sent = [cluster.store(bob, me, body).id for body in ("one", "two")]
        [conversation] = await elsewhere.conversations()
        await elsewhere.mark_read(conversation.id, sent[1])

        async def known_here() -> None:
            assert (await anna.conversations())[0].read_up_to == sent[1]

        await until_true(known_here)
        await anna.mark_read(conversation.id, sent[0])
        [listed] = await anna.conversations()
        assert (listed.unread, listed.read_up_to) == (0, sent[1])


def stored(cluster: InProcessCluster, *bodies: str) -> list[int]:
    """Bob writes to anna; returns the ids, after that of the conversation."""
    if "bob" not in cluster.accounts:
        cluster.add_account("bob", PASSWORD)
    messages = [cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], body) for body in bodies]
    return [messages[0].conversation_id, *(message.id for message in messages)]


async def mark_of(client: ParleyClient) -> int:
    """The read position that the cluster has of the only conversation, asked by another device."""
    [conversation] = await client.conversations()
    return conversation.read_up_to


def store_of(client: ParleyClient) -> Store:
    account = client._account
    assert account is not None
    return account.store


async def test_a_device_that_lacks_the_unread_messages_does_not_say_how_many_are_left(tmp_path: Path) -> None:
    """It raised the read position and left the count as it was: the window then forgot what it had counted itself."""
    async with running_cluster(("n1",)) as cluster, signed_in(cluster, tmp_path / "1") as first:
        conversation_id, *ids = stored(cluster, "one", "two", "three", "four", "five")
        async with asyncio.timeout(20), await first.messages() as reader:
            while (await anext(reader)).body != "five":
                pass

        async def received() -> None:
            assert cluster.rows("SELECT max(delivered_up_to) FROM devices") == [(ids[-1],)]

        await until_true(received)
        async with make_client(cluster, tmp_path / "2", connect=False) as second:  # begins behind them
            await second.login("anna", PASSWORD)
            await second.mark_read(conversation_id, ids[2])
            [listed] = await second.conversations()
            assert (listed.read_up_to, listed.unread) == (0, 5)
            await second.mark_read(conversation_id, ids[4])
            [listed] = await second.conversations()
            assert (listed.read_up_to, listed.unread) == (ids[4], 0)


async def test_a_mark_that_was_sent_and_is_not_in_the_list_is_sent_again(tmp_path: Path) -> None:
    """A client that was killed at the wrong moment had noted it as sent. Nobody ever sent it again."""
    async with running_cluster(("n1",)) as cluster, signed_in(cluster, tmp_path / "1") as elsewhere:
        conversation_id, *ids = stored(cluster, "one", "two")
        async with make_client(cluster, tmp_path / "2") as anna:
            await anna.login("anna", PASSWORD)
            await anna.wait_until(ConnectionState.CONNECTED, timeout=30)
            store = store_of(anna)
            await store.write(lambda c: inbox.set_read(c, conversation_id, ids[0]))
            await store.write(lambda c: inbox.reads_sent(c, [(conversation_id, ids[0])]))
            assert await mark_of(elsewhere) == 0
            assert [one.read_up_to for one in await anna.conversations()] == [ids[0]]
            assert await anna.wait_until_read("bob", ids[0], timeout=20)
            assert await mark_of(elsewhere) == ids[0]


async def test_who_waits_for_a_mark_learns_whether_the_cluster_has_it(tmp_path: Path) -> None:
    async with running_cluster(("n1",)) as cluster, signed_in(cluster, tmp_path / "1") as elsewhere:
        conversation_id, *ids = stored(cluster, "one", "two")
        async with make_client(cluster, tmp_path / "2", connect=False) as anna:
            await anna.login("anna", PASSWORD)
            await anna.mark_read(conversation_id, ids[0])
            assert not await anna.wait_until_read("bob", ids[0], timeout=0.1)
        cluster.nodes[0].faults.delay_s = 0.3
        async with make_client(cluster, tmp_path / "2", "anna") as anna:
            assert await anna.wait_until_read("bob", ids[0], timeout=20)
            assert await mark_of(elsewhere) == ids[0]
            await cluster.nodes[0].die()
            assert not await anna.wait_until_read("bob", ids[1], timeout=0.3)


async def test_a_page_of_what_is_unread_begins_behind_what_was_read_here(tmp_path: Path) -> None:
    """The list said that nothing was new, and `parley history --unread` began at what had been read."""
    async with running_cluster(("n1",)) as cluster:
        cluster.add_account("anna", PASSWORD)
        conversation_id, *ids = stored(cluster, *(f"m{number}" for number in range(8)))
        async with make_client(cluster, tmp_path / "anna", connect=False) as anna:
            await anna.login("anna", PASSWORD)
            unread = HistoryStart(first_unread=True)
            page = await anna.history("bob", unread, limit=2)
            assert ([message.body for message in page.messages], page.read_up_to) == (["m0", "m1"], 0)
            await anna.mark_read(conversation_id, ids[4])
            page = await anna.history("bob", unread, limit=2)
            assert ([message.body for message in page.messages], page.read_up_to) == (["m4", "m5"], ids[4])
            await anna.mark_read(conversation_id, ids[7])
            page = await anna.history("bob", unread, limit=2)
            assert ([message.body for message in page.messages], page.read_up_to) == (["m6", "m7"], ids[7])
