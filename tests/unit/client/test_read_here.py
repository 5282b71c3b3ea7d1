"""What the person has read on this machine counts as read, also while the cluster does not know it yet."""

from __future__ import annotations

import asyncio
from pathlib import Path

from parley.model import Message, MessageKind
from tests.support.node import running_cluster
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
