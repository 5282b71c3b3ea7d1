"""Fetch gives each message of a device until the device has acknowledged it, and none after that.

What can go wrong: the answer is lost; the call is cancelled while it waits; two programs fetch for one device; a stream
is open beside it; the files of the device were copied; the session is closed, or the node stops, while it waits;
messages below the cursor are gone; the cursor is of another generation, or invented; there is no majority for the
acknowledgement; pages that nobody reads pile up.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from parley_proto.v1 import accounts_pb2, messaging_pb2_grpc, model_pb2
from parley_proto.v1 import messaging_pb2 as pb
from parleyd.api import fetch as fetching
from parleyd.api import stream_ends
from parleyd.api.admission import CallLimits
from parleyd.api.patience import Patience
from parleyd.delivery.cursor import StreamCursor
from parleyd.delivery.device_stream import FRAME_BYTES, CloseReason
from tests.support.budgets import stream_budgets
from tests.support.node import InProcessCluster, InProcessNode
from tests.support.raw import PASSWORD, Person, Raw, bodies, refused, until_so

Code = grpc.StatusCode
ROOT = Path(__file__).resolve().parents[3]
WAIT_MS = 30_000
ANSWER_S = 10.0
READS_LITTLE = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1024))
FORMER, PRESENT = (model_pb2.DeviceClaim(epoch=epoch, nonce=bytes([epoch]) * 16) for epoch in (1, 2))


@pytest.fixture
async def ben(cluster: InProcessCluster, raw: Raw) -> Person:
    cluster.add_account("ann", PASSWORD)
    cluster.add_account("ben", PASSWORD)
    return await raw.log_in("ben")


def fetch(
    raw: Raw,
    person: Person,
    cursor: bytes = b"",
    *,
    wait_ms: int = 0,
    limit: int = 0,
    claim: model_pb2.DeviceClaim | None = None,
) -> Any:
    """The call, which is awaited for its answer."""
    request = pb.FetchRequest(hello=pb.Hello(cursor=cursor, claim=claim), wait_ms=wait_ms, limit=limit)
    return raw.messaging.Fetch(request, metadata=person.metadata, timeout=wait_ms / 1000 + ANSWER_S)


@asynccontextmanager
async def waiting(node: InProcessNode, call: Any, connected: int = 1) -> AsyncIterator[asyncio.Future[Any]]:
    """A call that waits for messages, as the node sees it."""

    async def answer() -> Any:
        return await call

    answering = asyncio.ensure_future(answer())
    await until_so(lambda: node.hub.connected == connected)
    try:
        yield answering
    finally:
        call.cancel()
        await asyncio.gather(answering, return_exceptions=True)


def tell(cluster: InProcessCluster, *said: str) -> list[int]:
    """What ann writes to ben; the ids."""
    return [cluster.store(cluster.accounts["ann"], cluster.accounts["ben"], body).id for body in said]


def acknowledged(cluster: InProcessCluster, person: Person) -> int:
    """The message id up to which the cluster knows that the device has everything."""
    return cluster.devices[person.id, person.device_id].delivered_up_to


def got(answer: pb.FetchResponse) -> list[str]:
    return bodies(answer.messages.messages)


async def test_the_next_cursor_acknowledges_and_until_then_everything_comes_again(
    cluster: InProcessCluster, raw: Raw, ben: Person
) -> None:
    ids = tell(cluster, "one", "two")
    for _ in range(2):
        first = await fetch(raw, ben)
        assert (got(first), first.more, acknowledged(cluster, ben)) == (["one", "two"], False, 0)
    assert {account.name for account in first.directory.accounts} == {"ann", "ben"}
    assert [info.id for info in first.directory.conversations] == [first.messages.messages[0].conversation_id]
    assert first.position == cluster.position
    assert (first.welcome.account.name, first.welcome.max_message_bytes) == ("ben", 65_536)
    after = await fetch(raw, ben, first.messages.cursor)
    assert (got(after), acknowledged(cluster, ben)) == ([], ids[1])
    assert after.welcome.cursor == after.messages.cursor == first.messages.cursor
    assert got(await fetch(raw, ben)) == [], "without a cursor it goes on where the cluster stands"


async def test_an_answer_that_is_lost_loses_and_doubles_nothing(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, ben: Person
) -> None:
    ids = tell(cluster, "one")
    first = await fetch(raw, ben)
    tell(cluster, "two")
    node.faults.lose_answers = 1
    assert (await refused(fetch(raw, ben, first.messages.cursor)))[0] is Code.INTERNAL
    assert acknowledged(cluster, ben) == ids[0]
    assert got(await fetch(raw, ben, first.messages.cursor)) == ["two"]


async def test_a_fetch_that_finds_nothing_waits_and_writes_nothing_to_the_log(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, ben: Person
) -> None:
    index = cluster.index
    empty = await fetch(raw, ben)
    assert (got(empty), cluster.index) == ([], index)
    async with waiting(node, fetch(raw, ben, empty.messages.cursor, wait_ms=WAIT_MS)) as answering:
        assert not answering.done()
        assert node.clients.page(0, 10) == [], "it does not make the account present"
        tell(cluster, "late")
        answer = await answering
    assert got(answer) == ["late"]
    assert {account.name for account in answer.directory.accounts} == {"ann", "ben"}
    assert node.hub.connected == 0
    assert got(await fetch(raw, ben, answer.messages.cursor, wait_ms=1)) == [], "the wait ends"


async def test_a_channel_is_heard_while_it_waits(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, ben: Person
) -> None:
    ann = cluster.accounts["ann"]
    channel = cluster.create_channel(ann, "Ward A", [cluster.accounts["ben"]])
    first = await fetch(raw, ben)
    async with waiting(node, fetch(raw, ben, first.messages.cursor, wait_ms=WAIT_MS)) as answering:
        await until_so(lambda: channel in node.hub._channel_members)
        cluster.store(ann, channel, "hello all")
        answer = await answering
    assert got(answer) == ["hello all"]
    assert [info.title for info in answer.directory.conversations] == ["Ward A"]


async def test_own_sends_of_the_device_are_left_out(cluster: InProcessCluster, raw: Raw, ben: Person) -> None:
    sends = [model_pb2.Send(number=1, account_name="ann", body="mine")]
    await raw.messaging.Push(pb.PushRequest(sends=sends), metadata=ben.metadata)
    answer = await fetch(raw, ben)
    assert (got(answer), answer.more) == ([], False)
    assert got(await fetch(raw, await raw.log_in("ben"))) == ["mine"], "another device gets it"


async def test_a_page_has_the_messages_that_were_asked_for_and_a_bounded_size(
    cluster: InProcessCluster, raw: Raw, ben: Person
) -> None:
    tell(cluster, "one", "two", "three")
    answer = await fetch(raw, ben, limit=2)
    assert (got(answer), answer.more) == (["one", "two"], True)
    answer = await fetch(raw, ben, answer.messages.cursor, limit=2)
    assert (got(answer), answer.more) == (["three"], False)
    stored, found, cursor, more = tell(cluster, *["x" * 60_000] * 10), [], answer.messages.cursor, True
    while more:
        answer = await fetch(raw, ben, cursor)
        assert answer.messages.ByteSize() <= FRAME_BYTES
        found += [message.id for message in answer.messages.messages]
        cursor, more = answer.messages.cursor, answer.more
    assert found == stored


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        (pb.FetchRequest(wait_ms=30_001), "at most 30000"),
        (pb.FetchRequest(limit=257), "at most 256"),
        (pb.FetchRequest(hello=pb.Hello(cursor=b"nonsense")), "cursor has version"),
        (pb.FetchRequest(hello=pb.Hello(claim=model_pb2.DeviceClaim(epoch=1))), "claim.nonce"),
    ],
    ids=["wait", "limit", "cursor", "claim"],
)
async def test_what_no_client_asks_for_is_refused(
    cluster: InProcessCluster, raw: Raw, ben: Person, request_: pb.FetchRequest, text: str
) -> None:
    code, told = await refused(raw.messaging.Fetch(request_, metadata=ben.metadata))
    assert (code, text in told) == (Code.INVALID_ARGUMENT, True)


async def test_a_cancelled_fetch_leaves_nothing_behind(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, ben: Person
) -> None:
    call = fetch(raw, ben, wait_ms=WAIT_MS)
    async with waiting(node, call):
        call.cancel()
        await until_so(lambda: node.hub.connected == 0)
    tell(cluster, "one")
    assert got(await fetch(raw, ben)) == ["one"]
    assert (node.stream_budgets.live.in_use, node.stream_budgets.pages.used) == (0, 0)


async def test_of_two_fetches_for_one_device_the_older_one_ends(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, ben: Person
) -> None:
    async with waiting(node, fetch(raw, ben, wait_ms=WAIT_MS)) as older:
        newer = fetch(raw, ben, wait_ms=WAIT_MS)
        code, text = await refused(older)
        assert (code, "opened another stream" in text) == (Code.ABORTED, True)
        async with waiting(node, newer) as answering:
            tell(cluster, "one")
            assert got(await answering) == ["one"]


async def test_a_fetch_and_a_stream_of_one_device_end_each_other(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, ben: Person
) -> None:
    async with raw.session(ben) as stream:
        await stream.until_caught_up()
        assert got(await fetch(raw, ben)) == []
        assert (await stream.refusal())[0] is Code.ABORTED
    await until_so(lambda: node.hub.connected == 0)
    async with waiting(node, fetch(raw, ben, wait_ms=WAIT_MS)) as older, raw.session(ben) as stream:
        assert (await refused(older))[0] is Code.ABORTED
        tell(cluster, "one")
        assert bodies(await stream.messages(1)) == ["one"]


async def test_a_copy_of_the_devices_files_reads_its_own_and_acknowledges_nothing(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, ben: Person
) -> None:
    tell(cluster, "one", "two")
    page = await fetch(raw, ben, claim=FORMER)
    async with waiting(node, fetch(raw, ben, page.messages.cursor, wait_ms=WAIT_MS, claim=FORMER)) as copied:
        await until_so(lambda: acknowledged(cluster, ben) > 0)
        sends = [model_pb2.Send(number=1, account_name="ann", body="from the device")]
        await raw.messaging.Push(pb.PushRequest(sends=sends, claim=PRESENT), metadata=ben.metadata)
        code, text = await refused(copied)
        assert (code, "Another copy" in text) == (Code.ABORTED, True)
    before = acknowledged(cluster, ben)
    tell(cluster, "three")
    late = await fetch(raw, ben, page.messages.cursor, claim=FORMER)
    assert (got(late), late.welcome.superseded) == (["three"], True)
    index = cluster.index
    await fetch(raw, ben, late.messages.cursor, claim=FORMER)
    assert (acknowledged(cluster, ben), cluster.index) == (before, index), "nothing of it enters the log"
    assert got(await fetch(raw, ben, page.messages.cursor, claim=PRESENT)) == ["three"], "the device gets it too"
    await fetch(raw, ben, late.messages.cursor, claim=PRESENT)
    assert acknowledged(cluster, ben) > before


async def test_a_session_that_is_closed_ends_the_wait(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, ben: Person
) -> None:
    async with waiting(node, fetch(raw, ben, wait_ms=WAIT_MS)) as answering:
        await raw.accounts.LogOut(accounts_pb2.LogOutRequest(), metadata=ben.metadata)
        assert (await refused(answering))[0] is Code.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("reason", "text"), [(CloseReason.STOPPING, "is stopping"), (CloseReason.REPLACED, "installed a snapshot")]
)
async def test_a_node_that_stops_or_replaces_its_state_ends_the_wait_with_a_clear_text(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, ben: Person, reason: CloseReason, text: str
) -> None:
    async with waiting(node, fetch(raw, ben, wait_ms=WAIT_MS)) as answering:
        node.hub.shut(reason)
        code, told = await refused(answering)
        assert (code, text in told) == (Code.UNAVAILABLE, True)
    assert (await refused(fetch(raw, ben)))[0] is Code.UNAVAILABLE


async def test_messages_that_were_removed_are_skipped_wherever_the_cursor_stands(
    cluster: InProcessCluster, raw: Raw, ben: Person
) -> None:
    ids = tell(cluster, "one", "two", "three", "four")
    first = await fetch(raw, ben, limit=1)
    cluster.rewrite(*(("DELETE FROM messages WHERE id = ?", (id_,)) for id_ in (ids[0], ids[2])))
    assert got(await fetch(raw, ben, first.messages.cursor)) == ["two", "four"]


async def test_a_cursor_of_another_generation_or_beyond_all_messages_acknowledges_nothing(
    cluster: InProcessCluster, raw: Raw, ben: Person
) -> None:
    ids = tell(cluster, "one", "two")
    await fetch(raw, ben, (await fetch(raw, ben, limit=1)).messages.cursor)
    for cursor in (StreamCursor.at(1, ids[1]), StreamCursor.at(0, ids[1] + 1000)):
        answer = await fetch(raw, ben, cursor.encode())
        assert (got(answer), answer.welcome.generation) == (["two"], 0)
        assert answer.welcome.cursor == StreamCursor.at(0, ids[0]).encode()
        assert acknowledged(cluster, ben) == ids[0]


async def test_without_a_majority_it_reads_and_says_that_nothing_is_acknowledged(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, ben: Person
) -> None:
    tell(cluster, "one")
    first = await fetch(raw, ben, limit=1)
    [last] = tell(cluster, "two")
    node.faults.no_majority = True
    answer = await fetch(raw, ben, first.messages.cursor)
    assert (got(answer), answer.welcome.cursor, acknowledged(cluster, ben)) == (
        ["two"],
        StreamCursor.at(0, 0).encode(),
        0,
    )
    node.faults.no_majority = False
    await fetch(raw, ben, answer.messages.cursor)
    assert acknowledged(cluster, ben) == last


@asynccontextmanager
async def bounded(limits: CallLimits, pages: int = 1000) -> AsyncIterator[tuple[InProcessCluster, InProcessNode, Raw]]:
    cluster = InProcessCluster()
    node = cluster.nodes[0]
    node.call_limits, node.stream_budgets = limits, stream_budgets(pages=pages, share=pages)
    await node.start()
    try:
        async with grpc.aio.insecure_channel(node.address) as channel:
            yield cluster, node, Raw(channel)
    finally:
        await cluster.stop()


async def test_a_fetch_that_waits_has_a_place_of_a_stream_and_none_of_a_call() -> None:
    async with bounded(CallLimits(calls=2, calls_per_account=1, streams_per_account=1)) as (cluster, node, raw):
        cluster.add_account("ben", PASSWORD)
        ben = await raw.log_in("ben")
        async with waiting(node, fetch(raw, ben, wait_ms=WAIT_MS)):
            await raw.accounts.ListAccounts(accounts_pb2.ListAccountsRequest(), metadata=ben.metadata)
            code, text = await refused(fetch(raw, ben))
            assert (code, "1 are in progress" in text) == (Code.RESOURCE_EXHAUSTED, True)


async def test_a_page_that_nobody_reads_has_a_place_until_others_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_ends, "PAGE_PATIENCE", Patience(5.0, 60.0))
    monkeypatch.setattr(fetching, "FIRST_PAGE_S", 0.2)
    async with bounded(CallLimits(), pages=1) as (cluster, node, raw):
        cluster.add_account("ann", PASSWORD)
        cluster.add_account("ben", PASSWORD)
        people = [await raw.log_in("ben") for _ in range(2)]
        tell(cluster, *["x" * 60_000] * 4)
        async with grpc.aio.insecure_channel(node.address, options=READS_LITTLE) as channel:
            method: Any = channel.stream_stream(
                "/parley.v1.Messaging/Fetch", request_serializer=pb.FetchRequest.SerializeToString
            )
            unread = method(metadata=people[0].metadata)
            await unread.write(pb.FetchRequest())
            await until_so(lambda: node.stream_budgets.pages.used == 1)
            code, text = await refused(fetch(raw, people[1]))
            assert (code, "have not read" in text) == (Code.RESOURCE_EXHAUSTED, True)
            unread.cancel()
        await until_so(lambda: node.stream_budgets.pages.used == 0)
        assert len((await fetch(raw, people[1])).messages.messages) == 4


async def test_the_example_for_other_clients_receives_and_sends_once(
    cluster: InProcessCluster, node: InProcessNode, raw: Raw, ben: Person
) -> None:
    text = (ROOT / "docs" / "PROTOCOL.md").read_text(encoding="utf-8")
    [example] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code: dict[str, Any] = {}
    exec(example, code)
    ids = tell(cluster, "one", "two")
    stored: list[str] = []

    def run() -> None:
        with grpc.insecure_channel(node.address) as channel:
            stub = messaging_pb2_grpc.MessagingStub(channel)
            cursor = code["receive"](stub, ben.metadata, b"", lambda found, _: stored.extend(bodies(found)))
            code["receive"](stub, ben.metadata, cursor, lambda found, _: stored.extend(bodies(found)), 0)
            for _ in range(2):
                result = code["send"](stub, ben.metadata, 1, "ann", "hello")
                assert result.status == pb.SEND_STATUS_ACCEPTED

    await asyncio.to_thread(run)
    assert (stored, acknowledged(cluster, ben)) == (["one", "two"], ids[1])
    assert cluster.bodies_for("ann") == ["hello"]


async def test_a_fetch_without_a_request_is_refused(raw: Raw, ben: Person) -> None:
    method: Any = raw.channel.stream_stream("/parley.v1.Messaging/Fetch")
    call = method(metadata=ben.metadata)
    await call.done_writing()
    code, text = await refused(call.read())
    assert (code, "without a request" in text) == (Code.INVALID_ARGUMENT, True)
