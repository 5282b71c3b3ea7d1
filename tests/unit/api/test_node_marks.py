"""Marks of all streams enter the log together, none is lost or held up by another's, and floods of them wait."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import NoReturn

import pytest

from parley_proto.v1 import state_pb2
from parleyd.api import node_marks
from parleyd.api.commands import Commands
from parleyd.api.errors import ApiError
from parleyd.api.frame_rates import BURST, FRAMES_PER_S, FrameRates
from parleyd.api.node_marks import (
    ACCOUNT_BATCH,
    ACCOUNT_WAITING,
    BATCH_BYTES,
    INTERVAL_S,
    MAX_INTERVAL_S,
    NodeMarks,
)
from parleyd.group.errors import OverloadedError, UnavailableError
from parleyd.group.proposals import AppliedCommands
from parleyd.raft.types import Index
from tests.support.background import in_background

OK, SIGNED_OUT = state_pb2.RESULT_CODE_OK, state_pb2.RESULT_CODE_SIGNED_OUT
GONE = 99  # a session that is closed


class Log:
    """A router that applies a batch when it is told to."""

    def __init__(self) -> None:
        self.batches: list[Sequence[state_pb2.Command]] = []
        self.arrived = asyncio.Event()
        self.answers: asyncio.Queue[Exception | None] = asyncio.Queue()

    async def submit(self, commands: Sequence[state_pb2.Command], *, timeout_s: float) -> AppliedCommands:
        self.batches.append(commands)
        self.arrived.set()
        if error := await self.answers.get():
            raise error
        codes = [SIGNED_OUT if command.mark_delivered.session_id == GONE else OK for command in commands]
        return AppliedCommands(Index(1), tuple(state_pb2.CommandResult(code=code) for code in codes))

    async def next_batch(self) -> Sequence[state_pb2.Command]:
        async with asyncio.timeout(5):
            await self.arrived.wait()
        self.arrived.clear()
        return self.batches[-1]


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
async def marks(log: Log, pauses: list[float]) -> AsyncIterator[NodeMarks]:
    """The marks of a node, whose pauses are told and end at once."""

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await asyncio.sleep(0)

    marks = NodeMarks(Commands(log, lambda: 1), pause)
    async with in_background(marks.run()):
        yield marks


def delivered(session_id: int, up_to: int = 1) -> list[state_pb2.Command]:
    return [state_pb2.Command(mark_delivered=state_pb2.MarkDelivered(session_id=session_id, up_to=up_to))]


def read(account_id: int, count: int) -> list[state_pb2.Command]:
    return [
        state_pb2.Command(mark_read=state_pb2.MarkRead(session_id=account_id, conversation_id=number + 1, up_to=1))
        for number in range(count)
    ]


def owners(batch: Sequence[state_pb2.Command]) -> list[int]:
    return [command.mark_delivered.session_id or command.mark_read.session_id for command in batch]


def begin(marks: NodeMarks, account_id: int, commands: list[state_pb2.Command]) -> asyncio.Task[list[int]]:
    async def codes() -> list[int]:
        return [result.code for result in await marks.submit(account_id, commands)]

    return asyncio.ensure_future(codes())


async def test_marks_of_all_streams_become_one_batch_and_a_refused_one_affects_nobody_else(
    marks: NodeMarks, log: Log
) -> None:
    first = begin(marks, 1, delivered(1))
    assert owners(await log.next_batch()) == [1], "a lone mark waits for nobody"
    others = [begin(marks, number, delivered(number)) for number in (2, GONE, 3)]
    await asyncio.sleep(0)
    log.answers.put_nowait(None)
    assert await first == [OK]
    assert owners(await log.next_batch()) == [2, GONE, 3]
    log.answers.put_nowait(None)
    assert await asyncio.gather(*others) == [[OK], [SIGNED_OUT], [OK]]
    assert len(log.batches) == 2


async def test_an_account_that_floods_has_its_share_of_a_batch_and_others_are_in_each(
    marks: NodeMarks, log: Log
) -> None:
    begun = [begin(marks, 1, read(1, ACCOUNT_BATCH // 2)) for _ in range(5)]
    begun += [begin(marks, number, delivered(number)) for number in (2, 3)]
    assert owners(await log.next_batch()) == [1] * ACCOUNT_BATCH + [2, 3]
    log.answers.put_nowait(None)
    await log.next_batch()
    begun.append(begin(marks, 4, delivered(4)))
    await asyncio.sleep(0)
    log.answers.put_nowait(None)
    await log.next_batch()
    log.answers.put_nowait(None)
    await asyncio.gather(*begun)
    assert [len(batch) for batch in log.batches] == [ACCOUNT_BATCH + 2, ACCOUNT_BATCH, ACCOUNT_BATCH // 2 + 1]


async def test_the_pause_between_batches_grows_while_marks_come_and_begins_anew_after_a_rest(
    marks: NodeMarks, log: Log, pauses: list[float]
) -> None:
    for _ in range(2):
        begun = [begin(marks, 1, delivered(1))]
        for number in range(4):
            await log.next_batch()
            if number < 3:
                begun.append(begin(marks, 1, delivered(1, number + 2)))
                await asyncio.sleep(0)
            log.answers.put_nowait(None)
        await asyncio.gather(*begun)
        for _ in range(5):
            await asyncio.sleep(0)  # the pause after the last batch ends, and nothing waits
    once = [INTERVAL_S, 2 * INTERVAL_S, MAX_INTERVAL_S, MAX_INTERVAL_S]
    assert pauses == once * 2


async def test_what_a_full_batch_left_waits_no_longer_than_the_first_pause(
    marks: NodeMarks, log: Log, pauses: list[float]
) -> None:
    begun = [begin(marks, 1, delivered(1))]
    await log.next_batch()
    begun += [begin(marks, 1, read(1, ACCOUNT_BATCH)) for _ in range(3)]
    await asyncio.sleep(0)
    for _ in range(3):
        log.answers.put_nowait(None)
        await log.next_batch()
    log.answers.put_nowait(None)
    await asyncio.gather(*begun)
    assert pauses[:3] == [INTERVAL_S, INTERVAL_S, INTERVAL_S]


async def test_a_batch_is_bounded_in_bytes_and_accounts_that_found_no_room_come_first_in_the_next(
    marks: NodeMarks, log: Log
) -> None:
    begun = [begin(marks, number, read(number, ACCOUNT_BATCH)) for number in range(1, 101)]
    seen: list[int] = []
    while not all(task.done() for task in begun):
        batch = await log.next_batch()
        assert sum(command.ByteSize() for command in batch) <= BATCH_BYTES
        seen += dict.fromkeys(owners(batch))
        last = len(seen) == 100
        log.answers.put_nowait(None)
        if last:
            await asyncio.gather(*begun)
    assert seen == list(range(1, 101))


async def test_a_caller_that_leaves_takes_no_mark_back(marks: NodeMarks, log: Log) -> None:
    first = begin(marks, 1, delivered(1))
    await log.next_batch()
    leaving, staying = begin(marks, 2, delivered(2)), begin(marks, 3, delivered(3))
    await asyncio.sleep(0)
    leaving.cancel()
    log.answers.put_nowait(None)
    assert owners(await log.next_batch()) == [2, 3]
    log.answers.put_nowait(None)
    assert (await first, await staying) == ([OK], [OK])


async def test_a_batch_that_fails_fails_for_its_callers_and_the_next_one_follows(marks: NodeMarks, log: Log) -> None:
    first = begin(marks, 1, delivered(1))
    await log.next_batch()
    second = begin(marks, 2, delivered(2))
    await asyncio.sleep(0)
    log.answers.put_nowait(UnavailableError("no majority", may_have_happened=True))
    with pytest.raises(UnavailableError):
        await first
    await log.next_batch()
    log.answers.put_nowait(None)
    assert await second == [OK]


async def test_commands_of_a_later_level_are_refused_alone(marks: NodeMarks, log: Log) -> None:
    later = [state_pb2.Command(set_display_name=state_pb2.SetDisplayName(session_id=2, display_name="x"))]
    first, refused = begin(marks, 1, delivered(1)), begin(marks, 2, later)
    with pytest.raises(ApiError):
        await refused
    assert owners(await log.next_batch()) == [1]
    log.answers.put_nowait(None)
    assert await first == [OK]


async def test_callers_that_have_left_do_not_gather_without_bound(marks: NodeMarks, log: Log) -> None:
    first = begin(marks, 2, delivered(2))
    await log.next_batch()
    for _ in range(ACCOUNT_WAITING):
        leaving = begin(marks, 1, delivered(1))
        await asyncio.sleep(0)
        leaving.cancel()
    with pytest.raises(OverloadedError):
        await marks.submit(1, delivered(1))
    other = begin(marks, 3, delivered(3))
    for _ in range(2):
        log.answers.put_nowait(None)
    assert (await first, await other) == ([OK], [OK])


async def test_when_the_marks_of_a_node_end_all_that_wait_are_told_and_nobody_waits_any_more(log: Log) -> None:
    marks = NodeMarks(Commands(log, lambda: 1))
    async with asyncio.timeout(5):
        async with in_background(marks.run()):
            on_its_way = begin(marks, 1, delivered(1))
            await log.next_batch()
            waiting = begin(marks, 2, delivered(2))
            await asyncio.sleep(0)
        with pytest.raises(UnavailableError, match="stops") as unknown:
            await on_its_way
        with pytest.raises(UnavailableError, match="stops") as not_begun:
            await waiting
        with pytest.raises(UnavailableError, match="stops"):
            await marks.submit(3, delivered(3))
    assert unknown.value.may_have_happened
    assert not not_begun.value.may_have_happened
    assert len(log.batches) == 1


async def test_an_error_in_the_marks_of_a_node_ends_who_runs_them_and_leaves_nobody_waiting(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task had no owner: its error vanished, and those whose marks waited did so for ever."""

    def broken(_: NodeMarks) -> NoReturn:
        raise RuntimeError("a defect")

    monkeypatch.setattr(NodeMarks, "_take_batch", broken)
    marks = NodeMarks(Commands(log, lambda: 1))
    async with asyncio.timeout(5):
        running = asyncio.create_task(marks.run())
        with pytest.raises(UnavailableError, match="stops"):
            await marks.submit(1, delivered(1))
        with pytest.raises(RuntimeError, match="a defect"):
            await running


async def test_the_streams_of_an_account_look_marks_up_in_turn(
    marks: NodeMarks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(node_marks, "LOOK_UP_INTERVAL_S", 0.001)
    inside: list[int] = []
    most = 0

    async def look_up(account_id: int) -> None:
        nonlocal most
        async with marks.look_up_turn(account_id):
            inside.append(account_id)
            most = max(most, inside.count(1))
            await asyncio.sleep(0)
            inside.remove(account_id)

    async with asyncio.timeout(5):
        await asyncio.gather(*(look_up(1) for _ in range(16)), look_up(2))
    assert most == 1


def test_an_account_sends_a_burst_and_then_frames_at_the_rate_whatever_number_of_devices_it_has() -> None:
    rates = FrameRates()
    streams = [rates.of(1) for _ in range(16)]
    delays = [streams[number % 16].delay_s(100.0) for number in range(BURST + FRAMES_PER_S)]
    assert max(delays[:BURST]) < 1e-6
    assert delays[-1] == pytest.approx(1.0)
    assert rates.of(2).delay_s(100.0) == 0.0
    assert streams[0].delay_s(200.0) == 0.0, "a pause gives the burst back"
