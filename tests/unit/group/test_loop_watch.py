"""A leader whose event loop lags hands over to a punctual member, and only if that helps.

What can go wrong: one pause deposes a leader; nodes that all lag pass leadership around; leadership follows the load
and never rests; a member that is behind, silent or lagging itself is chosen; a lag that goes on is not seen.
"""

from __future__ import annotations

import pytest

from parleyd.group.effects import LoopJudged, LoopLags
from parleyd.group.inputs import DistrustNodes, LagReported, PeerLost, ProposeCommands, RoomReported
from parleyd.group.loop_watch import FIRST_WAIT_MS, HOLD_MS, MEMORY_MS, WINDOW_MS, LoopWatch
from parleyd.group.member_room import Room
from parleyd.raft.messages import MessageType as M
from parleyd.raft.types import NodeId
from tests.unit.group.test_group import COMMAND, ME, THREE, TICK_MS, TWO, Dialogue, only, sent

BOUND_MS = 150.0
LATE_MS = 200.0
LONG_MS = WINDOW_MS + HOLD_MS + 1_000.0


class Loop:
    """A watch, and the time."""

    def __init__(self, bound_ms: float = BOUND_MS) -> None:
        self.now_ms = 10_000.0
        self.watch = LoopWatch(bound_ms, self.now_ms)

    def runs(
        self,
        for_ms: float,
        late_ms: float = 0.0,
        *,
        tells: dict[NodeId, float] | None = None,
        tick_ms: float = TICK_MS,
    ) -> None:
        """Tick for some time; each tick is so late. The others tell their lag at each of them."""
        until_ms = self.now_ms + for_ms
        while self.now_ms < until_ms:
            self.now_ms += tick_ms + late_ms
            self.watch.ticked(late_ms, self.now_ms)
            for node, lag_ms in (tells or {}).items():
                self.watch.report(node, lag_ms, self.now_ms)


# ---- the lag


def test_a_loop_that_is_late_for_most_of_the_time_lags() -> None:
    loop = Loop()
    loop.runs(WINDOW_MS)
    assert loop.watch.lag_ms == 0.0
    loop.runs(0.4 * WINDOW_MS, LATE_MS)
    assert loop.watch.lag_ms == 0.0
    loop.runs(0.2 * WINDOW_MS, LATE_MS)
    assert loop.watch.lag_ms == LATE_MS
    assert not loop.watch.should_transfer(loop.now_ms)
    loop.runs(HOLD_MS, LATE_MS)
    assert loop.watch.is_lagging
    assert loop.watch.should_transfer(loop.now_ms)


@pytest.mark.parametrize("pause_ms", [100.0, 1_000.0, 60_000.0, 3_600_000.0])
def test_one_pause_of_any_length_is_no_lag(pause_ms: float) -> None:
    loop = Loop()
    for _ in range(20):
        loop.runs(WINDOW_MS)
        loop.runs(1.0, pause_ms)
        assert loop.watch.lag_ms == 0.0
    assert not loop.watch.is_lagging


def test_a_loop_that_hardly_runs_lags_although_its_ticks_are_few() -> None:
    loop = Loop()
    loop.runs(30_000.0, 2_000.0)
    assert loop.watch.is_lagging


def test_a_lag_that_comes_and_goes_around_the_bound_is_one_lag_until_it_is_half_of_it() -> None:
    loop = Loop()
    loop.runs(LONG_MS, LATE_MS)
    loop.runs(WINDOW_MS, BOUND_MS - 20.0)
    assert loop.watch.is_lagging
    assert not loop.watch.should_transfer(loop.now_ms), "not while it is below the bound"
    loop.runs(WINDOW_MS, LATE_MS)
    assert loop.watch.should_transfer(loop.now_ms)
    loop.runs(WINDOW_MS)
    assert not loop.watch.is_lagging


def test_a_bound_of_0_makes_no_lag() -> None:
    loop = Loop(bound_ms=0.0)
    loop.runs(LONG_MS, LATE_MS)
    assert (loop.watch.lag_ms, loop.watch.is_lagging) == (LATE_MS, False)
    assert not loop.watch.should_transfer(loop.now_ms)


# ---- the others


def test_a_member_is_punctual_once_it_has_told_so_for_some_time_and_while_it_goes_on() -> None:
    loop = Loop()
    assert not loop.watch.is_punctual(TWO, loop.now_ms)
    loop.runs(1_000.0, tells={TWO: 0.0})
    assert not loop.watch.is_punctual(TWO, loop.now_ms), "too short"
    loop.runs(3_000.0, tells={TWO: BOUND_MS / 2})
    assert loop.watch.is_punctual(TWO, loop.now_ms)
    loop.runs(3_000.0)
    assert not loop.watch.is_punctual(TWO, loop.now_ms), "it is silent"


def test_a_member_that_lagged_lately_is_not_punctual_also_after_a_silence() -> None:
    loop = Loop()
    loop.runs(4_000.0, tells={TWO: BOUND_MS})
    loop.runs(3_000.0)
    loop.runs(4_000.0, tells={TWO: 0.0})
    assert not loop.watch.is_punctual(TWO, loop.now_ms)
    loop.runs(2 * MEMORY_MS, tells={TWO: 0.0})
    assert loop.watch.is_punctual(TWO, loop.now_ms)


# ---- transfers


