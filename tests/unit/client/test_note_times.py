"""When a window asks the connected node whether people should know of something."""

from __future__ import annotations

from dataclasses import replace
from random import Random

from parley import ClientState, ConnectionState, Node
from parley.gui.cluster_requests import CHECK_AFTER_S, CHECK_AGAIN_S, CHECK_EVERY_S, NoteTimes

NODES = tuple(Node(f"n{i}", f"10.0.0.{i}:7600", True) for i in (1, 2, 3))
CONNECTED = ClientState(connection=ConnectionState.CONNECTED, node="n1", address=NODES[0].address, nodes=NODES)


def seconds_until_due(times: NoteTimes, state: ClientState) -> int:
    return next(second for second in range(1, 1000) if times.is_due(state, 1.0))


def test_windows_that_connect_at_once_ask_at_different_moments_within_seconds() -> None:
    asked = {seconds_until_due(NoteTimes(Random(seed)), CONNECTED) for seed in range(40)}
    assert len(asked) > 4
    assert max(asked) <= CHECK_AFTER_S[1] + 2


def test_while_nothing_changes_and_nothing_is_told_the_node_is_asked_every_five_minutes() -> None:
    times = NoteTimes(Random(1))
    seconds_until_due(times, CONNECTED)
    times.asked(is_something_told=False)
    assert seconds_until_due(times, CONNECTED) == CHECK_EVERY_S


def test_while_something_is_told_its_end_is_seen_within_half_a_minute() -> None:
    times = NoteTimes(Random(1))
    seconds_until_due(times, CONNECTED)
    times.asked(is_something_told=True)
    assert seconds_until_due(times, CONNECTED) == CHECK_AGAIN_S


def test_a_node_that_goes_down_is_a_reason_to_ask_soon_and_nobody_is_asked_without_a_connection() -> None:
    times = NoteTimes(Random(1))
    seconds_until_due(times, CONNECTED)
    times.asked(is_something_told=False)
    down = replace(CONNECTED, nodes=(*NODES[:2], replace(NODES[2], up=False)))
    searching = replace(down, connection=ConnectionState.SEARCHING)
    assert not any(times.is_due(searching, 1.0) for _ in range(100))
    assert times.is_due(down, 1.0)
