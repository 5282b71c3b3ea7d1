"""Conversations that were removed: the device's file, the SDK on several devices, and restored clusters."""

from __future__ import annotations

import asyncio
import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from parley import (
    NEWEST,
    Conversation,
    HistoryPage,
    LostOrigin,
    MessageStatus,
    ParleyClient,
    RefusedError,
    Target,
    UnreachableError,
)
from parley.device import directory, drafts, identity, inbox, lost, outbox, restored, schema
from parley.device.restored import Evidence
from parley.terminal.view_commands import REMOVED_TEXT
from parley.wire.position import Life, Position
from tests.support.node import running_cluster
from tests.unit.client.helpers import PASSWORD, make_client, signed_in, until
from tests.unit.client.records import BOB, accepted, account, channel, direct, message
from tests.unit.client.test_chat import view
from tests.unit.client.test_command import Parley
from tests.unit.client.test_lost import carry_out, content, kill_at_any_statement
from tests.unit.client.test_put_away import bob_who_wrote
from tests.unit.client.test_restored import noticed, restore, ward

WITH_BOB = Target(conversation_id=7)
THEN, NOW = Position(0, ((0, 90),)), Position(1, ((0, 40),))


def gone(up_to: int) -> Conversation:
    return replace(direct(), removed_up_to=up_to)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A device with messages 50, 51 and 60 of bob. Own: 52 accepted, one without a result, one failed, one waits."""
    path = tmp_path / "client.sqlite"
    with closing(schema.open_database(path)) as connection:
        identity.load(connection)
        schema.set_meta(connection, "account_id", 1)
        directory.learn(connection, [account(1, "anna"), account(2, "bob")], [direct()])
        outbox.add(connection, [(BOB, f"send {number}") for number in range(1, 5)], 1)
        outbox.claim(connection, 3)
        failed = replace(accepted(3, 0), status=MessageStatus.FAILED, detail="no")
        outbox.settle(connection, [accepted(1, 52), failed])
        inbox.insert(connection, [message(50), message(51), message(60, "new")], before=b"", after=b"c")
        drafts.save(connection, BOB, "still to say")
        identity.raise_position(connection, THEN)
    return path


def held(connection: apsw.Connection) -> list[int]:
    return [one.id for one in inbox.page(connection, WITH_BOB, NEWEST, 100).messages]


def own(connection: apsw.Connection) -> list[str]:
    return [one.body for one in outbox.listing(connection, 10, target=WITH_BOB)]


def test_the_copies_up_to_the_bound_go_with_it_and_what_waits_or_needs_the_person_stays(path: Path) -> None:
    with closing(schema.open_database(path)) as connection:
        assert held(connection) == [50, 51, 52, 60]
        directory.learn(connection, [], [], [(7, 52)])
        assert held(connection) == [60]
        assert own(connection) == ["send 2", "send 3", "send 4"]
        assert [m.status for m in outbox.listing(connection, 10)] == [
            MessageStatus.SENDING,
            MessageStatus.FAILED,
            MessageStatus.WAITING,
        ]
        [known] = inbox.conversations(connection, 10)
        assert (known.removed_up_to, known.unread, known.last and known.last.id) == (52, 1, 60)
        text = connection.execute(
            "SELECT group_concat(body) FROM (SELECT body FROM inbox UNION SELECT body FROM outbox)"
        )
        assert "hello" not in str(text.fetchall()), "the text itself is not in the file any more"


def test_a_process_killed_at_any_statement_has_the_bound_with_the_deletion_or_neither(path: Path) -> None:
    def remove(connection: apsw.Connection) -> None:
        directory.learn(connection, [], [gone(52)])

    kill_at_any_statement(path, remove)
    with closing(schema.open_database(path)) as connection:
        assert held(connection) == [60]
        assert directory.conversations(connection)[0].removed_up_to == 52
    found = content(path)["inbox"]
    carry_out(path, remove)
    assert content(path)["inbox"] == found, "told once more"


def test_what_was_on_its_way_is_not_stored_and_the_cursor_moves_on(path: Path) -> None:
    with closing(schema.open_database(path)) as connection:
        directory.learn(connection, [], [gone(62)])
        inbox.insert(connection, [message(61), message(62), message(63, "news")], before=b"c", after=b"d")
        assert held(connection) == [63]
        assert inbox.load_cursor(connection) == b"d"


def test_an_older_answer_does_not_lower_the_bound(path: Path) -> None:
    with closing(schema.open_database(path)) as connection:
        directory.learn(connection, [], [gone(60)])
        directory.learn(connection, [], [gone(0)])
        directory.learn(connection, [], [], [(7, 50)])
        assert directory.conversations(connection)[0].removed_up_to == 60
        inbox.insert(connection, [message(60)], before=b"c", after=b"d")
        assert held(connection) == []
        assert inbox.conversations(connection, 10) == [], "not listed while nothing newer is known"


def test_a_draft_goes_with_the_removal_and_a_newer_one_stays_whatever_is_told_again(path: Path) -> None:
    with closing(schema.open_database(path)) as connection:
        directory.learn(connection, [], [], [(7, 60)])
        assert drafts.load(connection, WITH_BOB) == ""
        drafts.save(connection, BOB, "new thought")
        directory.learn(connection, [], [gone(60)], [(7, 60)])
        assert drafts.load(connection, WITH_BOB) == "new thought"


def test_a_result_that_comes_after_its_removal_is_in_no_list(path: Path) -> None:
    with closing(schema.open_database(path)) as connection:
        directory.learn(connection, [], [], [(7, 70)])
        outbox.settle(connection, [accepted(2, 65)])
        assert held(connection) == []
        assert own(connection) == ["send 3", "send 4"]
        outbox.claim(connection, 1)
        outbox.settle(connection, [accepted(4, 71)])
        assert held(connection) == [71], "what was sent since brings it back"


def test_others_are_not_touched_and_what_is_not_known_is_forgotten_too(path: Path) -> None:
    with closing(schema.open_database(path)) as connection:
        directory.learn(connection, [account(3, "eve")], [channel()])
        inbox.insert(
            connection, [message(55, conversation_id=9), message(56, conversation_id=8)], before=b"c", after=b"d"
        )
        directory.learn(connection, [], [], [(7, 60), (8, 56), (1 << 40, 99)])
        left = [(m.conversation_id, m.id) for _, m in inbox.after(connection, 0, 100, own=True)]
        assert left == [(9, 55)]


def lost_texts(connection: apsw.Connection) -> list[tuple[LostOrigin, str]]:
    return [(one.origin, one.body) for one in lost.listing(connection, 100)]


def restored_with(page: HistoryPage, *listed: Conversation) -> Evidence:
    people = (account(1, "anna"), account(2, "bob"))
    return Evidence(Life(NOW, last_send_number=4), listed, people, {7: page})


def test_what_was_removed_elsewhere_is_not_reported_as_lost_after_a_restore(path: Path) -> None:
    with closing(schema.open_database(path)) as connection:
        restored.begin_life(connection, restored_with(HistoryPage((), False, gone(60))))
        assert lost_texts(connection) == []
        assert held(connection) == []
        assert [m.body for m in outbox.listing(connection, 10)] == ["send 2", "send 3", "send 4"]


def test_beside_something_newer_only_what_the_cluster_lacks_above_the_bound_is_lost(path: Path) -> None:
    newer = replace(message(61, "of the backup"), sent_at_ms=99)
    with closing(schema.open_database(path)) as connection:
        page = HistoryPage((newer,), False, gone(52))
        restored.begin_life(connection, restored_with(page, replace(gone(52), last=newer)))
        assert lost_texts(connection) == [(LostOrigin.OTHERS, "new")]
        assert directory.conversations(connection)[0].removed_up_to == 52


def test_the_bound_belongs_to_a_life_so_an_id_that_comes_again_is_shown(path: Path) -> None:
    with closing(schema.open_database(path)) as connection:
        directory.learn(connection, [], [gone(60)])
        restored.begin_life(connection, restored_with(HistoryPage((), False, direct()), direct()))
        assert directory.conversations(connection)[0].removed_up_to == 0
        again = replace(message(58, "another message"), sent_at_ms=99)
        inbox.insert(connection, [again], before=b"", after=b"e")
        assert held(connection) == [58]


def test_removing_takes_what_others_lost_and_keeps_what_can_be_sent_again(path: Path) -> None:
    with closing(schema.open_database(path)) as connection:
        evidence = restored_with(HistoryPage((message(50),), False, direct()), replace(direct(), last=message(50)))
        restored.begin_life(connection, replace(evidence, life=Life(NOW, last_send_number=0)))
        assert {origin for origin, _ in lost_texts(connection)} == {LostOrigin.THIS_DEVICE, LostOrigin.OTHERS}
        directory.learn(connection, [], [], [(7, 50)])
        assert {origin for origin, _ in lost_texts(connection)} == {LostOrigin.THIS_DEVICE}


# ---- through the SDK


def bound(client: ParleyClient, conversation_id: int) -> int:
    known = client.conversation(conversation_id)
    return -1 if known is None else known.removed_up_to


async def bodies(client: ParleyClient, target: str | Target) -> list[str]:
    return [one.body for one in (await client.history(target)).messages]


async def cached(client: ParleyClient, target: str | Target) -> list[str]:
    return [one.body for one in (await client.cached_history(target)).messages]


async def test_all_devices_of_the_account_forget_it_and_nobody_else_does(tmp_path: Path) -> None:
    async with (
        running_cluster() as cluster,
        signed_in(cluster, tmp_path / "a") as anna,
        signed_in(cluster, tmp_path / "a2") as elsewhere,
        signed_in(cluster, tmp_path / "b", "bob") as bob,
    ):
        sent = await (await anna.send("bob", "hello")).accepted()
        await (await bob.send("anna", "answer")).accepted()
        number = sent.conversation_id
        await elsewhere.save_draft("bob", "still to say")
        await until(lambda: bound(elsewhere, number) == 0, "the other device knows the conversation")
        await anna.remove_conversation("bob")
        removed = bound(anna, number)
        assert removed > sent.message_id
        await until(lambda: bound(elsewhere, number) == removed, "the other device knows it")
        for client in (anna, elsewhere):
            assert await client.conversations() == ()
            assert await client.cached_conversations() == ()
            assert await bodies(client, "bob") == await cached(client, "bob") == []
        assert await elsewhere.draft("bob") == ""
        assert await bodies(bob, "anna") == ["hello", "answer"]
        assert [one.removed_up_to for one in await bob.conversations()] == [0]
        await anna.remove_conversation("bob")  # safe to repeat
        await anna.remove_conversation(Target(conversation_id=number), up_to=2**62)
        assert bound(anna, number) == removed, "as the cluster keeps it: what comes is not hidden"
        await (await bob.send("anna", "news")).accepted()
        for client in (anna, elsewhere):
            assert [one.last.body for one in await client.conversations() if one.last] == ["news"]
            assert await bodies(client, "bob") == ["news"]
        async with signed_in(cluster, tmp_path / "new") as new:
            assert await bodies(new, "bob") == ["news"]
            assert [one.unread for one in await new.conversations()] == [1]


async def test_what_came_between_the_click_and_the_command_stays(tmp_path: Path) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path) as anna:
        first = await (await anna.send("anna", "shown")).accepted()
        await (await anna.send("anna", "not shown yet")).accepted()
        await anna.remove_conversation("anna", up_to=first.message_id)
        assert await bodies(anna, "anna") == await cached(anna, "anna") == ["not shown yet"]


async def test_what_waits_is_sent_and_brings_the_conversation_back(tmp_path: Path) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path) as anna:
        await (await anna.send("anna", "before")).accepted()
        for node in cluster.nodes:
            node.faults.retry = 10**6
        waiting = await anna.send("anna", "waits")
        await anna.remove_conversation("anna")
        assert [one.body for one in await anna.outgoing(target="anna")] == ["waits"]
        for node in cluster.nodes:
            node.faults.retry = 0
        await waiting.accepted(30)
        assert await bodies(anna, "anna") == ["waits"]


async def test_what_never_was_and_what_others_have_is_refused(tmp_path: Path) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path) as anna:
        cluster.add_account("carl", PASSWORD)
        with pytest.raises(RefusedError, match="no conversation with carl yet"):
            await anna.remove_conversation("carl")
        with pytest.raises(RefusedError, match="no such conversation"):
            await anna.remove_conversation(Target(conversation_id=99), up_to=1)


async def test_a_device_that_was_away_forgets_it_when_it_comes_back(tmp_path: Path) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path / "a") as anna:
        sent = await (await anna.send("anna", "note")).accepted()
        async with signed_in(cluster, tmp_path / "b") as elsewhere:
            reader = await elsewhere.messages(include_own=True)
            assert (await anext(reader)).body == "note"
        await anna.remove_conversation("anna")
        async with make_client(cluster, tmp_path / "b", account="anna") as elsewhere:
            await until(lambda: bound(elsewhere, sent.conversation_id) == sent.message_id, "it was told")
            assert await cached(elsewhere, "anna") == []


async def test_a_device_without_a_stream_forgets_it_with_its_next_fetch(tmp_path: Path) -> None:
    async with (
        running_cluster() as cluster,
        signed_in(cluster, tmp_path / "a") as anna,
        make_client(cluster, tmp_path / "b", connect=False) as script,
    ):
        await script.login("anna", PASSWORD)  # what comes before it is not new to another device
        await (await anna.send("anna", "note")).accepted()
        await script.fetch()
        assert await cached(script, "anna") == ["note"]
        await anna.remove_conversation("anna")
        await script.fetch()
        assert await cached(script, "anna") == []


async def test_another_window_on_the_same_files_forgets_it_and_its_reader_shows_nothing_of_it(tmp_path: Path) -> None:
    async with (
        running_cluster() as cluster,
        signed_in(cluster, tmp_path / "a") as anna,
        signed_in(cluster, tmp_path / "b") as first,
        make_client(cluster, tmp_path / "b", "anna") as window,
    ):
        reader = await first.messages(include_own=True)
        for body in ("one", "two", "three"):
            sent = await (await anna.send("anna", body)).accepted()
        await until(lambda: bound(window, sent.conversation_id) == 0, "the other window knows the conversation")
        assert (await anext(reader)).body == "one"
        await first.remove_conversation("anna")
        await until(lambda: bound(window, sent.conversation_id) == sent.message_id, "the other window knows it")
        assert await cached(window, "anna") == []
        await (await anna.send("anna", "four")).accepted()
        assert (await anext(reader)).body == "four", "also what was read ahead is gone"


async def test_a_page_that_was_on_its_way_has_nothing_that_was_removed_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path) as anna:
        await (await anna.send("anna", "note")).accepted()
        await anna.history("anna")
        history, came, go = anna._cluster.history, asyncio.Event(), asyncio.Event()

        async def slow(*arguments: object) -> object:
            found = await history(*arguments)  # type: ignore[arg-type]
            came.set()
            await go.wait()
            return found

        monkeypatch.setattr(anna._cluster, "history", slow)
        asked = asyncio.ensure_future(anna.history("anna"))
        await came.wait()
        known = await anna.cached_conversations()
        await anna.remove_conversation(Target(conversation_id=known[0].id), up_to=2**62)
        go.set()
        page = await asked
        assert (page.messages, page.has_older) == ((), False)


async def test_without_a_connection_nothing_is_removed_and_it_says_so(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        async with signed_in(cluster, tmp_path) as anna:
            sent = await (await anna.send("anna", "note")).accepted()
        await cluster.nodes[0].die()
        async with make_client(cluster, tmp_path, account="anna", deadline_s=0.5) as anna:
            with pytest.raises(UnreachableError):
                await anna.remove_conversation(Target(conversation_id=sent.conversation_id), up_to=sent.message_id)
            assert await cached(anna, "anna") == ["note"]


async def test_the_command_removes_only_with_yes_and_the_list_has_it_no_more(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        parley = await bob_who_wrote(cluster, tmp_path)
        unasked = await parley("remove-conversation", "anna")
        assert (unasked.code, "Nothing was removed yet" in unasked.err) == (2, True)
        done = await parley("remove-conversation", "anna", "--yes")
        assert (done.code, done.out, done.err) == (0, "", f"{REMOVED_TEXT}\n")
        assert [line.split()[-1] for line in (await parley("conversations")).out.splitlines()] == ["hello"]
        assert "no messages" in (await parley("history", "anna")).err
        again = json.loads((await parley("remove-conversation", "anna", "--yes", "--json")).out)
        assert (again["command"], again["exit_code"], again["notes"]) == ("remove-conversation", 0, [REMOVED_TEXT])
        assert (await parley("remove-conversation", "bob", "--yes")).code != 0, "there is none"


async def test_a_removed_channel_is_named_by_its_title_written_to_and_left_as_before(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        parley = Parley(tmp_path / "bob", cluster)
        assert (await parley("login", "bob", PARLEY_PASSWORD=PASSWORD)).code == 0
        for title in ("Ward A", "Ward B"):
            assert (await parley("channel", "create", title)).code == 0
            assert (await parley("send", f"#{title}", "hello")).code == 0
            assert (await parley("remove-conversation", f"#{title}", "--yes")).code == 0
        assert (await parley("conversations")).out == ""
        assert (await parley("send", "#ward a", "back again")).code == 0
        assert "back again" in (await parley("conversations")).out
        assert (await parley("leave", "#Ward B")).code == 0
        assert (await parley("send", "#Ward B", "x")).code != 0


async def test_the_chat_asks_before_it_removes_what_it_has_shown(tmp_path: Path) -> None:
    async with view(tmp_path) as shown:
        await (await shown.client.send("bob", "hello")).accepted()
        await shown.view.take("/history")
        await shown.view.take("/remove-conversation")
        assert any("To do it: /remove-conversation yes" in line for line in shown.lines)
        assert await bodies(shown.client, "bob") == ["hello"]
        await shown.view.take("/remove-conversation yes")
        assert REMOVED_TEXT in shown.lines
        assert await bodies(shown.client, "bob") == []
        assert shown.view.chats.items() == []


async def test_after_a_restore_a_removal_that_the_backup_has_holds_and_a_later_one_does_not(tmp_path: Path) -> None:
    async with ward(tmp_path) as (cluster, anna):
        await anna.remove_conversation("bob")
        backup = cluster.back_up()
        await (await anna.send("carl", "kept in the backup?")).accepted()
        await restore(cluster, backup)
        await noticed(cluster, anna)
        assert await bodies(anna, "bob") == []
        assert [one.body for one in await anna.lost.messages()] == ["kept in the backup?"]
    async with ward(tmp_path / "other") as (cluster, anna):
        backup = cluster.back_up()
        await anna.remove_conversation("bob")
        await restore(cluster, backup)
        await noticed(cluster, anna)
        assert await bodies(anna, "bob") == ["before", "hello"], "it was done after the backup, like all that is lost"
        assert await anna.lost.messages() == ()
