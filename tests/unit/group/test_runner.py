"""The shell keeps its timer whatever loop it runs on, and tells the group when a caller goes away."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest
import uvloop
from structlog.testing import capture_logs

from parleyd.group import runner as runner_module
from parleyd.group.answers import PendingAnswers
from parleyd.group.effects import Effect, MakeSnapshot, RoleChanged
from parleyd.group.errors import NotLeaderError, OutcomeUnknownError
from parleyd.group.files import GroupFiles
from parleyd.group.group import Group
from parleyd.group.inputs import Input, TimePassed
from parleyd.group.parts import GroupObserver, GroupParts, Outbound
from parleyd.group.runner import GroupRunner, delay_s
from parleyd.machine.records import MemberRow, Members
from parleyd.membership.members import ClusterMembers
from parleyd.raft.types import Index, NodeId, Role, SnapshotMeta, Term
from parleyd.raft.update import RoleChange


class LateGroup:
    """A group whose deadline has passed whenever it is asked, as after a pause of the process."""

    def __init__(self) -> None:
        self.turns = 0
        self.late = asyncio.Event()
        self.members = ClusterMembers.of(Members((MemberRow(2, "n2", "", ""),), (MemberRow(4, "n4", "", ""),)))

    @property
    def next_deadline_ms(self) -> float:
        return runner_module.now_ms() - 50 + self.turns

    def handle(self, inputs: list[Input], now_ms: float, wall_ms: int) -> tuple[Effect, ...]:
        self.turns += sum(isinstance(one, TimePassed) for one in inputs)
        if self.turns >= 3:
            self.late.set()
        return ()


class NoMachine:
    now_ms = 0


class NoFiles:
    machine = NoMachine()

    async def watch(self) -> None:
        await asyncio.get_running_loop().create_future()


async def run_late_group() -> None:
    group = LateGroup()
    parts = GroupParts(cast(Group, group), cast(GroupFiles, NoFiles()), cast(Outbound, None), cast(GroupObserver, None))
    running = asyncio.ensure_future(GroupRunner(parts).run())
    async with asyncio.timeout(10):
        await group.late.wait()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_deadline_that_has_passed_already_is_told_at_once_on_any_loop(new_loop: object) -> None:
    with asyncio.Runner(loop_factory=new_loop) as loop:  # type: ignore[arg-type]
        loop.run(run_late_group())


async def test_a_caller_that_goes_away_withdraws_and_one_that_was_answered_does_not() -> None:
    withdrawn: list[int] = []
    answers = PendingAnswers(withdrawn.append)
    gone, answered = answers.expect(), answers.expect()
    gone.cancel()
    answers.succeed(answered.token, 7)
    answered.cancel()
    answers.succeed(gone.token, 8)
    assert withdrawn == [gone.token]
    assert await answered == 7


async def test_a_caller_whose_wait_somebody_else_ended_is_left_alone() -> None:
    answers = PendingAnswers(lambda _: None)
    first, second = answers.expect(), answers.expect()
    for ended in (first, second):
        ended.set_exception(OutcomeUnknownError("the leader changed"))
    answers.succeed(first.token, 7)
    answers.fail(second.token, NotLeaderError("no leader is known"))
    assert isinstance(first.exception(), OutcomeUnknownError)
    assert isinstance(second.exception(), OutcomeUnknownError)


class AskingGroup(LateGroup):
    """A group whose follower needs a copy of the state with every turn; from the third one on, it is another one."""

    def handle(self, inputs: list[Input], now_ms: float, wall_ms: int) -> tuple[Effect, ...]:
        before = self.turns
        super().handle(inputs, now_ms, wall_ms)
        return (MakeSnapshot((NodeId(2 if self.turns < 3 else 3),)),) if self.turns > before else ()


class Copies(NoFiles):
    """Files that make any number of copies."""

    @property
    def snapshot_store(self) -> Copies:
        return self

    async def make_snapshot(self) -> SnapshotMeta:
        return SnapshotMeta(Index(1), Term(1))


async def test_who_needs_a_snapshot_is_logged_when_it_changes_and_not_with_each_try() -> None:
    group = AskingGroup()
    parts = GroupParts(cast(Group, group), cast(GroupFiles, Copies()), cast(Outbound, None), cast(GroupObserver, None))
    with capture_logs() as logs:
        running = asyncio.ensure_future(GroupRunner(parts).run())
        async with asyncio.timeout(10):
            await group.late.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    asked = [line["nodes"] for line in logs if line["event"] == "snapshot_requested"]
    assert asked == [["n2"], ["3"]], "by its name, and an unknown node by its id"


class LedGroup(LateGroup):
    """A group that hears of another leader with every turn: a member, a former member, and nobody."""

    leaders = (2, 4, 0)

    def handle(self, inputs: list[Input], now_ms: float, wall_ms: int) -> tuple[Effect, ...]:
        before = self.turns
        super().handle(inputs, now_ms, wall_ms)
        heard = self.leaders[before : self.turns]
        return tuple(RoleChanged(RoleChange(Role.FOLLOWER, Term(1), NodeId(leader))) for leader in heard)


async def test_the_log_names_who_leads() -> None:
    """It had the id of the node, which no table shows."""
    group = LedGroup()
    parts = GroupParts(cast(Group, group), cast(GroupFiles, NoFiles()), cast(Outbound, None), cast(GroupObserver, None))
    with capture_logs() as logs:
        running = asyncio.ensure_future(GroupRunner(parts).run())
        async with asyncio.timeout(10):
            await group.late.wait()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert [line["leader"] for line in logs if line["event"] == "role_changed"] == ["n2", "n4", ""]


@pytest.mark.parametrize("delay_ms", [-5.0, 0.0, 0.2, 0.49, 1.2, 9.3, 9.5000001, 10.0])
def test_a_timer_comes_at_its_deadline_or_after_it_also_when_the_loop_rounds_to_milliseconds(delay_ms: float) -> None:
    assert round(delay_s(delay_ms) * 1000) >= delay_ms
    assert delay_s(delay_ms) * 1000 < max(delay_ms, 0) + 1
