"""Marks that change nothing enter no log, and none that changes something is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest
from structlog.testing import capture_logs

from parley_proto.v1 import messaging_pb2 as pb
from parley_proto.v1 import state_pb2
from parleyd.api.commands import Commands
from parleyd.api.marks import BATCH, MARK_BYTES, IgnoredMarks, ReadMarks
from parleyd.api.node_marks import NodeMarks
from parleyd.budgets import ByteBudget, DeviceShare, Shares
from parleyd.delivery.cursor import StreamCursor
from parleyd.group.errors import UnavailableError
from parleyd.group.proposals import AppliedCommands
from parleyd.machine.features.receipts import MarkedStates, ReadState
from parleyd.raft.types import Index
from tests.support.background import in_background
from tests.support.budgets import device_share
from tests.support.node import InProcessCluster
from tests.support.raw import PASSWORD, Person, Raw, bodies, until_so
from tests.support.session import SESSION

INVENTED = 1 << 40


class LaggingState:
    """A node that has applied nothing of the conversations in `committed` until it catches up."""

    def __init__(self, applied: dict[int, ReadState], committed: dict[int, ReadState]) -> None:
        self._known = applied
        self._committed = committed
        self.has_majority = True
        self.asked = 0
        self.looked_up: list[int] = []

    async def look_up(self, marks: Mapping[int, int]) -> MarkedStates:
        newest = max((state.last_message_id for state in self._known.values()), default=0)
        beyond = frozenset(one for one, up_to in marks.items() if up_to > newest or one > max(self._known, default=0))
        looked_up = marks.keys() - beyond
        self.looked_up.append(len(looked_up))
        return MarkedStates({one: self._known[one] for one in looked_up if one in self._known}, beyond)

    async def catch_up(self) -> None:
        self.asked += 1
        if not self.has_majority:
            raise UnavailableError("no majority answers")
        self._known = self._known | self._committed


class Log:
    """A log that takes everything."""

    def __init__(self) -> None:
        self.marks: list[tuple[int, int]] = []

    async def submit(self, commands: Sequence[state_pb2.Command], *, timeout_s: float) -> AppliedCommands:
        self.marks += [(one.mark_read.conversation_id, one.mark_read.up_to) for one in commands]
        result = state_pb2.CommandResult(code=state_pb2.RESULT_CODE_OK)
        return AppliedCommands(Index(1), (result,) * len(commands))


@asynccontextmanager
async def running(state: LaggingState, log: Log, share: DeviceShare | None = None) -> AsyncIterator[ReadMarks]:
    node_marks = NodeMarks(Commands(log, lambda: 1))
    marks = ReadMarks(SESSION, node_marks, state, share or device_share(), IgnoredMarks(1))
    try:
        async with in_background(node_marks.run()), in_background(marks.run()):
            yield marks
    finally:
        marks.close()


@pytest.fixture
async def ben(cluster: InProcessCluster, raw: Raw) -> Person:
    for name in ("ann", "ben", "cid"):
        cluster.add_account(name, PASSWORD)
    return await raw.log_in("ben")


async def test_read_marks_that_change_nothing_make_no_entry(cluster: InProcessCluster, raw: Raw, ben: Person) -> None:
    ann, cid = cluster.accounts["ann"], cluster.accounts["cid"]
    message = cluster.store(ann, cluster.accounts["ben"], "hello")
    foreign = cluster.store(ann, cid, "not for ben")
    async with raw.session(ben) as stream:
        await stream.until_caught_up()
        await stream.mark_read(message.conversation_id, message.id)
        await until_so(lambda: bool(cluster.reads))
        before = cluster.index
        with capture_logs() as logged:
            for number in range(1, 50):
                await stream.mark_read(INVENTED + number, 1)
                await stream.mark_read(foreign.conversation_id, foreign.id)
                await stream.mark_read(message.conversation_id, message.id)
                await stream.mark_read(message.conversation_id, INVENTED + number)
            newer = cluster.store(ann, cluster.accounts["ben"], "again")
            assert bodies(await stream.messages(1)) == ["again"]
            await stream.mark_read(message.conversation_id, newer.id)
            await until_so(lambda: cluster.reads[message.conversation_id, ben.id] == newer.id)
        assert cluster.index - before == 2, "the message, and the mark of it"
    ignored = [line for line in logged if line["event"] == "mark_ignored"]
    assert len(ignored) == 1
    assert ignored[0]["reason"] in ("NO_SUCH_CONVERSATION", "NO_SUCH_MESSAGE")


async def test_a_cursor_that_the_stream_has_not_reached_is_ignored_and_logged(
    cluster: InProcessCluster, raw: Raw, ben: Person
) -> None:
    async with raw.session(ben) as stream:
        await stream.until_caught_up()
        with capture_logs() as logged:
            await stream.delivered(StreamCursor.at(0, INVENTED).encode())
            message = cluster.store(cluster.accounts["ann"], cluster.accounts["ben"], "hello")
            await stream.messages(1)
            await stream.delivered(stream.cursor)
            device = cluster.devices[ben.id, ben.device_id]
            await until_so(lambda: device.delivered_up_to == message.id)
        before = cluster.index
        cluster.store(cluster.accounts["ann"], cluster.accounts["ben"], "more")
        await stream.messages(1)
        assert cluster.index == before + 1
        assert device.delivered_up_to == message.id, "the invented cursor has not covered it"
    assert [line["reason"] for line in logged if line["event"] == "mark_ignored"] == ["CURSOR_NOT_REACHED"]


async def test_a_stream_that_begins_with_an_invented_cursor_begins_after_what_the_cluster_knows(
    cluster: InProcessCluster, raw: Raw, ben: Person
) -> None:
    invented = StreamCursor.at(0, INVENTED).encode()
    with capture_logs() as logged:
        async with raw.session(ben, cursor=invented) as stream:
            await stream.delivered(invented)
            cluster.store(cluster.accounts["ann"], cluster.accounts["ben"], "hello")
            assert bodies(await stream.messages(1)) == ["hello"]
            assert cluster.devices[ben.id, ben.device_id].delivered_up_to == 0
    assert "cursor_ignored" in [line["event"] for line in logged]


async def test_a_mark_of_what_this_node_has_not_applied_yet_enters_the_log_once_it_has() -> None:
    state = LaggingState({1: ReadState(5, 5)}, {1: ReadState(6, 5), 2: ReadState(7, 0)})
    state.has_majority = False
    log = Log()
    async with running(state, log) as marks:
        await marks.note(pb.Read(conversation_id=1, up_to=6))
        await marks.note(pb.Read(conversation_id=2, up_to=7))
        await until_so(lambda: state.asked > 1)
        assert log.marks == []
        state.has_majority = True
        await until_so(lambda: bool(log.marks))
    assert log.marks == [(1, 6), (2, 7)]


async def test_marks_that_this_node_knows_ask_nobody() -> None:
    state = LaggingState({1: ReadState(5, 2)}, {})
    log = Log()
    async with running(state, log) as marks:
        await marks.note(pb.Read(conversation_id=1, up_to=2))
        await marks.note(pb.Read(conversation_id=1, up_to=4))
        await until_so(lambda: bool(log.marks))
    assert log.marks == [(1, 4)]
    assert state.asked == 0


async def test_each_mark_is_looked_up_once_although_it_names_what_nobody_has() -> None:
    state = LaggingState({one: ReadState(5, 5) for one in range(1, 11)}, {})
    log = Log()
    async with running(state, log) as marks:
        for conversation_id in range(1, 11):
            await marks.note(pb.Read(conversation_id=conversation_id, up_to=INVENTED))
        await until_so(lambda: sum(state.looked_up) >= 10)
        await marks.note(pb.Read(conversation_id=1, up_to=5))
        await until_so(lambda: sum(state.looked_up) > 10)
    assert sum(state.looked_up) == 11
    assert log.marks == []


async def test_a_batch_of_marks_is_bounded_and_the_rest_follows_in_order() -> None:
    state = LaggingState({one: ReadState(5, 0) for one in range(1, 301)}, {})
    log = Log()
    async with running(state, log) as marks:
        for conversation_id in range(300, 0, -1):
            await marks.note(pb.Read(conversation_id=conversation_id, up_to=1))
        await until_so(lambda: len(log.marks) == 300)
    assert max(state.looked_up) == BATCH
    assert [conversation_id for conversation_id, _ in log.marks] == list(range(300, 0, -1))


async def test_marks_have_a_bound_in_sum_and_everything_is_given_back() -> None:
    budget = ByteBudget(Shares(node=4 * MARK_BYTES, account=4 * MARK_BYTES, device=4 * MARK_BYTES))
    assert budget.take(2, "another account", MARK_BYTES)
    share = DeviceShare(budget, 1, "device")
    state = LaggingState({one: ReadState(5, 0) for one in range(1, 10)}, {})
    log = Log()
    async with running(state, log, share) as marks:
        for conversation_id in range(1, 10):
            await marks.note(pb.Read(conversation_id=conversation_id, up_to=1))
            assert budget.in_use <= 4 * MARK_BYTES
        await until_so(lambda: len(log.marks) == 9)
        await until_so(lambda: budget.in_use == MARK_BYTES)


async def test_a_mark_without_room_in_the_sum_is_ignored_and_holds_up_nothing() -> None:
    budget = ByteBudget(Shares(node=MARK_BYTES, account=MARK_BYTES, device=MARK_BYTES))
    assert budget.take(2, "another account", MARK_BYTES)
    log = Log()
    async with running(LaggingState({1: ReadState(5, 0)}, {}), log, DeviceShare(budget, 1, "device")) as marks:
        with capture_logs() as logged:
            await marks.note(pb.Read(conversation_id=1, up_to=1))
    assert [line["reason"] for line in logged] == ["TOO_MANY_MARKS"]
