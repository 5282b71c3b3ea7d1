"""Frames and requests of clients: any bytes, sent by gRPC to the real services of a node in this process.

Each stream and each call ends with a status that has a meaning for the client, or goes on. What is stored is what was
sent, within the rules; who may not call a method gets nothing from it.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import itertools
import secrets
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import DecodeError
from hypothesis import strategies as st

from parley_proto.v1 import accounts_pb2, accounts_pb2_grpc, admin_pb2, conversations_pb2, model_pb2
from parley_proto.v1 import messaging_pb2 as pb
from parleyd.api.admission import ACCESS, Access
from parleyd.api.message_text import normal_text
from parleyd.machine.limits import MAX_BODY_BYTES
from parleyd.security.names import validate_account_name
from tests.fuzz.engine import Target
from tests.fuzz.protobuf import BINARY, EDGES, TEXTS, encoded
from tests.support.lost_status import lost_its_status
from tests.support.node import InProcessCluster
from tests.support.state import PASSWORD

FILES = (accounts_pb2, conversations_pb2, pb, admin_pb2)
Code = grpc.StatusCode
MEANT = {
    Code.OK, Code.INVALID_ARGUMENT, Code.NOT_FOUND, Code.ALREADY_EXISTS, Code.PERMISSION_DENIED, Code.UNAUTHENTICATED,
    Code.RESOURCE_EXHAUSTED, Code.FAILED_PRECONDITION, Code.ABORTED, Code.DATA_LOSS, Code.UNAVAILABLE,
}  # fmt: skip
"""What a client may be answered. INTERNAL and UNKNOWN are errors that no one has foreseen."""
ANSWER_S = 15.0
Metadata = tuple[tuple[str, str], ...]


class World:
    """An event loop that runs only while something is checked, and one node for the streams."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self.cluster = InProcessCluster()
        self.numbers = itertools.count(1)
        self.run(self._begin())
        atexit.register(self._end)

    def run(self, work: Awaitable[None]) -> None:
        """Run until it is done. What hangs raises TimeoutError."""

        async def bounded() -> None:
            async with asyncio.timeout(4 * ANSWER_S):
                await work

        self._runner.run(bounded())

    async def _begin(self) -> None:
        await self.cluster.nodes[0].start()
        self.cluster.add_account("boss")
        self.channel = grpc.aio.insecure_channel(self.cluster.nodes[0].address)

    def _end(self) -> None:
        self.run(self.channel.close())
        self.run(self.cluster.stop())
        self._runner.close()


@functools.cache
def world() -> World:
    """One for the process, made when it is first needed."""
    return World()


async def log_in(channel: grpc.aio.Channel, name: str) -> Metadata:
    """Open a session on a new device; the metadata of its calls."""
    request = accounts_pb2.LogInRequest(name=name, password=PASSWORD, device_id=secrets.token_bytes(16))
    answer = await accounts_pb2_grpc.AccountsStub(channel).LogIn(request, timeout=ANSWER_S)
    return (("authorization", f"Bearer {answer.token}"),)


# ---- streams

FRAME_VALUES = {
    "number": st.integers(0, 6) | st.sampled_from(EDGES),
    "body": st.sampled_from(["hello", "x" * MAX_BODY_BYTES, "x" * (MAX_BODY_BYTES + 1), " "]) | TEXTS,
    "account_name": st.sampled_from(["boss", "BOSS", "nobody"]) | TEXTS,
    "account_id": st.integers(0, 3) | st.sampled_from(EDGES),
    "conversation_id": st.integers(0, 3) | st.sampled_from(EDGES),
    "cursor": st.just(b"") | BINARY,
}
SENDS = st.lists(
    st.builds(
        lambda number, body: model_pb2.Send(number=number, account_name="boss", body=body),
        number=st.integers(1, 6),
        body=FRAME_VALUES["body"],
    ),
    min_size=1,
    max_size=3,
).map(lambda sends: pb.ClientFrame(sends=pb.SendBatch(sends=sends)).SerializeToString())
HELLO = pb.ClientFrame(hello=pb.Hello()).SerializeToString()
FRAMES = st.tuples(
    st.just(HELLO) | st.just(HELLO) | encoded(pb.ClientFrame.DESCRIPTOR, FRAME_VALUES),
    st.lists(SENDS | encoded(pb.ClientFrame.DESCRIPTOR, FRAME_VALUES), max_size=6),
).map(lambda parts: [parts[0], *parts[1]])
LAST = pb.ClientFrame(ping=pb.Ping(nonce=(1 << 63) + 1)).SerializeToString()


def check_frames(frames: list[bytes]) -> None:
    """The stream ends with a status that has a meaning, or every frame is answered."""
    world().run(_check_frames(world(), frames))


async def _check_frames(here: World, frames: list[bytes]) -> None:
    name = f"user{next(here.numbers)}"
    sender = here.cluster.add_account(name)
    metadata = await log_in(here.channel, name)
    call: Any = here.channel.stream_stream("/parley.v1.Messaging/Connect", None, pb.ServerFrame.FromString)(
        metadata=metadata, timeout=ANSWER_S
    )
    results = await _talk(call, frames)
    if results is None:
        code = await call.code()
        if not await lost_its_status(call):
            assert code in MEANT, (code, await call.details())
    call.cancel()
    _check_stored(here, sender.id, _sends_in(frames))


