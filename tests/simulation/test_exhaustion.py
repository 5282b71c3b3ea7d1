"""A small world has no bad state, and a planted bug is found in it by the shortest way."""

from __future__ import annotations

from server.raft.types import NodeId
from tests.simulation.exhaustion import NODES, Scope, explore, first_world, key_of, successors
from tests.simulation.planted import PLANTED


def test_no_order_of_events_breaks_a_property_in_a_small_world() -> None:
    report = explore(Scope("election", campaigns=1), max_states=1_000_000, max_seconds=60)
    assert report.complete
    assert (report.violation, report.leaders, report.committed) == ("", 1, 1)


def test_the_same_world_is_explored_on_every_run() -> None:
    scope = Scope("some of it", campaigns=2, proposals=1, crashes=1)
    first, second = (explore(scope, max_states=500, max_seconds=60) for _ in range(2))
    assert (first.states, first.steps, first.depth) == (second.states, second.steps, second.depth)


def test_states_that_differ_by_the_names_of_servers_are_one() -> None:
    world = first_world(Scope("campaigns", campaigns=1))
    after = list(successors(world))
    assert [len(after), len({key_of(one) for one in after})] == [len(NODES), 1]


def test_states_that_differ_by_more_than_names_are_two() -> None:
    world = first_world(Scope("campaigns", campaigns=2))
    campaigns = [one for one in successors(world) if one.nodes[NodeId(1)] is not world.nodes[NodeId(1)]]
    (one_asks,) = campaigns
    keys = {key_of(world), key_of(one_asks), *(key_of(after) for after in successors(one_asks))}
    # One asks; then its disk is done, or it asks again, or one of the two others, alike, is asked or asks itself.
    assert len(keys) == 6


def test_a_planted_bug_is_found_by_the_shortest_way() -> None:
    with PLANTED["two_votes_in_a_term"]():
        report = explore(Scope("two campaigns", campaigns=2), max_states=20_000, max_seconds=60)
    assert "has voted for 1 and for 2 in term 1" in report.violation
    assert report.trace == ["1 campaigns", "1 syncs", "2 campaigns", "2->1 VOTE 1 0", "1 syncs"]
