"""The cluster was restored from an older backup: the device keeps what the cluster lost, and mixes nothing.

What can go wrong: ids come again with other messages, and one hides the other; a message that waits reaches somebody
else, whose conversation has the id now; what waited is sent twice or never; what is lost is forgotten, or is offered
although the cluster has it; a process dies between any two steps; the cluster is restored twice; the device or the
account is not in the backup; the device fetches and holds no stream; a second process of the device goes on as before.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path

import pytest

from parley import (
    BadInputError,
    ClientGroup,
    ConnectionState,
    LostMessage,
    LostOrigin,
    MessageStatus,
    ParleyClient,
    Target,
)
from parley.errors import UnreachableError
from parley_proto.v1 import state_pb2
from parleyd.group.errors import UnavailableError
from tests.support.node import CLUSTER_ID, InProcessCluster, running_cluster
from tests.unit.client.helpers import PASSWORD, QUICK, make_client, signed_in, until


@asynccontextmanager
async def ward(tmp_path: Path) -> AsyncIterator[tuple[InProcessCluster, ParleyClient]]:
    """A cluster with bob and carl, and anna's client, which has sent "before" to bob and received "hello"."""
    async with running_cluster() as cluster:
        cluster.add_account("anna", PASSWORD)
        cluster.add_account("bob", PASSWORD)
        cluster.add_account("carl", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            await accepted(anna, "bob", "before")
            await received(cluster, anna, "bob", "hello")
            yield cluster, anna


async def accepted(client: ParleyClient, target: str | Target, *bodies: str) -> None:
    for body in bodies:
        await (await client.send(target, body)).accepted(30)


async def received(cluster: InProcessCluster, client: ParleyClient, sender: str, body: str) -> None:
    """Somebody writes to anna, and her device stores it."""
    stored = cluster.store(cluster.accounts[sender], cluster.accounts["anna"], body)
    reader = await client.messages()
    async for message in reader:
        if (message.conversation_id, message.id) == (stored.conversation_id, stored.id):
            return


async def restore(cluster: InProcessCluster, backup: Path, *, as_new: bool = False) -> None:
    """The nodes are made anew from a backup. The cluster has a new id, and the old nodes are gone with their faults.

    With `as_new`, it is another cluster, in its first life.
    """
    for node in cluster.nodes:
        await node.die()
        node.faults.lose_results, node.faults.retry = False, 0
    cluster.restore(backup)
    cluster.cluster_id = f"{CLUSTER_ID}{cluster.machine.generation}"
    if as_new:
        cluster.rewrite(("UPDATE meta SET generation = 0", ()))
        cluster.machine._publish_position()
    for node in cluster.nodes:
        await node.start()


async def noticed(cluster: InProcessCluster, client: ParleyClient) -> str:
    """Wait until the client has compared and is connected again. Return what it says."""
    generation = cluster.machine.generation
    account = client._account
    assert account is not None
    await until(lambda: account.position.generation == generation, "it has compared", 30)
    await until(lambda: bool(client.state.notice), "it says what happened", 30)
    await client.wait_until(ConnectionState.CONNECTED, timeout=30)
    return client.state.notice


async def lost_of(client: ParleyClient) -> list[str]:
    return [one.body for one in await client.lost.messages()]


async def bodies(client: ParleyClient, target: str | Target) -> list[str]:
    return [one.body for one in (await client.history(target)).messages]


async def test_what_the_cluster_lost_is_kept_and_told_with_its_time(tmp_path: Path) -> None:
    async with ward(tmp_path) as (cluster, anna):
        backup = cluster.back_up()
        await accepted(anna, "bob", "lost 1", "lost 2")
        await received(cluster, anna, "bob", "lost answer")
        await restore(cluster, backup)
        said = await noticed(cluster, anna)
        assert "2 that this device sent and 1 that it received" in said
        assert "restored to an earlier state" in said
        lost = await anna.lost.messages()
        assert [(one.body, one.origin, one.conversation) for one in lost] == [
            ("lost 1", LostOrigin.THIS_DEVICE, "bob"),
            ("lost 2", LostOrigin.THIS_DEVICE, "bob"),
            ("lost answer", LostOrigin.OTHERS, "bob"),
        ]
        assert [one.sender for one in lost] == ["", "", "bob"]
        await until(lambda: anna.state.lost_sent == 2, "the state counts them")
        assert cluster.bodies_for("bob") == ["before"], "nothing is sent by itself"


async def test_without_a_loss_it_says_so(tmp_path: Path) -> None:
    async with ward(tmp_path) as (cluster, anna):
        await restore(cluster, cluster.back_up())
        assert "has all messages that this device holds" in await noticed(cluster, anna)
        assert await lost_of(anna) == []
        assert await bodies(anna, "bob") == ["before", "hello"]
        page = await anna.cached_history("bob")
        assert [one.body for one in page.messages] == ["before", "hello"], "what was received stays here"


async def test_a_new_message_under_an_old_id_does_not_hide_or_replace_the_lost_one(tmp_path: Path) -> None:
    async with ward(tmp_path) as (cluster, anna):
        backup = cluster.back_up()
        await received(cluster, anna, "bob", "old")
        [former] = [m for m in cluster.messages if m.body == "old"]
        await restore(cluster, backup)
        new = cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], "new")
        assert (new.conversation_id, new.id) == (former.conversation_id, former.id)
        await noticed(cluster, anna)
        assert await lost_of(anna) == ["old"]
        await until_cached(anna, "new")
        page = await anna.history("bob")
        assert [one.body for one in page.messages] == ["before", "hello", "new"]
        assert [(one.body, one.after_id) for one in page.lost] == [("old", page.messages[1].id)]
        assert [one.body for one in (await anna.cached_history("bob")).lost] == ["old"]


