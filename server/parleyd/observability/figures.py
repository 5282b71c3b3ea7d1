"""Figures that are counted where things happen, for monitoring: plain numbers, without locks and without a library.

Counting costs a tenth of a microsecond, so it is always on. A reader may see a histogram between two of its writes: the
sum may lack the last value.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from statistics import median
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")

ANSWER_BOUNDS_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
"""From less than a fast disk takes to the time after which a command has no known outcome."""
RECENT_VALUES = 128
WORK_BOUNDS_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 10.0)
"""From a small transaction in memory to a disk that hardly answers."""


@dataclass(frozen=True, slots=True)
class HistogramReading:
    """A histogram at one moment. `counts` has one number more than `bounds`, for values above the last bound."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float


Sample = tuple[str, tuple[str, ...], float | HistogramReading]
"""Name of a metric, values of its labels in the order of the catalogue (http/catalogue.py), and the value."""


class Histogram:
    """Counts values by size. One thread writes at a time, any thread reads."""

    __slots__ = ("_bounds", "_counts", "_total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Count by these upper bounds, ascending; a value equal to a bound belongs to it."""
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(self._bounds) + 1)
        self._total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._total += value

    def read(self) -> HistogramReading:
        """Return the counts at this moment."""
        return HistogramReading(self._bounds, tuple(self._counts), self._total)


class RecentHistogram(Histogram):
    """A histogram that also keeps its last RECENT_VALUES values."""

    __slots__ = ("_recent", "_seen")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Count by these upper bounds."""
        super().__init__(bounds)
        self._recent: list[float] = []
        self._seen = 0

    def observe(self, value: float) -> None:
        """Count one value, and keep it until RECENT_VALUES more have come."""
        super().observe(value)
        if len(self._recent) < RECENT_VALUES:
            self._recent.append(value)
        else:
            self._recent[self._seen % RECENT_VALUES] = value
        self._seen += 1

    def recent_median(self) -> float:
        """Return the median of the last values, 0 before the first."""
        values = self._recent.copy()  # at once, while another thread writes
        return median(values) if values else 0.0


def timed(histogram: Histogram, work: Callable[[], T]) -> T:
    """Do `work`, and count the seconds that it took if it succeeded."""
    started = perf_counter()
    result = work()
    histogram.observe(perf_counter() - started)
    return result


@dataclass(slots=True)
class ServiceFigures:
    """What this node did for its clients since its start. Used on the event loop only.

    `calls` are ended calls by method and gRPC code. `refusals` are by reason. `accepted` are messages that have an id,
    `delivered` are messages that were handed to devices; one counts for each device.
    """

    calls: Counter[tuple[str, str]] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)
    accepted: int = 0
    delivered: int = 0


_SERVICE: ContextVar[ServiceFigures] = ContextVar("figures of this node's service", default=ServiceFigures())  # noqa: B039


def count_for(figures: ServiceFigures) -> None:
    """Make what the current task does, and what tasks do that it starts, count in `figures`."""
    _SERVICE.set(figures)


def service_figures() -> ServiceFigures:
    """Return where the current task counts."""
    return _SERVICE.get()
