"""Unread messages that name the own account: what the device's file keeps of them, and what the lists say."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from parley import EVERYONE, Conversation, ConversationKind, HistoryPage, Member, MessageKind, Receipt, Target
from parley.chat import Chats, conversation_key
from parley.device import directory, inbox, lost, restored, schema
from parley.device.restored import Evidence
from parley.known import Known
from parley.terminal.text import message_record
from parley.wire.position import Life, Position
from tests.support.node import running_cluster
from tests.unit.client.helpers import make_client, signed_in
from tests.unit.client.records import OWN_ID, account, channel, direct, message
from tests.unit.client.test_file_format import drop_mentions

OPS = 9
ALL = Conversation(
    EVERYONE.conversation_id, ConversationKind.EVERYONE, members=(Member(OWN_ID), Member(2)), member_count=2
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A device of anna that knows bob, the channel of both, their conversation, and the one of everyone."""
    path = tmp_path / "client.sqlite"
    with closing(schema.open_database(path)) as file:
        schema.set_meta(file, "account_id", OWN_ID)
        directory.learn(file, [account(OWN_ID, "anna"), account(2, "bob")], [channel(OPS), direct(), ALL])
    return path


def store(file: apsw.Connection, *bodies: str, first: int = 1, conversation_id: int = OPS) -> None:
    """Store texts of bob, with ids in a row."""
    messages = [message(first + at, body, conversation_id=conversation_id) for at, body in enumerate(bodies)]
    inbox.insert(file, messages, before=inbox.load_cursor(file), after=inbox.load_cursor(file) + b".")


def listed(file: apsw.Connection, conversation_id: int = OPS) -> tuple[int, ...]:
    [found] = inbox.conversations(file, 1, only=conversation_id)
    return found.mentions


def test_only_texts_of_others_that_name_the_account_are_mentions(path: Path) -> None:
    with closing(schema.open_database(path)) as file:
        directory.learn(file, [account(3, "anna-2"), replace(account(4, "anna."), deleted=True)], [])
        store(file, "@anna", "anna", "x@anna.org", "hi @ANNA.", "@anna-2", "@annabel", "@bob", "@anna-2, @anna")
        mine = message(20, "@anna", conversation_id=OPS, mine=True)
        event = replace(message(21, "@anna", conversation_id=OPS), kind=MessageKind.TITLE_CHANGED)
        inbox.insert(file, [mine, event], before=inbox.load_cursor(file), after=b"x")
        assert listed(file) == (1, 4, 8)


def test_everyone_is_mentioned_in_and_a_direct_conversation_never(path: Path) -> None:
    with closing(schema.open_database(path)) as file:
        store(file, "@anna", conversation_id=EVERYONE.conversation_id)
        store(file, "@anna", conversation_id=7)
        assert listed(file, EVERYONE.conversation_id) == (1,)
        assert listed(file, 7) == ()


def test_texts_of_very_many_candidates_ask_the_file_a_bounded_number_of_times(path: Path) -> None:
    """Each candidate was a statement: more than a second of the store's thread for the texts of one page."""
    with closing(schema.open_database(path)) as file:
        directory.learn(
            file, [account(3, "anna-2"), account(4, "anna."), replace(account(5, "anna.x"), deleted=True)], []
        )
        candidates = [f"@{number:04x}" + "".join(f".{at}" for at in range(10)) for number in range(400)]
        bodies = (" ".join([*candidates, "@Anna-2", "@ANNA."]), " ".join([*candidates, "@anna.x"]))
        statements: list[str] = []

        def count(_: apsw.Cursor, statement: str, bindings: object) -> bool:
            statements.append(statement)
            return True

        file.exec_trace = count
        store(file, *bodies)
        file.exec_trace = None
        assert len(statements) < 1100
        assert listed(file) == (2,)


def test_a_message_that_comes_again_is_counted_once(path: Path) -> None:
    with closing(schema.open_database(path)) as file:
        store(file, "@anna")
        store(file, "@anna", "@anna")
    with closing(schema.open_database(path)) as file:
        assert listed(file) == (1, 2)


def test_what_was_read_here_or_on_another_device_is_no_mention_any_more(path: Path) -> None:
    with closing(schema.open_database(path)) as file:
        store(file, "@anna", "@anna", "@anna")
        inbox.set_read(file, OPS, 1)
        assert listed(file) == (2, 3)
        directory.set_receipts(file, [Receipt(OPS, OWN_ID, 3, 2)])
        assert listed(file) == (3,)
        assert inbox.unread_mentions(file, {OPS: 0}) == {OPS: (2, 3)}, "the cluster's list may be behind this device"
        assert inbox.unread_mentions(file, {OPS: 3, 70: 0}) == {}


def test_of_very_many_mentions_the_newest_are_listed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inbox, "MAX_UNREAD_MENTIONS", 2)
    with closing(schema.open_database(path)) as file:
        store(file, "@anna", "@anna", "@anna")
        assert listed(file) == (2, 3)


