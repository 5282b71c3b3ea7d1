"""One Connect stream with one node, from Hello to its end.

Four tasks share the stream: the reader dispatches what comes down, the writer alone writes, the claimer fetches
numbered sends from the outbox as the window has capacity, the heart pings and counts silence. A fifth watches whether
the node serves. The first that fails ends all; run() always ends with StreamClosedError saying why, or with
cancellation.

Order of effects: a send goes up only after its number is durable; a message is acknowledged only after it is stored;
the result of a send is told to people at once, because losing the local note only means asking the cluster again.
Silence is counted in ticks of our own loop, not in seconds, so that a machine too busy to read does not accuse its
node.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from random import Random
from typing import Any, NoReturn, Protocol

import apsw
import grpc

from parley.device import identity, inbox, outbox, schema
from parley.device.identity import DeviceIdentity
from parley.device.outbox import Settlement
from parley.device.store import Store
from parley.errors import ParleyError, TlsError, from_grpc
from parley.model import ConnectionState, Message, MessageStatus, Outgoing, Receipt
from parley.state_publisher import StatePublisher
from parley.wire import convert
from parley.wire.endpoints import Endpoint
from parley.wire.send_window import SendWindow
from parley_proto.v1 import messaging_pb2 as pb
from parley_proto.v1 import messaging_pb2_grpc

GAP_ROUNDS_MEAN_OUT_OF_STEP = 6
STUCK_ROUNDS = 4
MAX_CLAIM = 1024
MAX_BATCHES_BEING_STORED = 32

Call = Any  # grpc.aio.StreamStreamCall: generic in the stubs, not at run time


class StreamCloseReason(Enum):
    """Why a stream ended."""

    LOST = auto()
    SILENT = auto()
    NOT_SERVING = auto()
    SIGNED_OUT = auto()
    REPLACED = auto()
    OUT_OF_STEP = auto()
    REFUSED = auto()
    BUSY = auto()


class StreamClosedError(ParleyError):
    """The stream ended. `better` is a node that says it serves, where one was found."""

    def __init__(
        self, reason: StreamCloseReason, text: str, better: Endpoint | None = None, *, tls: bool = False
    ) -> None:
        super().__init__(text)
        self.tls = tls
        self.reason = reason
        self.better = better


@dataclass(frozen=True, slots=True)
class MessageStreamSettings:
    """Times of a stream. A node is silent after `silent_ticks` pings without a word."""

    ping_interval_s: float = 0.25
    silent_ticks: int = 4
    majority_grace_s: float = 0.5
    probe_interval_s: float = 1.0
    acknowledge_interval_s: float = 0.02


class MessageStreamEvents(Protocol):
    """Whom a stream tells what it learns."""

    def welcomed(self, welcome: pb.Welcome) -> None:
        """The node took us in."""

    def news(self, news: pb.ClusterStatusUpdate) -> None:
        """The cluster's members or leader, maybe changed."""

    def settled(self, messages: Sequence[Outgoing]) -> None:
        """Final results, in the order they came."""

    def sending(self, messages: Sequence[Outgoing]) -> None:
        """These got their numbers."""

    def seen(self, index: int) -> None:
        """An answer came from this log index."""

    def received(self, count: int) -> None:
        """So many new messages are in the inbox."""

    def shared(self) -> None:
        """Another process of this account holds the device lock."""

    def receipts_moved(self, receipts: Sequence[Receipt]) -> None:
        """Others have come further."""


