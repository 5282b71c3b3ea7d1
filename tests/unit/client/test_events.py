"""The events of all nodes at the client: one time line, nothing twice, and a node that ends takes no other with it."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley import (
    BadInputError,
    ClusterEvent,
    EventNews,
    EventsMissed,
    NodeLost,
    NodeReached,
    NotSignedInError,
    RefusedError,
    UnreachableError,
)
from parley.net import event_calls
from parley.terminal import events_command
from parley.terminal.exits import ExitCode
from parley.terminal.since import moment_ms
from parley.wire.timeline import Positions, in_order, since
from parley_proto.v1 import admin_pb2 as pb
from parleyd.events.ring import EventRing
from parleyd.events.since import parse_since
from parleyd.events.source import EventSource
from tests.support.node import InProcessNode, running_cluster
from tests.support.raw import until_so
from tests.unit.client.helpers import PASSWORD, administrator, make_client
from tests.unit.client.test_command import Parley


def at(node: InProcessNode, *times_ms: int) -> None:
    """Events at these times by the node's clock."""
    for time_ms in times_ms:
        node.events._wall_ms = lambda time_ms=time_ms: time_ms  # type: ignore[misc]
        node.events.record("vote_given", {"term": time_ms, "candidate": node.name})


def event(node: str, number: int, at_ms: int, start: int = 1) -> ClusterEvent:
    return ClusterEvent(node, start, number, at_ms, "vote_given")


def seen(news: list[EventNews]) -> list[tuple[str, int]]:
    return [(one.node, one.number) for one in news if isinstance(one, ClusterEvent)]


async def until(news: AsyncGenerator[EventNews], condition: Callable[[list[EventNews]], bool]) -> list[EventNews]:
    """Read until the condition holds of what was read."""
    found: list[EventNews] = []
    async with asyncio.timeout(20):
        while not condition(found):
            found.append(await anext(news))
    return found


# ---- the time line


def test_a_clock_that_jumps_back_moves_no_event_before_an_earlier_one_of_its_node() -> None:
    jumping = [event("n1", 1, 500), event("n1", 2, 100), event("n1", 3, 600)]
    steady = [event("n2", 1, 200), event("n2", 2, 550)]
    assert [(one.node, one.at_ms) for one in in_order([*jumping, *steady])] == [
        ("n2", 200),
        ("n1", 500),
        ("n1", 100),
        ("n2", 550),
        ("n1", 600),
    ]


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(-5, 5)), max_size=30))
def test_the_time_line_has_every_event_once_and_each_nodes_in_its_order(drawn: list[tuple[str, int]]) -> None:
    events = [event(node, number, at_ms) for number, (node, at_ms) in enumerate(drawn)]
    merged = in_order(events)
    assert sorted(seen([*merged])) == sorted(seen([*events]))
    for node in "abc":
        assert [one for one in merged if one.node == node] == [one for one in events if one.node == node]


