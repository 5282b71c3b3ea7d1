"""A simulated network: it may drop, delay, double and reorder messages, cut links, and silence a server."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence

from tests.simulation.cluster.plan import Plan

STALE_MS = 4_000
Link = tuple[int, int]


class Network:
    """Decides when, how often and whether a message arrives.

    `blocked` are directed links; `silent` servers hear everything and nothing they say arrives.
    """

    def __init__(self, plan: Plan, rng: random.Random, faults: Counter[str]) -> None:
        self._plan = plan
        self._rng = rng
        self._faults = faults
        self._last_arrival: dict[Link, int] = {}
        self.blocked: frozenset[Link] = frozenset()
        self.silent: set[int] = set()
        self.is_healed = False

    def is_open(self, link: Link) -> bool:
        """Whether anything gets through."""
        return link not in self.blocked and link[0] not in self.silent

    def arrivals(self, link: Link, now: int) -> list[int]:
        """The times at which copies of a message arrive; none if it is lost."""
        plan, rng = self._plan, self._rng
        if not self.is_open(link):
            self._faults["blocked"] += 1
            return []
        if self.is_healed:
            return [now + 1]
        if rng.random() < plan.drop:
            self._faults["drop"] += 1
            return []
        times = [now + rng.randint(1, plan.max_delay_ms)]
        if rng.random() < plan.duplicate:
            self._faults["duplicate"] += 1
            times.append(now + rng.randint(1, plan.max_delay_ms))
        last = self._last_arrival.get(link, 0)
        if plan.in_order:
            times = [max(time, last) for time in times]
        elif min(times) < last:
            self._faults["reorder"] += 1
        self._last_arrival[link] = max(last, *times)
        if rng.random() < plan.late:
            self._faults["late"] += 1
            times.append(now + rng.randint(300, STALE_MS))  # past any order: an old connection's last words
        return times


def draw_partition(rng: random.Random, nodes: Sequence[int]) -> tuple[str, frozenset[Link]]:
    """Links to cut, and what that is called."""
    order = list(nodes)
    rng.shuffle(order)
    name, cut = rng.choice(_SHAPES)(order)
    if rng.random() < 0.4:
        cut = {link for link in cut if order.index(link[0]) < order.index(link[1])}
        name = f"one-way {name}"
    return f"{name} {order}", frozenset(cut)


def _both_ways(pairs: set[Link]) -> set[Link]:
    return pairs | {(second, first) for first, second in pairs}


def _isolate(order: list[int]) -> tuple[str, set[Link]]:
    return "isolate", _both_ways({(order[0], other) for other in order[1:]})


def _halves(order: list[int]) -> tuple[str, set[Link]]:
    middle = len(order) // 2
    return "halves", _both_ways({(first, second) for first in order[:middle] for second in order[middle:]})


def _bridge(order: list[int]) -> tuple[str, set[Link]]:
    rest = order[1:]
    middle = len(rest) // 2
    return "bridge", _both_ways({(first, second) for first in rest[:middle] for second in rest[middle:]})


def _ring(order: list[int]) -> tuple[str, set[Link]]:
    """Everybody still hears a majority, and each a different one."""
    size = len(order)
    near = {frozenset((order[place], order[(place + 1) % size])) for place in range(size)}
    return "ring", {
        (first, second)
        for first in order
        for second in order
        if first != second and frozenset((first, second)) not in near
    }


_SHAPES: tuple[Callable[[list[int]], tuple[str, set[Link]]], ...] = (_isolate, _halves, _bridge, _ring)
