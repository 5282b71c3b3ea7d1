"""Nodes die, fall silent, lose their majority, refuse; the client finds another and says what is known meanwhile."""

import asyncio
import threading
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, NoReturn

import apsw
import pytest

from parley import ConnectionState, MessageStatus, ParleyClient, TooLateError
from parley.chat import status_line
from parley.device.profile import Hosts, StateDirectory
from parley.net.message_stream import MessageStream
from parley.net.stream_closed import StreamClosedError
from parley.wire.actions import StoreMessages, Storing, StreamCloseReason
from parley.wire.policy import Attempt, FailoverPolicy
from parley_proto.v1 import messaging_pb2 as pb
from parleyd.delivery.device_stream import CloseReason
from tests.support.node import InProcessCluster, InProcessNode, running_cluster
from tests.support.raw import until_true
from tests.unit.client.helpers import PASSWORD, make_client, signed_in, until


def connected_node(cluster: InProcessCluster, client: ParleyClient) -> InProcessNode:
    return next(node for node in cluster.nodes if node.name == client.state.node)


def said(client: ParleyClient) -> str:
    """The status line of window and terminal."""
    return status_line(client.state, client.state.last_heard, time.monotonic()).text


async def connect(client: ParleyClient) -> None:
    await client.wait_until(ConnectionState.CONNECTED, timeout=5)


def watch_failover(monkeypatch: pytest.MonkeyPatch) -> tuple[list[float], list[StreamCloseReason]]:
    """Return the delays before attempts, in seconds, and the reasons why streams ended. Both grow from now on."""
    delays_s: list[float] = []
    reasons: list[StreamCloseReason] = []
    next_attempt, run = FailoverPolicy.next_attempt, MessageStream.run

    def recorded_attempt(policy: FailoverPolicy) -> Attempt | None:
        attempt = next_attempt(policy)
        if attempt is not None:
            delays_s.append(attempt.delay_s)
        return attempt

    async def recorded_run(stream: MessageStream, welcome_timeout_s: float, starts: asyncio.Semaphore) -> NoReturn:
        try:
            await run(stream, welcome_timeout_s, starts)
        except StreamClosedError as closed:
            reasons.append(closed.reason)
            raise

    monkeypatch.setattr(FailoverPolicy, "next_attempt", recorded_attempt)
    monkeypatch.setattr(MessageStream, "run", recorded_run)
    return delays_s, reasons


async def test_a_dead_node_is_left_for_another_at_once_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client detects the loss itself, not silence, and chooses no long delay. A busy machine may take longer."""
    delays_s, reasons = watch_failover(monkeypatch)
    async with running_cluster(("n1", "n2", "n3")) as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            await connect(anna)
            sent = []
            for round_ in range(3):
                node = connected_node(cluster, anna)
                sent += await anna.send_many([("bob", f"{round_}-{i}") for i in range(50)])
                delays_s.clear()
                reasons.clear()
                await node.die()
                last = await anna.send("bob", f"{round_}-after")
                sent.append(last)
                await last.accepted(30)
                assert reasons[0] is StreamCloseReason.LOST
                assert sum(delays_s) < 1.0
                assert anna.state.node != node.name
                await node.start()
            assert all([(await message.accepted(30)).status is MessageStatus.ACCEPTED for message in sent])
        assert cluster.bodies_for("bob") == [f"{r}-{i}" for r in range(3) for i in [*range(50), "after"]]
        assert cluster.resent_differently == []


async def be_storing_as_the_node_dies(
    cluster: InProcessCluster, sender: ParleyClient, bob: ParleyClient, monkeypatch: pytest.MonkeyPatch
) -> threading.Event:
    """Bob's slow disk has a message to store as his only node dies. The disk goes on with the event."""
    queued, go_on = asyncio.Event(), threading.Event()
    when_stored = MessageStream._when_stored

    def noted(stream: MessageStream, action: Storing) -> None:
        when_stored(stream, action)
        if isinstance(action, StoreMessages) and action.messages:
            queued.set()

    monkeypatch.setattr(MessageStream, "_when_stored", noted)
    assert bob._account is not None
    await bob._account.store.read(lambda _: None)  # what was asked of the file before is answered
    bob._account.store.post(lambda _: go_on.wait(20))
    await (await sender.send("bob", "hello")).accepted(10)
    async with asyncio.timeout(10):
        await queued.wait()
    await cluster.nodes[0].die()
    await bob.wait_until(ConnectionState.SEARCHING, timeout=10)
    return go_on