async def test_a_mark_on_its_way_when_a_node_died_does_not_reach_the_state_of_the_next_life(tmp_path: Path) -> None:
    """Under the old id it would acknowledge a message that nobody has received. A real node has no such process."""
    async with ward(tmp_path) as (cluster, _):
        node, backup = cluster.nodes[0], cluster.back_up()
        node.faults.delay_s = 0.01
        command = state_pb2.Command(close_session=state_pb2.CloseSession(token_digest=b"x" * 32))
        submitting = asyncio.ensure_future(node._router.submit([command], timeout_s=5))
        await asyncio.sleep(0)  # it begins
        await restore(cluster, backup)
        index = cluster.index
        with pytest.raises(UnavailableError, match="has stopped"):
            await submitting
        assert cluster.index == index


async def until_cached(client: ParleyClient, body: str) -> None:
    found: list[str] = []
    with suppress(TimeoutError):
        async with asyncio.timeout(60), aclosing(client.watch()) as changes:
            async for _ in changes:
                found = [one.body for one in (await client.cached_history("bob")).messages]
                if body in found:
                    return
    raise AssertionError(f"{body!r} is not stored here: {found}")


async def test_what_was_shown_before_is_not_shown_again(tmp_path: Path) -> None:
    async with ward(tmp_path) as (cluster, anna):
        backup = cluster.back_up()
        await restore(cluster, backup)
        await noticed(cluster, anna)
        reader = await anna.messages()
        cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], "new")
        async for message in reader:
            assert message.body == "new"
            break


async def test_a_message_is_sent_again_only_when_a_person_wants_it_and_once(tmp_path: Path) -> None:
    async with ward(tmp_path) as (cluster, anna):
        backup = cluster.back_up()
        await accepted(anna, "bob", "one", "two", "three")
        await restore(cluster, backup)
        await noticed(cluster, anna)
        one, two, three = await anna.lost.messages()
        [again] = await anna.lost.resend([two.id])
        await again.accepted(30)
        with pytest.raises(BadInputError, match="sent again or discarded before"):
            await anna.lost.resend([one.id, two.id])
        assert await anna.lost.discard([three.id]) == 1
        assert await lost_of(anna) == ["one"]
        assert cluster.bodies_for("bob") == ["before", "two"]
    async with running_client(cluster, tmp_path) as anna:
        assert await lost_of(anna) == ["one"], "the list survives a restart"


@asynccontextmanager
async def running_client(cluster: InProcessCluster, tmp_path: Path) -> AsyncIterator[ParleyClient]:
    async with make_client(cluster, tmp_path, "anna", connect=False, deadline_s=1) as client:
        yield client


async def test_received_messages_cannot_be_sent_again(tmp_path: Path) -> None:
    async with ward(tmp_path) as (cluster, anna):
        backup = cluster.back_up()
        await received(cluster, anna, "bob", "from bob")
        await restore(cluster, backup)
        await noticed(cluster, anna)
        [one] = await anna.lost.messages()
        with pytest.raises(BadInputError, match="did not send"):
            await anna.lost.resend([one.id])


