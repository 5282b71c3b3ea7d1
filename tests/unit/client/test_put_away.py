"""Conversations that were put away: through the SDK, the commands, the chat, and the rule of what is in the list."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from parley import EVERYONE, MessageStatus, ParleyClient, RefusedError, Target, UnreachableError
from parley.chat import Chats, ConversationKey, Noticed, conversation_key
from parley.terminal.chat_help import ALONE
from parley.terminal.view_commands import BROUGHT_BACK_TEXT, PUT_AWAY_TEXT
from tests.support.node import InProcessCluster, running_cluster
from tests.unit.chat.people import ANN, WITH_BEN, direct, message, own
from tests.unit.chat.test_chats import chats
from tests.unit.client.helpers import PASSWORD, make_client, signed_in, until
from tests.unit.client.test_chat import view
from tests.unit.client.test_command import Parley

BEN_KEY = conversation_key(WITH_BEN)


def mark(client: ParleyClient, conversation_id: int) -> int:
    known = client.conversation(conversation_id)
    return -1 if known is None else known.put_away_up_to


async def test_all_devices_of_the_account_know_what_was_put_away_and_nobody_else_does(tmp_path: Path) -> None:
    async with (
        running_cluster() as cluster,
        signed_in(cluster, tmp_path / "a") as anna,
        signed_in(cluster, tmp_path / "a2") as elsewhere,
        signed_in(cluster, tmp_path / "b", "bob") as bob,
    ):
        sent = await (await anna.send("bob", "hello")).accepted()
        number = sent.conversation_id
        await anna.put_away("bob")
        assert mark(anna, number) == sent.message_id
        await until(lambda: mark(elsewhere, number) == sent.message_id, "the other device knows it")
        assert [one.put_away_up_to for one in await bob.conversations()] == [0]
        await elsewhere.bring_back(Target(conversation_id=number))
        await until(lambda: mark(anna, number) == 0, "the first device knows it")
        second = await (await anna.send("bob", "again")).accepted()
        await anna.put_away("bob", up_to=sent.message_id)
        assert mark(anna, number) == sent.message_id, "what the person was not shown stays new"
        await anna.put_away(Target(conversation_id=number))
        await anna.put_away(Target(conversation_id=number), up_to=sent.message_id)
        assert mark(anna, number) == second.message_id, "as the cluster keeps it"
        assert [one.put_away_up_to for one in await anna.conversations()] == [second.message_id]
        with pytest.raises(RefusedError, match="no such conversation"):
            await anna.put_away(Target(conversation_id=number + 1))
        cluster.add_account("carl", PASSWORD)
        with pytest.raises(RefusedError, match="no conversation with carl yet"):
            await anna.put_away("carl")
        with pytest.raises(RefusedError, match=r"There is no message to everyone yet\."):
            await anna.put_away(EVERYONE)


async def test_a_client_without_a_connection_knows_what_was_put_away_and_cannot_change_it(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        async with signed_in(cluster, tmp_path) as anna:
            sent = await (await anna.send("anna", "note")).accepted()
            await until(lambda: mark(anna, sent.conversation_id) == 0, "the device knows the conversation")
            await anna.put_away("anna")
        await cluster.nodes[0].die()
        async with make_client(cluster, tmp_path, account="anna", deadline_s=0.5) as anna:
            assert [one.put_away_up_to for one in await anna.cached_conversations()] == [sent.message_id]
            with pytest.raises(UnreachableError):
                await anna.bring_back(Target(conversation_id=sent.conversation_id))
            assert mark(anna, sent.conversation_id) == sent.message_id


async def test_another_window_on_the_same_files_learns_what_was_put_away(tmp_path: Path) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path) as anna:
        sent = await (await anna.send("anna", "note")).accepted()
        async with make_client(cluster, tmp_path, account="anna") as window:
            await until(lambda: mark(window, sent.conversation_id) == 0, "the other window knows the conversation")
            await anna.put_away("anna")
            await until(lambda: mark(window, sent.conversation_id) == sent.message_id, "the other window knows it")
            await window.bring_back("anna")
            await until(lambda: mark(anna, sent.conversation_id) == 0, "the first window knows it")


async def test_what_was_put_away_while_a_device_was_away_is_known_after_its_list(tmp_path: Path) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path / "a") as anna:
        sent = await (await anna.send("anna", "note")).accepted()
        async with signed_in(cluster, tmp_path / "b") as elsewhere:
            await elsewhere.conversations()
            assert mark(elsewhere, sent.conversation_id) == 0
        await anna.put_away("anna")
        async with make_client(cluster, tmp_path / "b", account="anna") as elsewhere:
            await elsewhere.conversations()
            assert mark(elsewhere, sent.conversation_id) == sent.message_id


async def bob_who_wrote(cluster: InProcessCluster, tmp_path: Path) -> Parley:
    """Return the command of bob, who has written to carl and then to anna."""
    for name in ("bob", "anna", "carl"):
        cluster.add_account(name, PASSWORD)
    parley = Parley(tmp_path / "bob", cluster)
    assert (await parley("login", "bob", PARLEY_PASSWORD=PASSWORD)).code == 0
    for name in ("carl", "anna"):
        assert (await parley("send", name, "hello")).code == 0
    return parley


async def test_the_commands_put_away_and_the_list_shows_it_at_its_end(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        parley = await bob_who_wrote(cluster, tmp_path)
        done = await parley("put-away", "anna")
        assert (done.code, done.out, done.err) == (0, "", f"{PUT_AWAY_TEXT}\n")
        lines = (await parley("conversations")).out.splitlines()
        assert ["anna (put away)" in line for line in lines] == [False, True]
        records = json.loads((await parley("conversations", "--json")).out)
        assert [(one["peer"], one["put_away"]) for one in records] == [("carl", False), ("anna", True)]
        assert "hello" in (await parley("history", "anna")).out, "nothing was deleted"
        done = await parley("bring-back", "anna")
        assert (done.code, done.err) == (0, f"{BROUGHT_BACK_TEXT}\n")
        assert "put away" not in (await parley("conversations")).out
        assert (await parley("put-away", "bob")).code != 0


async def test_the_chat_puts_the_open_conversation_away(tmp_path: Path) -> None:
    async with view(tmp_path) as shown:
        sent = await (await shown.client.send("bob", "hello")).accepted()
        for command, expected, up_to in (
            ("/put-away", PUT_AWAY_TEXT, sent.message_id),
            ("/bring-back", BROUGHT_BACK_TEXT, 0),
        ):
            await shown.view.take(command)
            assert expected in shown.lines
            assert [one.put_away_up_to for one in await shown.client.conversations()] == [up_to]


async def test_a_named_conversation_is_put_away_and_not_the_open_one(tmp_path: Path) -> None:
    async with view(tmp_path) as shown:
        bob = await (await shown.client.send("bob", "hello")).accepted()
        own = await (await shown.client.send("anna", "a note")).accepted()
        assert shown.view.title == "bob"
        for command, expected in (("/put-away anna", own.message_id), ("/bring-back anna", 0)):
            await shown.view.take(command)
            marks = {one.id: one.put_away_up_to for one in await shown.client.conversations()}
            assert marks == {bob.conversation_id: 0, own.conversation_id: expected}
        await shown.view.take("/mute anna")
        muted = {one.id: one.muted for one in await shown.client.conversations()}
        assert muted == {bob.conversation_id: False, own.conversation_id: True}
        await shown.view.take("/remove-conversation anna")
        assert "Nothing was removed. Go there first" in shown.lines[-1]
        await shown.view.take("/put-away nobody")
        assert "There is no account nobody." in shown.lines[-1]
        assert shown.view.title == "bob", "the line names no recipient"


async def test_a_command_that_takes_nothing_says_so_and_does_nothing(tmp_path: Path) -> None:
    async with view(tmp_path) as shown:
        for command in sorted(ALONE):
            await shown.view.take(f"{command} bob")
            assert shown.lines[-1].startswith(f"{command} takes nothing after its name. Nothing was done.")
        assert set(shown.view.commands) > ALONE


# ---- what is in the list


def listed(made: Chats) -> dict[ConversationKey, bool]:
    """Return the conversations in the order of the list, each with whether it is left out."""
    return {item.key: item.put_away for item in made.items()}


def away(*, muted: bool = False) -> Chats:
    """The conversation with ben is put away up to its last message; notes to oneself are older."""
    made = chats(
        replace(direct(last=message(5), unread=2, read_up_to=3), put_away_up_to=5, muted=muted),
        replace(direct(WITH_BEN + 1, ANN, last=message(2, sender=ANN, conversation_id=WITH_BEN + 1)), read_up_to=2),
    )
    assert listed(made) == {conversation_key(WITH_BEN + 1): False, BEN_KEY: True}
    return made


def test_what_was_put_away_stands_at_the_end_and_its_unread_messages_are_not_in_the_sum() -> None:
    made = away()
    assert (made.unread, made.item(BEN_KEY).unread) == (0, 2)


def test_a_new_message_brings_it_back_and_is_announced() -> None:
    made = away()
    out = made.take_arrived((message(6),))
    assert [one.key for one in out if isinstance(one, Noticed)] == [BEN_KEY]
    assert listed(made) == {BEN_KEY: False, conversation_key(WITH_BEN + 1): False}
    assert made.unread == 3


def test_of_a_muted_one_only_an_urgent_message_brings_it_back_until_it_is_read() -> None:
    made = away(muted=True)
    made.take_arrived((message(6),))
    assert listed(made)[BEN_KEY]
    assert made.unread == 0
    made.take_arrived((replace(message(7), urgent=True),))
    assert not listed(made)[BEN_KEY]
    made.saw(BEN_KEY, 7)
    assert listed(made)[BEN_KEY]
    made.take_conversations((replace(direct(), put_away_up_to=5),))
    assert not listed(made)[BEN_KEY], "no longer muted: what came since brings it back"


def test_own_messages_that_wait_or_need_the_person_are_never_out_of_sight() -> None:
    made = away(muted=True)
    made.take_outgoing((own(1, MessageStatus.WAITING),))
    assert not listed(made)[BEN_KEY]
    made.take_outgoing((own(2, MessageStatus.WAITING),))
    made.take_outgoing((own(1, MessageStatus.FAILED), own(2, MessageStatus.ACCEPTED, message_id=6)))
    assert not listed(made)[BEN_KEY]
    made.take_removed((1,))
    assert listed(made)[BEN_KEY], "muted, and nothing waits any more"


def test_an_own_message_of_another_device_brings_it_back() -> None:
    made = away()
    made.take_arrived((message(6, sender=ANN),))
    assert not listed(made)[BEN_KEY]


def test_an_older_list_of_the_cluster_does_not_put_away_what_came_since() -> None:
    made = away()
    made.take_arrived((message(6),))
    made.take_list((replace(direct(last=message(5), unread=2, read_up_to=3), put_away_up_to=5),))
    assert not listed(made)[BEN_KEY]