async def test_what_was_being_stored_as_its_stream_ended_is_handed_out_without_another_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster does not send it again: it is stored, and the next stream begins after it."""
    async with (
        running_cluster() as cluster,
        signed_in(cluster, tmp_path / "a") as anna,
        signed_in(cluster, tmp_path / "b", "bob") as bob,
    ):
        await connect(bob)
        reader = await bob.messages()
        assert await reader.next_stored() is None
        waiting = asyncio.ensure_future(anext(reader))
        go_on = await be_storing_as_the_node_dies(cluster, anna, bob, monkeypatch)
        go_on.set()
        async with asyncio.timeout(10):
            message = await waiting
        assert message.body == "hello"
        assert bob.conversation(message.conversation_id) is not None
        await cluster.nodes[0].start()
        await connect(bob)


async def test_what_is_stored_for_an_account_after_another_one_is_in_use_is_told_to_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        running_cluster() as cluster,
        signed_in(cluster, tmp_path / "a") as anna,
        signed_in(cluster, tmp_path / "b", "bob") as client,
    ):
        cluster.add_account("carl", PASSWORD)
        await connect(client)
        go_on = await be_storing_as_the_node_dies(cluster, anna, client, monkeypatch)
        await cluster.nodes[0].start()
        of_carl = []
        async with aclosing(client.watch()) as changes:
            signing_in = asyncio.ensure_future(client.login("carl", PASSWORD))
            async for change in changes:
                if change.state.account == "carl":
                    go_on.set()
                    of_carl.append(change)
                    if change.state.caught_up:
                        break
            await signing_in
        assert [change.conversations for change in of_carl if change.conversations] == []
        assert "anna" not in {account.name for change in of_carl for account in change.accounts}


async def test_a_silent_node_is_found_silent_and_left(tmp_path: Path) -> None:
    async with running_cluster(("n1", "n2")) as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            await connect(anna)
            node = connected_node(cluster, anna)
            node.faults.hang = True
            message = await anna.send("bob", "hello?")
            await message.accepted(5)
            assert anna.state.node != node.name
            node.release()
        assert cluster.bodies_for("bob") == ["hello?"]


async def test_a_node_without_majority_is_left_for_one_that_serves(tmp_path: Path) -> None:
    async with running_cluster(("n1", "n2", "n3")) as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            await connect(anna)
            node = connected_node(cluster, anna)
            others = [other for other in cluster.nodes if other is not node]
            node.faults.no_majority = others[0].faults.no_majority = True
            news = cluster.news()
            news.has_majority = False
            cluster.broadcast(pb.ServerFrame(status=news))
            await (await anna.send("bob", "through the third")).accepted(5)
            assert anna.state.node == others[1].name


async def test_without_any_majority_the_client_says_so_and_goes_on_by_itself(tmp_path: Path) -> None:
    async with running_cluster(("n1", "n2")) as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            await connect(anna)
            for node in cluster.nodes:
                node.faults.no_majority = True
            cluster.announce()
            await anna.wait_until(ConnectionState.NO_MAJORITY, timeout=5)
            message = await anna.send("bob", "patience")
            await until(lambda: anna.state.waiting == 1, "it waits")
            assert "knows no leader right now (2 of 2 nodes up), 1 message waiting" in said(anna)
            for node in cluster.nodes:
                node.faults.no_majority = False
            cluster.announce()
            await message.accepted(5)
            assert anna.state.connection is ConnectionState.CONNECTED
            assert anna.state.problem == ""


async def test_what_is_written_without_a_majority_can_be_changed_and_withdrawn_and_the_rest_is_sent_once(
    tmp_path: Path,
) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        node = cluster.nodes[0]
        async with signed_in(cluster, tmp_path) as anna:
            await connect(anna)
            await (await anna.send("bob", "before")).accepted(5)
            node.faults.no_majority = True
            cluster.announce()
            await anna.wait_until(ConnectionState.NO_MAJORITY, timeout=5)
            first, second, third = [await anna.send("bob", body) for body in ("one", "two", "three")]
            await anna.edit(first.local_id, "one, corrected")
            await anna.cancel(second.local_id)
            assert third.view.status is MessageStatus.WAITING
            node.faults.no_majority = False
            cluster.announce()
            await third.accepted(5)
            await first.accepted(5)
        assert cluster.bodies_for("bob") == ["before", "one, corrected", "three"]


async def test_a_majority_that_comes_and_goes_while_messages_are_written_changed_and_withdrawn_hurts_nothing(
    tmp_path: Path,
) -> None:
    """Whatever edit() and cancel() accept is so in the cluster; what they refuse is there as it was written, once."""
    rng, expected = Random(13), dict[int, str]()
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        node = cluster.nodes[0]
        async with signed_in(cluster, tmp_path) as anna:
            await connect(anna)
            for turn in range(60):
                node.faults.no_majority = rng.random() < 0.5
                cluster.announce()
                burst = await anna.send_many([("bob", f"{turn}.{i}") for i in range(rng.randint(1, 4))])
                expected.update((message.local_id, message.view.body) for message in burst)
                for _ in range(rng.randint(0, 6)):
                    await asyncio.sleep(0)
                for message in burst:
                    try:
                        if rng.random() < 0.5:
                            changed = await anna.edit(message.local_id, f"{message.view.body} changed")
                            expected[message.local_id] = changed.body
                        else:
                            await anna.cancel(message.local_id)
                            del expected[message.local_id]
                    except TooLateError:
                        continue
            node.faults.no_majority = False
            cluster.announce()

            async def nothing_waits() -> None:  # the state for a status line may be that of a moment before
                assert not [one for one in await anna.outgoing(limit=1000) if one.status < MessageStatus.ACCEPTED]

            await until_true(nothing_waits)
        assert cluster.bodies_for("bob") == [expected[local_id] for local_id in sorted(expected)]


async def test_a_result_that_comes_while_the_outbox_is_read_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        node = cluster.nodes[0]
        async with signed_in(cluster, tmp_path) as anna:
            await connect(anna)
            node.faults.delay_s = 0.2
            message = await anna.send("bob", "hello")
            assert anna._account is not None
            read = anna._account.store.read

            async def read_slowly(operation: Callable[[apsw.Connection], Any]) -> Any:
                found = await read(operation)
                await message.accepted(10)
                return found

            monkeypatch.setattr(anna._account.store, "read", read_slowly)
            for waiting in await anna.waiting():
                await waiting.accepted(5)
            assert message.view.status is MessageStatus.ACCEPTED


async def test_while_it_searches_the_state_says_what_was_lost_and_what_waits(tmp_path: Path) -> None:
    async with running_cluster(("n1", "n2")) as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            await connect(anna)
            node = connected_node(cluster, anna)
            other = next(n for n in cluster.nodes if n is not node)
            other.faults.unavailable = "starting"
            await node.die()
            await anna.wait_until(ConnectionState.SEARCHING, timeout=5)
            await anna.send_many([("bob", "one"), ("bob", "two")])
            await until(lambda: anna.state.waiting == 2, "two wait")
            await until(lambda: f"{node.name} lost, trying" in said(anna), "the search is shown")
            line = said(anna)
            assert "2 messages waiting" in line
            assert "heard just now" in line
            assert anna.state.problem
            other.faults.unavailable = ""
            await connect(anna)
            await until(lambda: anna.state.waiting == 0, "nothing waits any more")
            assert (anna.state.lost, anna.state.trying, anna.state.problem) == ("", "", "")


async def test_members_the_cluster_names_are_learned_used_and_remembered(tmp_path: Path) -> None:
    async with running_cluster(("n1", "n2")) as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path, nodes=[0]) as anna:
            await connect(anna)
            assert anna.state.node == "n1"
            await cluster.nodes[0].die()
            await (await anna.send("bob", "over a learned node")).accepted(5)
            assert anna.state.node == "n2"
        async with make_client(cluster, tmp_path, "anna", nodes=[0]) as anna:
            await connect(anna)
            assert anna.state.node == "n2", "remembered across restarts"


async def test_the_last_good_node_is_tried_first_after_a_restart(tmp_path: Path) -> None:
    async with running_cluster(("n1", "n2", "n3")) as cluster:
        async with signed_in(cluster, tmp_path) as anna:
            await connect(anna)
            node = connected_node(cluster, anna)
        for seed in range(4):
            async with make_client(cluster, tmp_path, "anna", seed=seed) as anna:
                await connect(anna)
                assert anna.state.node == node.name


async def test_one_node_that_knows_no_session_does_not_sign_anybody_out(tmp_path: Path) -> None:
    async with running_cluster(("n1", "n2")) as cluster, signed_in(cluster, tmp_path) as anna:
        await connect(anna)
        node = connected_node(cluster, anna)
        other = next(n for n in cluster.nodes if n is not node)
        other.faults.unauthenticated = 1
        await node.die()
        await node.start()
        await until(lambda: node.sessions == 2, "back on the first node")
        await connect(anna)


async def test_an_ended_session_keeps_the_outbox_and_goes_on_after_the_next_login(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            await connect(anna)
            cluster.end_sessions()
            await cluster.nodes[0].die()
            message = await anna.send("bob", "kept while signed out")
            await cluster.nodes[0].start()
            await anna.wait_until(ConnectionState.SIGNED_OUT, timeout=5)
            assert "Signed out" in said(anna)
            await anna.login("anna", PASSWORD)
            await message.accepted(5)
        assert cluster.bodies_for("bob") == ["kept while signed out"]


async def test_a_device_taken_over_elsewhere_waits_before_it_comes_back(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        node = cluster.nodes[0]
        async with signed_in(cluster, tmp_path) as anna:
            await connect(anna)
            node.close_streams(CloseReason.TAKEN_OVER)
            await until(lambda: "took over" in anna.state.problem, "the reason is told")
            await until(lambda: node.sessions == 2, "it comes back after a pause")


async def test_a_restored_old_file_skips_ahead_and_loses_nothing(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            await (await anna.send("bob", "one")).accepted(5)
        (device,) = cluster.devices.values()
        device.set_last_send_number(7)
        async with make_client(cluster, tmp_path, "anna") as anna:
            view = await (await anna.send("bob", "two")).accepted(5)
            assert view.number == 8
        assert cluster.bodies_for("bob") == ["one", "two"]


async def test_a_cluster_that_forgot_accepted_messages_asks_for_a_new_device(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            await (await anna.send("bob", "one")).accepted(5)
            await (await anna.send("bob", "two")).accepted(5)
        (device,) = cluster.devices.values()
        device.set_last_send_number(0)
        async with make_client(cluster, tmp_path, "anna") as anna:
            message = await anna.send("bob", "three")
            await anna.wait_until(ConnectionState.SIGNED_OUT, timeout=10)
            await anna.login("anna", PASSWORD)
            await message.accepted(5)
        assert cluster.bodies_for("bob") == ["one", "two", "three"]
        assert len(cluster.devices) == 2


async def test_hello_says_what_is_stored_and_seen(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        bob, anna = cluster.add_account("bob", PASSWORD), cluster.add_account("anna", PASSWORD)
        cluster.store(anna, bob, "one")
        async with signed_in(cluster, tmp_path, "bob") as client:
            await anext(await client.messages())
            seen = cluster.position
            await client.list_accounts()
        async with make_client(cluster, tmp_path, "bob") as client:
            await connect(client)
        first, second = cluster.nodes[0].hellos
        assert (first.cursor, len(second.cursor) > 0) == (b"", True)
        assert second.seen.groups[0].index >= seen.groups[0].index > 0


async def test_two_processes_of_one_account_share_a_device_and_an_order(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as first:
            await connect(first)
            async with make_client(cluster, tmp_path, "anna") as second:
                await second.wait_until(ConnectionState.SHARED, timeout=5)
                await until(lambda: second.state.node == "n1", "it knows the node it speaks through")
                assert "Connected to n1 through another Parley on this computer  ·  1 of 1 node up" in said(second)
                message = await second.send("bob", "from the second")
                await message.accepted(5)
                await (await first.send("bob", "from the first")).accepted(5)
                assert [m.body for m in await second.outgoing()] == ["from the second", "from the first"]
            assert len(cluster.devices) == 1
            assert cluster.nodes[0].sessions == 1
        assert cluster.bodies_for("bob") == ["from the second", "from the first"]


async def test_the_connected_process_is_told_what_the_other_one_reads_writes_and_leaves_as_a_draft(
    tmp_path: Path,
) -> None:
    async with running_cluster() as cluster:
        bob, anna = cluster.add_account("bob", PASSWORD), cluster.add_account("anna", PASSWORD)
        cluster.store(bob, anna, "read me")
        async with signed_in(cluster, tmp_path) as first, make_client(cluster, tmp_path, "anna") as second:
            await connect(first)
            await second.wait_until(ConnectionState.SHARED, timeout=5)
            [conversation] = await first.conversations()
            assert conversation.last is not None
            async with asyncio.timeout(10), aclosing(first.watch()) as changes:
                await anext(changes)
                await second.mark_read(conversation.id, conversation.last.id)
                async for change in changes:
                    if change.others and await first.read_positions():
                        break
                assert await first.read_positions() == {conversation.id: conversation.last.id}
                await second.save_draft("bob", "half")
                async for change in changes:
                    if change.others and await first.draft("bob"):
                        break
                await second.send("bob", "from the second")
                async for change in changes:
                    if [one.body for one in change.outgoing] == ["from the second"]:
                        break


async def test_when_the_carrying_process_ends_another_takes_over(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with make_client(cluster, tmp_path, "anna") as second:
            async with signed_in(cluster, tmp_path) as first:
                await connect(first)
            await second.login("anna", PASSWORD)
            async with make_client(cluster, tmp_path, "anna") as third:
                await connect(second)
                await third.wait_until(ConnectionState.SHARED, timeout=5)
                message = await third.send("bob", "hello")
                await message.accepted(5)
            await connect(second)
        assert cluster.bodies_for("bob") == ["hello"]


async def test_a_second_reader_shows_only_what_is_new_and_leaves_the_mark_alone(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        bob, anna = cluster.add_account("bob", PASSWORD), cluster.add_account("anna", PASSWORD)
        cluster.store(anna, bob, "old")
        async with signed_in(cluster, tmp_path, "bob") as first:
            reader = await first.messages()
            assert (await anext(reader)).body == "old"
            async with make_client(cluster, tmp_path, "bob") as second:
                late = await second.messages()
                assert (reader.durable, late.durable) == (True, False)
                cluster.store(anna, bob, "new")
                assert (await anext(late)).body == "new"
            assert (await anext(reader)).body == "new"


async def test_watchers_see_the_outcome_and_coalesce_the_steps(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna, aclosing(anna.watch()) as changes:
            await anext(changes)
            sent = await anna.send_many([("bob", f"m{i}") for i in range(500)])
            await asyncio.gather(*(message.accepted(10) for message in sent))
            known: dict[int, MessageStatus] = {}
            turns = 0
            async for change in changes:
                turns += 1
                known.update({view.local_id: view.status for view in change.outgoing})
                if len(known) == 500 and set(known.values()) == {MessageStatus.ACCEPTED} and change.state.waiting == 0:
                    break
            assert turns < 20


async def test_a_watcher_that_never_looks_is_told_to_read_again_instead_of_growing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parley.state_publisher.MAX_PENDING", 50)
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna, aclosing(anna.watch()) as changes:
            await anext(changes)
            sent = await anna.send_many([("bob", f"m{i}") for i in range(200)])
            await sent[-1].accepted(10)
            assert (await anext(changes)).reload


async def test_addresses_of_a_remembered_cluster_are_kept_with_their_names(tmp_path: Path) -> None:
    async with running_cluster(("n1", "n2")) as cluster:
        async with signed_in(cluster, tmp_path) as anna:
            await connect(anna)
        hosts = StateDirectory(tmp_path).hosts(cluster.cluster_id)
        assert hosts == Hosts(
            tuple(node.address for node in cluster.nodes),
            tuple((node.name, node.address) for node in cluster.nodes),
            hosts.last_good,
        )


async def test_after_a_sleep_the_session_is_made_anew_with_the_same_node_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays_s, reasons = watch_failover(monkeypatch)
    async with running_cluster(("n1", "n2", "n3")) as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            await connect(anna)
            node = anna.state.node
            for round_ in range(5):
                delays_s.clear()
                reasons.clear()
                sent = await anna.send_many([("bob", f"{round_}.{number}") for number in range(20)])
                anna.connect_now()
                await until(lambda: bool(delays_s), "another attempt begins")
                await connect(anna)
                assert (anna.state.node, delays_s, reasons) == (node, [0.0], [StreamCloseReason.LOST])
                for message in sent:
                    await message.accepted(5)
        assert cluster.bodies_for("bob") == [f"{round_}.{number}" for round_ in range(5) for number in range(20)]


async def test_a_client_that_pauses_between_attempts_tries_at_once_when_the_machine_wakes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    next_attempt, pausing = FailoverPolicy.next_attempt, asyncio.Event()

    def patient(policy: FailoverPolicy) -> Attempt | None:
        attempt = next_attempt(policy)
        if attempt is None or not attempt.delay_s:
            return attempt
        pausing.set()
        return replace(attempt, delay_s=3600.0)

    async with running_cluster() as cluster, signed_in(cluster, tmp_path) as anna:
        await connect(anna)
        monkeypatch.setattr(FailoverPolicy, "next_attempt", patient)
        cluster.nodes[0].faults.unavailable = "starting"
        anna.connect_now()
        await pausing.wait()
        cluster.nodes[0].faults.unavailable = ""
        assert anna.state.connection is not ConnectionState.CONNECTED
        anna.connect_now()
        await connect(anna)
