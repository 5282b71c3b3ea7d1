"""The I/O of one stream. It carries out the actions of the protocol (wire/stream.py).

Four tasks share the stream. The reader receives frames, the writer sends frames, the clock calls the protocol at its
deadlines, and the guard waits for the reason to end. Answers of the store return to the protocol as events. The first
task that fails ends all of them. run() always ends with StreamClosedError and the reason, with a failure of the store,
or with cancellation.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from typing import NoReturn, Protocol, TypeVar, assert_never

import apsw
import grpc

from parley.client_state import ConnectionState
from parley.device import directory, identity, inbox, outbox, schema
from parley.device.identity import DeviceIdentity
from parley.device.store import Store
from parley.model import Account, Conversation, Outgoing, Receipt, ReceiptCounts
from parley.net.call_end import Call, CallEnd
from parley.net.stream_closed import StreamClosedError, why_closed
from parley.net.unary_caller import NodesBeside, bearer
from parley.state_publisher import AccountVoice
from parley.wire.actions import (
    Action,
    BeginOutbox,
    ClaimSends,
    Close,
    FindAnother,
    FindServing,
    NoteReadSent,
    ReturnSends,
    SettleSends,
    StoreDirectory,
    StoreMessages,
    StoreReceipts,
    Storing,
    StreamCloseReason,
    TellCaughtUp,
    TellHealth,
    Telling,
    TellNoRoom,
    TellStatus,
    TellSuperseded,
    TellTyping,
    TellWelcome,
    WithdrawClaim,
)
from parley.wire.endpoints import Endpoint
from parley.wire.position import Life, Position
from parley.wire.stream import StreamProtocol
from parley_proto.v1 import messaging_pb2_grpc

T = TypeVar("T")
Removed = Iterable[tuple[int, int]]  # conversation, and the message up to which it was removed

SUPERSEDED_TEXT = (
    "Another copy of this state folder sends for this device. What is written here waits here. To send from here, sign "
    "in again: parley login NAME."
)


class MessageStreamEvents(Protocol):
    """The listener of a stream. Received data is reported after it is stored."""

    def welcomed(self, welcome: TellWelcome) -> None:
        """Record that the session began."""

    def status_told(self, status: TellStatus) -> None:
        """Record how the node sees the cluster."""

    def settled(self, messages: Sequence[Outgoing]) -> None:
        """Record final results, in the order in which they came."""

    def sending(self, messages: Sequence[Outgoing]) -> None:
        """Record that these messages got their numbers, or wait again without one."""

    def seen(self, position: Position) -> None:
        """Record that an answer came from this position."""

    def received(self, count: int) -> None:
        """Record that `count` new messages are in the inbox."""

    def learned(self, accounts: Iterable[Account], conversations: Iterable[Conversation], removed: Removed) -> None:
        """Record stored accounts and conversations, and which ones were removed up to which message."""

    def receipts_moved(self, receipts: Sequence[Receipt], counts: Sequence[tuple[int, ReceiptCounts]]) -> None:
        """Record that the marks of other members moved."""

    async def cluster_went_back(self) -> None:
        """Forget what this device has seen, because the cluster's data is older now."""

    async def cluster_restored(self, life: Life, who: DeviceIdentity) -> None:
        """Compare what this device holds with what a restored cluster has. Sends nothing before that is stored."""

    def shared(self) -> None:
        """Record that another process of this account holds the device lock."""