async def test_what_has_no_result_is_sent_once_whether_the_backup_has_it_or_not(tmp_path: Path) -> None:
    """The numbers of the device go back: what the backup has keeps its number, the rest gets the next ones."""
    async with ward(tmp_path) as (cluster, anna):
        node = cluster.nodes[0]
        node.faults.lose_results = True
        await anna.send("bob", "in the backup, no result")
        await until(lambda: "in the backup, no result" in cluster.bodies_for("bob"), "it is applied")
        backup = cluster.back_up()
        await anna.send("bob", "after the backup, no result")
        await until(lambda: "after the backup, no result" in cluster.bodies_for("bob"), "it is applied")
        await restore(cluster, backup)
        await noticed(cluster, anna)
        await accepted(anna, "bob", "last")
        assert cluster.bodies_for("bob") == [
            "before",
            "in the backup, no result",
            "after the backup, no result",
            "last",
        ]
        assert cluster.resent_differently == []
        assert await lost_of(anna) == []


async def test_a_gap_of_lost_numbers_holds_nothing_up(tmp_path: Path) -> None:
    """Accepted sends are lost, and one behind them has no result: its old number would be a gap for ever."""
    async with ward(tmp_path) as (cluster, anna):
        backup = cluster.back_up()
        await accepted(anna, "bob", "lost 1", "lost 2")
        cluster.nodes[0].faults.retry = 1_000_000
        waiting = await anna.send("bob", "not taken")
        await until(lambda: waiting.view.status is MessageStatus.SENDING, "it has a number")
        await restore(cluster, backup)
        await noticed(cluster, anna)
        await waiting.accepted(30)
        assert cluster.bodies_for("bob") == ["before", "not taken"]
        assert await lost_of(anna) == ["lost 1", "lost 2"]


