"""A client that is nothing but the protocol: it says what a test tells it to, right or wrong, and hides no answer.

The SDK retries, numbers and filters; tests that must see what the nodes really do speak through this instead.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from parley_proto.v1 import accounts_pb2, accounts_pb2_grpc, messaging_pb2, messaging_pb2_grpc
from scripts.cluster_local import LocalCluster
from scripts.cluster_status import secure_channel

PASSWORD = "correct horse battery"
ANSWER_S = 10.0

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Person:
    """An account logged in on one device."""

    name: str
    device_id: bytes
    token: str
    login: accounts_pb2.LogInResponse

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call of this session carries."""
        return (("authorization", f"Bearer {self.token}"),)


class Raw:
    """Stubs on one node; like any client it remembers how new the answers were that it has seen."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.accounts = accounts_pb2_grpc.AccountsStub(channel)
        self.messaging = messaging_pb2_grpc.MessagingStub(channel)
        self.seen_index = 0

    async def register(self, name: str, password: str = PASSWORD, request_id: bytes = b"") -> int:
        """Register, repeating the same request while the cluster cannot take it; returns the applied index."""
        request = accounts_pb2.RegisterRequest(
            name=name, password=password, request_id=request_id or secrets.token_bytes(16)
        )
        answer = await eventually(lambda: self.accounts.Register(request, timeout=ANSWER_S))
        return answer.applied_index

    async def log_in(self, name: str, password: str = PASSWORD, device_id: bytes = b"") -> Person:
        """Log in, on a new device unless one is given."""
        device_id = device_id or secrets.token_bytes(16)
        request = accounts_pb2.LogInRequest(name=name, password=password, device_id=device_id)
        answer = await eventually(lambda: self.accounts.LogIn(request, timeout=ANSWER_S))
        return Person(name, device_id, answer.token, answer)

    async def history(self, person: Person, peer: str) -> list[messaging_pb2.Message]:
        """A whole conversation, oldest first, read page by page."""
        messages: list[messaging_pb2.Message] = []
        while True:
            request = messaging_pb2.GetHistoryRequest(
                peer=peer, before_id=messages[0].id if messages else 0, limit=1000, seen_index=self.seen_index
            )
            page = await eventually(
                lambda: self.messaging.GetHistory(request, metadata=person.metadata, timeout=ANSWER_S)  # noqa: B023
            )
            messages = [*page.messages, *messages]
            if not page.more:
                return messages

    @asynccontextmanager
    async def session(self, person: Person, *, received_up_to: int = 0, seen_index: int = 0) -> AsyncIterator[Stream]:
        """An open Session stream that has been welcomed; cancelled at the end, as a dying client would."""
        async with self.stream(person.metadata) as stream:
            hello = messaging_pb2.Hello(received_up_to=received_up_to, seen_index=seen_index)
            await stream.write(messaging_pb2.ClientFrame(hello=hello))
            stream.welcome = (await stream.next("welcome")).welcome
            yield stream

    @asynccontextmanager
    async def stream(self, metadata: tuple[tuple[str, str], ...]) -> AsyncIterator[Stream]:
        """A Session stream on which nothing has been said yet."""
        call = self.messaging.Session(metadata=metadata)
        try:
            yield Stream(call, self)
        finally:
            call.cancel()


class Stream:
    """One Session stream, frame by frame."""

    welcome: messaging_pb2.Welcome

    def __init__(
        self, call: grpc.aio.StreamStreamCall[messaging_pb2.ClientFrame, messaging_pb2.ServerFrame], raw: Raw
    ) -> None:
        self._call = call
        self._raw = raw

    async def write(self, frame: messaging_pb2.ClientFrame) -> None:
        """Say one frame."""
        await self._call.write(frame)

    async def send(self, *sends: tuple[int, str, str]) -> None:
        """Say one batch of (number, recipient, body)."""
        batch = [messaging_pb2.Send(number=number, recipient=to, body=body) for number, to, body in sends]
        await self.write(messaging_pb2.ClientFrame(sends=messaging_pb2.SendBatch(sends=batch)))

    async def delivered(self, up_to: int) -> None:
        """Say that everything up to this id is stored here."""
        await self.write(messaging_pb2.ClientFrame(delivered=messaging_pb2.Delivered(up_to=up_to)))

    async def read(self) -> messaging_pb2.ServerFrame | None:
        """The next frame, or None at the stream's end."""
        async with asyncio.timeout(ANSWER_S):
            frame = await self._call.read()
        if not isinstance(frame, messaging_pb2.ServerFrame):
            return None  # EOF
        for result in frame.results.results:
            self._raw.seen_index = max(self._raw.seen_index, result.applied_index)
        return frame

    async def next(self, kind: str) -> messaging_pb2.ServerFrame:
        """The next frame of one kind; others are passed over."""
        while (frame := await self.read()) is not None:
            if frame.WhichOneof("frame") == kind:
                return frame
        raise AssertionError(f"the stream ended before a frame of {kind}: {await self._call.code()}")

    async def results(self, count: int) -> list[messaging_pb2.SendResult]:
        """The next `count` results of sends."""
        results: list[messaging_pb2.SendResult] = []
        while len(results) < count:
            results += (await self.next("results")).results.results
        return results

    async def send_surely(self, number: int, recipient: str, body: str) -> messaging_pb2.SendResult:
        """Say one send, with the same number again as long as the node answers RETRY; its result."""
        deadline = asyncio.get_running_loop().time() + 30
        while True:
            await self.send((number, recipient, body))
            result = (await self.results(1))[0]
            assert result.number == number
            if result.status != messaging_pb2.SEND_STATUS_RETRY:
                return result
            assert asyncio.get_running_loop().time() < deadline, f"still {result.detail}"

    async def messages(self, count: int) -> list[messaging_pb2.Message]:
        """The next `count` messages."""
        messages: list[messaging_pb2.Message] = []
        while len(messages) < count:
            messages += (await self.next("messages")).messages.messages
        return messages

    async def until_caught_up(self) -> list[messaging_pb2.Message]:
        """All messages that come before CaughtUp."""
        messages: list[messaging_pb2.Message] = []
        while (frame := await self.read()) is not None:
            match frame.WhichOneof("frame"):
                case "messages":
                    messages += frame.messages.messages
                case "caught_up":
                    return messages
        raise AssertionError(f"the stream ended before it had caught up: {await self._call.code()}")

    async def refusal(self) -> tuple[grpc.StatusCode, str]:
        """The status the node ends this stream with; frames before it are passed over."""
        try:
            while await self.read() is not None:
                pass
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        return await self._call.code(), await self._call.details()


