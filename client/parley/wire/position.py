"""The position in the log that this client has seen. The client keeps the merged maximum of all answers."""

from dataclasses import dataclass

from google.protobuf.message import DecodeError

from parley_proto.v1 import messaging_pb2
from parley_proto.v1 import model_pb2 as pb

GROUP = 0
"""The only Raft group of today."""


@dataclass(frozen=True, slots=True)
class Position:
    """A generation of the cluster and, by Raft group, the highest applied index seen in it."""

    generation: int = 0
    indices: tuple[tuple[int, int], ...] = ()

    @classmethod
    def from_wire(cls, wire: pb.Position) -> "Position":
        """Return the position of a protobuf message. If it names a group twice, the higher index counts."""
        indices: dict[int, int] = {}
        for group in wire.groups:
            indices[group.group] = max(indices.get(group.group, 0), group.index)
        return cls(wire.generation, tuple(sorted(indices.items())))

    @classmethod
    def from_bytes(cls, stored: bytes) -> "Position":
        """Return the position that to_bytes() encoded. Empty bytes mean that nothing was seen.

        Raises ValueError for bytes that are none.
        """
        try:
            return cls.from_wire(pb.Position.FromString(stored))
        except DecodeError:
            raise ValueError("a stored position cannot be decoded") from None

    @property
    def lowest_index(self) -> int:
        """Return the index that was seen in every group, at least 1."""
        return max(1, min([index for _, index in self.indices], default=1))

    def to_wire(self) -> pb.Position:
        """Return the position as a protobuf message."""
        groups = [pb.GroupIndex(group=group, index=index) for group, index in self.indices]
        return pb.Position(generation=self.generation, groups=groups)

    def to_bytes(self) -> bytes:
        """Return the position as bytes for the client's file."""
        return self.to_wire().SerializeToString()


@dataclass(frozen=True, slots=True)
class Life:
    """What a node of a restored cluster says of this device first.

    `last_send_number` is the highest number of the device's sends in the backup. With `superseded`, another copy of the
    device's files sends, and that number may be of its sends.
    """

    position: Position
    last_send_number: int
    superseded: bool = False

    @classmethod
    def of(cls, welcome: messaging_pb2.Welcome) -> "Life":
        """Return what a Welcome says. Its position has at least one index, so that the next restore is noticed."""
        told = Position.from_wire(welcome.status.position)
        begun = Position(welcome.generation, ((GROUP, 1),))
        return cls(merge(begun, told), welcome.last_send_number, welcome.superseded)


def merge(known: Position, told: Position) -> Position:
    """Return the position after an answer: the higher generation, or within one the maximum of each group."""
    if told.generation != known.generation:
        return max(known, told, key=lambda position: position.generation)
    indices = dict(known.indices)
    for group, index in told.indices:
        indices[group] = max(indices.get(group, 0), index)
    return Position(known.generation, tuple(sorted(indices.items())))


def was_restored(known: Position, generation: int) -> bool:
    """Return whether a cluster of this generation was restored from a backup since `known` was seen."""
    return bool(known.indices) and generation > known.generation


def raised(known: Position, told: Position) -> Position:
    """Return the device's position after an answer.

    A higher generation is not taken, because what the device holds belongs to the lower one. The device takes it once
    it has forgotten what it holds.
    """
    return known if was_restored(known, told.generation) else merge(known, told)
