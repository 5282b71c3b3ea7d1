"""Conversations through the SDK: targets, channels, members and their marks, and how changes reach those who watch."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from parley import (
    EVERYONE,
    FINAL,
    Account,
    BadInputError,
    Changes,
    ConversationKind,
    HistoryStart,
    MemberRole,
    MessageKind,
    MessageStatus,
    Outgoing,
    ParleyClient,
    RefusedError,
    Target,
    progress,
)
from parley.account import LocalAccount
from parley.device import outbox
from parley.device.store import Store
from parley_proto.v1 import state_pb2
from parleyd.group.proposals import AppliedCommands
from tests.support.node import FaultyRouter, InProcessCluster, running_cluster
from tests.unit.client.helpers import PASSWORD, make_client, signed_in, until


async def change(client: ParleyClient, wanted: Callable[[Changes], bool]) -> Changes:
    """Watch until a change is told."""
    async with asyncio.timeout(5), aclosing(client.watch()) as changes:
        async for told in changes:
            if wanted(told):
                return told
    raise AssertionError("the watch ended")


def add_accounts(cluster: InProcessCluster, *names: str) -> dict[str, int]:
    """Register accounts; their ids by name."""
    return {name: cluster.add_account(name, PASSWORD).id for name in names}


async def test_one_conversation_is_reached_by_name_by_account_id_and_by_its_own_id(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        ids = add_accounts(cluster, "bob")
        async with signed_in(cluster, tmp_path) as anna:
            first = await (await anna.send("bob", "one")).accepted(5)
            await (await anna.send(Target(account_id=ids["bob"]), "two")).accepted(5)
            by_id = Target(conversation_id=first.conversation_id)
            await (await anna.send(by_id, "three")).accepted(5)
            for target in ("BOB", Target(account_id=ids["bob"]), by_id):
                page = await anna.history(target)
                assert [m.body for m in page.messages] == ["one", "two", "three"]
                assert [m.body for m in await anna.outgoing(target=target)] == ["one", "two", "three"]
                cached = await anna.cached_history(target)
                assert (cached.cached, [m.body for m in cached.messages]) == (True, ["one", "two", "three"])


async def test_a_history_of_long_messages_has_as_many_as_were_asked_for(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        bob = cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            for _ in range(40):
                cluster.store(bob, cluster.accounts["anna"], "😀" * 16_384)
            page = await anna.history("bob", limit=30)
            assert ([m.id for m in page.messages], page.has_older) == (list(range(11, 41)), True)
            page = await anna.history("bob", HistoryStart(11), limit=30)
            assert ([m.id for m in page.messages], page.has_older) == (list(range(1, 11)), False)


async def test_a_history_is_read_on_from_a_message_however_long_the_messages_are(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        bob = cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            for _ in range(40):
                cluster.store(bob, cluster.accounts["anna"], "😀" * 16_384)
            page = await anna.history("bob", HistoryStart(after_id=4), limit=30)
            assert [m.id for m in page.messages] == list(range(5, 35))
            assert (page.has_older, page.has_newer) == (True, True)
            page = await anna.history("bob", HistoryStart(after_id=34), limit=30)
            assert [m.id for m in page.messages] == list(range(35, 41))
            assert (page.has_older, page.has_newer) == (True, False)
            with pytest.raises(BadInputError, match="Two places"):
                await anna.history("bob", HistoryStart(before_id=4, first_unread=True))


async def test_a_device_without_a_node_reads_on_and_around_what_it_knows(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        bob = cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            ids = [cluster.store(bob, cluster.accounts["anna"], str(number)).id for number in range(6)]
            messages = await anna.messages()
            for _ in ids:
                seen = await anext(messages)
            await anna.mark_read(seen.conversation_id, ids[3])
            for start, found, older, newer in (
                (HistoryStart(), [2, 3, 4, 5], True, False),
                (HistoryStart(before_id=ids[2]), [0, 1], False, True),
                (HistoryStart(after_id=ids[1]), [2, 3, 4, 5], True, False),
                (HistoryStart(after_id=0), [0, 1, 2, 3], False, True),
                (HistoryStart(around_id=ids[2]), [0, 1, 2, 3], False, True),
                (HistoryStart(first_unread=True), [2, 3, 4, 5], True, False),
            ):
                cached = await anna.cached_history("bob", start, limit=4)
                assert [ids.index(m.id) for m in cached.messages] == found, start
                assert (cached.has_older, cached.has_newer, cached.read_up_to) == (older, newer, ids[3]), start


@pytest.mark.parametrize("retry", [False, True])
async def test_the_target_of_a_message_is_the_one_that_was_given_also_when_it_goes_up_again(
    tmp_path: Path, retry: bool
) -> None:
    async with running_cluster() as cluster:
        add_accounts(cluster, "bob")
        node = cluster.nodes[0]
        node.faults.retry = 3 if retry else 0
        async with signed_in(cluster, tmp_path) as anna:
            await (await anna.send("Bob", "hello")).accepted(5)
        sends = [s for f in node.frames for s in f.sends.sends]
        assert {(s.number, s.WhichOneof("target"), s.account_name) for s in sends} == {(1, "account_name", "Bob")}
        assert cluster.resent_differently == []


async def test_who_am_i_is_known_with_and_without_a_node(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        async with signed_in(cluster, tmp_path) as anna:
            me = anna.me
            assert me == Account(cluster.accounts["anna"].id, "anna")
        await cluster.nodes[0].die()
        async with make_client(cluster, tmp_path, "anna", connect=False) as anna:
            assert anna.me == me


async def test_the_sender_of_a_message_is_known_before_the_message_is_shown(tmp_path: Path) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path) as anna:
        reader = await anna.messages()
        await change(anna, lambda told: told.state.caught_up)
        bob = cluster.add_account("bob", PASSWORD)
        message = cluster.store(bob, cluster.accounts["anna"], "first words")
        told = await change(anna, lambda told: bool(told.conversations))
        assert Account(bob.id, "bob") in told.accounts
        assert [c.id for c in told.conversations] == [message.conversation_id]
        shown = await anext(reader)
        assert anna.account(shown.sender_id) == Account(bob.id, "bob")
        conversation = anna.conversation(shown.conversation_id)
        assert conversation is not None
        assert conversation.kind is ConversationKind.DIRECT
        cluster.delete_account(bob)
        told = await change(anna, lambda told: any(account.deleted for account in told.accounts))
        assert [a.id for a in told.accounts] == [bob.id]


async def test_a_channel_is_made_once_and_all_members_hear_of_it(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        ids = add_accounts(cluster, "bob", "cleo")
        cluster.nodes[0].faults.lose_answers = 0
        async with signed_in(cluster, tmp_path / "a") as anna, signed_in(cluster, tmp_path / "b", "bob") as bob:
            cluster.nodes[0].faults.lose_answers = 1
            channel = await anna.create_channel("ops", ["bob", "cleo"])
            created = await anext(await bob.messages())
            assert (created.conversation_id, created.kind, created.body) == (
                channel,
                MessageKind.CHANNEL_CREATED,
                "ops",
            )
            (line,) = await bob.conversations()
            assert (line.id, line.kind, line.title, line.member_count) == (channel, ConversationKind.CHANNEL, "ops", 3)
            me = anna.me
            assert me is not None
            assert [(m.account_id, m.role) for m in await bob.members(channel)] == sorted(
                [
                    (me.id, MemberRole.OWNER),
                    (ids["bob"], MemberRole.MEMBER),
                    (ids["cleo"], MemberRole.MEMBER),
                ]
            )
            with pytest.raises(RefusedError, match="no account ghost"):
                await anna.create_channel("empty", ["ghost"])


async def test_a_channel_message_is_delivered_and_read_only_when_all_others_have_come_that_far(
    tmp_path: Path,
) -> None:
    async with running_cluster() as cluster:
        add_accounts(cluster, "bob", "cleo")
        async with signed_in(cluster, tmp_path / "a") as anna:
            channel = await anna.create_channel("ops", ["bob", "cleo"])
            view = await (await anna.send(Target(conversation_id=channel), "hello all")).accepted(5)
            me = anna.me
            assert me is not None

            def counted() -> tuple[int, int, int]:
                conversation = anna.conversation(channel)
                assert conversation is not None
                found = progress(view.message_id, conversation, me.id)
                return found.delivered, found.read, found.others

            async def status() -> MessageStatus:
                (own,) = await anna.outgoing(target=Target(conversation_id=channel))
                return own.status

            async with signed_in(cluster, tmp_path / "b", "bob") as bob:
                await until(lambda: counted() == (1, 0, 2), "bob has it")
                assert await status() is MessageStatus.ACCEPTED
                await bob.mark_read(channel, view.message_id)
                await until(lambda: counted() == (1, 1, 2), "bob has read it")
                assert await status() is MessageStatus.ACCEPTED
            async with signed_in(cluster, tmp_path / "c", "cleo") as cleo:
                await until(lambda: counted() == (2, 1, 2), "cleo has it")
                assert await status() is MessageStatus.DELIVERED
                await cleo.mark_read(channel, view.message_id)
                await until(lambda: counted() == (2, 2, 2), "cleo has read it")
                assert await status() is MessageStatus.READ


async def test_another_process_of_the_account_hears_of_conversations_and_marks(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        add_accounts(cluster, "bob")
        async with signed_in(cluster, tmp_path / "a"), make_client(cluster, tmp_path / "a", "anna") as second:
            view = await (await second.send("bob", "hello")).accepted(5)
            await until(lambda: second.conversation(view.conversation_id) is not None, "it knows the conversation")
            async with signed_in(cluster, tmp_path / "b", "bob"):
                told = await change(second, lambda told: bool(told.receipts))
                assert told.receipts[0].delivered_up_to >= view.message_id
            (own,) = await second.outgoing()
            assert own.status is MessageStatus.DELIVERED


async def test_what_is_written_while_another_process_reads_is_read_the_next_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed_since = outbox.changed_since
    written: list[Path] = []

    def meanwhile(connection: apsw.Connection, revision: int, limit: int) -> tuple[list[Outgoing], int]:
        """A conversation and a change of a message come just before the messages are read."""
        for file in set(tmp_path.glob("**/client.sqlite")) - set(written):
            written.append(file)
            # apsw's library, as the client uses: two libraries in one process would spoil the file.
            with closing(apsw.Connection(str(file))) as other:
                other.set_busy_timeout(5000)
                other.execute("BEGIN IMMEDIATE")
                [(newest,)] = other.execute("SELECT max(revision) FROM outbox")
                other.execute(
                    "INSERT INTO conversations (id, kind, title, member_count, peer_id, revision) VALUES "
                    "(77, 2, 'Ward 7', 1, 0, ?)",
                    (newest + 1000,),
                )
                other.execute("UPDATE outbox SET revision = ?", (newest + 1001,))
                other.execute("COMMIT")
        return changed_since(connection, revision, limit)

    async with running_cluster() as cluster:
        add_accounts(cluster, "bob")
        async with signed_in(cluster, tmp_path / "a") as anna, make_client(cluster, tmp_path / "a", "anna") as second:
            await (await anna.send("bob", "hello")).accepted(5)
            monkeypatch.setattr(outbox, "changed_since", meanwhile)
            await anna.send("bob", "again")  # which the other process hears of
            await until(lambda: second.conversation(77) is not None, "it knows the conversation")
    assert written


async def test_a_result_that_comes_while_the_file_is_read_is_not_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit, changed_since, read, settled = FaultyRouter.submit, outbox.changed_since, Store.read, LocalAccount.settled
    loop, was_read, has_result = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
    told: list[Outgoing] = []
    without_result: list[tuple[list[Outgoing], int]] = []

    async def answer_late(
        router: FaultyRouter, commands: Sequence[state_pb2.Command], *, timeout_s: float
    ) -> AppliedCommands:
        if any(command.HasField("send_messages") for command in commands):
            await was_read.wait()
        return await submit(router, commands, timeout_s=timeout_s)

    def changed(connection: apsw.Connection, revision: int, limit: int) -> tuple[list[Outgoing], int]:
        found = changed_since(connection, revision, limit)
        if any(view.status not in FINAL for view in found[0]):
            without_result.append(found)
            loop.call_soon_threadsafe(was_read.set)
        return found

    async def read_slowly(store: Store, operation: Callable[[apsw.Connection], Any]) -> Any:
        """What was read from the file comes after the result."""
        found = await read(store, operation)
        if any(found is one for one in without_result):
            await has_result.wait()
        return found

    def tell(account: LocalAccount, messages: Sequence[Outgoing]) -> None:
        settled(account, messages)
        has_result.set()

    async def collect(client: ParleyClient) -> None:
        async for change in client.watch():
            told.extend(change.outgoing)

    async with running_cluster() as cluster:
        add_accounts(cluster, "bob")
        async with signed_in(cluster, tmp_path) as anna:
            collecting = asyncio.ensure_future(collect(anna))
            monkeypatch.setattr(FaultyRouter, "submit", answer_late)
            monkeypatch.setattr(outbox, "changed_since", changed)
            monkeypatch.setattr(Store, "read", read_slowly)
            monkeypatch.setattr(LocalAccount, "settled", tell)
            message = await anna.send("bob", "hello")
            [file] = set(tmp_path.glob("**/client.sqlite"))  # noqa: ASYNC240 - a folder of this test
            with closing(apsw.Connection(str(file))) as other:  # as another process would
                other.set_busy_timeout(5000)
                other.execute("UPDATE outbox SET body = body")
            await message.accepted(30)
            last = (await (await anna.send("bob", "again")).accepted(30)).local_id
            await until(lambda: any(one.local_id == last and one.status in FINAL for one in told), "both are told")
            collecting.cancel()
    assert [one.status for one in told if one.local_id == message.local_id][-1] is MessageStatus.ACCEPTED


async def test_a_draft_to_a_name_is_found_again_in_the_conversation(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        add_accounts(cluster, "bob")
        async with signed_in(cluster, tmp_path) as anna:
            await anna.save_draft("bob", "half typed")
            view = await (await anna.send("bob", "sent")).accepted(5)
            await until(lambda: anna.conversation(view.conversation_id) is not None, "the conversation is known")
            assert await anna.draft(Target(conversation_id=view.conversation_id)) == "half typed"
            with pytest.raises(BadInputError):
                await anna.draft("")


async def test_settings_are_listed_and_changed_by_an_administrator(tmp_path: Path) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path) as anna:
        administration = await anna.administration()
        before = {setting.name: setting for setting in await administration.settings()}
        assert before["max_message_bytes"].minimum <= before["max_message_bytes"].value
        await administration.change_setting("max_message_bytes", 2048)
        after = {setting.name: setting.value for setting in await administration.settings()}
        assert after["max_message_bytes"] == 2048
        with pytest.raises(RefusedError):
            await administration.change_setting("no_such_setting", 1)


async def test_a_message_to_everyone_reaches_every_account_and_is_a_conversation_of_all(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        add_accounts(cluster, "bob", "cleo")
        async with signed_in(cluster, tmp_path / "a") as anna, signed_in(cluster, tmp_path / "b", "bob") as bob:
            assert (await anna.history(EVERYONE)).messages == (), "nobody has written yet"
            view = await (await anna.send(EVERYONE, "fire drill at ten")).accepted(5)
            assert view.conversation_id == EVERYONE.conversation_id
            received = await anext(await bob.messages())
            assert (received.conversation_id, received.body) == (EVERYONE.conversation_id, "fire drill at ten")
            known = bob.conversation(received.conversation_id)
            assert known is not None
            assert (known.kind, known.title, known.member_count) == (ConversationKind.EVERYONE, "everyone", 3)
            await bob.mark_read(received.conversation_id, received.id)
            async with signed_in(cluster, tmp_path / "c", "cleo") as cleo:
                assert (await anext(await cleo.messages())).body == "fire drill at ten"
            assert bob.me is not None
            read_by: set[int] = set()
            async with asyncio.timeout(5):
                while not read_by:  # the mark is under way
                    members = await anna.members(view.conversation_id)
                    read_by = {one.account_id for one in members if one.read_up_to == received.id}
            assert (read_by, len(members)) == ({bob.me.id}, 3)
            (own,) = await anna.outgoing(target=EVERYONE)
            assert own.status is MessageStatus.ACCEPTED, "nothing is claimed of accounts that nobody asked about"


async def test_a_text_is_stored_in_one_form_and_one_that_shows_nothing_is_refused(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        add_accounts(cluster, "bob")
        async with signed_in(cluster, tmp_path / "a") as anna:
            await (await anna.send("bob", "  cafe\u0301\x07\r\n ")).accepted(5)
            assert cluster.bodies_for("bob") == ["caf\u00e9"]
            blank = await anna.send("bob", " \t ")
            with pytest.raises(RefusedError, match="shows nothing"):
                await blank.accepted(5)
            await (await anna.send("bob", "next")).accepted(5)
            assert cluster.bodies_for("bob") == ["caf\u00e9", "next"]