def health_stub(channel: grpc.aio.Channel) -> Any:
    """The standard health service; its type stubs know nothing of asyncio."""
    return cast(Any, health_pb2_grpc.HealthStub)(channel)


def reflection_stub(channel: grpc.aio.Channel) -> Any:
    """The standard reflection service, as above."""
    return cast(Any, reflection_pb2_grpc.ServerReflectionStub)(channel)


@asynccontextmanager
async def raw_client(cluster: LocalCluster, name: str) -> AsyncIterator[Raw]:
    """Speak to one node."""
    async with secure_channel(cluster.address(name), cluster.ca_file.read_bytes()) as channel:
        yield Raw(channel)


async def eventually(call: Callable[[], Awaitable[Answer]], timeout_s: float = 20.0) -> Answer:
    """Repeat a call that is safe to repeat while the cluster says UNAVAILABLE."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE or asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.02)


async def until_true(check: Callable[[], Awaitable[None]], timeout_s: float = 20.0) -> None:
    """Repeat a check until it raises no AssertionError; the last one is raised at the deadline."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        try:
            return await check()
        except AssertionError:
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.02)


async def refused(call: Awaitable[object]) -> tuple[grpc.StatusCode, str]:
    """The status and text a call is refused with; AssertionError if it is not."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details() or ""
    raise AssertionError("the call was not refused")


def bodies(messages: Sequence[messaging_pb2.Message]) -> list[str]:
    """Just what was said."""
    return [message.body for message in messages]
