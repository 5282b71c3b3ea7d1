"""Positions: how much of the log an answer includes, and how much a client has seen."""

from __future__ import annotations

from parley_proto.v1 import model_pb2 as pb
from parleyd.machine.limits import GROUP, MAX_ID
from parleyd.machine.reader import StateReader

MAX_GROUPS = 256


class InvalidPositionError(ValueError):
    """A position that no node sent."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"seen {problem}. Nothing was changed. Send the merged positions of the nodes' answers, or nothing"
        )


class NewerGenerationError(Exception):
    """The client has seen a newer generation of the cluster than this node has."""


class BehindError(Exception):
    """This node has not applied in time what the cluster has: it is slow, or its disk is full."""


class AheadOfClusterError(Exception):
    """The client has seen an entry that no majority of this generation has."""

    def __init__(self, seen: int, newest: int) -> None:
        super().__init__(f"the cluster has {newest} entries, and this client has seen entry {seen}")


def position(generation: int, index: int) -> pb.Position:
    """Return the position of everything up to this entry of the only group."""
    return pb.Position(generation=generation, groups=[pb.GroupIndex(group=GROUP, index=index)])


def position_of(reader: StateReader) -> pb.Position:
    """Return the position of the state that the reader sees."""
    summary = reader.summary()
    return position(summary.generation, summary.applied_index)


def index_of(answer: pb.Position) -> int:
    """Return the index of the only group; 0 if the position has none."""
    return max((pair.index for pair in answer.groups if pair.group == GROUP), default=0)


def merged(one: pb.Position, other: pb.Position) -> pb.Position:
    """Return the newer of two positions of this node."""
    return one if (one.generation, index_of(one)) >= (other.generation, index_of(other)) else other


def wanted_index(seen: pb.Position, generation: int) -> int:
    """Return the entry that must be applied here before the client is answered.

    Raises InvalidPositionError, and NewerGenerationError if no entry of this node's generation is enough.
    """
    if len(seen.groups) > MAX_GROUPS or seen.generation > MAX_ID:
        raise InvalidPositionError("is not a position of any cluster")
    for pair in seen.groups:
        if pair.group != GROUP:
            raise InvalidPositionError(f"names group {pair.group}, which this cluster does not have")
        if pair.index > MAX_ID:
            raise InvalidPositionError(f"names index {pair.index}, which no cluster has reached")
    if seen.generation > generation:
        raise NewerGenerationError
    return index_of(seen) if seen.generation == generation else 0
