"""A small world has no bad state; planted bugs are found in one; what is left out leaves nothing out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import pytest

from parleyd.raft import election
from parleyd.raft.core import Core
from parleyd.raft.errors import InvariantError
from parleyd.raft.membership import Transition
from parleyd.raft.messages import Message
from parleyd.raft.types import NO_NODE, ConfState, Index, Role
from parleyd.raft.update import Update
from tests.simulation.cluster.checker import ViolationError, require
from tests.simulation.cluster.planted import PLANTED
from tests.simulation.exhaustion import __main__ as exhaustion
from tests.simulation.exhaustion.__main__ import APART, JOINS, LEARNER, SCOPES, TWO, third_for
from tests.simulation.exhaustion.names import Names
from tests.simulation.exhaustion.search import Search, explore
from tests.simulation.exhaustion.server import Disk, Fact, Kind, Rules, Server, Step, Stimulus, Write, conflict
from tests.simulation.exhaustion.space import NODES, Reductions, Scope, Space

SAME = Names({node: node for node in NODES})
ALONE = ConfState(voters=NODES[:1])


# What is reached, told without names


def _told(server: Server) -> tuple[object, ...]:
    core = server.raft._core
    terms = tuple(entry.term for entry in core.log._entries)
    sizes = [
        len(group) for group in (core.conf_state.voters, core.conf_state.learners, core.conf_state.voters_outgoing)
    ]
    durable = (server.disk.hard_state.current_term, len(server.disk.entries))
    return (core.role.value, core.current_term, terms, core.log.commit_index, len(server.history), *sizes, durable)


def _triple(servers: Iterable[Server]) -> tuple[object, ...]:
    return tuple(sorted(map(_told, servers)))


def _reached(search: Search) -> tuple[set[object], set[object]]:
    """The servers that are there at one time, and all that was ever known of elections and commits."""
    space = search.space
    triples = {_triple([space.servers.known[server] for server in space.triples[number]]) for number in search.seen}
    facts = {
        (fact.kind, fact.key, None if fact.kind == "leader" else fact.value)
        for masks in search.seen.values()
        for mask in masks
        for bit, fact in space.fact_at.items()
        if mask & bit and fact.kind in ("leader", "committed")
    }
    return set[object](triples), set[object](facts)


# The same world without the machinery: servers, messages and facts as they are, nothing numbered or left out


@dataclass(frozen=True, slots=True)
class _World:
    servers: tuple[Server, ...]
    wire: tuple[Message, ...]
    facts: frozenset[Fact]
    campaigns: int

    def key(self) -> tuple[object, ...]:
        return (tuple(map(SAME.look, self.servers)), frozenset(Counter(self.wire).items()), self.campaigns)


def _first(scope: Scope, rules: Rules) -> _World:
    servers = tuple(rules.bootstrapped(node, scope.bootstrap, scope.logs[node - 1], scope.last_term) for node in NODES)
    return _World(servers, (), frozenset(), scope.campaigns)


def _after(rules: Rules, world: _World, stimulus: Stimulus) -> _World:
    wire = list(world.wire)
    if stimulus.message is not None:
        wire.remove(stimulus.message)
    outcome = Step(rules, world.servers[stimulus.node - 1]).take(stimulus)
    for fact in outcome.facts:
        for other in world.facts:
            require(not conflict(fact, other), f"{conflict(fact, other)}: {fact.text}; {other.text}")
    servers = tuple(outcome.server if node == stimulus.node else world.servers[node - 1] for node in NODES)
    campaigns = world.campaigns - (stimulus.kind is Kind.CAMPAIGNS)
    return _World(servers, (*wire, *outcome.sent), world.facts | set(outcome.facts), campaigns)


def _stimuli(world: _World) -> Iterator[Stimulus]:
    yield from (Stimulus(Kind.ARRIVES, message.to, message) for message in set(world.wire))
    for node, server in zip(NODES, world.servers, strict=True):
        if server.disk.queue:
            yield Stimulus(Kind.SYNCS, node)
        if world.campaigns and server.raft.role is not Role.LEADER:
            yield Stimulus(Kind.CAMPAIGNS, node)


def _plainly_reached(scope: Scope) -> set[object]:
    rules = Rules(syncs_at_once=False)
    todo = [_first(scope, rules)]
    seen, reached = {todo[0].key()}, set[object]()
    while todo:
        world = todo.pop()
        reached.add(_triple(world.servers))
        for stimulus in _stimuli(world):
            after = _after(rules, world, stimulus)
            if after.key() not in seen:
                seen.add(after.key())
                todo.append(after)
    return reached


# The real core


def test_no_order_of_events_breaks_a_property_in_a_small_world() -> None:
    report, _ = explore(Scope("an election, a crash", campaigns=1, crashes=1))
    assert report.complete
    assert (report.violation, report.leaders, report.committed) == ("", 1, 1)


@pytest.mark.parametrize("scope", SCOPES, ids=lambda scope: scope.name)
def test_the_beginning_of_every_scope_is_right(scope: Scope) -> None:
    report, _ = explore(scope, max_states=300)
    assert (report.violation, report.trace) == ("", [])
    assert report.depth >= 3


def test_the_same_world_is_explored_on_every_run() -> None:
    scope = Scope("some of it", campaigns=2, proposals=1, crashes=1)
    first, second = (explore(scope, max_states=1_000)[0] for _ in range(2))
    assert replace(first, seconds=0.0) == replace(second, seconds=0.0)


# What is left out leaves nothing out

SMALL = (
    Scope("election", campaigns=1),
    Scope("election of one of two, over logs that differ", campaigns=1, logs=APART, bootstrap=TWO),
    Scope("two elections of two", campaigns=2, crashes=1, bootstrap=TWO),
    Scope("a non-member joins", campaigns=1, changes=1, offered=JOINS, bootstrap=TWO),
)
LESS = (
    Reductions(renaming=False, hollow_writes=False),
    Reductions(dominance=False, hollow_writes=False),
    Reductions(renaming=False, dominance=False),
    Reductions(renaming=False, dominance=False, hollow_writes=False),
)


@pytest.mark.parametrize("scope", SMALL, ids=lambda scope: scope.name)
def test_the_reductions_reach_all_that_is_reached_without_them(scope: Scope) -> None:
    report, reduced = explore(scope)
    assert report.complete
    for fewer in LESS:
        whole, unreduced = explore(scope, reductions=fewer)
        assert whole.complete
        assert whole.states > report.states
        assert _reached(unreduced) == _reached(reduced)


def test_a_search_without_any_machinery_reaches_the_same() -> None:
    scope = Scope("two elections of two", campaigns=2, bootstrap=TWO)
    _, search = explore(scope)
    assert _plainly_reached(scope) == _reached(search)[0]


def test_states_that_differ_by_the_names_of_servers_are_one() -> None:
    space = Space(Scope("campaigns", campaigns=1))
    first = space.servers.first
    forms = set()
    for place, node in enumerate(NODES):
        after, _ = space.servers.after(first[place], Stimulus(Kind.CAMPAIGNS, node))
        forms.add(space.canonical((*first[:place], after, *first[place + 1 :]))[0][1])
    assert len(forms) == 1


def test_a_core_that_treats_one_server_differently_is_noticed() -> None:
    original = election.become_candidate

    def become_candidate(core: Core) -> None:
        original(core)
        core.pending_conf_index = Index(core.id)

    with patch.object(election, "become_candidate", become_candidate), pytest.raises(ViolationError, match="alike"):
        explore(Scope("election", campaigns=1))


def test_servers_that_differ_by_what_they_know_are_not_renamed_into_each_other() -> None:
    report, search = explore(Scope("logs that differ", campaigns=1, logs=APART), max_states=2)
    assert len(search.space.names) == 1
    assert report.violation == ""


# Planted bugs


@contextmanager
def vote_is_not_durable() -> Iterator[None]:
    """The disk keeps the term but not the vote."""
    original = Disk.written

    def written(self: Disk, write: Write) -> Disk:
        disk = original(self, write)
        return replace(disk, hard_state=replace(disk.hard_state, voted_for=NO_NODE))

    with patch.object(Disk, "written", written):
        yield


@contextmanager
def promises_leave_before_the_sync() -> Iterator[None]:
    """Answers leave at once."""
    original = Step.carry_out

    def carry_out(self: Step, update: Update) -> None:
        self.send(update.after_persist)
        original(self, replace(update, after_persist=()))

    with patch.object(Step, "carry_out", carry_out):
        yield


BUGS = {
    **PLANTED,
    "vote_is_not_durable": vote_is_not_durable,
    "promises_leave_before_the_sync": promises_leave_before_the_sync,
}
SWAPS = third_for(Transition.JOINT_EXPLICIT)

TABLE: tuple[tuple[str, Scope, int], ...] = (
    ("two_votes_in_a_term", Scope("", campaigns=2), 100),
    ("a_leader_without_a_durable_vote", Scope("", campaigns=1), 50),
    ("vote_is_not_durable", Scope("", campaigns=2, crashes=1), 150),
    ("promises_leave_before_the_sync", Scope("", campaigns=2, crashes=1), 200),
    ("anybody_gets_a_vote", Scope("", campaigns=2), 8_000),
    ("a_leader_counts_itself_too_early", Scope("", campaigns=2, crashes=1), 40_000),
    ("a_leader_stays_when_it_meets_a_higher_term", Scope("", campaigns=2), 400),
    ("entries_are_taken_without_a_match", Scope("", campaigns=1, logs=APART), 100),
    ("several_changes_at_a_time", Scope("", campaigns=1, changes=2, offered=SWAPS, bootstrap=LEARNER), 10_000),
    ("reads_without_a_round", Scope("", campaigns=2, reads=1, bootstrap=TWO), 500),
    ("reads_before_the_first_commit", Scope("", campaigns=2, reads=1, bootstrap=TWO), 2_000),
    ("a_lone_voter_reads_early", Scope("", campaigns=2, reads=1, crashes=1, bootstrap=ALONE), 100),
)
"""Which bug shows in which scope, and in how many states at most."""


@pytest.mark.parametrize(("bug", "scope", "states"), TABLE, ids=[bug for bug, _, _ in TABLE])
def test_a_planted_bug_is_found_and_its_trace_shows_it_again(bug: str, scope: Scope, states: int) -> None:
    with BUGS[bug]():
        report, search = explore(scope, max_states=states)
        assert report.violation, f"{bug} is not found in {report.states} states"
        rules = Rules(scope.pre_vote, scope.check_quorum)
        world = _first(scope, rules)
        for stimulus in search.found[:-1]:
            world = _after(rules, world, stimulus)
        with pytest.raises((ViolationError, InvariantError)):
            _after(rules, world, search.found[-1])


@pytest.mark.parametrize("bug", ["two_votes_in_a_term", "a_leader_without_a_durable_vote"])
def test_a_planted_bug_is_found_by_the_shortest_way(bug: str) -> None:
    scope = Scope("", campaigns=2)
    with BUGS[bug]():
        reduced, _ = explore(scope)
        whole, _ = explore(scope, reductions=Reductions(renaming=False, dominance=False))
    assert len(reduced.trace) == len(whole.trace) > 0


# Facts


def test_facts_that_cannot_both_be_are_told_apart_from_those_that_can() -> None:
    elected = Fact("elected", (3,), (1, 1, (1, 2)))
    assert not conflict(elected, Fact("committed", (3, 2), 2))
    assert conflict(elected, Fact("committed", (3, 2), 1)) == "a leader lacks what was committed"
    assert conflict(Fact("committed", (4, 2), 2), elected) == "a leader lacks what was committed"
    assert not conflict(elected, Fact("committed", (4, 3), 3)), "it was not committed before its term"
    assert not conflict(elected, Fact("committed", (1, 2), 1)), "it has cut that off"
    assert conflict(Fact("committed", (2, 1), 1), Fact("committed", (2, 3), 2)) == "two entries at one index"
    assert conflict(Fact("vote", (1, 1), 2), Fact("vote", (1, 1), 3)) == "two values of one vote"
    assert not conflict(Fact("vote", (1, 1), 2), Fact("vote", (1, 2), 3))


# The command


def test_the_command_prints_a_row_for_each_scope_and_writes_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exhaustion.main(["--max-states", "100"], tmp_path) == 0
    report = json.loads((tmp_path / "build" / "exhaust.json").read_text(encoding="utf-8"))
    assert [scope["scope"] for scope in report["scopes"]] == [scope.name for scope in SCOPES]
    assert report["states"] == sum(scope["states"] for scope in report["scopes"])
    printed = capsys.readouterr().out
    assert all(scope.name in printed for scope in SCOPES)


def test_the_command_says_when_a_property_is_broken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with BUGS["two_votes_in_a_term"]():
        assert exhaustion.main(["--only", "two elections, a crash"], tmp_path) == 1
    printed = capsys.readouterr().out
    assert "two values of one vote" in printed
    assert "2 campaigns" in printed
