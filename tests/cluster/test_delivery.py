"""Messages on their way through real nodes: queued, delivered, retried, in one order everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import grpc
import pytest

from parley_proto.v1 import accounts_pb2, conversations_pb2, messaging_pb2, model_pb2
from parley_proto.v1.messaging_pb2 import SEND_STATUS_ACCEPTED, SEND_STATUS_GAP
from scripts.cluster_local import LocalCluster
from tests.cluster.raw import PASSWORD, Person, Raw, bodies, eventually, numbered_sends, raw_client, refused, until_true

pytestmark = pytest.mark.asyncio(loop_scope="module")

Fresh = Callable[[str], str]


async def person(raw: Raw, name: str) -> Person:
    """A new account on a new device."""
    await raw.register(name)
    return await raw.log_in(name)


async def test_an_offline_queue_filled_on_one_node_is_drained_on_another(cluster: LocalCluster, fresh: Fresh) -> None:
    first, second, third = cluster.names
    async with raw_client(cluster, first) as raw:
        ann, ben = await person(raw, fresh("ann")), await person(raw, fresh("ben"))
        async with raw.session(ann) as sending:
            results = await sending.send_all_surely(*numbered_sends(ben.name, 1000), per_frame=1000)
            assert {result.status for result in results} == {SEND_STATUS_ACCEPTED}
            await sending.send_surely(1001, ben.name, "the last")
        seen = raw.seen
    expected = [*(f"message {number}" for number in range(1, 1001)), "the last"]
    async with (
        raw_client(cluster, second) as raw,
        raw.session(ann, seen=seen) as watching,
        raw.session(ben, seen=seen) as receiving,
    ):
        queued: list[model_pb2.Message] = []
        cursors: list[tuple[int, bytes]] = []
        while len(queued) < len(expected):
            batch = (await receiving.next("messages")).messages
            queued += batch.messages
            cursors.append((len(queued), batch.cursor))
        assert bodies(queued) == expected
        ids = [message.id for message in queued]
        assert ids == sorted(set(ids))
        # Cursors are the node's own: a device gives back one that it was given.
        place, cursor = cursors[len(cursors) // 2]
        await receiving.delivered(cursor)
        # The mark counts once it is in the log: then Ann hears of it.
        while not any(
            mark.delivered_up_to >= ids[place - 1] for mark in (await watching.next("receipts")).receipts.receipts
        ):
            pass
    async with (
        raw_client(cluster, third) as raw,
        raw.session(ben, cursor=cursor, seen=seen) as receiving,
    ):
        assert bodies(await receiving.until_caught_up()) == expected[place:]


async def test_a_message_is_pushed_live_to_a_recipient_on_another_node(cluster: LocalCluster, fresh: Fresh) -> None:
    async with raw_client(cluster, cluster.names[0]) as here, raw_client(cluster, cluster.names[2]) as there:
        ann, ben = await person(here, fresh("ann")), await person(here, fresh("ben"))
        async with here.session(ann) as sending, there.session(ben, seen=ben.login.position) as receiving:
            assert not await receiving.until_caught_up()
            result = await sending.send_surely(1, ben.name, "hello")
            (message,) = await receiving.messages(1)
    assert (message.id, message.sender_id, message.body) == (result.message_id, ann.id, "hello")
    assert (message.sent_at_ms, message.conversation_id) == (result.sent_at_ms, result.conversation_id)


@pytest.mark.parametrize("leader_dies", [False, True], ids=["same leader", "leader killed meanwhile"])
async def test_a_retry_of_a_send_whose_answer_was_lost_gets_the_first_result(
    cluster: LocalCluster, fresh: Fresh, *, leader_dies: bool
) -> None:
    leader = await cluster.wait_for_leader()
    node, other = cluster.others(leader)
    async with raw_client(cluster, node) as raw:
        ann, ben = await person(raw, fresh("ann")), await person(raw, fresh("ben"))
        async with raw.session(ben) as receiving, raw.session(ann) as sending:
            await sending.send((1, ben.name, "once"))
            (message,) = await receiving.messages(1)
            # Ann's stream is gone without its answer having been read; Ben's copy proves that the send was applied.
    if leader_dies:
        cluster.kill(leader)
    async with raw_client(cluster, other) as raw, raw.session(ann) as sending:
        again = await sending.send_surely(1, ben.name, "once")
        assert again.status == SEND_STATUS_ACCEPTED
        assert (again.message_id, again.sent_at_ms) == (message.id, message.sent_at_ms)
        assert bodies(await raw.history(ben, ann.name)) == ["once"]


async def test_a_gap_in_the_numbers_is_refused_and_nothing_is_stored(cluster: LocalCluster, fresh: Fresh) -> None:
    async with raw_client(cluster, cluster.names[0]) as raw:
        ann, ben = await person(raw, fresh("ann")), await person(raw, fresh("ben"))
        async with raw.session(ann) as sending:
            assert (await sending.send_surely(3, ben.name, "too early")).status == SEND_STATUS_GAP
            assert (await sending.send_surely(1, ben.name, "first")).status == SEND_STATUS_ACCEPTED
        assert bodies(await raw.history(ann, ben.name)) == ["first"]


async def test_ids_and_order_are_the_same_on_every_node(cluster: LocalCluster, fresh: Fresh) -> None:
    async with (
        raw_client(cluster, cluster.names[0]) as one,
        raw_client(cluster, cluster.names[1]) as two,
        raw_client(cluster, cluster.names[2]) as three,
    ):
        nodes = one, two, three
        ann, ben = await person(one, fresh("ann")), await person(one, fresh("ben"))
        devices = [await raw.log_in(who.name) for raw, who in zip(nodes, (ann, ben, ann), strict=True)]

        async def talk(raw: Raw, me: Person, to: Person, label: str) -> None:
            async with raw.session(me) as stream:
                for number in range(1, 101):
                    assert (await stream.send_surely(number, to.name, f"{label} {number}")).message_id

        async with asyncio.TaskGroup() as tasks:
            for raw, me, to, label in zip(nodes, devices, (ben, ann, ben), "abc", strict=True):
                tasks.create_task(talk(raw, me, to, label))
        await cluster.wait_until_equal()
        stories = [
            [(message.id, message.sender_id, message.body) for message in await raw.history(ben, ann.name)]
            for raw in nodes
        ]
    assert stories[0] == stories[1] == stories[2]
    said = [body for _, _, body in stories[0]]
    for label in "abc":
        assert [body for body in said if body.startswith(label)] == [f"{label} {number}" for number in range(1, 101)]


async def test_a_newer_stream_of_a_device_ends_the_older_one(cluster: LocalCluster, fresh: Fresh) -> None:
    async with raw_client(cluster, cluster.names[0]) as raw:
        ann = await person(raw, fresh("ann"))
        async with raw.session(ann) as older, raw.session(ann) as newer:
            code, _ = await older.refusal()
            assert code is grpc.StatusCode.ABORTED
            await newer.write(messaging_pb2.ClientFrame(ping=messaging_pb2.Ping(nonce=7)))
            assert (await newer.next("pong")).pong.nonce == 7


async def test_unread_counts_fall_when_a_conversation_is_marked_read(cluster: LocalCluster, fresh: Fresh) -> None:
    async with raw_client(cluster, cluster.names[0]) as raw:
        ann, ben = await person(raw, fresh("ann")), await person(raw, fresh("ben"))

        async def unread() -> int:
            request = conversations_pb2.ListConversationsRequest(seen=raw.seen)
            answer = await raw.conversations.ListConversations(request, metadata=ben.metadata, timeout=10)
            return sum(conversation.unread for conversation in answer.conversations)

        async with raw.session(ann) as sending, raw.session(ben) as receiving:
            for number in (1, 2, 3):
                await sending.send_surely(number, ben.name, f"message {number}")
            assert await unread() == 3
            second = (await receiving.messages(3))[1]
            await receiving.mark_read(second.conversation_id, second.id)
            while not any(
                receipt.read_up_to >= second.id for receipt in (await sending.next("receipts")).receipts.receipts
            ):
                pass
            assert await unread() == 1


async def test_a_deleted_account_is_gone_everywhere_and_its_session_with_it(
    cluster: LocalCluster, fresh: Fresh
) -> None:
    async with raw_client(cluster, cluster.names[0]) as raw, raw_client(cluster, cluster.names[1]) as other:
        ann, ben = await person(raw, fresh("ann")), await person(raw, fresh("ben"))
        gone = await raw.accounts.DeleteAccount(
            accounts_pb2.DeleteAccountRequest(password=PASSWORD), metadata=ann.metadata, timeout=10
        )
        code, _ = await refused(
            other.accounts.ListAccounts(
                accounts_pb2.ListAccountsRequest(seen=gone.position), metadata=ann.metadata, timeout=10
            )
        )
        assert code is grpc.StatusCode.UNAUTHENTICATED
        listed = await other.accounts.ListAccounts(
            accounts_pb2.ListAccountsRequest(seen=gone.position, pattern="*" + ann.name[-8:]),
            metadata=ben.metadata,
            timeout=10,
        )
        assert not listed.accounts


async def test_a_channel_reaches_members_on_all_nodes_and_a_kill_of_the_leader_loses_nothing_of_it(
    cluster: LocalCluster, fresh: Fresh
) -> None:
    leader = await cluster.wait_for_leader()
    here_name, there_name = cluster.others(leader)
    async with raw_client(cluster, here_name) as here, raw_client(cluster, there_name) as there:
        ann, ben = await person(here, fresh("ann")), await person(here, fresh("ben"))
        async with here.session(ann) as sending, there.session(ben, seen=here.seen) as receiving:
            channel = await here.create_channel(ann, "Ward A", ben)
            [created] = await receiving.messages(1)
            assert (created.conversation_id, created.kind) == (channel, model_pb2.MESSAGE_KIND_CHANNEL_CREATED)
            cluster.kill(leader)
            send = model_pb2.Send(number=1, conversation_id=channel, body="hello all")
            [result] = await sending.send_all_surely(send)
            assert result.status == SEND_STATUS_ACCEPTED
            assert bodies(await receiving.messages(1)) == ["hello all"]
        there.note(here.seen)
        assert bodies(await there.history(ben, channel)) == ["Ward A", "hello all"]


async def test_a_fetch_goes_on_at_another_node_when_its_own_is_killed_and_a_push_is_stored_once(
    cluster: LocalCluster, fresh: Fresh
) -> None:
    leader = await cluster.wait_for_leader()
    here_name, there_name = cluster.others(leader)
    async with (
        raw_client(cluster, leader) as dying,
        raw_client(cluster, here_name) as here,
        raw_client(cluster, there_name) as there,
    ):
        ann, ben = await person(here, fresh("ann")), await person(here, fresh("ben"))

        async def push(raw: Raw, number: int, body: str) -> messaging_pb2.SendResult:
            request = messaging_pb2.PushRequest(sends=[model_pb2.Send(number=number, account_name=ben.name, body=body)])
            while True:
                answer = await eventually(lambda: raw.messaging.Push(request, metadata=ann.metadata, timeout=15))
                [result] = answer.results
                if result.status == SEND_STATUS_ACCEPTED:
                    here.note(answer.position)
                    return result

        def fetch(raw: Raw, cursor: bytes, wait_ms: int) -> Awaitable[messaging_pb2.FetchResponse]:
            hello = messaging_pb2.Hello(cursor=cursor, seen=here.seen)
            request = messaging_pb2.FetchRequest(hello=hello, wait_ms=wait_ms)
            return raw.messaging.Fetch(request, metadata=ben.metadata, timeout=40)

        first = await push(here, 1, "one")
        page = (await fetch(dying, b"", 0)).messages
        assert bodies(page.messages) == ["one"]
        waiting = asyncio.ensure_future(refused(fetch(dying, page.cursor, 30_000)))
        await until_true(partial(_is_acknowledged, there, ann, ben, first))
        cluster.kill(leader)
        assert (await waiting)[0] is grpc.StatusCode.UNAVAILABLE
        second = await push(there, 2, "two")
        assert await push(here, 2, "two") == second
        assert await push(there, 1, "one") == first
        late = await eventually(lambda: fetch(there, page.cursor, 10_000))
        assert bodies(late.messages.messages) == ["two"]
        assert not (await eventually(lambda: fetch(here, late.messages.cursor, 0))).messages.messages
        await until_true(partial(_is_acknowledged, there, ann, ben, second))  # this node may be a moment behind
        assert not (await eventually(lambda: fetch(there, b"", 0))).messages.messages, "it is acknowledged"


async def _is_acknowledged(raw: Raw, sender: Person, receiver: Person, result: messaging_pb2.SendResult) -> None:
    request = conversations_pb2.ListMembersRequest(conversation_id=result.conversation_id)
    answer = await raw.conversations.ListMembers(request, metadata=sender.metadata, timeout=10)
    [mark] = [member.delivered_up_to for member in answer.members if member.account_id == receiver.id]
    assert mark >= result.message_id
