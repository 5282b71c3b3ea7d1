"""Decides which node to try next, and after which delay, from outcomes and a seeded generator.

Rules. Stay with a node that works. When it fails, try every other known node once without a delay. When all have
failed, wait with full jitter, 50 ms at first and 2 s at most. A session that ended soon after it began does not count
as a recovery, so a node that accepts and drops connections does not cause a busy loop. Addresses of one node count as
one node.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random

from parley.wire.endpoints import Endpoint


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """The times of the failover policy."""

    first_backoff_s: float = 0.05
    max_backoff_s: float = 2.0
    attempt_timeouts_s: tuple[float, ...] = (1.0, 2.0, 4.0)
    stable_after_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Attempt:
    """The next step: wait for a delay, then try this endpoint for a bounded time."""

    endpoint: Endpoint
    delay_s: float
    timeout_s: float


class FailoverPolicy:
    """The state of one search for a working node."""

    def __init__(self, endpoints: Sequence[Endpoint], rng: Random, settings: PolicySettings | None = None) -> None:
        """`rng` shuffles the order of `endpoints`, so that many clients spread over the nodes."""
        self._rng = rng
        self._settings = settings or PolicySettings()
        self._order: list[Endpoint] = list(endpoints)
        self._rng.shuffle(self._order)
        self._names: dict[Endpoint, str] = {}
        self._tried: set[Endpoint] = set()
        self._round = 0
        self._current: Endpoint | None = None

    @property
    def round(self) -> int:
        """Return how many times the whole list has failed since a node last worked."""
        return self._round

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """Return the endpoints in the order in which they are tried."""
        return tuple(self._order)

    def update(self, endpoints: Sequence[Endpoint], names: Mapping[Endpoint, str]) -> None:
        """Record learned addresses.

        Known ones keep their place, new ones follow at the end, missing ones are removed.
        """
        wanted = dict.fromkeys(endpoints)
        self._order = [e for e in self._order if e in wanted]
        self._order += [e for e in wanted if e not in self._order]
        self._names = dict(names)
        self._tried &= set(self._order)
        if self._current not in wanted:
            self._current = None

    def prefer(self, endpoint: Endpoint) -> None:
        """Try this endpoint first, because it serves or worked last time."""
        if endpoint in self._order:
            self._order.remove(endpoint)
            self._order.insert(0, endpoint)
            self._tried.discard(endpoint)

    def next_attempt(self) -> Attempt | None:
        """Return the next attempt, or None if no endpoint is known."""
        if not self._order:
            return None
        if self._current is not None:
            return Attempt(self._current, 0.0, self._timeout_s())
        delay_s = 0.0
        if all(endpoint in self._tried for endpoint in self._order):
            self._round += 1
            self._tried.clear()
            delay_s = self._rng.uniform(0.0, self.backoff_cap_s())
        choice = next(endpoint for endpoint in self._order if endpoint not in self._tried)
        return Attempt(choice, delay_s, self._timeout_s())

    def backoff_cap_s(self) -> float:
        """Return the longest delay of the present round."""
        if self._round == 0:
            return 0.0
        doublings = min(self._round - 1, 16)
        return min(self._settings.max_backoff_s, self._settings.first_backoff_s * float(2**doublings))

    def succeeded(self, endpoint: Endpoint) -> None:
        """Record that the node answered, and stay with it."""
        self._current = endpoint

    def failed(self, endpoint: Endpoint, lived_s: float = 0.0) -> None:
        """Record that the node was lost, silent, or does not serve. `lived_s` is how long it worked, in seconds."""
        if lived_s >= self._settings.stable_after_s:
            self._round = 0
            self._tried.clear()
        self._current = None
        name = self._names.get(endpoint)
        self._tried.add(endpoint)
        if name:
            self._tried.update(e for e in self._order if self._names.get(e) == name)

    def _timeout_s(self) -> float:
        timeouts = self._settings.attempt_timeouts_s
        return timeouts[min(self._round, len(timeouts) - 1)]