def test_after_a_transfer_a_leader_waits_longer_each_time_and_a_quiet_hour_ends_that() -> None:
    loop, waits = Loop(), []
    loop.runs(LONG_MS, LATE_MS)
    for _ in range(3):
        loop.watch.transferred(loop.now_ms)
        began_ms = loop.now_ms
        while not loop.watch.should_transfer(loop.now_ms):
            loop.runs(1.0, LATE_MS)
        waits.append(round((loop.now_ms - began_ms) / FIRST_WAIT_MS))
    assert waits == [1, 2, 4]
    loop.runs(3_700_000.0, LATE_MS)
    loop.watch.transferred(loop.now_ms)
    loop.runs(FIRST_WAIT_MS, LATE_MS)
    assert loop.watch.should_transfer(loop.now_ms)


def test_a_lag_that_goes_where_the_leader_is_moves_it_seldom() -> None:
    """Each node lags while it leads. All hear of all, as leaders do of their followers."""
    nodes = (ME, TWO, THREE)
    loops = {node: Loop() for node in nodes}
    leader, transfers = ME, 0
    for _ in range(2 * 3_600):
        tells = {node: loops[node].watch.lag_ms for node in nodes}
        for node, loop in loops.items():
            loop.runs(999.0, LATE_MS if node == leader else 0.0, tells={**tells, node: 0.0}, tick_ms=100.0)
        watch, now_ms = loops[leader].watch, loops[leader].now_ms
        others = [node for node in nodes if node != leader and watch.is_punctual(node, now_ms)]
        if watch.should_transfer(now_ms) and others:
            watch.transferred(now_ms)
            leader, transfers = others[0], transfers + 1
    assert 3 <= transfers <= 30


# ---- the group


def lagging(bound_ms: float = BOUND_MS) -> Dialogue:
    """A leader whose event loop lags; the others are caught up."""
    one = Dialogue(ME, TWO, THREE, ticks=1_000, loop_lag_ms=bound_ms)
    one.lead()
    one.acknowledge(TWO, THREE)
    return one


def runs(one: Dialogue, tells: dict[NodeId, int], for_ms: float = LONG_MS, late_ms: float = LATE_MS) -> list[NodeId]:
    """Let time pass, each tick so late, while the others answer. Return whom leadership was transferred to."""
    targets: list[NodeId] = []
    until_ms = one.now_ms + for_ms
    while one.now_ms < until_ms and one.group.is_leader:
        effects = one.after(TICK_MS + late_ms)
        for node, lag_ms in tells.items():
            one.receive(M.HEARTBEAT_RESPONSE, node)
            one.tell(LagReported(node, lag_ms))
        handed_over = [effect.target for effect in only(LoopLags, effects)]
        assert handed_over == [message.to for message in sent(effects, M.TIMEOUT_NOW)]
        targets += handed_over
    return targets


def test_a_leader_whose_loop_lags_hands_over_once_to_the_punctual_one() -> None:
    one = lagging()
    assert runs(one, {TWO: 190, THREE: 3}, 2 * LONG_MS) == [THREE]
    [judged] = only(LoopJudged, one.said)
    assert (judged.is_lagging, round(judged.lag_ms)) == (True, LATE_MS)
    assert one.group.handed_over == {"disk": 0, "loop": 1}
    assert round(one.group.loop_lag_ms) == LATE_MS


def test_a_node_that_lags_goes_on_serving_and_says_when_it_is_over() -> None:
    one = lagging()
    runs(one, {TWO: 190, THREE: 190})
    assert one.group.is_serving(one.now_ms)
    runs(one, {TWO: 190, THREE: 190}, late_ms=0.0)
    assert [judged.is_lagging for judged in only(LoopJudged, one.said)] == [True, False]


def test_nobody_moves_while_all_lag_or_while_nobody_tells() -> None:
    assert runs(lagging(), {TWO: 190, THREE: 76}, 60_000.0) == []
    silent = lagging()
    until_ms = silent.now_ms + LONG_MS
    while silent.now_ms < until_ms:
        assert not only(LoopLags, silent.after(TICK_MS + LATE_MS))


def test_a_pause_of_the_process_moves_nobody() -> None:
    one = lagging()
    punctual = {TWO: 0, THREE: 0}
    for _ in range(5):
        assert runs(one, punctual, LONG_MS, 0.0) == []
        one.after(3_000.0)
    assert not only(LoopJudged, one.said)


def test_a_follower_that_lacks_committed_entries_is_not_asked_to_lead() -> None:
    one = lagging()
    one.tell(ProposeCommands(1, [COMMAND]))
    one.do_all()
    one.acknowledge(TWO)
    one.do_all()
    assert runs(one, {THREE: 0, TWO: 190}) == []
    one.acknowledge(THREE)
    assert runs(one, {THREE: 0, TWO: 190}) == [THREE]


def test_what_bars_a_node_from_leading_bars_it_here_too() -> None:
    one = lagging()
    one.tell(DistrustNodes(frozenset({TWO})), RoomReported(THREE, Room.LOW))
    assert runs(one, {TWO: 0, THREE: 0}) == []


def test_a_member_whose_connection_broke_is_silent_and_not_chosen() -> None:
    one = lagging()
    runs(one, {TWO: 0, THREE: 190}, 4_000.0)
    one.tell(PeerLost(TWO))
    assert runs(one, {THREE: 190}) == []


def test_a_bound_of_0_moves_nobody() -> None:
    assert runs(lagging(0.0), {TWO: 0, THREE: 0}) == []
