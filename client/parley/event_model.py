"""The records of what happens on the nodes of a cluster."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ClusterEvent:
    """Something that happened on a node.

    `node`, `start` and `number` name it in the cluster. `start` is that of the node's process, and `number` counts its
    events from 1. `at_ms` is Unix time by the node's clock. docs/OPERATIONS.md lists the kinds; a later release may
    have more.
    """

    node: str
    start: int
    number: int
    at_ms: int
    kind: str
    topic: str = ""
    fields: Mapping[str, str | int | bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeReached:
    """The events of a node come from now on. `at_ms` is Unix time by the clock of this machine."""

    node: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class NodeLost:
    """The events of a node do not come, until it is reached again. `node` is its address while its name is unknown."""

    node: str
    at_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class EventsMissed:
    """A node has forgotten `count` events that were not told here."""

    node: str
    at_ms: int
    count: int


EventNews = ClusterEvent | NodeReached | NodeLost | EventsMissed