async def test_while_the_device_was_away_is_the_same(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            await accepted(anna, "bob", "before")
            backup = cluster.back_up()
            await accepted(anna, "bob", "lost")
        await restore(cluster, backup)
        async with make_client(cluster, tmp_path, "anna", connect=False) as anna:
            await anna.send("bob", "waiting")
            assert await bodies(anna, "bob") == ["before"], "an answer does not hide the restore from the comparison"
        async with make_client(cluster, tmp_path, "anna") as anna:
            await noticed(cluster, anna)
            await until(lambda: cluster.bodies_for("bob") == ["before", "waiting"], "what waited is sent")
            assert await lost_of(anna) == ["lost"]


async def test_a_device_that_fetches_compares_as_well(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            await accepted(anna, "bob", "before")
            backup = cluster.back_up()
            await accepted(anna, "bob", "lost")
        await restore(cluster, backup)
        async with make_client(cluster, tmp_path, "anna", connect=False) as anna:
            await anna.send("bob", "waiting")
            assert await anna.push() == 0
            assert "restored" in anna.state.notice
            assert await lost_of(anna) == ["lost"]
            [one] = await anna.lost.messages()
            await anna.lost.resend([one.id])
            assert await anna.push() == 0
        assert cluster.bodies_for("bob") == ["before", "waiting", "lost"]


async def test_a_device_that_is_not_in_the_backup_signs_in_again_and_keeps_all(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        cluster.add_account("anna", PASSWORD)
        backup = cluster.back_up()
        async with signed_in(cluster, tmp_path) as anna:
            await accepted(anna, "bob", "lost")
            cluster.nodes[0].faults.retry = 1_000_000
            numbered = await anna.send("bob", "has a number")
            await until(lambda: numbered.view.status is MessageStatus.SENDING, "it has a number")
        await restore(cluster, backup)
        async with make_client(cluster, tmp_path, "anna") as anna:
            await anna.send("bob", "waits")
            await anna.wait_until(ConnectionState.SIGNED_OUT, timeout=30)
            await anna.login("anna", PASSWORD)
            await noticed(cluster, anna)
            await until(lambda: cluster.bodies_for("bob") == ["has a number", "waits"], "they are sent, in order")
            assert await lost_of(anna) == ["lost"]


async def test_of_an_unknown_device_without_evidence_a_person_decides(tmp_path: Path) -> None:
    """The device may be one that the cluster forgot, and its only send may be in the backup."""
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        cluster.add_account("anna", PASSWORD)
        backup = cluster.back_up()
        async with signed_in(cluster, tmp_path) as anna:
            cluster.nodes[0].faults.retry = 1_000_000
            numbered = await anna.send("bob", "who knows")
            await until(lambda: numbered.view.status is MessageStatus.SENDING, "it has a number")
        await restore(cluster, backup)
        async with make_client(cluster, tmp_path, "anna") as anna:
            await anna.login("anna", PASSWORD)
            await noticed(cluster, anna)
            await accepted(anna, "bob", "later")
            [first, _] = await anna.outgoing()
            assert (first.body, first.status) == ("who knows", MessageStatus.UNKNOWN)
            assert cluster.bodies_for("bob") == ["later"]


async def test_an_account_that_is_not_in_the_backup_is_made_again_and_keeps_all(tmp_path: Path) -> None:
    """Another account has its id by then."""
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        backup = cluster.back_up()
        async with signed_in(cluster, tmp_path) as anna:
            await accepted(anna, "bob", "lost")
            await received(cluster, anna, "bob", "answer")
        await restore(cluster, backup)
        cluster.add_account("eve", PASSWORD)
        cluster.add_account("anna", PASSWORD)
        async with make_client(cluster, tmp_path, "anna") as anna:
            await anna.wait_until(ConnectionState.SIGNED_OUT, timeout=30)
            await anna.send("bob", "waits")
            await anna.login("anna", PASSWORD)
            await noticed(cluster, anna)
            await until(lambda: cluster.bodies_for("bob") == ["waits"], "what waited is sent")
            assert [(one.body, one.conversation) for one in await anna.lost.messages()] == [
                ("lost", "bob"),
                ("answer", "bob"),
            ]


async def test_nothing_reaches_the_channel_that_has_the_id_of_a_lost_one(tmp_path: Path) -> None:
    async with ward(tmp_path) as (cluster, anna):
        backup = cluster.back_up()
        people = cluster.accounts
        secret = cluster.create_channel(people["anna"], "secret", [people["bob"]])
        await accepted(anna, Target(conversation_id=secret), "said in secret")
        await anna.save_draft(Target(conversation_id=secret), "a draft")
        cluster.nodes[0].faults.retry = 1_000_000
        await anna.send(Target(conversation_id=secret), "waits for secret")
        await restore(cluster, backup)
        public = cluster.create_channel(people["carl"], "all of us", [people["anna"], people["bob"]])
        assert public == secret
        await noticed(cluster, anna)
        await accepted(anna, "bob", "on it goes")
        assert [m.body for m in cluster.messages if m.conversation_id == public and m.body != "all of us"] == []
        lost = await anna.lost.messages()
        assert [(one.body, one.conversation, one.target) for one in lost] == [
            ("said in secret", "secret", None),
            ("waits for secret", "secret", None),
        ]
        with pytest.raises(BadInputError, match="does not have secret any more"):
            await anna.lost.resend([lost[0].id])
        assert (await anna.history(Target(conversation_id=public))).lost == ()
        assert await anna.draft(Target(conversation_id=public)) == ""


async def test_what_single_calls_tell_of_new_ids_does_not_redirect_what_waits(tmp_path: Path) -> None:
    async with ward(tmp_path) as (cluster, anna):
        backup = cluster.back_up()
        people = cluster.accounts
        secret = cluster.create_channel(people["anna"], "secret", [people["bob"]])
        await accepted(anna, Target(conversation_id=secret), "said in secret")
        await anna.logout()
        await anna.send(Target(conversation_id=secret), "waits for secret")
        await restore(cluster, backup)
        assert cluster.create_channel(people["carl"], "all of us", [people["anna"], people["bob"]]) == secret
        async with make_client(cluster, tmp_path, connect=False) as single:
            await single.login("anna", PASSWORD)
            assert secret in [one.id for one in await single.conversations()]
            assert (await single.history(Target(conversation_id=secret))).messages
        await anna.login("anna", PASSWORD)
        await noticed(cluster, anna)
        assert "waits for secret" in await lost_of(anna)
        await accepted(anna, "bob", "on it goes")
        assert "waits for secret" not in cluster.bodies_for("bob")


async def test_a_direct_conversation_that_is_lost_goes_on_by_name(tmp_path: Path) -> None:
    async with ward(tmp_path) as (cluster, anna):
        backup = cluster.back_up()
        people = cluster.accounts
        await received(cluster, anna, "carl", "hi")
        former = cluster.conversation_id(people["anna"], people["carl"])
        await accepted(anna, Target(conversation_id=former), "to carl")
        await restore(cluster, backup)
        cluster.store(people["bob"], people["carl"], "the id is taken")
        assert cluster.conversation_id(people["bob"], people["carl"]) == former
        await noticed(cluster, anna)
        lost = await anna.lost.messages(target="carl")
        assert [one.body for one in lost] == ["hi", "to carl"]
        [again] = await anna.lost.resend([lost[1].id])
        await again.accepted(30)
        assert "to carl" in cluster.bodies_for("carl")
        assert "to carl" not in cluster.bodies_for("bob")


async def test_a_second_restore_adds_to_the_list(tmp_path: Path) -> None:
    async with ward(tmp_path) as (cluster, anna):
        backup = cluster.back_up()
        await accepted(anna, "bob", "first loss")
        await restore(cluster, backup)
        await noticed(cluster, anna)
        await accepted(anna, "bob", "second loss")
        await restore(cluster, backup)
        await noticed(cluster, anna)
        assert await lost_of(anna) == ["first loss", "second loss"]
        await accepted(anna, "bob", "on it goes")
        page = await anna.history("bob")
        assert [one.body for one in page.messages] == ["before", "hello", "on it goes"]
        assert {one.after_id for one in page.lost} == {page.messages[1].id}


async def test_what_was_lost_first_stands_where_a_still_older_backup_ends(tmp_path: Path) -> None:
    async with ward(tmp_path) as (cluster, anna):
        older = cluster.back_up()
        await accepted(anna, "bob", "in the newer backup")
        newer = cluster.back_up()
        await accepted(anna, "bob", "lost first")
        await restore(cluster, newer)
        await noticed(cluster, anna)
        await restore(cluster, older)
        await noticed(cluster, anna)
        page = await anna.history("bob")
        assert [one.body for one in page.messages] == ["before", "hello"]
        assert sorted(one.body for one in page.lost) == ["in the newer backup", "lost first"]
        assert {one.after_id for one in page.lost} == {page.messages[-1].id}


async def test_a_later_backup_of_the_first_life_has_none_of_the_second_ones_messages(tmp_path: Path) -> None:
    """The numbers of the device are in that backup, but with other messages."""
    async with ward(tmp_path) as (cluster, anna):
        older = cluster.back_up()
        await accepted(anna, "bob", "first 1", "first 2")
        newer = cluster.back_up()
        await restore(cluster, older)
        await noticed(cluster, anna)
        await accepted(anna, "bob", "second 1", "second 2")
        await restore(cluster, newer)
        await noticed(cluster, anna)
        await accepted(anna, "bob", "on it goes")
        assert cluster.bodies_for("bob") == ["before", "first 1", "first 2", "on it goes"]
        assert {"second 1", "second 2"} <= set(await lost_of(anna))


async def test_if_the_cluster_cannot_be_asked_nothing_changes_and_the_next_stream_asks_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ward(tmp_path) as (cluster, anna):
        backup = cluster.back_up()
        await accepted(anna, "bob", "lost")
        account = anna._account
        assert account is not None
        asked = 0
        ask = account._cluster.conversations

        async def fail_twice(*args: object, **named: object) -> object:
            nonlocal asked
            asked += 1
            if asked < 3:
                assert await lost_of(anna) == []
                raise UnreachableError("no node answers")
            return await ask(*args, **named)  # type: ignore[arg-type]

        monkeypatch.setattr(account._cluster, "conversations", fail_twice)
        await restore(cluster, backup)
        await noticed(cluster, anna)
        assert asked == 3
        assert await lost_of(anna) == ["lost"]


async def test_a_second_process_of_the_device_begins_anew_with_the_first(tmp_path: Path) -> None:
    async with ward(tmp_path) as (cluster, anna), make_client(cluster, tmp_path, "anna", seed=2) as second:
        await second.wait_until(ConnectionState.SHARED, timeout=30)
        backup = cluster.back_up()
        await accepted(anna, "bob", "lost")
        await restore(cluster, backup)
        await noticed(cluster, anna)
        account = second._account
        assert account is not None
        await until(lambda: account.position.generation == cluster.machine.generation, "the second has noticed")
        await until(lambda: second.state.lost_sent == 1, "it counts what is lost")
        [one] = await second.lost.messages()
        await second.lost.resend([one.id])
        with pytest.raises(BadInputError):
            await anna.lost.resend([one.id])
        await until(lambda: cluster.bodies_for("bob") == ["before", "lost"], "the first process sends it, once")


async def test_each_account_of_a_group_compares_what_is_its_own(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        for name in ("anna", "bob"):
            cluster.add_account(name, PASSWORD)
        hosts = [node.address for node in cluster.nodes]
        async with (
            ClientGroup(hosts, insecure=True, state_dir=tmp_path, settings=QUICK) as group,
            group.client() as anna,
            group.client() as bob,
        ):
            await anna.login("anna", PASSWORD)
            await bob.login("bob", PASSWORD)
            await accepted(anna, "bob", "before")
            backup = cluster.back_up()
            await accepted(anna, "bob", "of anna")
            await accepted(bob, "anna", "of bob")
            await restore(cluster, backup)
            for client in (anna, bob):
                await noticed(cluster, client)

            def sent_of(found: tuple[LostMessage, ...]) -> list[str]:
                return [one.body for one in found if one.origin is LostOrigin.THIS_DEVICE]

            assert sent_of(await anna.lost.messages()) == ["of anna"]
            assert sent_of(await bob.lost.messages()) == ["of bob"]


async def test_read_positions_do_not_cover_new_messages_under_old_ids(tmp_path: Path) -> None:
    async with ward(tmp_path) as (cluster, anna):
        backup = cluster.back_up()
        await received(cluster, anna, "bob", "old")
        [old] = [m for m in cluster.messages if m.body == "old"]
        await anna.mark_read(old.conversation_id, old.id)
        await restore(cluster, backup)
        await noticed(cluster, anna)
        cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], "new")
        await until_cached(anna, "new")
        [conversation] = await anna.cached_conversations()
        assert conversation.unread == 1


async def test_beyond_the_bound_of_questions_the_list_of_conversations_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parley.restoration.MAX_ASKED", 0)
    async with ward(tmp_path) as (cluster, anna):
        backup = cluster.back_up()
        await accepted(anna, "bob", "lost")
        await restore(cluster, backup)
        await noticed(cluster, anna)
        assert await lost_of(anna) == ["lost"]


async def test_a_log_in_after_the_restore_finds_the_files_of_the_former_cluster(tmp_path: Path) -> None:
    """The restored cluster has a new id. What waited under the former one is not left behind."""
    async with running_cluster() as cluster:
        for name in ("anna", "bob"):
            cluster.add_account(name, PASSWORD)
        async with signed_in(cluster, tmp_path, "bob") as bob:
            await accepted(bob, "anna", "before")
        backup = cluster.back_up()
        async with signed_in(cluster, tmp_path) as anna:
            await accepted(anna, "bob", "lost")
        async with signed_in(cluster, tmp_path, "bob") as bob:
            await accepted(bob, "anna", "lost of bob")
        await restore(cluster, backup)
        for name, lost in (("anna", ["lost"]), ("bob", ["lost of bob"])):
            async with make_client(cluster, tmp_path) as client:
                await client.login(name, PASSWORD)
                await noticed(cluster, client)
                assert lost[0] in await lost_of(client)
            async with make_client(cluster, tmp_path) as client:
                await client.login(name, PASSWORD)
                assert lost[0] in await lost_of(client), "a second log-in finds it, too"


async def test_a_new_cluster_at_the_addresses_of_another_gets_files_of_its_own(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        for name in ("anna", "bob"):
            cluster.add_account(name, PASSWORD)
        empty = cluster.back_up()
        async with signed_in(cluster, tmp_path) as anna:
            await accepted(anna, "bob", "for the first cluster")
            await anna.logout()
            await anna.send("bob", "waits for the first cluster")
        await restore(cluster, empty, as_new=True)
        async with make_client(cluster, tmp_path) as anna:
            await anna.login("anna", PASSWORD)
            await accepted(anna, "bob", "hello")
            assert cluster.bodies_for("bob") == ["hello"]
            assert await lost_of(anna) == []
        sessions = cluster.rows("SELECT count(*) FROM sessions WHERE closed = 0")
        assert sessions == [(1,)], "the question left no session behind"


async def test_what_was_read_in_a_former_life_of_the_cluster_hides_nothing_new(tmp_path: Path) -> None:
    """Messages that the cluster had lost were taken off its new ones, and `parley conversations` said: nothing new."""
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            await received(cluster, anna, "bob", "hello")
            backup = cluster.back_up()
            for number in range(3):
                await received(cluster, anna, "bob", f"lost {number}")
        async with make_client(cluster, tmp_path, "anna", connect=False) as anna:  # it compares nothing
            [conversation] = await anna.conversations()
            assert conversation.unread == 4
            await anna.mark_read(conversation.id, (await anna.history("bob")).messages[-1].id)
            assert [one.unread for one in await anna.conversations()] == [0]
            await restore(cluster, backup)
            for number in range(3):
                cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], f"new {number}")
            assert [one.unread for one in await anna.conversations()] == [4]
