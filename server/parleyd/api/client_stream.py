"""One device's Connect stream: the client's frames become commands, and changes become frames to the client.

Three tasks share one lifetime. The reader converts frames into work. It waits for the cluster only if the device has as
many unanswered sends as it may have. Then it stops reading, and flow control stops the client. The writer sends what
the device stream holds. The acknowledger puts at most one delivery mark at a time into the log, in one command batch
with the marks of the node's other streams. Marks that arrive meanwhile are merged, because the highest includes the
others.

The stream ends if the client closes or disconnects, if the session is closed or expires, if the device opens another
stream, or if the node stops. Submitted sends are completed in every case, and a retry of their number finds the result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import grpc
import grpc.aio

from parley_proto.v1 import messaging_pb2 as pb
from parley_proto.v1 import model_pb2, state_pb2
from parleyd.api.auth import Authenticator
from parleyd.api.commands import Commands
from parleyd.api.errors import ApiError, Context, refusal
from parleyd.api.frame_rates import FrameRate
from parleyd.api.marks import IgnoredMarks, ReadMarks
from parleyd.api.node_marks import NodeMarks
from parleyd.api.patience import Patience, write
from parleyd.api.results import explain
from parleyd.budgets import DeviceShare
from parleyd.delivery.cursor import InvalidCursorError, decode_cursor
from parleyd.delivery.device_stream import CloseReason, DeviceStream
from parleyd.group.errors import NoRoomError, OverloadedError, UnavailableError
from parleyd.group.proposals import AppliedCommands
from parleyd.machine.features.devices import CLAIM_LEVEL
from parleyd.machine.features.sessions import SessionRecord
from parleyd.machine.limits import MAX_ID, MAX_SENDS_IN_FLIGHT
from parleyd.security.names import InvalidInputError

MAX_SENDS_PER_FRAME = 1024
ACK_INTERVAL_S = 0.02
PAGE_PATIENCE = Patience(10.0, 60.0)

SIGNED_OUT = explain(state_pb2.RESULT_CODE_SIGNED_OUT)
RETRY_TEXT = (
    "The cluster did not confirm this message ({reason}). The client sends it again with the same number, so it is "
    "stored once."
)

NO_ROOM_TEXT = (
    "The cluster has no room for more messages now: {reason}. This message waits on its device and is sent when there "
    "is room. An administrator has to make some. Reading works."
)
HELLO_AGAIN = "A stream has one hello, in its first frame. The stream ends. Update the client."
EMPTY_FRAME = (
    "The frame has no content that this node's release has. The stream ends. The client may be newer than the node."
)

CLOSE_STATUSES = {
    CloseReason.SIGNED_OUT: (SIGNED_OUT.status, SIGNED_OUT.text),
    CloseReason.TAKEN_OVER: (
        grpc.StatusCode.ABORTED,
        "The same device opened another stream, which replaces this one. Nothing is lost.",
    ),
    CloseReason.SUPERSEDED: (
        grpc.StatusCode.ABORTED,
        "Another copy of this device's files sends for the device now. What this copy has not sent waits in its files. "
        "To send from this copy, log in again on it.",
    ),
    CloseReason.REPLACED: (
        grpc.StatusCode.UNAVAILABLE,
        "This node installed a snapshot. Nothing is lost. The client connects again by itself.",
    ),
    CloseReason.STOPPING: (
        grpc.StatusCode.UNAVAILABLE,
        "This node is stopping. Nothing is lost. The client moves to another node by itself.",
    ),
}
SEND_STATUSES = {
    state_pb2.RESULT_CODE_OK: pb.SEND_STATUS_ACCEPTED,
    state_pb2.RESULT_CODE_FORGOTTEN: pb.SEND_STATUS_UNKNOWN,
    state_pb2.RESULT_CODE_GAP: pb.SEND_STATUS_GAP,
}
"""The meaning of a send's result code for its sender. Every other code refuses the send for good."""
ENDING_CODES = {
    state_pb2.RESULT_CODE_SIGNED_OUT: CloseReason.SIGNED_OUT,
    state_pb2.RESULT_CODE_DEVICE_SUPERSEDED: CloseReason.SUPERSEDED,
}
"""Results of a command as a whole that end the stream. No number was used."""


