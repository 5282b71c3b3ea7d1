"""What clients may get wrong, said to a real node byte by byte: every time a status and a text, never a crash."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import grpc
import pytest
import pytest_asyncio

from parley_proto.v1 import accounts_pb2, conversations_pb2, messaging_pb2, model_pb2
from parley_proto.v1.messaging_pb2 import SEND_STATUS_ACCEPTED, SEND_STATUS_REJECTED
from scripts.cluster_local import LocalCluster
from tests.cluster.raw import PASSWORD, Person, Raw, raw_client, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNAUTHENTICATED = grpc.StatusCode.UNAUTHENTICATED

Call = Callable[[Raw, Person], Awaitable[object]]


@pytest_asyncio.fixture(loop_scope="module")
async def raw(cluster: LocalCluster) -> AsyncIterator[Raw]:
    """A client on a follower: what is refused there must not depend on who leads."""
    follower = cluster.others(await cluster.wait_for_leader())[0]
    async with raw_client(cluster, follower) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def ann(raw: Raw, fresh: Callable[[str], str]) -> Person:
    """Somebody logged in."""
    name = fresh("ann")
    await raw.register(name)
    return await raw.log_in(name)


def register(name: str = "someone", password: str = PASSWORD, request_id: bytes = b"r" * 16) -> Call:
    """A registration."""
    request = accounts_pb2.RegisterRequest(name=name, password=password, request_id=request_id)
    return lambda raw, _: raw.accounts.Register(request, timeout=10)


def list_accounts(**fields: object) -> Call:
    """A listing by somebody logged in."""
    request = accounts_pb2.ListAccountsRequest(**fields)  # type: ignore[arg-type]
    return lambda raw, ann: raw.accounts.ListAccounts(request, metadata=ann.metadata, timeout=10)


def history(**fields: object) -> Call:
    """A history page for somebody logged in."""
    request = conversations_pb2.GetHistoryRequest(**fields)  # type: ignore[arg-type]
    return lambda raw, ann: raw.conversations.GetHistory(request, metadata=ann.metadata, timeout=10)


def log_in(device_id: bytes = b"d" * 16, device_label: str = "") -> Call:
    """A log-in by somebody with the right password."""
    return lambda raw, ann: raw.accounts.LogIn(
        accounts_pb2.LogInRequest(name=ann.name, password=PASSWORD, device_id=device_id, device_label=device_label),
        timeout=10,
    )


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (register(name=""), "name"),
        (register(name="a" * 65), "name"),
        (register(name="-dash-first"), "name"),
        (register(name="two words"), "name"),
        (register(name="tab\t"), "name"),
        (register(name="ünïcode"), "name"),
        (register(password="short"), "password"),
        (register(password="x" * 1025), "password"),
        (register(request_id=b"15 bytes only.."), "request_id"),
        (log_in(device_id=b""), "device_id"),
        (log_in(device_label="x" * 65), "device_label"),
        (list_accounts(pattern="x" * 5000), "pattern"),
        (list_accounts(pattern="[a-z]"), "pattern"),
        (list_accounts(page_size=1001), "page_size"),
        (list_accounts(seen=model_pb2.Position(groups=[model_pb2.GroupIndex(index=1 << 63)])), "seen"),
        (history(limit=1), "which"),
        (history(account_name="bad name"), "account_name"),
        (history(account_name="ben", limit=1001), "limit"),
        (history(account_name="ben", before_id=1 << 63), "before_id"),
        (history(account_id=1 << 63), "account_id"),
    ],
)
async def test_a_bad_field_is_invalid_and_the_text_names_it(raw: Raw, ann: Person, call: Call, says: str) -> None:
    code, text = await refused(call(raw, ann))
    assert code is INVALID
    assert says in text


async def test_a_name_that_is_taken_already_exists_but_a_retry_of_one_registration_succeeds(
    raw: Raw, fresh: Callable[[str], str]
) -> None:
    name = fresh("taken")
    first = await raw.register(name, request_id=b"1" * 16)
    assert await raw.register(name, request_id=b"1" * 16) == first
    code, text = await refused(register(name=name, request_id=b"2" * 16)(raw, Person("", b"", "", None)))  # type: ignore[arg-type]
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert "taken" in text or "exist" in text


@pytest.mark.parametrize(
    "authorization",
    ["", "Bearer", "Bearer ", "Bearer garbage", "Bearer " + "A" * 43, "Basic YW5uOnB3", "Bearer " + "x" * 4000],
)
async def test_a_garbage_token_is_unauthenticated(raw: Raw, authorization: str) -> None:
    metadata = (("authorization", authorization),)
    code, text = await refused(
        raw.accounts.ListAccounts(accounts_pb2.ListAccountsRequest(), metadata=metadata, timeout=10)
    )
    assert code is UNAUTHENTICATED
    assert text
    async with raw.stream(metadata) as stream:
        assert (await stream.refusal())[0] is UNAUTHENTICATED, "before the stream has a first frame"


async def test_a_call_without_a_token_is_unauthenticated(raw: Raw) -> None:
    code, text = await refused(raw.accounts.ListAccounts(accounts_pb2.ListAccountsRequest(), timeout=10))
    assert code is UNAUTHENTICATED
    assert "Log in" in text


@pytest.mark.parametrize(
    "frame",
    [
        messaging_pb2.ClientFrame(),
        messaging_pb2.ClientFrame(ping=messaging_pb2.Ping(nonce=1)),
        messaging_pb2.ClientFrame(sends=messaging_pb2.SendBatch(sends=[model_pb2.Send(number=1)])),
    ],
    ids=["empty", "ping", "sends"],
)
async def test_a_stream_that_does_not_begin_with_hello_is_invalid(
    raw: Raw, ann: Person, frame: messaging_pb2.ClientFrame
) -> None:
    async with raw.stream(ann.metadata) as stream:
        await stream.write(frame)
        code, text = await stream.refusal()
    assert code is INVALID
    assert "hello" in text


@pytest.mark.parametrize(
    "frame",
    [
        messaging_pb2.ClientFrame(),
        messaging_pb2.ClientFrame(hello=messaging_pb2.Hello()),
        messaging_pb2.ClientFrame(sends=messaging_pb2.SendBatch()),
        messaging_pb2.ClientFrame(sends=messaging_pb2.SendBatch(sends=[model_pb2.Send(number=0)])),
        messaging_pb2.ClientFrame(sends=messaging_pb2.SendBatch(sends=[model_pb2.Send(number=1 << 63)])),
        messaging_pb2.ClientFrame(
            sends=messaging_pb2.SendBatch(sends=[model_pb2.Send(number=2), model_pb2.Send(number=1)])
        ),
        messaging_pb2.ClientFrame(
            sends=messaging_pb2.SendBatch(sends=[model_pb2.Send(number=1), model_pb2.Send(number=1)])
        ),
        messaging_pb2.ClientFrame(
            sends=messaging_pb2.SendBatch(sends=[model_pb2.Send(number=1 + one) for one in range(1025)])
        ),
    ],
    ids=[
        "empty",
        "second hello",
        "no sends",
        "number 0",
        "number too large",
        "numbers fall",
        "number twice",
        "too many",
    ],
)
async def test_a_frame_that_breaks_the_protocol_ends_the_stream_as_invalid(
    raw: Raw, ann: Person, frame: messaging_pb2.ClientFrame
) -> None:
    async with raw.session(ann) as stream:
        await stream.write(frame)
        code, text = await stream.refusal()
    assert code is INVALID
    assert text


@pytest.mark.parametrize(
    "mark",
    [
        messaging_pb2.ClientFrame(delivered=messaging_pb2.Delivered(cursor=b"nonsense")),
        messaging_pb2.ClientFrame(read=messaging_pb2.Read(conversation_id=1 << 63, up_to=1)),
        messaging_pb2.ClientFrame(read=messaging_pb2.Read(conversation_id=1 << 40, up_to=1)),
    ],
    ids=["no cursor", "impossible conversation", "no conversation"],
)
async def test_a_wrong_mark_is_ignored(raw: Raw, ann: Person, mark: messaging_pb2.ClientFrame) -> None:
    async with raw.session(ann) as stream:
        await stream.write(mark)
        number = stream.welcome.last_send_number + 1
        assert (await stream.send_surely(number, ann.name, "still here")).status == SEND_STATUS_ACCEPTED


@pytest.mark.parametrize(
    ("recipient", "body", "says"),
    [
        ("{ann}", "", "max_message_bytes"),
        ("{ann}", "x" * (64 * 1024 + 1), "max_message_bytes"),
        ("{ann}", "ü" * (32 * 1024 + 1), "max_message_bytes"),
        ("nobody-of-this-name", "hello", "no such account"),
        ("bad name", "hello", "no such account"),
        ("", "hello", "no such account"),
    ],
    ids=["empty", "one byte too long", "too long in UTF-8", "nobody", "bad name", "no recipient"],
)
async def test_a_bad_message_is_rejected_with_a_reason_and_does_not_hold_up_the_next(
    raw: Raw, ann: Person, recipient: str, body: str, says: str
) -> None:
    async with raw.session(ann) as stream:
        rejected = await stream.send_surely(1, recipient.format(ann=ann.name), body)
        assert rejected.status == SEND_STATUS_REJECTED
        assert says in rejected.detail
        assert (await stream.send_surely(2, ann.name, "next")).status == SEND_STATUS_ACCEPTED
    assert [message.body for message in await raw.history(ann, ann.name)] == ["next"]


async def test_a_message_of_exactly_the_limit_arrives_whole(raw: Raw, ann: Person) -> None:
    body = "ü" * (32 * 1024)
    async with raw.session(ann) as stream:
        assert stream.welcome.max_message_bytes == len(body.encode())
        assert (await stream.send_surely(1, ann.name, body)).status == SEND_STATUS_ACCEPTED
    assert [message.body for message in await raw.history(ann, ann.name)] == [body]


async def test_a_stranger_cannot_read_a_conversation_by_its_id(
    raw: Raw, ann: Person, fresh: Callable[[str], str]
) -> None:
    name = fresh("ben")
    await raw.register(name)
    ben = await raw.log_in(name)
    async with raw.session(ann) as stream:
        own = await stream.send_surely(1, ann.name, "to myself")
    request = conversations_pb2.GetHistoryRequest(conversation_id=own.conversation_id)
    code, _ = await refused(raw.conversations.GetHistory(request, metadata=ben.metadata, timeout=10))
    assert code is grpc.StatusCode.NOT_FOUND


async def test_after_all_of_this_every_node_still_serves_the_same_state(cluster: LocalCluster) -> None:
    assert all(view.answers for view in await cluster.views())
    await cluster.wait_until_equal()