class MessageStream:
    """One stream; made anew for every connection."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        where: str,
        who: DeviceIdentity,
        store: Store,
        publisher: StatePublisher,
        events: MessageStreamEvents,
        find_serving: Callable[[], Awaitable[Endpoint | None]],
        rng: Random,
        settings: MessageStreamSettings,
        *,
        insecure: bool,
    ) -> None:
        """`find_serving` asks the other nodes whether one of them serves."""
        self._stub = messaging_pb2_grpc.MessagingStub(channel)
        self._where = where
        self._who = who
        self._store = store
        self._publisher = publisher
        self._events = events
        self._find_serving = find_serving
        self._rng = rng
        self._settings = settings
        self._insecure = insecure
        self._account_id = 0
        self._window = SendWindow(1, (), rng)
        self._wake = asyncio.Event()
        self._capacity = asyncio.Event()
        self._healthy = asyncio.Event()
        self._unhealthy = asyncio.Event()
        self._has_majority = False
        self._silent_ticks = 0
        self._reading = True
        self._pings_due = 0
        self._nonce = 0
        self._acknowledge: int = 0
        self._acknowledge_timer: asyncio.TimerHandle | None = None
        self._acknowledge_at = 0.0
        self._resend_timer: asyncio.TimerHandle | None = None
        self._storing = asyncio.Semaphore(MAX_BATCHES_BEING_STORED)
        self._store_failure: BaseException | None = None
        self._reads: dict[int, int] = {}
        self.reads_told: dict[int, int] = {}

    async def run(self, welcome_timeout_s: float) -> NoReturn:
        """Sends and receives until the stream ends; cancelling it ends the stream."""
        call = self._stub.Connect(metadata=(("authorization", f"Bearer {self._who.token}"),))
        try:
            welcome = await self._greet(call, welcome_timeout_s)
            unanswered = await self._store.write(lambda c: self._begin(c, welcome))
            self._window = SendWindow(welcome.max_sends_in_flight or MAX_CLAIM, unanswered, self._rng)
            self._account_id = welcome.account_id
            self._events.welcomed(welcome)
            self._take_news(welcome.status)
            await self.push_reads()
            self._wake.set()
            self._capacity.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._read(call))
                group.create_task(self._write(call))
                group.create_task(self._claim())
                group.create_task(self._beat())
                group.create_task(self._watch_serving())
        except BaseExceptionGroup as group_error:
            raise self._why(group_error) from group_error
        except grpc.aio.AioRpcError as error:
            raise self._ended_by(error) from error
        except asyncio.InvalidStateError as error:
            raise StreamClosedError(StreamCloseReason.LOST, f"{self._where} closed the connection.") from error
        finally:
            for timer in (self._acknowledge_timer, self._resend_timer):
                if timer is not None:
                    timer.cancel()
            call.cancel()
        raise StreamClosedError(StreamCloseReason.LOST, f"{self._where} ended the session.")

    async def push_reads(self) -> None:
        """Fetches read positions the cluster has not been told; they go up with the next frames."""
        for conversation_id, up_to in await self._store.read(inbox.unsent_reads):
            self._reads[conversation_id] = up_to
        if self._reads:
            self._wake.set()

    # ---- beginning and end

    async def _greet(self, call: Call, timeout_s: float) -> pb.Welcome:
        hello = pb.Hello(received_up_to=self._who.received_up_to, seen_index=self._who.seen_index)
        try:
            async with asyncio.timeout(timeout_s):
                await call.write(pb.ClientFrame(hello=hello))
                frame = await call.read()
        except TimeoutError:
            raise StreamClosedError(
                StreamCloseReason.SILENT, f"{self._where} did not answer within {timeout_s:.1f} s."
            ) from None
        if frame is grpc.aio.EOF:
            raise StreamClosedError(StreamCloseReason.LOST, f"{self._where} ended the session before it began.")
        if frame.WhichOneof("frame") != "welcome":
            raise StreamClosedError(
                StreamCloseReason.REFUSED, f"{self._where} does not speak our protocol. Check the address."
            )
        self._heard()
        welcome: pb.Welcome = frame.welcome
        return welcome

    def _begin(self, connection: apsw.Connection, welcome: pb.Welcome) -> list[Outgoing]:
        if welcome.max_message_bytes:
            schema.set_meta(connection, "max_message_bytes", welcome.max_message_bytes)
        return outbox.begin_session(connection, welcome.last_send_number)

    def _ended_by(self, error: grpc.aio.AioRpcError) -> StreamClosedError:
        match error.code():
            case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
                reason = StreamCloseReason.SIGNED_OUT
            case grpc.StatusCode.ABORTED:
                return StreamClosedError(
                    StreamCloseReason.REPLACED,
                    "Another copy of this device took over the session. Is its folder used twice?",
                )
            case grpc.StatusCode.RESOURCE_EXHAUSTED:
                reason = StreamCloseReason.BUSY
            case grpc.StatusCode.UNIMPLEMENTED | grpc.StatusCode.INVALID_ARGUMENT:
                reason = StreamCloseReason.REFUSED
            case _:
                reason = StreamCloseReason.LOST
        known = from_grpc(error, where=self._where, insecure=self._insecure)
        return StreamClosedError(reason, known.text, tls=isinstance(known, TlsError))

    def _why(self, group: BaseExceptionGroup[BaseException]) -> BaseException:
        """The most telling of the errors that ended the tasks; a bug or a broken file goes through as it is."""
        leaves = list(_leaves(group))
        for leaf in leaves:
            if isinstance(leaf, StreamClosedError):
                return leaf
        for leaf in leaves:
            if isinstance(leaf, grpc.aio.AioRpcError):
                return self._ended_by(leaf)
        for leaf in leaves:
            if not isinstance(leaf, asyncio.InvalidStateError):
                return leaf
        return StreamClosedError(StreamCloseReason.LOST, f"{self._where} closed the connection.")

    # ---- up

    async def _write(self, call: Call) -> NoReturn:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._store_failure is not None:
                raise self._store_failure
            while (frame := self._next_frame()) is not None:
                await call.write(frame)
                if frame.WhichOneof("frame") == "mark_read":
                    self._note_read(frame.mark_read)

    def _note_read(self, receipt: pb.MarkRead) -> None:
        told = [(receipt.conversation_id, receipt.up_to)]
        self._store.post(lambda c: inbox.reads_sent(c, told))

    def _next_frame(self) -> pb.ClientFrame | None:
        if self._pings_due:
            self._pings_due = 0
            self._nonce += 1
            return pb.ClientFrame(ping=pb.Ping(nonce=self._nonce))
        if self._acknowledge and self._acknowledge_timer is None:
            up_to, self._acknowledge = self._acknowledge, 0
            self._acknowledge_timer = asyncio.get_running_loop().call_later(
                self._settings.acknowledge_interval_s, self._may_acknowledge
            )
            return pb.ClientFrame(delivered=pb.Delivered(up_to=up_to))
        if self._reads:
            conversation_id, up_to = self._reads.popitem()
            self.reads_told[conversation_id] = up_to
            return pb.ClientFrame(mark_read=pb.MarkRead(conversation_id=conversation_id, up_to=up_to))
        sends = self._window.next_frame()
        if not sends:
            return None
        batch = pb.SendBatch(
            sends=[pb.Send(number=m.number, recipient=m.recipient, body=m.body) for m in sends],
        )
        return pb.ClientFrame(sends=batch)

    def _may_acknowledge(self) -> None:
        self._acknowledge_timer = None
        if self._acknowledge:
            self._wake.set()

    async def _claim(self) -> NoReturn:
        while True:
            while self._window.capacity == 0:
                self._capacity.clear()
                await self._capacity.wait()
            claimed = await self._store.claim(min(self._window.capacity, MAX_CLAIM))
            self._window.add(claimed)
            self._events.sending(claimed)
            self._wake.set()

    def _resume_sending(self) -> None:
        self._resend_timer = None
        self._window.resume()
        self._wake.set()
        self._capacity.set()

    # ---- down

    async def _read(self, call: Call) -> NoReturn:
        while True:
            frame = await call.read()
            if frame is grpc.aio.EOF:
                raise StreamClosedError(StreamCloseReason.LOST, f"{self._where} ended the session.")
            self._heard()
            self._reading = False
            await self._dispatch(frame)
            self._reading = True

    async def _dispatch(self, frame: pb.ServerFrame) -> None:
        match frame.WhichOneof("frame"):
            case "results":
                self._take_results(frame.results)
            case "messages":
                await self._take_messages(frame.messages)
            case "receipts":
                await self._take_receipts(frame.receipts)
            case "status":
                self._take_news(frame.status)
            case "caught_up":
                self._publisher.update(caught_up=True)
            case _:
                return  # pong: hearing it was its purpose; frames of a later version: not for us

    def _take_results(self, batch: pb.SendResultBatch) -> None:
        settlements: list[Settlement] = []
        settled: list[Outgoing] = []
        for result in batch.results:
            if result.status in (pb.SEND_STATUS_ACCEPTED, pb.SEND_STATUS_REJECTED):
                settlement = Settlement(
                    result.number,
                    result.status == pb.SEND_STATUS_ACCEPTED,
                    result.detail,
                    result.message_id,
                    result.conversation_id,
                    result.sent_at_ms,
                )
                settlements.append(settlement)
                message = self._window.settle(result.number)
                if message is not None:
                    settled.append(_with_outcome(message, settlement))
            else:
                self._push_back(result.number, gap=result.status == pb.SEND_STATUS_GAP)
        if settlements:
            index = max(result.applied_index for result in batch.results)
            self._store.post(lambda c: _write_down(c, settlements, index))
            self._events.seen(index)
            self._events.settled(settled)
            self._capacity.set()
            self._judge_health()

    def _push_back(self, number: int, *, gap: bool) -> None:
        delay_s = self._window.push_back(number, gap=gap)
        if self._window.gap_rounds >= GAP_ROUNDS_MEAN_OUT_OF_STEP:
            raise StreamClosedError(
                StreamCloseReason.OUT_OF_STEP,
                "The cluster has forgotten messages it had taken from this device; was it restored from a backup? "
                "What waits here is kept. Sign in again (parley login) to send it.",
            )
        if delay_s is not None:
            self._resend_timer = asyncio.get_running_loop().call_later(delay_s, self._resume_sending)
        self._judge_health()

    async def _take_messages(self, batch: pb.MessageBatch) -> None:
        if not batch.messages:
            return
        messages: list[Message] = []
        own_numbers: list[int | None] = []
        for wire in batch.messages:
            message = convert.message(wire, self._account_id)
            own = message.mine and wire.device_id == self._who.device_id
            messages.append(message)
            own_numbers.append(wire.send_number if own else None)
        await self._storing.acquire()
        up_to = batch.messages[-1].id
        stored = self._store.start_write(lambda c: inbox.insert(c, messages, own_numbers))
        stored.add_done_callback(lambda done: self._stored(done, up_to))

    def _stored(self, done: asyncio.Future[int], up_to: int) -> None:
        """A batch is durable here: only now may it be acknowledged and shown. A failed one comes again, after a
        break."""
        self._storing.release()
        if done.cancelled() or self._store_failure is not None:
            return
        if (failure := done.exception()) is not None:
            self._store_failure = failure
            self._wake.set()
            return
        self._acknowledge = max(self._acknowledge, up_to)
        self._wake.set()
        if done.result():
            self._events.received(done.result())

    async def _take_receipts(self, batch: pb.ReceiptBatch) -> None:
        receipts = [
            (r.conversation_id, r.account_id, r.delivered_up_to, r.read_up_to)
            for r in batch.receipts
            if r.account_id != self._account_id
        ]
        if receipts:
            await self._store.write(lambda c: inbox.set_receipts(c, receipts))
            self._events.receipts_moved([Receipt(conversation, d, r) for conversation, _, d, r in receipts])

    def _take_news(self, news: pb.ClusterStatusUpdate) -> None:
        self._has_majority = news.has_majority
        self._judge_health()
        self._publisher.update(leader=news.leader, nodes=convert.nodes(news), has_majority=news.has_majority)
        self._events.seen(news.applied_index)
        self._events.news(news)

    # ---- is the node alive, and does it serve?

    def _heard(self) -> None:
        self._silent_ticks = 0
        self._publisher.heard()

    async def _beat(self) -> NoReturn:
        while True:
            await asyncio.sleep(self._settings.ping_interval_s)
            self._silent_ticks += self._reading  # a slow disk of ours is not the node's silence
            if self._silent_ticks > self._settings.silent_ticks:
                raise StreamClosedError(StreamCloseReason.SILENT, f"{self._where} stopped answering.")
            self._pings_due = 1
            self._wake.set()

    def _judge_health(self) -> None:
        if self._has_majority and self._window.rounds < STUCK_ROUNDS:
            self._healthy.set()
            self._unhealthy.clear()
            self._publisher.update(connection=ConnectionState.CONNECTED, problem="")
        else:
            self._unhealthy.set()
            self._healthy.clear()
            self._publisher.update(connection=ConnectionState.NO_MAJORITY)

    async def _watch_serving(self) -> NoReturn:
        """A node that is alive but cannot commit is left as soon as another says that it can."""
        while True:
            await self._unhealthy.wait()
            if await self._healthy_within(self._settings.majority_grace_s):
                continue
            better = await self._find_serving()
            if better is not None and self._unhealthy.is_set():
                raise StreamClosedError(
                    StreamCloseReason.NOT_SERVING, f"{self._where} has no majority; another node has.", better
                )
            await self._healthy_within(self._settings.probe_interval_s * self._rng.uniform(0.5, 1.0))

    async def _healthy_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._healthy.wait()
        except TimeoutError:
            return False
        return True


def _write_down(connection: apsw.Connection, settlements: list[Settlement], index: int) -> None:
    outbox.settle(connection, settlements)
    identity.raise_seen_index(connection, index)


def _with_outcome(message: Outgoing, settlement: Settlement) -> Outgoing:
    return Outgoing(
        local_id=message.local_id,
        recipient=message.recipient,
        body=message.body,
        created_at_ms=message.created_at_ms,
        status=MessageStatus.ACCEPTED if settlement.accepted else MessageStatus.FAILED,
        number=message.number,
        message_id=settlement.message_id,
        conversation_id=settlement.conversation_id,
        sent_at_ms=settlement.sent_at_ms,
        detail=settlement.detail,
    )


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found.extend(_leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    return found
