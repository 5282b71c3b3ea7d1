"""The level rises only when nothing speaks against it, and one proposal per change is enough."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from parley_proto.v1 import state_pb2 as pb
from parleyd.group.errors import LostError, NotLeaderError, OutcomeUnknownError
from parleyd.group.proposals import AppliedCommands
from parleyd.machine.records import MemberRow
from parleyd.membership import levels
from parleyd.membership.levels import LevelRaiser, LevelState, next_level
from parleyd.membership.members import ClusterMembers
from parleyd.membership.rules import ChangeRefusedError, add
from parleyd.raft.types import Index, NodeId


def member(number: int, low: int, high: int) -> MemberRow:
    return MemberRow(number, f"n{number}", f"host{number}:1", f"host{number}:2", low, high)


READY = LevelState(level=1, limit=0, members=(member(1, 1, 2), member(2, 1, 3), member(3, 2, 2)), has_divergence=False)


def test_the_next_level_is_proposed_when_every_member_supports_it() -> None:
    assert next_level(READY, own_maximum=2) == 2


@pytest.mark.parametrize(
    "state",
    [
        pytest.param(replace(READY, members=(*READY.members, member(4, 1, 1))), id="a member does not support it"),
        pytest.param(replace(READY, limit=1), id="the setting holds it back"),
        pytest.param(replace(READY, has_divergence=True), id="states differ"),
        pytest.param(replace(READY, members=()), id="no members are known"),
        pytest.param(replace(READY, level=2), id="this release supports no further one"),
    ],
)
def test_the_level_stays_where_something_speaks_against_the_next(state: LevelState) -> None:
    assert next_level(state, own_maximum=2) is None


def test_levels_rise_one_by_one_up_to_the_limit() -> None:
    far = replace(READY, members=(member(1, 1, 9),), limit=3)
    assert [next_level(replace(far, level=level), own_maximum=9) for level in (1, 2, 3)] == [2, 3, None]


def test_a_newcomer_that_does_not_support_the_clusters_level_is_not_added() -> None:
    members = ClusterMembers({NodeId(1): member(1, 1, 3), NodeId(2): member(2, 2, 4)}, {})
    with pytest.raises(ChangeRefusedError) as refused:
        add(members, member(9, 3, 4), level=2, admitted=True)
    text = str(refused.value)
    assert "n9 supports levels 3 to 4" in text
    assert "has level 2" in text
    assert "2 to 3" in text
    assert "Start n9 with a release that supports level 2" in text
    assert add(members, member(9, 2, 2), level=2, admitted=False) is not None


# ---- the one who proposes


@dataclass
class FakeLog:
    """Answers proposals with what the test prepared, and raises the level where that is OK."""

    answers: list[Exception | pb.ResultCode.ValueType]
    state: LevelState
    is_leader: bool = True
    proposed: list[pb.RaiseLevel] = field(default_factory=list)
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    reads: int = 0

    def propose(self, commands: Sequence[pb.Command]) -> asyncio.Future[AppliedCommands]:
        self.proposed.append(commands[0].raise_level)
        outcome: asyncio.Future[AppliedCommands] = asyncio.get_running_loop().create_future()
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            outcome.set_exception(answer)
            return outcome
        if answer == pb.RESULT_CODE_OK:
            self.state = replace(self.state, level=commands[0].raise_level.level)
        outcome.set_result(AppliedCommands(Index(7), (pb.CommandResult(code=answer),)))
        return outcome

    async def read(self) -> LevelState:
        self.reads += 1
        if next_level(self.state) is None or not self.answers:
            self.idle.set()
        return self.state


@pytest.fixture
def two_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(levels, "RETRY_INTERVAL_S", 0)
    monkeypatch.setattr(levels.next_level, "__defaults__", (2,))


async def settle(log: FakeLog, raiser: LevelRaiser) -> None:
    """Let it run until it has nothing left to do."""
    running = asyncio.create_task(raiser.run())
    async with asyncio.timeout(5):
        await log.idle.wait()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


@pytest.mark.usefixtures("two_levels")
async def test_a_due_level_is_proposed_once_with_its_release() -> None:
    log = FakeLog([pb.RESULT_CODE_OK], READY)
    await settle(log, LevelRaiser(log, log.read))
    assert [raised.level for raised in log.proposed] == [2]
    assert log.state.level == 2


@pytest.mark.usefixtures("two_levels")
@pytest.mark.parametrize("error", [LostError("x"), OutcomeUnknownError("x"), NotLeaderError("x")])
async def test_an_unknown_outcome_is_proposed_again(error: Exception) -> None:
    log = FakeLog([error, pb.RESULT_CODE_OK], READY)
    await settle(log, LevelRaiser(log, log.read))
    assert [raised.level for raised in log.proposed] == [2, 2]


@pytest.mark.usefixtures("two_levels")
async def test_a_refusal_waits_for_a_change() -> None:
    log = FakeLog([pb.RESULT_CODE_LEVEL_NOT_SUPPORTED, pb.RESULT_CODE_OK], READY)
    raiser = LevelRaiser(log, log.read)
    running = asyncio.create_task(raiser.run())
    for _ in range(50):
        await asyncio.sleep(0)
    assert len(log.proposed) == 1
    raiser.changed()
    async with asyncio.timeout(5):
        await log.idle.wait()
    running.cancel()
    assert len(log.proposed) == 2


@pytest.mark.usefixtures("two_levels")
async def test_a_follower_proposes_nothing() -> None:
    log = FakeLog([], READY, is_leader=False)
    raiser = LevelRaiser(log, log.read)
    running = asyncio.create_task(raiser.run())
    for _ in range(20):
        await asyncio.sleep(0)
    running.cancel()
    assert log.proposed == []