@given(st.lists(st.tuples(st.integers(1, 2), st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_no_event_of_a_start_passes_twice_however_batches_overlap(batches: list[tuple[int, int, int]]) -> None:
    positions = Positions()
    passed: list[tuple[int, int]] = []
    current = 1
    for start, first, count in batches:
        current = max(current, start)  # a start never comes back
        numbers = range(first + 1, first + 1 + count)
        batch = pb.EventBatch(node="n1", start=current, events=[pb.NodeEvent(number=number) for number in numbers])
        passed += [(one.start, one.number) for one in positions.take(batch)]
    assert passed == sorted(set(passed))


def test_since_keeps_what_follows_a_moment_also_if_the_clock_jumped_back() -> None:
    events = [event("n1", 1, 10), event("n1", 2, 20), event("n1", 3, 5)]
    assert since(events, 15) == events[1:]
    assert since(events, 30) == []


# ---- asking once


async def test_the_events_of_all_nodes_come_in_one_time_line(tmp_path: Path) -> None:
    async with administrator(tmp_path) as (cluster, client):
        one, two, three = cluster.nodes
        at(one, 10, 40)
        at(two, 20)
        at(three, 30)
        news = await (await client.administration()).events()
        assert seen([*news]) == [("n1", 1), ("n2", 1), ("n3", 1), ("n1", 2)]
        assert news[0] == ClusterEvent(
            "n1", one.events.start, 1, 10, "vote_given", "raft", {"candidate": "n1", "term": 10}
        )
        assert seen([*await (await client.administration()).events(since_ms=30)]) == [("n3", 1), ("n1", 2)]


async def test_a_node_that_is_down_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    async with administrator(tmp_path) as (cluster, client):
        at(cluster.node("n1"), 10)
        await cluster.node("n3").die()
        news = await (await client.administration()).events()
        assert seen([*news]) == [("n1", 1)]
        [lost] = [one for one in news if isinstance(one, NodeLost)]
        assert "reached" in lost.reason or "broke" in lost.reason


async def test_without_any_node_it_fails_and_without_rights_it_is_refused(tmp_path: Path) -> None:
    async with administrator(tmp_path, ("n1",)) as (cluster, client):
        cluster.add_account("ann", PASSWORD)
        async with make_client(cluster, tmp_path / "ann", connect=False) as ann:
            await ann.login("ann", PASSWORD)
            with pytest.raises(RefusedError):
                await (await ann.administration()).events()
            with pytest.raises(RefusedError):
                await until((await ann.administration()).follow_events(), lambda news: False)
        await cluster.nodes[0].die()
        with pytest.raises(UnreachableError, match="No node told"):
            await (await client.administration()).events()


# ---- following


async def test_a_follower_hears_what_was_and_what_happens_on_every_node(tmp_path: Path) -> None:
    async with administrator(tmp_path) as (cluster, client):
        at(cluster.node("n2"), 10)
        async with aclosing((await client.administration()).follow_events()) as news:
            assert seen(await until(news, bool)) == [("n2", 1)]
            at(cluster.node("n1"), 20)
            at(cluster.node("n3"), 30)
            assert sorted(seen(await until(news, lambda found: len(found) == 2))) == [("n1", 1), ("n3", 1)]


async def test_a_node_that_dies_is_told_the_others_go_on_and_it_comes_back_without_doubles(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_calls, "RETRY_S", 0.05)
    async with administrator(tmp_path) as (cluster, client):
        leader, other = cluster.node("n1"), cluster.node("n2")
        at(leader, 10, 20)
        async with aclosing((await client.administration()).follow_events()) as news:
            assert seen(await until(news, lambda found: len(found) == 2)) == [("n1", 1), ("n1", 2)]
            await leader.die()
            found = await until(news, lambda found: any(isinstance(one, NodeLost) for one in found))
            assert [one.node for one in found] == ["n1"]
            at(other, 30)
            assert seen(await until(news, bool)) == [("n2", 1)]
            at(leader, 40)  # the connection was lost, and the process went on
            await leader.start()
            found = await until(news, lambda found: bool(seen(found)))
            assert [type(one) for one in found] == [NodeReached, ClusterEvent]
            assert seen(found) == [("n1", 3)]
            # A new process counts from 1 again, and none of its events is taken for one of before.
            await leader.die()
            await until(news, lambda found: any(isinstance(one, NodeLost) for one in found))
            leader.events = EventSource(wall_ms=lambda: 5)
            at(leader, 50)
            await leader.start()
            found = await until(news, lambda found: bool(seen(found)))
            assert [(one.start, one.number) for one in found if isinstance(one, ClusterEvent)] == [(5, 1)]


async def test_a_node_that_forgot_events_meanwhile_says_how_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_calls, "RETRY_S", 0.05)
    async with administrator(tmp_path) as (cluster, client):
        node = cluster.node("n2")
        node.events.ring = EventRing(capacity=2)
        at(node, 10)
        async with aclosing((await client.administration()).follow_events()) as news:
            await until(news, bool)
            await node.die()
            await until(news, bool)
            at(node, 20, 30, 40, 50)
            await node.start()
            found = await until(news, lambda found: len(seen(found)) == 2)
            assert [one.count for one in found if isinstance(one, EventsMissed)] == [2]
            assert seen(found) == [("n2", 4), ("n2", 5)]


async def test_a_follower_whose_session_ends_is_told_so(tmp_path: Path) -> None:
    async with (
        administrator(tmp_path, ("n1",)) as (cluster, client),
        aclosing((await client.administration()).follow_events()) as news,
    ):
        at(cluster.nodes[0], 10)
        await until(news, bool)
        cluster.end_sessions()
        at(cluster.nodes[0], 20)
        with pytest.raises(NotSignedInError):
            await until(news, lambda found: False)


async def test_a_follower_hears_of_a_defect_instead_of_waiting_for_a_node_that_nobody_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> NoReturn:
        raise RuntimeError("a defect")

    async with (
        administrator(tmp_path, ("n1",)) as (cluster, client),
        aclosing((await client.administration()).follow_events()) as news,
    ):
        at(cluster.nodes[0], 10)
        await until(news, bool)
        monkeypatch.setattr(Positions, "take", broken)
        at(cluster.nodes[0], 20)
        with pytest.raises(RuntimeError, match="a defect"):
            await until(news, lambda found: False)


async def test_closing_the_stream_leaves_no_follower_at_any_node(tmp_path: Path) -> None:
    async with administrator(tmp_path) as (cluster, client):
        async with aclosing((await client.administration()).follow_events()) as news:
            at(cluster.node("n1"), 10)
            await until(news, bool)
        await until_so(lambda: not any(vars(node.followers)["_followed"] for node in cluster.nodes))


# ---- the command


def test_lines_are_for_people_and_carry_no_escape_sequences() -> None:
    event = ClusterEvent("n1", 1, 2, 0, "vote_given", "raft", {"term": 3, "candidate": "n\x1b[2J", "why": "two words"})
    assert events_command.line(event).endswith('  n1  vote_given  term=3  candidate=n?[2J  why="two words"')
    lost = events_command.line(NodeLost("n2", 0, "It is\x07 down."))
    assert lost.endswith("n2  -- not followed: It is? down. It is tried again; the other nodes go on.")
    assert events_command.line(ClusterEvent("n1", 1, 1, 10**18, "x")).startswith(f"{10**18} ms")
    assert events_command.record(EventsMissed("n1", 5, 3)) == {
        "news": "events_missed",
        "node": "n1",
        "at_ms": 5,
        "count": 3,
    }


def test_a_moment_is_a_time_or_how_long_ago() -> None:
    now = datetime(2026, 11, 27, 12, tzinfo=timezone(timedelta(hours=2)))
    assert moment_ms("90s", now) == int(now.timestamp() * 1000) - 90_000
    assert moment_ms("3d", now) == int((now - timedelta(days=3)).timestamp() * 1000)
    assert moment_ms("2026-11-27T09:00Z", now) == int(datetime(2026, 11, 27, 9, tzinfo=UTC).timestamp() * 1000)
    for text in ("", "soon", "2h3m", "999999999d", "2026-13-01"):
        with pytest.raises(BadInputError, match="15m, 2h, 3d"):
            moment_ms(text, now)


@given(
    st.one_of(
        st.from_regex(r"\A ?[0-9]{0,10}[smhdx]?\Z"),
        st.datetimes(timezones=st.timezones()).map(datetime.isoformat),
        st.datetimes().map(lambda moment: f"{moment.isoformat()}Z"),
        st.sampled_from(
            ["2026-11-27", "20261127T10", "2026-11-27T24:00Z", "0001-01-01T00:00Z", "9999-12-31T23:59Z", ""]
        ),
    )
)
def test_parley_and_parleyd_take_the_same_moments_where_the_zone_is_no_question(text: str) -> None:
    """Neither imports the other, so the few lines stand twice. Without a zone the journal of a node means UTC."""
    now = datetime(2026, 11, 27, 12, tzinfo=UTC)

    def taken(read: Callable[[str, datetime], int]) -> int | None:
        try:
            return read(text, now)
        except (ValueError, BadInputError):
            return None

    assert taken(moment_ms) == taken(parse_since)


async def test_the_command_prints_and_follows_until_it_is_interrupted(tmp_path: Path) -> None:
    async with running_cluster(("n1", "n2")) as cluster:
        cluster.add_account("boss", PASSWORD)
        parley = Parley(tmp_path, cluster)
        assert (await parley("login", "boss", PARLEY_PASSWORD=PASSWORD)).code == 0
        at(cluster.node("n1"), 1_000, 3_000)
        at(cluster.node("n2"), 2_000)
        shown = await parley("cluster", "events")
        assert [line.split("  ")[1:3] for line in shown.out.splitlines()] == [
            ["n1", "vote_given"],
            ["n2", "vote_given"],
            ["n1", "vote_given"],
        ]
        refused = await parley("cluster", "events", "--since", "soon")
        assert refused.code == ExitCode.USAGE
        async with parley.running("cluster", "events", "--follow", "--json", "--since", "1970-01-01T00:00:02Z") as run:
            assert run.stdout is not None
            async with asyncio.timeout(30):
                records = [json.loads(await run.stdout.readline()) for _ in range(2)]
                assert [(one["news"], one["node"], one["number"]) for one in records] == [
                    ("event", "n2", 1),
                    ("event", "n1", 2),
                ]
                assert records[0]["fields"] == {"candidate": "n2", "term": 2_000}
                at(cluster.node("n2"), 4_000)
                assert json.loads(await run.stdout.readline())["at_ms"] == 4_000
                run.send_signal(signal.SIGINT)
                assert await run.wait() == ExitCode.INTERRUPTED
