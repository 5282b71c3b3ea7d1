"""A client that is nothing but the protocol: it says what a test tells it to, right or wrong, and hides no answer.

The SDK retries, numbers and filters; tests that must see what the nodes really do speak through this instead.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

import grpc

from parley_proto.v1 import (
    accounts_pb2,
    accounts_pb2_grpc,
    admin_pb2_grpc,
    conversations_pb2,
    conversations_pb2_grpc,
    messaging_pb2,
    messaging_pb2_grpc,
    model_pb2,
)

PASSWORD = "correct horse battery"
ANSWER_S = 10.0
RETRY_S = 0.02

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Person:
    """An account logged in on one device."""

    name: str
    device_id: bytes
    token: str
    login: accounts_pb2.LogInResponse

    @property
    def id(self) -> int:
        """The account's id."""
        return self.login.account.id

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What every call of this session carries."""
        return (("authorization", f"Bearer {self.token}"),)


class Raw:
    """Stubs on one node; like any client it remembers how new the answers were that it has seen."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel
        self.accounts = accounts_pb2_grpc.AccountsStub(channel)
        self.presence = accounts_pb2_grpc.PresenceStub(channel)
        self.messaging = messaging_pb2_grpc.MessagingStub(channel)
        self.conversations = conversations_pb2_grpc.ConversationsStub(channel)
        self.admin = admin_pb2_grpc.AdminStub(channel)
        self.seen = model_pb2.Position()

    def note(self, position: model_pb2.Position) -> None:
        """Remember the newest position of the answers."""
        if index_of(position) > index_of(self.seen):
            self.seen.CopyFrom(position)

    async def register(self, name: str, password: str = PASSWORD, request_id: bytes = b"", code: str = "") -> int:
        """Register, repeating the same request while the cluster cannot take it; the account's id."""
        request = accounts_pb2.RegisterRequest(
            name=name, password=password, request_id=request_id or secrets.token_bytes(16), code=code
        )
        answer = await eventually(lambda: self.accounts.Register(request, timeout=ANSWER_S))
        self.note(answer.position)
        return answer.account_id

    async def log_in(self, name: str, password: str = PASSWORD, device_id: bytes = b"") -> Person:
        """Log in, on a new device unless one is given."""
        device_id = device_id or secrets.token_bytes(16)
        request = accounts_pb2.LogInRequest(name=name, password=password, device_id=device_id)
        answer = await eventually(lambda: self.accounts.LogIn(request, timeout=ANSWER_S))
        self.note(answer.position)
        return Person(name, device_id, answer.token, answer)

    async def create_channel(self, owner: Person, title: str, *members: Person) -> int:
        """Make a channel; its conversation id."""
        request = conversations_pb2.CreateChannelRequest(
            title=title, members=[member.name for member in members], request_id=secrets.token_bytes(16)
        )
        answer = await eventually(
            lambda: self.conversations.CreateChannel(request, metadata=owner.metadata, timeout=ANSWER_S)
        )
        self.note(answer.position)
        return answer.conversation_id

    async def history(self, person: Person, other: str | int) -> list[model_pb2.Message]:
        """A whole conversation, with an account by its name or any by its id, oldest first, read page by page."""
        messages: list[model_pb2.Message] = []
        while True:
            request = conversations_pb2.GetHistoryRequest(
                before_id=messages[0].id if messages else 0, limit=1000, seen=self.seen
            )
            if isinstance(other, int):
                request.conversation_id = other
            else:
                request.account_name = other
            page = await eventually(
                lambda: self.conversations.GetHistory(request, metadata=person.metadata, timeout=ANSWER_S)  # noqa: B023
            )
            messages = [*page.messages, *messages]
            if not page.has_older:
                return messages

    @asynccontextmanager
    async def session(
        self, person: Person, *, cursor: bytes = b"", seen: model_pb2.Position | None = None
    ) -> AsyncIterator[Stream]:
        """An open Connect stream that has been welcomed; cancelled at the end, as a dying client would."""
        async with self.stream(person.metadata) as stream:
            hello = messaging_pb2.Hello(cursor=cursor, seen=seen)
            await stream.write(messaging_pb2.ClientFrame(hello=hello))
            stream.welcome = (await stream.next("welcome")).welcome
            yield stream

    @asynccontextmanager
    async def stream(self, metadata: tuple[tuple[str, str], ...]) -> AsyncIterator[Stream]:
        """A Connect stream on which nothing has been said yet."""
        call = self.messaging.Connect(metadata=metadata)
        try:
            yield Stream(call, self)
        finally:
            call.cancel()