async def _talk(call: Any, frames: list[bytes]) -> list[pb.SendResult] | None:
    """Send the frames and then a ping; the results if all were answered, None if the stream ended."""
    wanted = {send.number for send in _sends_in(frames)}
    results: list[pb.SendResult] = []
    has_pong = False
    try:
        for frame in [*frames, LAST]:
            await call.write(frame)
        while not has_pong or wanted - {result.number for result in results}:
            frame = await call.read()
            if frame is grpc.aio.EOF:
                return None
            results += frame.results.results
            has_pong = has_pong or frame.HasField("pong")
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
        return None
    return results


def _sends_in(frames: list[bytes]) -> list[Any]:
    sends: list[Any] = []
    for frame in frames:
        with contextlib.suppress(DecodeError):
            sends += pb.ClientFrame.FromString(frame).sends.sends
    return sends


def _check_stored(here: World, account_id: int, sent: list[Any]) -> None:
    """What the account's device stored has numbers without a gap, texts that were sent, and no forbidden text."""
    bodies = {normal_text(send.body) for send in sent}
    stored = here.cluster.rows("SELECT body FROM messages WHERE sender_id = ? AND kind = 1", (account_id,))
    for (body,) in stored:
        assert body in bodies
        assert 0 < len(body.encode()) <= MAX_BODY_BYTES
    assert len(stored) <= len({send.number for send in sent})


# ---- calls with one request

NAMES = ["boss", "ben", "cleo", "BEN", "newcomer"]
REQUEST_VALUES = {
    **{key: st.sampled_from(NAMES) | TEXTS for key in ("name", "account", "account_name")},
    **{key: st.sampled_from([PASSWORD, "another long one", "short"]) | TEXTS for key in ("password", "new_password")},
    "old_password": st.sampled_from([PASSWORD, "wrong one"]) | TEXTS,
    "members": st.sampled_from(NAMES) | TEXTS,
    "device_id": st.just(bytes(16)) | BINARY,
    "request_id": st.just(bytes(16)) | BINARY,
    "display_name": TEXTS,
    "value": st.integers(0, 3) | st.sampled_from(EDGES),
}
SETTING_VALUES = {"name": st.sampled_from(["registration", "max_message_bytes", "retention_days"]) | TEXTS}


def _methods() -> dict[str, MethodDescriptor]:
    pool = descriptor_pool.Default()
    found = {}
    for file in FILES:
        for service in pool.FindFileByName(file.DESCRIPTOR.name).services_by_name.values():
            for method in service.methods:
                if not method.client_streaming:
                    found[f"/{service.full_name}/{method.name}"] = method
    return found


METHODS = _methods()
CALLERS = ("none", "garbage", *("member", "administrator") * 3)


@dataclass(frozen=True)
class Call:
    """One call: its method, who makes it, and the bytes of the request."""

    method: str
    caller: str
    request: bytes


def _calls(method: str) -> st.SearchStrategy[Call]:
    values = {**REQUEST_VALUES, **(SETTING_VALUES if method.endswith("ChangeSetting") else {})}
    return st.builds(
        Call,
        method=st.just(method),
        caller=st.sampled_from(CALLERS),
        request=encoded(METHODS[method].input_type, values),
    )


CALLS = st.lists(st.one_of([_calls(method) for method in METHODS]), min_size=1, max_size=12)


def check_calls(calls: list[Call]) -> None:
    """Each call ends with a status that has a meaning, and only for those who may make it with OK."""
    world().run(_check_calls(calls))


async def _check_calls(calls: list[Call]) -> None:
    cluster = InProcessCluster()
    try:
        await cluster.nodes[0].start()
        for name in ("boss", "ben", "cleo"):
            cluster.add_account(name)
        async with grpc.aio.insecure_channel(cluster.nodes[0].address) as channel:
            callers: dict[str, Metadata] = {
                "none": (),
                "garbage": (("authorization", f"Bearer {secrets.token_urlsafe(32)}"),),
                "member": await log_in(channel, "ben"),
                "administrator": await log_in(channel, "boss"),
            }
            for call in calls:
                await _check_call(channel, call, callers[call.caller])
        _check_accounts(cluster)
    finally:
        await cluster.stop()


async def _check_call(channel: grpc.aio.Channel, call: Call, metadata: Metadata) -> None:
    streams = METHODS[call.method].server_streaming
    method: Any = channel.unary_stream(call.method) if streams else channel.unary_unary(call.method)
    made = method(call.request, metadata=metadata, timeout=ANSWER_S)
    is_answered = False
    with contextlib.suppress(grpc.aio.AioRpcError):
        is_answered = (await made.read() if streams else await made) is not grpc.aio.EOF
    if is_answered:
        made.cancel()  # a stream may go on for ever
        assert ACCESS[call.method] is Access.PUBLIC or call.caller in ("member", "administrator")
        return
    code = await made.code()
    assert code in MEANT, (call.method, code, await made.details())


def _check_accounts(cluster: InProcessCluster) -> None:
    """Somebody is an administrator, and every name is one that an account may have."""
    assert cluster.rows("SELECT 1 FROM accounts WHERE status = 1 AND role = 1"), "nobody administers the cluster"
    for (name,) in cluster.rows("SELECT name FROM accounts WHERE status = 1"):
        validate_account_name(name)


TARGETS = (
    Target("client-frames", FRAMES, check_frames, examples=30),
    Target("client-requests", CALLS, check_calls, examples=12),
)
