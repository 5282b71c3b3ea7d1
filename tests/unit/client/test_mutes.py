"""Muted conversations through the SDK, `parley mute`, the list, the chat, and the rule of notifications."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from parley import ParleyClient, RefusedError, Target, UnreachableError
from parley.chat import Noticed, Output, conversation_key
from parley.terminal.view_commands import MUTED_TEXT, UNMUTED_TEXT
from tests.support.node import running_cluster
from tests.unit.chat.people import WARD, channel, message
from tests.unit.chat.test_chats import chats
from tests.unit.client.helpers import PASSWORD, make_client, signed_in, until
from tests.unit.client.test_chat import view
from tests.unit.client.test_command import Parley


def is_muted(client: ParleyClient, conversation_id: int) -> bool:
    known = client.conversation(conversation_id)
    return known is not None and known.muted


async def test_all_devices_of_the_account_know_what_is_muted_and_nobody_else_does(tmp_path: Path) -> None:
    async with (
        running_cluster() as cluster,
        signed_in(cluster, tmp_path / "a") as anna,
        signed_in(cluster, tmp_path / "a2") as elsewhere,
        signed_in(cluster, tmp_path / "b", "bob") as bob,
    ):
        number = (await (await anna.send("bob", "hello")).accepted()).conversation_id
        await anna.mute("bob")
        assert is_muted(anna, number)
        await until(lambda: is_muted(elsewhere, number), "the other device knows it")
        assert [one.muted for one in await bob.conversations()] == [False]
        await elsewhere.mute(Target(conversation_id=number), muted=False)
        await until(lambda: not is_muted(anna, number), "the first device knows it")
        with pytest.raises(RefusedError, match="no such conversation"):
            await anna.mute(Target(conversation_id=number + 1))
        cluster.add_account("carl", PASSWORD)
        with pytest.raises(RefusedError, match="no conversation with carl yet"):
            await anna.mute("carl")
        with pytest.raises(RefusedError, match="no account"):
            await anna.mute("nobody")


async def test_a_client_without_a_connection_knows_what_is_muted_and_cannot_change_it(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        async with signed_in(cluster, tmp_path) as anna:
            number = await anna.create_channel("Ward 4")
            await until(lambda: anna.conversation(number) is not None, "the device knows the channel")
            await anna.mute(Target(conversation_id=number))
        await cluster.nodes[0].die()
        async with make_client(cluster, tmp_path, account="anna", deadline_s=0.5) as anna:
            assert [one.muted for one in await anna.cached_conversations()] == [True]
            assert is_muted(anna, number)
            with pytest.raises(UnreachableError):
                await anna.mute(Target(conversation_id=number), muted=False)
            assert is_muted(anna, number)


async def test_the_commands_mute_and_the_list_shows_it(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        cluster.add_account("anna", PASSWORD)
        parley = Parley(tmp_path / "bob", cluster)
        assert (await parley("login", "bob", PARLEY_PASSWORD=PASSWORD)).code == 0
        assert (await parley("send", "anna", "hello")).code == 0
        done = await parley("mute", "anna")
        assert (done.code, done.out, done.err) == (0, "", f"{MUTED_TEXT}\n")
        assert "anna (muted)" in (await parley("conversations")).out
        [record] = json.loads((await parley("conversations", "--json")).out)
        assert record["muted"] is True
        done = await parley("unmute", "anna")
        assert (done.code, done.err) == (0, f"{UNMUTED_TEXT}\n")
        assert "muted" not in (await parley("conversations")).out
        assert (await parley("mute", "carl")).code != 0


async def test_the_chat_mutes_the_open_conversation(tmp_path: Path) -> None:
    async with view(tmp_path) as shown:
        await (await shown.client.send("bob", "hello")).accepted()
        for command, expected, muted in (("/mute", MUTED_TEXT, True), ("/unmute", UNMUTED_TEXT, False)):
            await shown.view.take(command)
            assert expected in shown.lines
            assert [one.muted for one in await shown.client.conversations()] == [muted]


def noticed(out: list[Output]) -> list[int]:
    return [message.id for one in out if isinstance(one, Noticed) for message in one.messages]


def test_of_a_muted_conversation_only_urgent_messages_are_announced_and_all_are_counted() -> None:
    made = chats(replace(channel(), muted=True))
    calm, urgent = (message(number, conversation_id=WARD) for number in (1, 2))
    assert noticed(made.take_arrived((calm,))) == []
    assert noticed(made.take_arrived((replace(urgent, urgent=True), replace(calm, id=3)))) == [2]
    item = made.item(conversation_key(WARD))
    assert (item.muted, item.unread) == (True, 3)
    made.take_conversations((channel(),))
    assert noticed(made.take_arrived((replace(calm, id=4),))) == [4]
