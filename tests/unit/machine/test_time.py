"""Sessions expire by the replicated time alone, and an administrator mends a time that a wrong clock has moved.

What can go wrong: the clock of the node that was asked decides; a poisoned cluster stays locked; anybody, or a clock
that is wrong itself, sets the time; a session outlives its time because the time went back.
"""

from __future__ import annotations

import pytest

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.features.sessions import TIME_TOLERANCE_MS, TTL_LEVEL
from tests.unit.machine.harness import START_MS, Node, dump, open_session, set_role

TTL_MS = 30 * 86_400_000
TEN_YEARS = 10 * 365 * 86_400_000


def set_time(session_id: int, now_ms: int) -> pb.Command:
    return pb.Command(set_time=pb.SetTime(session_id=session_id, now_ms=now_ms))


def log_in(token: int, device: int, account_id: int = 1) -> pb.Command:
    command = open_session(account_id, token, device, expires_at_ms=1)
    command.open_session.ttl_ms = TTL_MS
    return command


@pytest.fixture
def risen(node: Node) -> Node:
    node.register("ada")
    node.register("ben")
    node.rise(TTL_LEVEL)
    return node


def expiries(node: Node) -> dict[int, int]:
    return {int(str(row[0])): int(str(row[5])) for row in dump(node.path)["sessions"]}


def at(node: Node, command: pb.Command, at_ms: int) -> pb.CommandResult:
    return node.one(command, at_ms=at_ms, level=TTL_LEVEL)


def is_live(node: Node, session_id: int, at_ms: int) -> bool:
    outcome = at(node, set_role(session_id, "ada", administrator=True), at_ms)
    return outcome.code != pb.RESULT_CODE_SIGNED_OUT


def test_a_session_expires_so_long_after_the_replicated_time(risen: Node) -> None:
    now_ms = risen.now_ms + 10_000
    opened = at(risen, log_in(500, 1), now_ms).open_session
    assert opened.expires_at_ms == now_ms + TTL_MS
    assert is_live(risen, opened.session_id, now_ms + TTL_MS - 1)
    assert not is_live(risen, opened.session_id, now_ms + TTL_MS)


def test_an_entry_without_a_time_leaves_the_replicated_time_where_it_is(risen: Node) -> None:
    before = risen.machine.now_ms
    opened = at(risen, log_in(500, 1), 0).open_session
    assert (risen.machine.now_ms, opened.expires_at_ms) == (before, before + TTL_MS)


def test_an_administrator_mends_a_time_that_was_moved_by_years(risen: Node) -> None:
    noon = risen.now_ms + 10_000
    old = at(risen, log_in(500, 1), noon).open_session.session_id
    administrator = at(risen, log_in(501, 2), noon + TEN_YEARS).open_session.session_id
    assert not is_live(risen, old, noon + 1), "locked out by one wrong clock"
    mended = at(risen, set_time(administrator, noon + 5), noon + 1000)
    assert mended.set_time == pb.SetTimeResult(before_ms=noon + TEN_YEARS, after_ms=noon + 1000)
    assert risen.machine.now_ms == noon + 1000
    assert expiries(risen) == {old: noon + 1000 + TTL_MS, administrator: noon + 1000 + TTL_MS}
    assert is_live(risen, old, noon + 2000)
    assert not is_live(risen, administrator, noon + 1000 + TTL_MS), "not for ten years"


def test_a_session_that_expired_by_the_right_time_too_stays_expired(risen: Node) -> None:
    noon = risen.now_ms + 10_000
    old = at(risen, log_in(500, 1), noon).open_session.session_id
    later = noon + TTL_MS + 5
    administrator = at(risen, log_in(501, 2), later + TEN_YEARS).open_session.session_id
    at(risen, set_time(administrator, later), later)
    assert not is_live(risen, old, later + 1)


@pytest.mark.parametrize("off_ms", [-TIME_TOLERANCE_MS - 1, TIME_TOLERANCE_MS + 1])
def test_a_time_that_the_administrators_clock_does_not_confirm_is_not_set(risen: Node, off_ms: int) -> None:
    noon = risen.now_ms + 10_000
    administrator = at(risen, log_in(500, 1), noon + TEN_YEARS).open_session.session_id
    refused = at(risen, set_time(administrator, noon + off_ms), noon)
    assert refused.code == pb.RESULT_CODE_TIME_DISPUTED
    assert risen.machine.now_ms == noon + TEN_YEARS


def test_no_time_is_set_while_no_majority_has_told_its_time(risen: Node) -> None:
    administrator = at(risen, log_in(500, 1), risen.now_ms + 1).open_session.session_id
    assert at(risen, set_time(administrator, 0), 0).code == pb.RESULT_CODE_TIME_DISPUTED


def test_only_an_administrator_sets_the_time(risen: Node) -> None:
    noon = risen.now_ms + 10_000
    user = at(risen, log_in(500, 1, account_id=2), noon).open_session.session_id
    assert at(risen, set_time(user, noon), noon).code == pb.RESULT_CODE_NOT_ALLOWED


def test_below_the_level_the_time_of_expiry_is_the_nodes_and_none_is_set(node: Node) -> None:
    node.register("ada")
    command = log_in(500, 1)
    command.open_session.expires_at_ms = START_MS + TTL_MS + 7
    opened = node.one(command)
    session_id = opened.open_session.session_id
    assert opened.open_session.expires_at_ms == 0
    assert expiries(node) == {session_id: START_MS + TTL_MS + 7}
    assert node.one(set_time(session_id, node.now_ms)).code == pb.RESULT_CODE_UNKNOWN_COMMAND
