"""The stream cursor: a position in a device's stream, opaque to the client.

Form: one byte of version, the generation, the count of pairs, and a (group, message id) pair for each Raft group, all
little-endian. A client stores these bytes and sends them back. Only this module decodes them. Message ids have their
group above GROUP_SHIFT bits, so a pair that a cluster could not have made is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from parleyd.machine.limits import GROUP, GROUP_SHIFT, MAX_ID

VERSION = 1
MAX_GROUPS = 256

_HEAD = struct.Struct("<BQH")
_PAIR = struct.Struct("<IQ")


class InvalidCursorError(ValueError):
    """Bytes that no node sent as a cursor."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"cursor {problem}. Nothing was changed. Send the newest cursor that a node gave this device, or none"
        )


@dataclass(frozen=True, slots=True)
class StreamCursor:
    """The message id of each group up to which a device has everything. `pairs` are sorted by group."""

    generation: int
    pairs: tuple[tuple[int, int], ...]

    @classmethod
    def at(cls, generation: int, message_id: int) -> StreamCursor:
        """Return the cursor after this message of the only group."""
        return cls(generation, ((GROUP, message_id),) if message_id else ())

    def encode(self) -> bytes:
        """Return the bytes that a client stores."""
        head = _HEAD.pack(VERSION, self.generation, len(self.pairs))
        return head + b"".join(_PAIR.pack(group, message_id) for group, message_id in self.pairs)

    def message_id(self, generation: int) -> int:
        """Return the id in the only group; 0 for a cursor of another generation, whose ids have no meaning here."""
        return dict(self.pairs).get(GROUP, 0) if generation == self.generation else 0


def decode_cursor(encoded: bytes) -> StreamCursor:
    """Decode a cursor; empty bytes are the beginning. Raises InvalidCursorError."""
    if not encoded:
        return StreamCursor(0, ())
    if encoded[0] != VERSION:
        raise InvalidCursorError(f"has version {encoded[0]}, and this node reads version {VERSION}")
    if len(encoded) < _HEAD.size:
        raise InvalidCursorError(f"has {len(encoded)} bytes, which is too short")
    _, generation, count = _HEAD.unpack_from(encoded)
    if count > MAX_GROUPS or generation > MAX_ID or len(encoded) != _HEAD.size + count * _PAIR.size:
        raise InvalidCursorError(f"has {len(encoded)} bytes, which do not fit together")
    pairs = tuple(_PAIR.iter_unpack(encoded[_HEAD.size :]))
    groups = [group for group, _ in pairs]
    if groups != sorted(set(groups)):
        raise InvalidCursorError("does not name each group once")
    if any(message_id >> GROUP_SHIFT != group or message_id > MAX_ID for group, message_id in pairs):
        raise InvalidCursorError("holds a message id that no cluster gave out")
    return StreamCursor(generation, pairs)
