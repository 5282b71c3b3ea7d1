"""A client that talks without listening, or was signed out on its way in, costs this node next to nothing.

What can go wrong: pings, read marks or results pile up in memory; a refused body uses up no number and order breaks; a
session closed during admission keeps its stream.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs

from parley_proto.v1 import messaging_pb2 as pb
from parley_proto.v1 import model_pb2, state_pb2
from parleyd.api import client_stream
from parleyd.api.auth import Authenticator
from parleyd.api.client_stream import ClientStream
from parleyd.api.commands import Commands
from parleyd.api.device_commands import DeviceCommands
from parleyd.api.errors import ApiError, translate
from parleyd.api.frame_rates import BURST, FRAMES_PER_S, RECENT, FrameRate, FrameRates
from parleyd.api.marks import MARK_BYTES, IgnoredMarks, ReadMarks
from parleyd.api.messages import MessagingService
from parleyd.api.node_marks import NodeMarks
from parleyd.api.stream_opener import Admitted
from parleyd.api.stream_person import StreamPerson, Typists
from parleyd.budgets import ByteBudget, DeviceShare, Shares
from parleyd.delivery.cursor import StreamCursor
from parleyd.delivery.device_hub import DeviceHub
from parleyd.delivery.device_stream import DeviceStream, Page
from parleyd.delivery.position import position
from parleyd.group.errors import NoRoomError
from parleyd.group.proposals import AppliedCommands
from parleyd.group.readers import StateReaders
from parleyd.machine.features.accounts import AccountCard
from parleyd.machine.features.devices import CLAIM_LEVEL, ClaimRow, DeviceRow
from parleyd.machine.features.receipts import MarkedStates, ReadState
from parleyd.machine.features.sessions import SessionRecord
from parleyd.machine.limits import MAX_ID
from parleyd.presence.clients import ConnectedClients
from parleyd.raft.types import Index
from tests.support.background import in_background
from tests.support.budgets import device_share, free_place, stream_budgets
from tests.support.session import SESSION


class Client:
    """The other end: says the frames it is given, and reads only when it is let."""

    def __init__(self, frames: Sequence[pb.ClientFrame]) -> None:
        self._frames = list(frames)
        self.taken = 0
        self.idle = asyncio.Event()
        self.reads = asyncio.Event()
        self.got: list[pb.ServerFrame] = []  # no frame of messages
        self.status: grpc.StatusCode | None = None

    def peer(self) -> str:
        return "ipv4:127.0.0.1:4711"

    async def read(self) -> Any:
        await asyncio.sleep(0)
        if self.taken == len(self._frames):
            self.idle.set()
            await asyncio.Event().wait()
        self.taken += 1
        return self._frames[self.taken - 1]

    async def write(self, frame: pb.ServerFrame) -> None:
        await self.reads.wait()
        self.got.append(frame)

    async def abort(self, status: grpc.StatusCode, text: str, **_: object) -> None:
        self.status = status
        raise grpc.aio.AbortError(text)


class Log:
    """A router that applies what it is given when `open` is set; `code`: the result of every command as a whole."""

    def __init__(self, code: state_pb2.ResultCode.ValueType = state_pb2.RESULT_CODE_OK) -> None:
        self.code = code
        self.after_unknown = False  # whether an earlier attempt has no known outcome
        self.open = asyncio.Event()
        self.commands: list[state_pb2.Command] = []

    async def submit(self, commands: Sequence[state_pb2.Command], *, timeout_s: float) -> AppliedCommands:
        await self.open.wait()
        self.commands.extend(commands)
        return AppliedCommands(Index(1), tuple(_result(command, self.code) for command in commands), self.after_unknown)


def _result(command: state_pb2.Command, code: state_pb2.ResultCode.ValueType) -> state_pb2.CommandResult:
    result = state_pb2.CommandResult(code=code)
    if command.HasField("send_messages") and code == state_pb2.RESULT_CODE_OK:
        for send in command.send_messages.sends:
            refused = state_pb2.RESULT_CODE_INVALID_BODY if len(send.body) > 1000 else code
            result.send_messages.sends.add(number=send.number, code=refused)
    return result


class Nothing:
    """A source of a device for which nothing is stored."""

    async def page(self, after_id: int, limit: int) -> Page:
        return Page([], after_id, more=False)

    async def directory(self, account_ids: set[int], conversation_ids: set[int]) -> pb.Directory:
        return pb.Directory()


class Everything:
    """A state in which the account is a member of every conversation, and has read nothing."""

    async def look_up(self, marks: Mapping[int, int]) -> MarkedStates:
        return MarkedStates(dict.fromkeys(marks, ReadState(MAX_ID, 0)), frozenset())

    async def catch_up(self) -> None:
        """Do nothing: it has everything."""


class Positions:
    """What the stream asks of the authenticator."""

    now_ms = 0

    def position(self, index: int) -> model_pb2.Position:
        return position(0, index)


CURSOR = 100  # up to where the stream has handed everything out
CLAIM = model_pb2.DeviceClaim(epoch=1, nonce=b"c" * 16)


def serve(
    client: Client,
    log: Log,
    *,
    delivered_up_to: int = 0,
    level: int = 1,
    sends: DeviceShare | None = None,
    marks: DeviceShare | None = None,
) -> asyncio.Task[None]:
    device = DeviceStream(1, b"d" * 16, CURSOR, Nothing(), generation=0, live=device_share(), place=free_place())
    commands = Commands(log, lambda: level)
    node_marks = NodeMarks(commands)
    ignored = IgnoredMarks(SESSION.account_id)
    authenticator = cast(Authenticator, Positions())
    stream = ClientStream(
        SESSION,
        device,
        DeviceCommands(SESSION, CLAIM, commands, node_marks, authenticator, sends or device_share()),
        authenticator,
        cast(Any, client),
        delivered_up_to=delivered_up_to,
        read_marks=ReadMarks(SESSION, node_marks, Everything(), marks or device_share(), ignored),
        ignored_marks=ignored,
        frame_rate=FrameRate(),
        person=StreamPerson(device, DeviceHub(), cast(Typists, None)),
    )

    async def served() -> None:
        async with in_background(node_marks.run()):
            await stream.run()

    return asyncio.ensure_future(served())


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - lets the stream's tasks run, one step at a time
            await asyncio.sleep(0)


async def end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def sends(*numbers: int, body: str = "x") -> pb.ClientFrame:
    return pb.ClientFrame(
        sends=pb.SendBatch(sends=[model_pb2.Send(number=number, account_name="ben", body=body) for number in numbers])
    )


async def test_marks_of_one_conversation_become_one_command_and_no_tasks() -> None:
    marks = [pb.ClientFrame(read=pb.Read(conversation_id=7, up_to=n)) for n in range(1, 2001)]
    client, log = Client(marks), Log()
    before = len(asyncio.all_tasks())
    serving = serve(client, log)
    async with asyncio.timeout(5):
        await client.idle.wait()
    assert len(asyncio.all_tasks()) - before < 10
    log.open.set()
    await until(lambda: any(command.mark_read.up_to == 2000 for command in log.commands))
    assert len(log.commands) <= 2
    await end(serving)


@pytest.mark.parametrize(
    "frame",
    [
        pb.ClientFrame(ping=pb.Ping(nonce=1)),
        pb.ClientFrame(read=pb.Read(conversation_id=7, up_to=1)),
        pb.ClientFrame(delivered=pb.Delivered(cursor=StreamCursor.at(0, 5).encode())),
    ],
)
async def test_a_flood_of_frames_that_need_no_answer_waits_in_the_clients_stream(frame: pb.ClientFrame) -> None:
    client, log = Client([frame] * 3 * BURST), Log()
    log.open.set()
    began = asyncio.get_running_loop().time()
    serving = serve(client, log)
    await until(lambda: client.taken >= BURST)
    for _ in range(2 * BURST):
        await asyncio.sleep(0)
    passed_s = asyncio.get_running_loop().time() - began
    assert client.taken <= BURST + passed_s * FRAMES_PER_S + 2
    await end(serving)


async def test_marks_of_more_conversations_than_are_kept_wait_in_the_clients_stream() -> None:
    marks = [pb.ClientFrame(read=pb.Read(conversation_id=n, up_to=1)) for n in range(1, 101)]
    client, log = Client(marks), Log()
    serving = serve(client, log, marks=device_share(10 * MARK_BYTES))
    await until(lambda: client.taken >= 11)
    for _ in range(20):
        await asyncio.sleep(0)
    assert client.taken == 11, "ten on their way or gathered, one frame in hand"
    log.open.set()
    await until(lambda: len(log.commands) == 100)
    await end(serving)


async def test_a_client_that_does_not_read_its_results_is_not_read_from_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_stream, "MAX_SENDS_IN_FLIGHT", 4)
    client, log = Client([sends(number) for number in range(1, 101)]), Log()
    log.open.set()
    serving = serve(client, log)
    await until(lambda: client.taken >= 5)
    for _ in range(50):
        await asyncio.sleep(0)
    assert client.taken == 5, "four answered but unread, one in hand"
    client.reads.set()
    await until(lambda: sum(len(frame.results.results) for frame in client.got) == 100)
    numbers = [result.number for frame in client.got for result in frame.results.results]
    assert numbers == list(range(1, 101))
    await end(serving)


async def test_sends_go_on_as_they_came_and_each_gets_its_result() -> None:
    frame = sends(1, 3)
    frame.sends.sends.add(number=4, conversation_id=7, body="y" * 1001)
    client, log = Client([frame]), Log()
    client.reads.set()
    log.open.set()
    serving = serve(client, log)
    await until(lambda: sum(len(frame.results.results) for frame in client.got) == 3)
    [batch] = [frame.results for frame in client.got if frame.HasField("results")]
    accepted, rejected = pb.SEND_STATUS_ACCEPTED, pb.SEND_STATUS_REJECTED
    assert [result.status for result in batch.results] == [accepted, accepted, rejected]
    assert "max_message_bytes" in batch.results[2].detail
    assert batch.position == position(0, 1)
    [command] = log.commands
    assert list(command.send_messages.sends) == list(frame.sends.sends)
    await end(serving)


async def test_a_command_that_failed_on_every_node_is_answered_and_the_stream_goes_on() -> None:
    """It ended the stream, and the client repeated it on the next one, for ever and without a word."""
    client, log = Client([sends(1, 2)]), Log(state_pb2.RESULT_CODE_FAILED)
    client.reads.set()
    log.open.set()
    serving = serve(client, log)
    await until(lambda: any(frame.HasField("results") for frame in client.got) or serving.done())
    batch = next(frame.results for frame in client.got if frame.HasField("results"))
    assert [(result.number, result.status) for result in batch.results] == [
        (1, pb.SEND_STATUS_RETRY),
        (2, pb.SEND_STATUS_RETRY),
    ]
    assert "their logs name the cause" in batch.results[0].detail
    assert not serving.done()
    await end(serving)


@pytest.mark.parametrize("after_unknown", [False, True])
@pytest.mark.parametrize(
    ("code", "status"),
    [
        (state_pb2.RESULT_CODE_UNKNOWN_COMMAND, grpc.StatusCode.FAILED_PRECONDITION),
        (state_pb2.RESULT_CODE_SIGNED_OUT, grpc.StatusCode.UNAUTHENTICATED),
        (state_pb2.RESULT_CODE_DEVICE_SUPERSEDED, grpc.StatusCode.ABORTED),
    ],
    ids=["unknown command", "signed out", "superseded"],
)
async def test_a_command_refused_as_a_whole_ends_the_stream_since_it_used_no_number_up(
    code: state_pb2.ResultCode.ValueType, status: grpc.StatusCode, after_unknown: bool
) -> None:
    client, log = Client([sends(1)]), Log(code)
    log.after_unknown = after_unknown
    client.reads.set()
    log.open.set()
    with pytest.raises(BaseExceptionGroup) as ended:
        await serve(client, log)
    [error] = ended.value.exceptions
    assert isinstance(error, ApiError)
    assert translate(error).status is status
    assert error.may_have_happened is after_unknown
    assert ("may have been carried out" in str(error)) is after_unknown
    assert not any(frame.HasField("results") for frame in client.got)


@pytest.mark.parametrize(
    "mark",
    [
        pb.ClientFrame(read=pb.Read(conversation_id=1 << 63, up_to=1)),
        pb.ClientFrame(read=pb.Read(conversation_id=7, up_to=1 << 63)),
        pb.ClientFrame(delivered=pb.Delivered(cursor=b"not a cursor")),
        pb.ClientFrame(delivered=pb.Delivered(cursor=b"\xff")),
    ],
    ids=["conversation", "message", "cursor", "cursor of a later release"],
)
async def test_a_wrong_mark_is_ignored_and_what_follows_it_is_served(mark: pb.ClientFrame) -> None:
    client, log = Client([mark, sends(1), pb.ClientFrame(read=pb.Read(conversation_id=8, up_to=3))]), Log()
    client.reads.set()
    log.open.set()
    serving = serve(client, log)
    await until(lambda: len(log.commands) >= 2 or serving.done())
    assert not serving.done()
    assert {command.WhichOneof("command") for command in log.commands} == {"send_messages", "mark_read"}
    await end(serving)


async def test_an_acknowledgement_that_the_cluster_has_already_makes_no_entry() -> None:
    known, newer = (
        pb.ClientFrame(delivered=pb.Delivered(cursor=StreamCursor.at(0, up_to).encode())) for up_to in (5, 6)
    )
    client, log = Client([known, sends(1), newer]), Log()
    log.open.set()
    serving = serve(client, log, delivered_up_to=5)
    await until(lambda: any(command.HasField("mark_delivered") for command in log.commands))
    marks = [command.mark_delivered.up_to for command in log.commands if command.HasField("mark_delivered")]
    assert marks == [6]
    await end(serving)


@pytest.mark.parametrize("level", [CLAIM_LEVEL - 1, CLAIM_LEVEL])
async def test_the_claim_goes_with_sends_and_delivery_marks_once_the_cluster_has_its_level(level: int) -> None:
    mark = pb.ClientFrame(delivered=pb.Delivered(cursor=StreamCursor.at(0, 5).encode()))
    client, log = Client([sends(1), mark]), Log()
    log.open.set()
    serving = serve(client, log, level=level)
    await until(lambda: len(log.commands) == 2)
    claims = [getattr(command, str(command.WhichOneof("command"))).claim for command in log.commands]
    assert claims == [CLAIM if level >= CLAIM_LEVEL else model_pb2.DeviceClaim()] * 2
    await end(serving)


async def test_a_superseded_copy_gets_no_result_and_its_stream_ends() -> None:
    client, log = Client([sends(1)]), Log(state_pb2.RESULT_CODE_DEVICE_SUPERSEDED)
    client.reads.set()
    log.open.set()
    with pytest.raises(BaseExceptionGroup) as ended:
        await serve(client, log)
    [error] = ended.value.exceptions
    assert isinstance(error, ApiError)
    assert error.status is grpc.StatusCode.ABORTED
    assert not any(frame.HasField("results") for frame in client.got)


async def test_marks_that_the_cluster_refuses_are_ignored_and_logged_once() -> None:
    marks = [pb.ClientFrame(read=pb.Read(conversation_id=n, up_to=1)) for n in range(1, 4)]
    client, log = Client(marks), Log(state_pb2.RESULT_CODE_NO_SUCH_CONVERSATION)
    log.open.set()
    with capture_logs() as logged:
        serving = serve(client, log)
        await until(lambda: len(log.commands) == 3 or serving.done())
        for _ in range(20):
            await asyncio.sleep(0)
    assert not serving.done()
    assert [(line["event"], line["reason"]) for line in logged] == [("mark_ignored", "NO_SUCH_CONVERSATION")]
    await end(serving)


@pytest.mark.parametrize("numbers", [(0,), (2, 1), (3, 3)], ids=["zero", "falling", "twice"])
async def test_numbers_that_do_not_rise_end_the_stream_before_anything_is_taken(numbers: tuple[int, ...]) -> None:
    client, log = Client([sends(*numbers)]), Log()
    log.open.set()
    with pytest.raises(BaseExceptionGroup, match="unhandled errors"):
        await serve(client, log)
    assert log.commands == []


class SignedOutMeanwhile:
    """Lets the first look at the session through, and finds it closed at the next."""

    def position(self, index: int) -> model_pb2.Position:
        return position(0, index)

    async def session_at(self, context: object, seen: object) -> SessionRecord:
        return SESSION

    async def admit(self, context: object) -> SessionRecord:
        raise ApiError(grpc.StatusCode.UNAUTHENTICATED, "closed")


class OneDevice:
    """Readers that know one device and nothing else."""

    async def run(self, query: object) -> object:
        account, device = AccountCard(1, "ann", "", deleted=False), DeviceRow(1, b"d" * 16, 1, 0, 0)
        return Admitted(account, device, ClaimRow(), max_message_bytes=1000, last_message_id=0)


async def test_a_session_closed_while_its_stream_is_admitted_gets_no_stream() -> None:
    hub = DeviceHub()
    service = MessagingService(
        "n1",
        Commands(Log(), lambda: 1),
        cast(StateReaders, OneDevice()),
        cast(Authenticator, SignedOutMeanwhile()),
        hub,
        cast(ConnectedClients, None),
        stream_budgets(),
        NodeMarks(Commands(Log(), lambda: 1)),
    )
    client = Client([pb.ClientFrame(hello=pb.Hello())])
    client.reads.set()
    with pytest.raises(ApiError) as error:
        await service.Connect(None, cast(Any, client))
    assert error.value.status is grpc.StatusCode.UNAUTHENTICATED
    assert hub.connected == 0
    assert client.got == []


def frame_of(number: int, body: str = "x" * 900) -> pb.ClientFrame:
    return pb.ClientFrame(sends=pb.SendBatch(sends=[model_pb2.Send(number=number, account_name="ben", body=body)]))


async def test_a_device_with_too_many_bytes_without_a_result_is_read_no_further() -> None:
    log = Log()
    client = Client([frame_of(number) for number in range(1, 9)])
    client.reads.set()
    budget = ByteBudget(Shares(node=100_000, account=100_000, device=3000))
    stream = serve(client, log, sends=DeviceShare(budget, 1, b"d"))
    await until(lambda: client.taken == 4)
    for _ in range(50):
        await asyncio.sleep(0)
    assert (client.taken, budget.in_use < 3000) == (4, True), "the fourth frame waits for room"
    log.open.set()
    await until(lambda: len(log.commands) == 8)
    await until(lambda: budget.in_use == 0)
    stream.cancel()
    await asyncio.gather(stream, return_exceptions=True)


async def test_a_device_without_room_in_its_account_sends_again_later() -> None:
    log = Log()
    client = Client([frame_of(1)])
    client.reads.set()
    budget = ByteBudget(Shares(node=100_000, account=1000, device=1000))
    assert budget.take(1, "another device", 500)
    stream = serve(client, log, sends=DeviceShare(budget, 1, b"d"))
    await until(lambda: any(frame.HasField("results") for frame in client.got))
    [result] = next(frame.results.results for frame in client.got if frame.HasField("results"))
    assert (result.number, result.status) == (1, pb.SEND_STATUS_RETRY)
    assert "too many bytes" in result.detail
    assert log.commands == []
    stream.cancel()
    await asyncio.gather(stream, return_exceptions=True)
    assert budget.in_use == 500


async def test_sends_of_a_stream_that_ended_count_until_they_are_done() -> None:
    client, log = Client([frame_of(1), frame_of(2)]), Log()
    budget = ByteBudget(Shares(node=100_000, account=100_000, device=100_000))
    stream = serve(client, log, sends=DeviceShare(budget, 1, b"d"))
    await until(lambda: client.taken == 2 and budget.in_use > 1800)
    stream.cancel()
    await asyncio.gather(stream, return_exceptions=True)
    assert budget.in_use > 1800, "a client that connects again and again would have no bound otherwise"
    log.open.set()
    await until(lambda: budget.in_use == 0)


@pytest.mark.parametrize("error", [grpc.aio.InternalError("execute_batch"), grpc.aio.UsageError("already finished")])
def test_a_client_that_has_vanished_is_no_error_of_this_node(error: Exception) -> None:
    with capture_logs() as logged:
        assert translate(error).status is grpc.StatusCode.CANCELLED
    assert logged == []


async def test_sends_without_room_on_the_disks_are_told_by_a_status_of_their_own() -> None:
    class Full(Log):
        async def submit(self, commands: Sequence[state_pb2.Command], *, timeout_s: float) -> AppliedCommands:
            raise NoRoomError("the disks are nearly full")

    client = Client([sends(1, 2)])
    client.reads.set()
    serving = serve(client, Full())
    await until(lambda: any(frame.HasField("results") for frame in client.got) or serving.done())
    batch = next(frame.results for frame in client.got if frame.HasField("results"))
    assert [(result.number, result.status) for result in batch.results] == [
        (1, pb.SEND_STATUS_NO_ROOM),
        (2, pb.SEND_STATUS_NO_ROOM),
    ]
    assert "the disks are nearly full" in batch.results[0].detail
    await end(serving)


def test_a_rate_outlives_its_stream_because_a_fetch_has_a_new_one_each_time() -> None:
    rates = FrameRates()
    delays = [rates.of(1).delay_s(100.0) for _ in range(BURST + 2)]
    assert (delays[0], delays[-1] > 0) == (0.0, True)
    for account_id in range(2, RECENT + 2):
        rates.of(account_id)
    assert rates.of(1).delay_s(100.0) == 0.0, "it is forgotten, so that rates have a bound"


def test_an_account_that_fetches_often_makes_no_other_rate_forgotten() -> None:
    rates = FrameRates()
    for _ in range(BURST):
        rates.of(1).delay_s(0.0)
    for _ in range(RECENT + 1):
        rates.of(2)
    assert rates.of(1).delay_s(0.0) > 0
