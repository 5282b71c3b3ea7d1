"""What a node has seen lately, for the dashboard: leaders, events, messages of each second, times of answers.

It is fed some times a second, and keeps SECONDS of figures and EVENTS events in memory. A restart forgets them. Pure.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass

from parleyd.observability.figures import HistogramReading

SECONDS = 300
EVENTS = 200
LEADERS = 100


@dataclass(frozen=True, slots=True)
class Sight:
    """What a serving node sees at one moment. `unreached` are members. `stored` are messages since its start.

    `revoked` are certificates and keys of nodes: a digest, and the member that had it, empty for none.
    """

    leader: str
    term: int
    has_majority: bool
    unreached: frozenset[str]
    stored: int
    answers: HistogramReading
    revoked: frozenset[tuple[bytes, str]] = frozenset()


class EventKind(enum.Enum):
    """What an event is about, for its mark."""

    GOOD = "good"
    CHANGE = "change"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, in plain English. It names nodes only."""

    at_ms: int
    kind: EventKind
    text: str


@dataclass(frozen=True, slots=True)
class Reign:
    """From when on a leader was known; an empty name: none."""

    at_ms: int
    leader: str
    term: int


@dataclass(frozen=True, slots=True)
class Second:
    """One second: when it ended, the messages stored in it, and all answers until then."""

    at_ms: int
    stored: float
    answers: HistogramReading


class History:
    """The recent past as one node saw it."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque(maxlen=EVENTS)
        self.reigns: deque[Reign] = deque(maxlen=LEADERS)
        self.seconds: deque[Second] = deque(maxlen=SECONDS + 1)
        self._last: Sight | None = None
        self._counted: tuple[int, int] | None = None  # when the last second ended, and the messages until then
        self._reasons: frozenset[str] = frozenset()

    def observe(self, at_ms: int, sight: Sight | None, reasons: frozenset[str]) -> None:
        """Take in what is seen now; None while the node does not serve. `reasons` are why it is not ready."""
        if sight is None:
            self._begin_anew(at_ms)
        else:
            self._follow_leader(at_ms, sight)
            self._follow_links(at_ms, sight)
            self._follow_revocations(at_ms, sight)
            self._count(at_ms, sight)
        for reason in sorted(reasons - self._reasons):
            self._add(at_ms, EventKind.BAD, f"Not ready: {reason}")
        if self._reasons and not reasons:
            self._add(at_ms, EventKind.GOOD, "This node is ready.")
        self._reasons = reasons
        self._last = sight

    def answers(self) -> HistogramReading | None:
        """Return the times of answers of the kept seconds; None before there are two."""
        if len(self.seconds) < 2:
            return None
        first, last = self.seconds[0].answers, self.seconds[-1].answers
        counts = tuple(b - a for a, b in zip(first.counts, last.counts, strict=True))
        return HistogramReading(last.bounds, counts, last.total - first.total)

    def _add(self, at_ms: int, kind: EventKind, text: str) -> None:
        self.events.append(Event(at_ms, kind, text))

    def _begin_anew(self, at_ms: int) -> None:
        # A node whose state is rebuilt counts from 0 again.
        self._counted = None
        self.seconds.clear()
        if self._last is not None:
            self._add(at_ms, EventKind.CHANGE, "This node stopped serving.")
            self.reigns.append(Reign(at_ms, "", self._last.term))

    def _follow_leader(self, at_ms: int, sight: Sight) -> None:
        last = self._last
        if last is not None and (last.leader, last.term) == (sight.leader, sight.term):
            return
        self.reigns.append(Reign(at_ms, sight.leader, sight.term))
        if sight.leader:
            self._add(at_ms, EventKind.GOOD, f"{sight.leader} leads in term {sight.term}.")
        elif last is not None and last.leader:
            self._add(at_ms, EventKind.BAD, f"No leader is known any more. {last.leader} led in term {last.term}.")
        elif last is not None:
            self._add(at_ms, EventKind.CHANGE, f"An election: term {sight.term} began.")

    def _follow_links(self, at_ms: int, sight: Sight) -> None:
        last = self._last
        before = frozenset[str]() if last is None else last.unreached
        for name in sorted(sight.unreached - before):
            self._add(at_ms, EventKind.BAD, f"{name} is not reached from here.")
        for name in sorted(before - sight.unreached):
            self._add(at_ms, EventKind.GOOD, f"{name} is reached again.")
        if last is not None and last.has_majority != sight.has_majority:
            if sight.has_majority:
                self._add(at_ms, EventKind.GOOD, "A majority is reached: messages are accepted.")
            else:
                self._add(at_ms, EventKind.BAD, "No majority is reached: messages wait at their senders.")

    def _follow_revocations(self, at_ms: int, sight: Sight) -> None:
        last = self._last
        if last is None:
            return  # they may be old
        for _, name in sorted(sight.revoked - last.revoked):
            self._add(at_ms, EventKind.CHANGE, f"A certificate or key{_of(name)} was revoked: this node refuses it.")
        for _, name in sorted(last.revoked - sight.revoked):
            self._add(at_ms, EventKind.CHANGE, f"The revocation of a certificate or key{_of(name)} was taken back.")

    def _count(self, at_ms: int, sight: Sight) -> None:
        if self._counted is None:
            self._counted = (at_ms, sight.stored)
            self.seconds.append(Second(at_ms, 0.0, sight.answers))
            return
        since_ms, stored = self._counted
        if at_ms < since_ms:  # the wall clock was set back
            self._counted = (at_ms, sight.stored)
        elif at_ms - since_ms >= 1000:
            rate = (sight.stored - stored) * 1000 / (at_ms - since_ms)
            self.seconds.append(Second(at_ms, max(0.0, rate), sight.answers))
            self._counted = (at_ms, sight.stored)


def _of(name: str) -> str:
    return f" of {name}" if name else ""
