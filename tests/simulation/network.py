"""A simulated network: it may drop, delay, double and reorder messages, and cut links in either direction."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

from server.raft.messages import Message
from tests.simulation.plan import Plan

STALE_MS = 4_000


class Network:
    """Decides when, how often and whether a message arrives; `blocked` are directed links."""

    def __init__(self, plan: Plan, rng: random.Random, faults: Counter[str]) -> None:
        self._plan = plan
        self._rng = rng
        self._faults = faults
        self._last_arrival: dict[tuple[int, int], int] = {}
        self.blocked: set[tuple[int, int]] = set()
        self.is_healed = False

    def arrivals(self, message: Message, now: int) -> list[int]:
        """The times at which copies of `message` arrive; none if it is lost."""
        plan, rng = self._plan, self._rng
        link = (int(message.sender), int(message.to))
        if link in self.blocked:
            self._faults["blocked"] += 1
            return []
        if self.is_healed:
            return [now + 1]
        if rng.random() < plan.drop:
            self._faults["drop"] += 1
            return []
        times = [self._delay(now)]
        if rng.random() < plan.duplicate:
            self._faults["duplicate"] += 1
            times.append(self._delay(now))
        if plan.in_order:
            floor = self._last_arrival.get(link, 0)
            times = [max(time, floor) for time in times]
            self._last_arrival[link] = max(times)
        elif min(times) < self._last_arrival.get(link, 0):
            self._faults["reorder"] += 1
        self._last_arrival[link] = max(self._last_arrival.get(link, 0), *times)
        if rng.random() < plan.late:
            self._faults["late"] += 1
            times.append(now + rng.randint(300, STALE_MS))  # past any order: an old connection's last words
        return times

    def _delay(self, now: int) -> int:
        return now + self._rng.randint(1, self._plan.max_delay_ms)

    def partition(self, nodes: Sequence[int]) -> str:
        """Cut some links; returns what was cut, for people."""
        shapes: list[Callable[[list[int]], tuple[str, set[tuple[int, int]]]]] = [_isolate, _halves, _bridge, _ring]
        order = list(nodes)
        self._rng.shuffle(order)
        name, cut = self._rng.choice(shapes)(order)
        if self._plan.one_way and self._rng.random() < 0.5:
            cut = {link for link in cut if order.index(link[0]) < order.index(link[1])}
            name = f"one-way {name}"
        self.blocked = cut
        self._faults["partition"] += 1
        return f"{name} {order}"

    def heal(self) -> None:
        """Join all links again."""
        self.blocked = set()


def _both_ways(pairs: set[tuple[int, int]]) -> set[tuple[int, int]]:
    return pairs | {(second, first) for first, second in pairs}


def _isolate(order: list[int]) -> tuple[str, set[tuple[int, int]]]:
    return "isolate", _both_ways({(order[0], other) for other in order[1:]})


def _halves(order: list[int]) -> tuple[str, set[tuple[int, int]]]:
    middle = len(order) // 2
    return "halves", _both_ways({(first, second) for first in order[:middle] for second in order[middle:]})


def _bridge(order: list[int]) -> tuple[str, set[tuple[int, int]]]:
    rest = order[1:]
    middle = len(rest) // 2
    return "bridge", _both_ways({(first, second) for first in rest[:middle] for second in rest[middle:]})


def _ring(order: list[int]) -> tuple[str, set[tuple[int, int]]]:
    size = len(order)
    near = {frozenset((order[place], order[(place + 1) % size])) for place in range(size)}
    return "ring", {
        (first, second)
        for first in order
        for second in order
        if first != second and frozenset((first, second)) not in near
    }