def test_a_removed_conversation_has_no_mentions_and_what_was_on_its_way_is_none(path: Path) -> None:
    with closing(schema.open_database(path)) as file:
        store(file, "@anna", "@anna")
        directory.learn(file, [], [replace(channel(OPS), removed_up_to=2)])
        assert listed(file) == ()
        store(file, "@anna", "@anna", first=2)
        assert listed(file) == (3,)


def test_an_id_that_means_another_message_after_a_restore_is_no_mention(path: Path) -> None:
    with closing(schema.open_database(path)) as file:
        store(file, "one", "@anna lost")
        page = HistoryPage((replace(message(1, "one", conversation_id=OPS)),), False, channel(OPS))
        people = (account(OWN_ID, "anna"), account(2, "bob"))
        restored.begin_life(
            file, Evidence(Life(Position(1, ((0, 40),)), 0, False), (channel(OPS),), people, {OPS: page})
        )
        assert [one.body for one in lost.listing(file, 10)] == ["@anna lost"]
        store(file, "another", first=2)
        assert listed(file) == ()


def test_the_account_that_is_not_known_yet_is_not_mentioned(path: Path) -> None:
    with closing(schema.open_database(path)) as file:
        file.execute("DELETE FROM accounts")
        store(file, "@anna", "@")
        assert listed(file) == ()


def test_a_file_of_format_11_finds_the_mentions_that_it_holds(path: Path) -> None:
    with closing(schema.open_database(path)) as file:
        directory.learn(file, [account(3, "anna-2")], [])
        store(file, "@anna", "@Anna.", "@anna-2", "no", "x@anna")
        own = message(9, "@anna", conversation_id=OPS, mine=True)
        inbox.insert(file, [own], before=inbox.load_cursor(file), after=b"x")
        inbox.set_read(file, OPS, 1)
        drop_mentions(file)
        file.execute("UPDATE format SET version = 11; PRAGMA user_version = 11")
    with closing(schema.open_database(path)) as file:
        assert listed(file) == (2,)
        assert [row[0] for row in file.execute("SELECT id FROM inbox WHERE mentions_me = 1")] == [1, 2]


def test_known_conversations_hold_no_mentions(path: Path) -> None:
    known = Known()
    known.learn_conversations([replace(channel(OPS), mentions=(1,))])
    found = known.conversation(OPS)
    assert found is not None
    assert found.mentions == ()
    assert not known.learn_conversations([replace(channel(OPS), mentions=(2,))]), "a count is no change of it"


async def test_a_front_end_finds_the_mentions_that_the_device_finds(tmp_path: Path) -> None:
    """A front end once knew only members and senders: it told anna of a mention of anna-2."""
    async with running_cluster(("n1",)) as cluster:
        async with signed_in(cluster, tmp_path / "other", "anna-2"):
            pass
        async with signed_in(cluster, tmp_path / "bob", "bob") as bob, signed_in(cluster, tmp_path / "anna") as anna:
            assert len(await anna.list_accounts("anna*")) == 2
            ops = Target(conversation_id=await anna.create_channel("Ops", ["bob"]))
            await (await bob.send(ops, "@Anna-2 come")).accepted(10)
            chats = Chats("anna")
            async with asyncio.timeout(20), await anna.messages() as reader:
                while (said := await anext(reader)).body != "@Anna-2 come":
                    pass
            chats.look_up(anna, (said,))
            chats.take_arrived((said,))
            assert message_record(said, chats)["mentions_me"] is False
            assert chats.item(conversation_key(ops.conversation_id)).mentions == 0
            [kept] = [one for one in await anna.cached_conversations() if one.id == ops.conversation_id]
            assert (kept.unread, kept.mentions) == (1, ())


async def test_mentions_that_came_while_nobody_looked_are_listed_with_and_without_a_cluster(tmp_path: Path) -> None:
    async with running_cluster(("n1",)) as cluster:
        async with signed_in(cluster, tmp_path / "bob", "bob") as bob:
            async with signed_in(cluster, tmp_path / "anna") as anna:
                ops = Target(conversation_id=await anna.create_channel("Ops", ["bob"]))
            for body in ("@anna one", "two", "@Anna three"):
                await (await bob.send(ops, body)).accepted(10)
        async with make_client(cluster, tmp_path / "anna", "anna") as anna:
            async with asyncio.timeout(20), await anna.messages() as reader:
                while (await anext(reader)).body != "@Anna three":
                    pass
            [listed] = [one for one in await anna.conversations() if one.id == ops.conversation_id]
            assert (listed.unread, len(listed.mentions)) == (3, 2)
            await anna.mark_read(listed.id, listed.mentions[0])
        async with make_client(cluster, tmp_path / "anna", "anna", connect=False) as anna:
            [kept] = [one for one in await anna.cached_conversations() if one.id == ops.conversation_id]
            assert (kept.unread, kept.mentions) == (2, listed.mentions[1:])
