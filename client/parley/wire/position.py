"""How much of the log this client has seen. The client keeps the merged maximum of all answers and never goes back."""

from dataclasses import dataclass

from parley_proto.v1 import model_pb2 as pb


@dataclass(frozen=True, slots=True)
class Position:
    """A generation of the cluster and, by Raft group, the highest applied index seen in it."""

    generation: int = 0
    indices: tuple[tuple[int, int], ...] = ()

    @classmethod
    def from_wire(cls, wire: pb.Position) -> "Position":
        """Read a position of the wire; of a group that is named twice the higher index counts."""
        indices: dict[int, int] = {}
        for group in wire.groups:
            indices[group.group] = max(indices.get(group.group, 0), group.index)
        return cls(wire.generation, tuple(sorted(indices.items())))

    @classmethod
    def from_bytes(cls, stored: bytes) -> "Position":
        """Read what to_bytes() made; nothing means that nothing was seen."""
        return cls.from_wire(pb.Position.FromString(stored))

    def to_wire(self) -> pb.Position:
        """Return the position for a request."""
        groups = [pb.GroupIndex(group=group, index=index) for group, index in self.indices]
        return pb.Position(generation=self.generation, groups=groups)

    def to_bytes(self) -> bytes:
        """Return the position for the client's file."""
        return self.to_wire().SerializeToString()


def merge(known: Position, told: Position) -> Position:
    """Return what is seen after an answer: of two generations the higher one, within one the maximum of each group."""
    if told.generation != known.generation:
        return max(known, told, key=lambda position: position.generation)
    indices = dict(known.indices)
    for group, index in told.indices:
        indices[group] = max(indices.get(group, 0), index)
    return Position(known.generation, tuple(sorted(indices.items())))