class ClientStream:
    """Runs one admitted stream until it ends."""

    def __init__(
        self,
        session: SessionRecord,
        stream: DeviceStream,
        commands: Commands,
        authenticator: Authenticator,
        context: Context,
        sends: DeviceShare,
        *,
        delivered_up_to: int,
        claim: model_pb2.DeviceClaim,
        read_marks: ReadMarks,
        ignored_marks: IgnoredMarks,
        node_marks: NodeMarks,
        frame_rate: FrameRate,
    ) -> None:
        """Begin a stream; `delivered_up_to` is what the cluster knows that the device has, which no mark repeats.

        `sends` bounds the bytes of sends that have no result yet. `claim` says which copy of the device's files is
        connected. It goes with each command of the device.
        """
        self._claim = claim
        self._session = session
        self._stream = stream
        self._commands = commands
        self._authenticator = authenticator
        self._context = context
        self._share = sends
        self._unanswered = 0
        self._answered = asyncio.Event()
        self._delivered_up_to = delivered_up_to
        self._delivered_changed = asyncio.Event()
        self._read_marks = read_marks
        self._ignored_marks = ignored_marks
        self._node_marks = node_marks
        self._frame_rate = frame_rate

    async def run(self) -> None:
        """Serve the stream; return when the client has ended it, raise ApiError when this node ends it."""
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._read(tasks), name="read")
            others = [
                tasks.create_task(self._write(), name="write"),
                tasks.create_task(self._acknowledge(), name="acknowledge"),
                tasks.create_task(self._read_marks.run(), name="mark read"),
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
                    await self._take_sends(frame.sends, tasks)
                    continue  # their answers bound them
                case "delivered":
                    self._note_delivered(frame.delivered.cursor)
                case "read":
                    await self._read_marks.note(frame.read)
                case "ping":
                    self._stream.offer_pong(frame.ping.nonce)
                case "hello":
                    raise ApiError(grpc.StatusCode.INVALID_ARGUMENT, HELLO_AGAIN)
                case _:
                    raise ApiError(grpc.StatusCode.INVALID_ARGUMENT, EMPTY_FRAME)
            await self._keep_rate()

    async def _keep_rate(self) -> None:
        """Wait as long as the account has sent more frames than it may."""
        delay_s = self._frame_rate.delay_s(asyncio.get_running_loop().time())
        if delay_s:
            await asyncio.sleep(delay_s)

    async def _take_sends(self, batch: pb.SendBatch, tasks: asyncio.TaskGroup) -> None:
        sends = list(batch.sends)
        if not sends or len(sends) > MAX_SENDS_PER_FRAME:
            raise InvalidInputError("sends", f"holds {len(sends)} messages; 1 to {MAX_SENDS_PER_FRAME} make a frame")
        previous = 0
        for send in sends:
            if not previous < send.number <= MAX_ID:
                raise InvalidInputError("number", "must be 1 or more and rise within a frame; nothing of it was taken")
            previous = send.number
        size = batch.ByteSize()
        is_taken = await self._has_room(len(sends), size)
        self._unanswered += len(sends)
        if is_taken:
            tasks.create_task(self._submit(sends, size), name="submit")
        else:
            self._offer_retry(sends, "too many bytes of messages wait for the log at this node")

    async def _has_room(self, count: int, size: int) -> bool:
        """Wait for room for a frame, as long as results of this device's own sends can make some."""
        while self._unanswered and self._unanswered + count > MAX_SENDS_IN_FLIGHT:
            await self._next_answer()
        while not self._share.take(size):
            if not self._share.in_use:
                return False
            await self._next_answer()
        return True

    async def _next_answer(self) -> None:
        self._answered.clear()
        await self._answered.wait()

    async def _submit(self, sends: list[model_pb2.Send], size: int) -> None:
        """Apply one frame's sends in order. A send that breaks a rule uses its number and is refused."""
        command = state_pb2.SendMessages(session_id=self._session.session_id, sends=sends, claim=self._claim_now())
        # The end of the stream does not take the sends back from the log, so their bytes count until they are done.
        submitting = asyncio.ensure_future(self._commands.submit([state_pb2.Command(send_messages=command)]))
        submitting.add_done_callback(lambda done: self._submitted(done, size))
        try:
            applied = await asyncio.shield(submitting)
        except NoRoomError as error:
            self._offer_retry(sends, str(error), pb.SEND_STATUS_NO_ROOM, NO_ROOM_TEXT)
            return
        except (OverloadedError, UnavailableError) as error:
            self._offer_retry(sends, str(error))
            return
        result = applied.results[0]
        if result.code in ENDING_CODES:
            self._stream.close(ENDING_CODES[result.code])
        elif result.HasField("send_messages"):
            results = [_to_client(stored) for stored in result.send_messages.sends]
            self._stream.offer_results(results, self._authenticator.position(applied.index))
        elif result.code == state_pb2.RESULT_CODE_FAILED:
            # No number was used. The numbers after these would be gaps, so the client has to send these again.
            self._offer_retry(sends, "every node failed to apply it, their logs name the cause")
        else:
            # No number was used, so no send has a result.
            raise refusal(result.code, after_unknown=applied.after_unknown)

    def _claim_now(self) -> model_pb2.DeviceClaim | None:
        """Return what to put into a command: nothing before the cluster's level has claims."""
        return self._claim if self._commands.level >= CLAIM_LEVEL else None

    def _submitted(self, done: asyncio.Future[AppliedCommands], size: int) -> None:
        self._share.give_back(size)
        self._answered.set()
        if not done.cancelled():
            done.exception()  # nobody waits for it any more if the stream has ended

    def _offer_retry(
        self,
        sends: Sequence[model_pb2.Send],
        reason: str,
        status: pb.SendStatus.ValueType = pb.SEND_STATUS_RETRY,
        text: str = RETRY_TEXT,
    ) -> None:
        detail = text.format(reason=reason)
        results = [pb.SendResult(number=send.number, status=status, detail=detail) for send in sends]
        self._stream.offer_results(results, model_pb2.Position())

    def _note_delivered(self, encoded: bytes) -> None:
        generation = self._authenticator.position(0).generation
        try:
            up_to = decode_cursor(encoded).message_id(generation)
        except InvalidCursorError:
            self._ignored_marks.note("delivered", "INVALID_CURSOR")
            return
        if up_to > self._stream.cursor:
            # Taken as it is, it would mark later messages as delivered that nobody has received.
            self._ignored_marks.note("delivered", "CURSOR_NOT_REACHED")
            return
        if up_to > self._delivered_up_to:
            self._delivered_up_to = up_to
            self._delivered_changed.set()

    async def _acknowledge(self) -> None:
        while True:
            await self._delivered_changed.wait()
            self._delivered_changed.clear()
            mark = state_pb2.MarkDelivered(
                session_id=self._session.session_id, up_to=self._delivered_up_to, claim=self._claim_now()
            )
            try:
                await self._node_marks.submit(self._session.account_id, [state_pb2.Command(mark_delivered=mark)])
            except (OverloadedError, UnavailableError):
                self._delivered_changed.set()  # the mark is tried again, with the marks that arrived meanwhile
            await asyncio.sleep(ACK_INTERVAL_S)

    # ---- down

    async def _write(self) -> None:
        while True:
            for frame in await self._stream.next_frames():
                await self._write_frame(frame)
                if isinstance(frame, pb.ServerFrame) and frame.HasField("results"):
                    # After the write: a client that does not read its results must not make them accumulate here.
                    self._unanswered -= len(frame.results.results)
                    self._answered.set()

    async def _write_frame(self, frame: pb.ServerFrame | bytes) -> None:
        await write(self._context, frame, PAGE_PATIENCE, self._stream.is_page_wanted)

    async def _end_when_closed(self) -> None:
        reason = await asyncio.shield(self._stream.closed)
        status, text = CLOSE_STATUSES[reason]
        raise ApiError(status, text)

    async def _expire(self) -> None:
        # The time of the cluster may have been set back meanwhile.
        while (left_ms := self._session.expires_at_ms - self._authenticator.now_ms) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left_ms / 1000)
        raise ApiError(SIGNED_OUT.status, SIGNED_OUT.text)


def _to_client(stored: state_pb2.StoredSendResult) -> pb.SendResult:
    status = SEND_STATUSES.get(stored.code, pb.SEND_STATUS_REJECTED)
    answer = pb.SendResult(number=stored.number, status=status)
    if stored.code == state_pb2.RESULT_CODE_OK:
        answer.message_id = stored.message_id
        answer.conversation_id = stored.conversation_id
        answer.sent_at_ms = stored.sent_at_ms
    else:
        answer.detail = explain(stored.code).text
    return answer
