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
from parley_proto.v1 import model_pb2
from parleyd.api import stream_ends
from parleyd.api.auth import Authenticator
from parleyd.api.device_commands import DeviceCommands, SentResults, check_sends, too_many_bytes
from parleyd.api.errors import ApiError, Context
from parleyd.api.frame_rates import FrameRate
from parleyd.api.marks import IgnoredMarks, ReadMarks
from parleyd.api.patience import write
from parleyd.api.stream_ends import end_when_closed, end_when_expired
from parleyd.api.stream_person import StreamPerson
from parleyd.delivery.cursor import InvalidCursorError, decode_cursor
from parleyd.delivery.device_stream import DeviceStream
from parleyd.group.errors import OverloadedError, UnavailableError
from parleyd.machine.features.sessions import SessionRecord
from parleyd.machine.limits import MAX_SENDS_IN_FLIGHT

ACK_INTERVAL_S = 0.02

HELLO_AGAIN = "A stream has one hello, in its first frame. The stream ends. Update the client."
EMPTY_FRAME = (
    "The frame has no content that this node's release has. The stream ends. The client may be newer than the node."
)


class ClientStream:
    """Runs one admitted stream until it ends."""

    def __init__(
        self,
        session: SessionRecord,
        stream: DeviceStream,
        device: DeviceCommands,
        authenticator: Authenticator,
        context: Context,
        *,
        delivered_up_to: int,
        read_marks: ReadMarks,
        ignored_marks: IgnoredMarks,
        frame_rate: FrameRate,
        person: StreamPerson,
    ) -> None:
        """Begin a stream; `delivered_up_to` is what the cluster knows that the device has, which no mark repeats."""
        self._session = session
        self._stream = stream
        self._device = device
        self._authenticator = authenticator
        self._context = context
        self._unanswered = 0
        self._answered = asyncio.Event()
        self._delivered_up_to = delivered_up_to
        self._delivered_changed = asyncio.Event()
        self._read_marks = read_marks
        self._ignored_marks = ignored_marks
        self._frame_rate = frame_rate
        self._person = person

    async def run(self) -> None:
        """Serve the stream; return when the client has ended it, raise ApiError when this node ends it."""
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(self._read(tasks), name="read")
            others = [
                tasks.create_task(self._write(), name="write"),
                tasks.create_task(self._acknowledge(), name="acknowledge"),
                tasks.create_task(self._read_marks.run(), name="mark read"),
                tasks.create_task(end_when_expired(self._session, self._authenticator), name="expire"),
                tasks.create_task(end_when_closed(self._stream), name="closed"),
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
                    self._stream.small_frames.offer_pong(frame.ping.nonce)
                case "away":
                    self._person.set_away(away=frame.away.away)
                case "typist":
                    self._person.types(frame.typist.conversation_id, tasks)
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
        check_sends(sends)
        size = batch.ByteSize()
        is_taken = await self._has_room(len(sends), size)
        self._unanswered += len(sends)
        if is_taken:
            tasks.create_task(self._submit(sends, size), name="submit")
        else:
            self._offer(too_many_bytes(sends))

    async def _has_room(self, count: int, size: int) -> bool:
        """Wait for room for a frame, as long as results of this device's own sends can make some."""
        while self._unanswered and self._unanswered + count > MAX_SENDS_IN_FLIGHT:
            await self._next_answer()
        while not self._device.take(size):
            if not self._device.has_unanswered:
                return False
            await self._next_answer()
        return True

    async def _next_answer(self) -> None:
        self._answered.clear()
        await self._answered.wait()

    async def _submit(self, sends: Sequence[model_pb2.Send], size: int) -> None:
        """Apply one frame's sends in order."""
        self._offer(await self._device.send(sends, size))
        self._answered.set()

    def _offer(self, sent: SentResults) -> None:
        self._stream.small_frames.offer_results(sent.results, sent.position)

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
            try:
                await self._device.mark_delivered(self._delivered_up_to)
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
        await write(self._context, frame, stream_ends.PAGE_PATIENCE, self._stream.is_page_wanted)
