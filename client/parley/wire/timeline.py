"""Joins the events of several nodes in one time line, and lets none pass twice. Without input and output.

The order of one node's events is that of their numbers, whatever its clock did. Between nodes their clocks decide.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from parley.event_model import ClusterEvent, EventNews
from parley_proto.v1 import admin_pb2 as pb


def in_order(news: Iterable[EventNews]) -> Sequence[EventNews]:
    """Return the news by time. Those of one node keep their order, also where its clock jumped back."""
    latest: dict[str, int] = {}
    timed = []
    for one in news:
        latest[one.node] = max(latest.get(one.node, one.at_ms), one.at_ms)
        timed.append((latest[one.node], one))
    return [one for _, one in sorted(timed, key=lambda pair: pair[0])]


def since(events: Sequence[ClusterEvent], moment_ms: int) -> Sequence[ClusterEvent]:
    """Return one node's first event at or after the moment, and all that follow it."""
    first = next((place for place, event in enumerate(events) if event.at_ms >= moment_ms), len(events))
    return events[first:]


@dataclass(frozen=True, slots=True)
class Seen:
    """The last event of a node that passed."""

    start: int = 0
    number: int = 0


class Positions:
    """Where the reader of each node's events is."""

    def __init__(self) -> None:
        self._seen: dict[str, Seen] = {}

    def request(self, node: str, *, follow: bool) -> pb.FollowEventsRequest:
        """Return the request for what came after the last event of this node."""
        seen = self._seen.get(node, Seen())
        return pb.FollowEventsRequest(after=pb.EventPosition(start=seen.start, number=seen.number), follow=follow)

    def take(self, batch: pb.EventBatch) -> Sequence[ClusterEvent]:
        """Return what has not passed before, and take it as passed. Two connections may lead to one node."""
        seen = self._seen.get(batch.node, Seen())
        if seen.start != batch.start:
            seen = Seen(batch.start)
        fresh = [one for one in batch.events if one.number > seen.number]
        self._seen[batch.node] = replace(seen, number=fresh[-1].number) if fresh else seen
        return [_event(batch, one) for one in fresh]


def _event(batch: pb.EventBatch, one: pb.NodeEvent) -> ClusterEvent:
    fields = {name: _value(value) for name, value in sorted(one.fields.items())}
    return ClusterEvent(batch.node, batch.start, one.number, one.at_ms, one.kind, one.topic, fields)


def _value(value: pb.EventValue) -> str | int | bool:
    match value.WhichOneof("value"):
        case "number":
            return value.number
        case "flag":
            return value.flag
        case _:
            return value.text
