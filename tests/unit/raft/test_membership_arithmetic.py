"""Membership changes: encoding, and what must hold after any sequence of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parleyd.raft.membership import (
    ConfChange,
    ConfChangeType,
    Fault,
    MembershipError,
    SingleChange,
    Transition,
    change_membership,
    check_conf_state,
    decode_conf_change,
    encode_conf_change,
    enter_joint,
    leave_joint,
    members_of,
    simple,
)
from parleyd.raft.types import ConfState, NodeId
from tests.unit.raft.lab import change, voters

SINGLES = st.builds(SingleChange, st.sampled_from(ConfChangeType), st.integers(0, 2**64 - 1).map(NodeId))
SMALL = st.builds(SingleChange, st.sampled_from(ConfChangeType), st.integers(0, 5).map(NodeId))
CHANGES = st.builds(ConfChange, st.lists(SINGLES, max_size=5).map(tuple), st.sampled_from(Transition), st.binary())
SMALL_CHANGES = st.builds(ConfChange, st.lists(SMALL, max_size=4).map(tuple), st.sampled_from(Transition))


@given(CHANGES)
def test_a_change_survives_its_encoding(change: ConfChange) -> None:
    data = encode_conf_change(change)
    assert data
    assert decode_conf_change(data) == change


@given(CHANGES, st.integers(0, 200))
def test_a_cut_encoding_is_refused_or_lost_only_context(change: ConfChange, keep: int) -> None:
    data = encode_conf_change(change)[:keep]
    try:
        decoded = decode_conf_change(data)
    except ValueError:
        return
    assert (decoded.changes, decoded.transition) == (change.changes, change.transition)
    assert change.context.startswith(decoded.context)


@pytest.mark.parametrize("data", [b"", b"\x02\x00\x00\x00", b"\x01\x09\x00\x00", b"\x01\x00\x00\x01\x09" + b"\0" * 8])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (each is wrong in its own way)
        decode_conf_change(data)


@given(st.lists(SMALL_CHANGES, max_size=12))
def test_no_sequence_of_changes_breaks_the_membership(steps: list[ConfChange]) -> None:
    conf = voters(1)
    for step in steps:
        before = conf
        try:
            changed = change_membership(conf, step)
        except MembershipError:
            continue
        conf = changed.conf_state
        check_conf_state(conf)
        assert conf.voters
        assert set(changed.fresh) <= set(members_of(conf))
        assert set(members_of(conf)) - set(members_of(before)) <= set(changed.fresh)


@given(st.lists(SMALL_CHANGES, max_size=12))
def test_majorities_before_and_after_any_change_overlap(steps: list[ConfChange]) -> None:
    conf = voters(1, 2, 3)
    for step in steps:
        try:
            after = change_membership(conf, step).conf_state
        except MembershipError:
            continue
        for quorum in quorums(conf):
            assert all(quorum & other for other in quorums(after))
        conf = after


def quorums(conf: ConfState) -> list[set[NodeId]]:
    """Every set of nodes that decides in `conf`."""
    nodes = sorted({*conf.voters, *conf.voters_outgoing})
    subsets = [{node for place, node in enumerate(nodes) if bits >> place & 1} for bits in range(2 ** len(nodes))]
    halves = [half for half in (conf.voters, conf.voters_outgoing) if half]
    return [chosen for chosen in subsets if all(2 * len(chosen & set(half)) > len(half) for half in halves)]


def test_the_sole_fault_of_each_kind() -> None:
    joint = enter_joint(voters(1, 2, 3), change("r3").changes, auto_leave=False).conf_state
    attempts: dict[Fault, Callable[[], object]] = {
        Fault.ALREADY_JOINT: lambda: enter_joint(joint, (), auto_leave=False),
        Fault.NO_VOTERS_TO_JOIN: lambda: enter_joint(voters(), (), auto_leave=False),
        Fault.NOT_JOINT: lambda: leave_joint(voters(1)),
        Fault.SIMPLE_IN_JOINT: lambda: simple(joint, change("v4").changes),
        Fault.TOO_MANY_VOTERS: lambda: simple(voters(1), change("v4", "v5").changes),
        Fault.NO_VOTERS_LEFT: lambda: simple(voters(1), change("r1").changes),
    }
    for fault, attempt in attempts.items():
        with pytest.raises(MembershipError) as raised:
            attempt()
        assert raised.value.fault is fault


def test_a_server_removed_and_added_again_is_a_new_one() -> None:
    assert simple(voters(1, 2), change("r2", "v2").changes).fresh == (2,)
    assert simple(voters(1, 2), change("l2", "v2").changes).fresh == ()


@pytest.mark.parametrize(
    "broken",
    [
        ConfState(voters=(NodeId(1),), learners=(NodeId(1),)),
        ConfState(voters=(NodeId(1),), learners_next=(NodeId(2),)),
        ConfState(voters=(NodeId(1),), auto_leave=True),
        ConfState(voters=(NodeId(1),), voters_outgoing=(NodeId(1),), learners_next=(NodeId(1),)),
    ],
)
def test_a_membership_that_contradicts_itself_is_refused(broken: ConfState) -> None:
    with pytest.raises(ValueError, match="membership"):
        check_conf_state(broken)