class Stream:
    """One Connect stream, frame by frame."""

    welcome: messaging_pb2.Welcome
    cursor: bytes = b""  # after the messages that were read
    said_again: int = 0  # sends that the node did not take at first

    def __init__(
        self, call: grpc.aio.StreamStreamCall[messaging_pb2.ClientFrame, messaging_pb2.ServerFrame], raw: Raw
    ) -> None:
        self._call = call
        self._raw = raw
        self.directory = messaging_pb2.Directory()  # all that was told, in order

    async def write(self, frame: messaging_pb2.ClientFrame) -> None:
        """Say one frame."""
        await self._call.write(frame)

    async def send(self, *sends: tuple[int, str, str]) -> None:
        """Say one batch of (number, account name, body)."""
        await self.send_to(*(model_pb2.Send(number=number, account_name=to, body=body) for number, to, body in sends))

    async def send_to(self, *sends: model_pb2.Send) -> None:
        """Say one batch of sends."""
        await self.write(messaging_pb2.ClientFrame(sends=messaging_pb2.SendBatch(sends=sends)))

    async def delivered(self, cursor: bytes) -> None:
        """Say that everything up to this cursor is stored here."""
        await self.write(messaging_pb2.ClientFrame(delivered=messaging_pb2.Delivered(cursor=cursor)))

    async def mark_read(self, conversation_id: int, up_to: int) -> None:
        """Say that a conversation has been read up to a message."""
        mark = messaging_pb2.Read(conversation_id=conversation_id, up_to=up_to)
        await self.write(messaging_pb2.ClientFrame(read=mark))

    async def read(self) -> messaging_pb2.ServerFrame | None:
        """The next frame, or None at the stream's end."""
        async with asyncio.timeout(ANSWER_S):
            frame = await self._call.read()
        if not isinstance(frame, messaging_pb2.ServerFrame):
            return None  # EOF
        self._raw.note(frame.results.position)
        self.directory.MergeFrom(frame.directory)
        self.cursor = frame.messages.cursor or frame.caught_up.cursor or self.cursor
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

    async def send_surely(self, number: int, name: str, body: str) -> messaging_pb2.SendResult:
        """Say one send, with the same number again as long as the node does not take it; its result."""
        [result] = await self.send_all_surely(model_pb2.Send(number=number, account_name=name, body=body))
        return result

    async def send_all_surely(self, *sends: model_pb2.Send, per_frame: int = 1) -> list[messaging_pb2.SendResult]:
        """Say all sends at once, and those again that the node does not take; their results, in the order of `sends`.

        On a slow machine there may be no leader for a moment: the first is answered RETRY, and those behind it GAP.
        `said_again` counts them, for who expects none.
        """
        deadline = asyncio.get_running_loop().time() + 30
        results: dict[int, messaging_pb2.SendResult] = {}
        while left := [send for send in sends if send.number not in results]:
            assert asyncio.get_running_loop().time() < deadline, f"not taken: {left[0].number}"
            for first in range(0, len(left), per_frame):
                await self.send_to(*left[first : first + per_frame])
            answered = sorted(await self.results(len(left)), key=lambda result: result.number)
            assert [result.number for result in answered] == sorted(send.number for send in left), "each once"
            not_taken: list[int] = []
            for result in answered:
                is_behind = result.status == messaging_pb2.SEND_STATUS_GAP and bool(not_taken)
                if result.status == messaging_pb2.SEND_STATUS_RETRY or is_behind:
                    not_taken.append(result.number)
                else:
                    results[result.number] = result
            if not_taken:
                self.said_again += len(not_taken)
                await asyncio.sleep(RETRY_S)
        return [results[send.number] for send in sends]

    async def messages(self, count: int) -> list[model_pb2.Message]:
        """The next `count` messages."""
        messages: list[model_pb2.Message] = []
        while len(messages) < count:
            messages += (await self.next("messages")).messages.messages
        return messages

    async def until_caught_up(self) -> list[model_pb2.Message]:
        """All messages that come before CaughtUp."""
        messages: list[model_pb2.Message] = []
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


async def eventually(
    call: Callable[[], Awaitable[Answer]],
    timeout_s: float = 20.0,
    while_it_says: Collection[grpc.StatusCode] = (grpc.StatusCode.UNAVAILABLE,),
) -> Answer:
    """Repeat a call that is safe to repeat while the cluster says UNAVAILABLE."""
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() not in while_it_says or asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.02)


async def until_so(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    """Wait for what no event tells.

    It sleeps between two looks: a loop that spins keeps the threads of a node in this process from the interpreter.
    """
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def until_true(check: Callable[[], Awaitable[None]], timeout_s: float = 20.0) -> None:
    """Repeat a check until it raises no AssertionError; the last one is raised at the deadline.

    A node that cannot be reached now, because the machine is slow, is asked again.
    """
    deadline = asyncio.get_running_loop().time() + timeout_s
    while True:
        try:
            return await check()
        except (AssertionError, grpc.aio.AioRpcError) as error:
            if isinstance(error, grpc.aio.AioRpcError) and error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
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


def numbered_sends(to: str, count: int) -> list[model_pb2.Send]:
    """Sends of the messages 1 to `count`."""
    return [model_pb2.Send(number=number, account_name=to, body=f"message {number}") for number in range(1, count + 1)]


def bodies(messages: Sequence[model_pb2.Message]) -> list[str]:
    """Just what was said."""
    return [message.body for message in messages]


def index_of(position: model_pb2.Position) -> int:
    """The index of the one group there is."""
    return max((pair.index for pair in position.groups), default=0)
