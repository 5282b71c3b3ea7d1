"""One device's Connect stream: what comes up becomes commands, what changed goes down.

Three tasks share one lifetime. The reader turns frames into work and never waits for the cluster, except where the
device already has as many unanswered sends as it may have: then it stops reading, and flow control stops the client.
The writer sends what the device stream holds. The acknowledger puts at most one delivery mark at a time into the log;
marks that come meanwhile are merged, since the highest says all.

Ends: the client half-closes or goes away; the session is closed, expires or is taken over by another stream of the
device; the node stops. Sends that were submitted go on to their end in every case, and the retried number finds it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import grpc
import grpc.aio

from parley_proto.v1 import messaging_pb2 as pb
from parley_proto.v1 import state_pb2
from parleyd.api.auth import SIGNED_OUT_TEXT, now_ms
from parleyd.api.errors import ApiError, Context
from parleyd.delivery.device_stream import CloseReason, DeviceStream
from parleyd.group.command_router import CommandRouter
from parleyd.group.errors import OverloadedError, UnavailableError
from parleyd.machine.queries import SessionRecord
from parleyd.security.names import InvalidInputError, validate_account_name

SEND_TIMEOUT_S = 10.0
MAX_SENDS_IN_FLIGHT = 1024
MAX_SENDS_PER_FRAME = 1024
MAX_READ_MARKS = 1024
ACK_INTERVAL_S = 0.02
MAX_MESSAGE_ID = (1 << 63) - 1


CLOSE_STATUSES = {
    CloseReason.SIGNED_OUT: (grpc.StatusCode.UNAUTHENTICATED, SIGNED_OUT_TEXT),
    CloseReason.TAKEN_OVER: (
        grpc.StatusCode.ABORTED,
        "the same device opened another stream, which goes on in place of this one; nothing is lost",
    ),
    CloseReason.REPLACED: (
        grpc.StatusCode.UNAVAILABLE,
        "this node caught up by a snapshot; connect again, what it brought is sent then",
    ),
    CloseReason.STOPPING: (grpc.StatusCode.UNAVAILABLE, "this node is stopping; the client moves to another by itself"),
}


@dataclass(frozen=True, slots=True)
class ClientStreamLimits:
    """What one client may send and have waiting; `max_message_bytes` counts the UTF-8 of one body."""

    max_message_bytes: int
    max_live_bytes: int


class ClientStream:
    """Runs one admitted stream until it ends."""

    def __init__(
        self,
        session: SessionRecord,
        stream: DeviceStream,
        router: CommandRouter,
        limits: ClientStreamLimits,
        context: Context,
    ) -> None:
        self._session = session
        self._stream = stream
        self._router = router
        self._limits = limits
        self._context = context
        self._unanswered = 0
        self._answered = asyncio.Event()
        self._delivered_up_to = 0
        self._delivered_changed = asyncio.Event()
        self._read_marks: dict[int, int] = {}
        self._read_marks_changed = asyncio.Event()

    async def run(self) -> None:
        """Serve the stream; returns when the client has ended it, raises ApiError when this node ends it."""
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._read(tasks), name="read")
            others = [
                tasks.create_task(self._write(), name="write"),
                tasks.create_task(self._acknowledge(), name="acknowledge"),
                tasks.create_task(self._mark_read(), name="mark read"),
                tasks.create_task(self._expire(), name="expire"),
                tasks.create_task(self._end_when_closed(), name="closed"),
            ]
            await reading
            for task in others:
                task.cancel()

    # ---- up

    async def _read(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            frame = await self._context.read()
            if frame is grpc.aio.EOF:
                return
            match frame.WhichOneof("frame"):
                case "sends":
                    await self._take_sends(frame.sends.sends, tasks)
                case "delivered":
                    self._note_delivered(frame.delivered.up_to)
                case "mark_read":
                    await self._note_read(frame.mark_read)
                case "ping":
                    self._stream.offer_pong(frame.ping.nonce)
                case "hello":
                    raise ApiError(grpc.StatusCode.INVALID_ARGUMENT, "hello is said once, in the first frame")
                case _:
                    raise ApiError(grpc.StatusCode.INVALID_ARGUMENT, "a frame without content; is the client newer?")

    async def _take_sends(self, sends: Sequence[pb.Send], tasks: asyncio.TaskGroup) -> None:
        if not sends or len(sends) > MAX_SENDS_PER_FRAME:
            raise InvalidInputError("sends", f"holds {len(sends)} messages; 1 to {MAX_SENDS_PER_FRAME} make a frame")
        previous = 0
        for send in sends:
            if not previous < send.number <= MAX_MESSAGE_ID:
                raise InvalidInputError("number", "must be 1 or more and rise within a frame; nothing of it was taken")
            previous = send.number
        while self._unanswered and self._unanswered + len(sends) > MAX_SENDS_IN_FLIGHT:
            self._answered.clear()
            await self._answered.wait()
        self._unanswered += len(sends)
        tasks.create_task(self._submit(list(sends)), name="submit")

    async def _submit(self, sends: list[pb.Send]) -> None:
        """Apply one frame's sends. A body that breaks the rules still uses up its number, so that order holds: it
        enters the log empty and is refused there on every node alike."""
        refusals = {send.number: refusal for send in sends if (refusal := self._refusal(send)) is not None}
        command = state_pb2.SendMessages(
            session_id=self._session.session_id,
            sends=[
                state_pb2.StoredSend(
                    number=send.number,
                    recipient=send.recipient if send.number not in refusals else "",
                    body=send.body if send.number not in refusals else "",
                )
                for send in sends
            ],
        )
        try:
            applied = await self._router.submit([state_pb2.Command(send_messages=command)], timeout_s=SEND_TIMEOUT_S)
        except (OverloadedError, UnavailableError) as error:
            text = f"not confirmed: {error}. It is sent again with the same number, so it cannot arrive twice"
            results = [pb.SendResult(number=send.number, status=pb.SEND_STATUS_RETRY, detail=text) for send in sends]
        else:
            result = applied.results[0]
            if result.code == state_pb2.RESULT_CODE_UNAUTHENTICATED:
                self._stream.close(CloseReason.SIGNED_OUT)
                return
            results = [_to_client(stored, result, applied.index, refusals) for stored in result.sends]
        self._stream.offer_result(results)

    def _refusal(self, send: pb.Send) -> str | None:
        try:
            validate_account_name(send.recipient, "recipient")
        except InvalidInputError as error:
            return str(error)
        size = len(send.body.encode())
        if not 0 < size <= self._limits.max_message_bytes:
            return (
                f"the message has {size} bytes; 1 to {self._limits.max_message_bytes} are allowed. "
                "It was not sent; shorten or split it and send it as a new message"
            )
        return None

    def _note_delivered(self, up_to: int) -> None:
        if up_to > MAX_MESSAGE_ID:
            raise InvalidInputError("up_to", "is not a message id any cluster gave out")
        if up_to > self._delivered_up_to:
            self._delivered_up_to = up_to
            self._delivered_changed.set()

    async def _acknowledge(self) -> None:
        while True:
            await self._delivered_changed.wait()
            self._delivered_changed.clear()
            mark = state_pb2.MarkDelivered(session_id=self._session.session_id, up_to=self._delivered_up_to)
            try:
                await self._router.submit([state_pb2.Command(mark_delivered=mark)], timeout_s=SEND_TIMEOUT_S)
            except (OverloadedError, UnavailableError):
                self._delivered_changed.set()  # the mark is not lost: it is tried again with what came meanwhile
            await asyncio.sleep(ACK_INTERVAL_S)

    async def _note_read(self, mark: pb.MarkRead) -> None:
        if mark.up_to > MAX_MESSAGE_ID or mark.conversation_id > MAX_MESSAGE_ID:
            raise InvalidInputError("mark_read", "names ids no cluster gave out")
        while len(self._read_marks) >= MAX_READ_MARKS and mark.conversation_id not in self._read_marks:
            self._answered.clear()
            await self._answered.wait()
        self._read_marks[mark.conversation_id] = max(mark.up_to, self._read_marks.get(mark.conversation_id, 0))
        self._read_marks_changed.set()

    async def _mark_read(self) -> None:
        """Put what is marked into the log, one batch at a time; the highest mark of a conversation says all."""
        while True:
            await self._read_marks_changed.wait()
            self._read_marks_changed.clear()
            marks, self._read_marks = self._read_marks, {}
            self._answered.set()
            commands = [
                state_pb2.Command(
                    mark_conversation_read=state_pb2.MarkConversationRead(
                        session_id=self._session.session_id, conversation_id=conversation_id, up_to=up_to
                    )
                )
                for conversation_id, up_to in marks.items()
            ]
            try:
                applied = await self._router.submit(commands, timeout_s=SEND_TIMEOUT_S)
            except (OverloadedError, UnavailableError):
                for conversation_id, up_to in marks.items():
                    self._read_marks[conversation_id] = max(up_to, self._read_marks.get(conversation_id, 0))
                self._read_marks_changed.set()
            else:
                for result in applied.results:
                    if result.code == state_pb2.RESULT_CODE_PERMISSION_DENIED:
                        raise ApiError(grpc.StatusCode.PERMISSION_DENIED, result.detail)
            await asyncio.sleep(ACK_INTERVAL_S)

    # ---- down

    async def _write(self) -> None:
        while True:
            for frame in await self._stream.next_frames():
                await self._context.write(frame)
                if frame.HasField("results"):
                    # Only now: a client that does not read its results may not pile them up here.
                    self._unanswered -= len(frame.results.results)
                    self._answered.set()

    async def _end_when_closed(self) -> None:
        reason = await asyncio.shield(self._stream.closed)
        status, text = CLOSE_STATUSES[reason]
        raise ApiError(status, text)

    async def _expire(self) -> None:
        left_ms = self._session.expires_at_ms - now_ms()
        await asyncio.sleep(max(0, left_ms) / 1000)
        raise ApiError(grpc.StatusCode.UNAUTHENTICATED, SIGNED_OUT_TEXT)


def _to_client(
    stored: state_pb2.StoredSendResult,
    result: state_pb2.CommandResult,
    applied_index: int,
    refusals: dict[int, str],
) -> pb.SendResult:
    answer = pb.SendResult(number=stored.number, applied_index=applied_index)
    match stored.code:
        case state_pb2.RESULT_CODE_OK:
            answer.status = pb.SEND_STATUS_ACCEPTED
            answer.message_id = stored.message_id
            answer.conversation_id = stored.conversation_id
            answer.sent_at_ms = stored.sent_at_ms
        case state_pb2.RESULT_CODE_FORGOTTEN:
            answer.status = pb.SEND_STATUS_ACCEPTED
            answer.detail = "applied long ago; its id is no longer kept for retries, history has it"
        case state_pb2.RESULT_CODE_GAP:
            answer.status = pb.SEND_STATUS_GAP
            answer.detail = f"an earlier message is missing; send again from number {result.last_send_number + 1} on"
        case state_pb2.RESULT_CODE_NOT_FOUND:
            answer.status = pb.SEND_STATUS_REJECTED
            answer.detail = refusals.get(stored.number, "there is no such account; the message was not sent")
        case state_pb2.RESULT_CODE_FAILED:
            answer.status = pb.SEND_STATUS_REJECTED
            answer.detail = "the cluster could not store this message; it was not sent, and its nodes' logs say why"
        case _:
            answer.status = pb.SEND_STATUS_REJECTED
            answer.detail = refusals.get(stored.number, "the message breaks the rules; it was not sent")
    return answer