class MessageStream:
    """One stream. Every connection makes a new one."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        protocol: StreamProtocol,
        where: str,
        token: str,
        store: Store,
        publisher: AccountVoice,
        events: MessageStreamEvents,
        others: NodesBeside,
        *,
        insecure: bool,
    ) -> None:
        self._connect = partial(messaging_pb2_grpc.MessagingStub(channel).Connect, metadata=bearer(token))
        self._protocol = protocol
        self._where = where
        self._store = store
        self._publisher = publisher
        self._events = events
        self._others = others
        self._insecure = insecure
        self._more_reads = False
        self._wake_writer = asyncio.Event()
        self._wake_clock = asyncio.Event()
        self._wake_reader = asyncio.Event()
        self._ending: asyncio.Future[NoReturn] = asyncio.get_running_loop().create_future()

    @property
    def reads_told(self) -> tuple[int, ...]:
        """Return the conversations whose read position was sent on this stream. The stream may have lost it."""
        return self._protocol.reads_told

    async def run(self, welcome_timeout_s: float, starts: asyncio.Semaphore) -> NoReturn:
        """Send and receive until the stream ends. Cancelling this call ends the stream.

        `starts` is held until the welcome. The time for the welcome begins then.
        """
        end = CallEnd()
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                async with starts:
                    call = end.watch(self._connect())
                    await self._greet(call, welcome_timeout_s)
                group.create_task(self._read(call))
                group.create_task(self._write(call))
                group.create_task(self._keep_time())
                group.create_task(self._guard())
                # Wait in the body: only there does the group take back the cancellation by which it ends it.
                await asyncio.get_running_loop().create_future()
        except BaseExceptionGroup as group_error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                # A task group with a failed task raises the failure and drops a cancellation that comes with it.
                raise asyncio.CancelledError from group_error
            raise why_closed(group_error, self._where, insecure=self._insecure, ended=end.error) from group_error
        finally:
            self._ending.cancel()
            end.cancel()
        raise StreamClosedError(StreamCloseReason.LOST, f"{self._where} ended the session.")

    async def push_reads(self) -> None:
        """Fetch read positions that the cluster does not have yet. They are sent with the next frames.

        At most 256 are fetched at once. When these are sent, the next ones follow.
        """
        found = await self._store.read(inbox.unsent_reads)
        self._more_reads = len(found) == inbox.MAX_READS_FETCHED
        self._protocol.reads_found(found)
        self._wake_writer.set()

    def push_away(self) -> None:
        """Tell the node whether the person is away, as the client's state says."""
        self._protocol.set_away(away=self._publisher.state.away)
        self._wake_writer.set()

    def push_typing(self, conversation_id: int) -> None:
        """Tell the node that the person types."""
        self._protocol.types(conversation_id, self._now())
        self._wake_writer.set()

    # ---- beginning and end

    async def _greet(self, call: Call, timeout_s: float) -> None:
        """Exchange the first frames, begin the outbox, and report that the session began."""
        try:
            async with asyncio.timeout(timeout_s):
                await call.write(self._protocol.next_frame(self._now()))
                frame = await call.read()
        except TimeoutError:
            raise StreamClosedError(
                StreamCloseReason.SILENT, f"{self._where} did not answer within {timeout_s:.1f} s."
            ) from None
        if frame is grpc.aio.EOF:
            raise StreamClosedError(StreamCloseReason.LOST, f"{self._where} ended the session before it began.")
        self._publisher.heard()
        for action in self._protocol.frame_received(frame, self._now()):
            match action:
                case BeginOutbox():
                    unanswered = await self._store.write(lambda c: _begin(c, action))  # noqa: B023 - awaited here
                    self._perform(self._protocol.outbox_begun(unanswered, self._now()))
                case _:
                    self._perform([action])
        self.push_away()
        await self.push_reads()

    async def _guard(self) -> NoReturn:
        await self._ending
        raise AssertionError("the future only ends with an error")

    def end(self, error: BaseException) -> None:
        """End the stream by this error."""
        if not self._ending.done():
            self._ending.set_exception(error)

    async def _read(self, call: Call) -> NoReturn:
        while True:
            while not self._protocol.can_receive:
                self._wake_reader.clear()
                await self._wake_reader.wait()
            frame = await call.read()
            if frame is grpc.aio.EOF:
                raise StreamClosedError(StreamCloseReason.LOST, f"{self._where} ended the session.")
            self._publisher.heard()
            self._perform(self._protocol.frame_received(frame, self._now()))

    async def _write(self, call: Call) -> NoReturn:
        while True:
            await self._wake_writer.wait()
            self._wake_writer.clear()
            while (frame := self._protocol.next_frame(self._now())) is not None:
                await call.write(frame)
                self._perform(self._protocol.frame_written(frame))
            self._wake_clock.set()  # an acknowledgement may have to wait for its time

    async def _keep_time(self) -> NoReturn:
        while True:
            self._wake_clock.clear()
            deadline = self._protocol.deadline()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._wake_clock.wait()
            except TimeoutError:
                self._perform(self._protocol.advance(self._now()))
                self._wake_writer.set()

    @staticmethod
    def _now() -> float:
        return asyncio.get_running_loop().time()

    # ---- carrying out

    def _perform(self, actions: Iterable[Action]) -> None:
        for action in actions:
            self._perform_one(action)
        self._wake_writer.set()
        self._wake_clock.set()

    def _perform_one(self, action: Action) -> None:
        match action:
            case StoreMessages() | StoreDirectory() | StoreReceipts():
                self._when_stored(action)
            case SettleSends():
                self._write_then(lambda c: _settle(c, action), lambda _: None)  # the next stream asks again
                self._events.seen(action.position)
                self._events.settled(action.messages)
            case ClaimSends():
                self._run(lambda: self._store.claim(action.limit), self._claimed)
            case WithdrawClaim():
                self._store.withdraw_claim()
            case ReturnSends():
                self._write_then(lambda c: outbox.unclaim(c, action.messages), self._events.sending)
            case FindServing():
                self._run(self._others.find_serving, self._found_serving)
            case FindAnother():
                self._run(self._others.find_another, self._found_another)
            case NoteReadSent():
                told = [(action.conversation_id, action.up_to)]
                self._store.post(lambda c: inbox.reads_sent(c, told))
                if self._more_reads and not self._protocol.reads_waiting:
                    self._more_reads = False
                    self._group.create_task(self.push_reads())
            case Close():
                self.end(StreamClosedError(action.reason, action.text, action.better, life=action.life))
            case BeginOutbox():
                raise AssertionError("a session begins once")
            case _:
                self._tell(action)

    def _tell(self, action: Telling) -> None:
        match action:
            case TellSuperseded():
                self._store.post(identity.set_superseded)
                self._publisher.update(superseded=True, problem=SUPERSEDED_TEXT)
            case TellNoRoom():
                self._publisher.update(problem=action.text)
            case TellTyping():
                self._publisher.changed(typing=(action.typing,))
            case TellWelcome():
                self._events.welcomed(action)
            case TellStatus():
                self._publisher.update(leader=action.leader, nodes=action.nodes, has_majority=action.has_majority)
                self._events.seen(action.position)
                self._events.status_told(action)
            case TellHealth(healthy=True):
                problem = SUPERSEDED_TEXT if self._publisher.state.superseded else ""
                self._publisher.update(connection=ConnectionState.CONNECTED, problem=problem)
            case TellHealth():
                self._publisher.update(connection=ConnectionState.NO_MAJORITY)
            case TellCaughtUp():
                self._publisher.update(caught_up=True)
            case other:
                assert_never(other)

    def _when_stored(self, action: Storing) -> None:
        """Queue a write.

        Report and acknowledge it only after its commit. If it fails, the cluster sends the data again. If it succeeds,
        the cluster does not, so it is reported even if the stream has ended meanwhile.
        """

        def done(count: int) -> None:
            if not self._ending.done():
                self._perform(self._protocol.stored(action))
                self._wake_reader.set()
            self._tell_stored(action, count)

        self._write_then(lambda c: _store(c, action), done)

    def _write_then(self, work: Callable[[apsw.Connection], T], then: Callable[[T], None]) -> None:
        """Queue a write before all later ones. Call `then` after its commit. End the stream if it fails."""

        def done(written: asyncio.Future[T]) -> None:
            if not written.cancelled():
                failure = written.exception()
                then(written.result()) if failure is None else self.end(failure)

        self._store.start_write(work).add_done_callback(done)

    def _tell_stored(self, action: Storing, count: int) -> None:
        match action:
            case StoreMessages():
                if count:
                    self._events.received(count)
            case StoreDirectory():
                self._events.learned(action.accounts, action.conversations, action.removed)
            case StoreReceipts():
                self._events.receipts_moved(action.receipts, action.counts)
            case other:
                assert_never(other)

    def _claimed(self, messages: list[Outgoing]) -> None:
        self._events.sending(messages)
        self._perform(self._protocol.claimed(messages))

    def _found_serving(self, better: Endpoint | None) -> None:
        self._perform(self._protocol.serving_found(better, self._now()))

    def _found_another(self, other: Endpoint | None) -> None:
        self._perform(self._protocol.another_found(other, self._now()))

    def _run(self, work: Callable[[], Awaitable[T]], then: Callable[[T], None]) -> None:
        """Await what `work` begins, beside the tasks. It ends with the stream at the latest.

        It begins only when the task runs. A task that is cancelled before would leave a coroutine that nobody awaits.
        """

        async def run() -> None:
            then(await work())

        self._group.create_task(run())


def _begin(connection: apsw.Connection, action: BeginOutbox) -> list[Outgoing]:
    if action.max_message_bytes:
        schema.set_meta(connection, "max_message_bytes", action.max_message_bytes)
    return outbox.begin_session(connection, action.last_send_number)


def _settle(connection: apsw.Connection, action: SettleSends) -> None:
    outbox.settle(connection, action.messages)
    identity.raise_position(connection, action.position)


def _store(connection: apsw.Connection, action: Storing) -> int:
    """Store received data. Return the number of new messages."""
    match action:
        case StoreMessages():
            return inbox.insert(connection, action.messages, before=action.before, after=action.after)
        case StoreDirectory():
            directory.learn(connection, action.accounts, action.conversations, action.removed)
        case StoreReceipts():
            directory.set_receipts(connection, action.receipts, action.counts)
        case other:
            assert_never(other)
    return 0
