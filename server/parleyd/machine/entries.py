"""Slots of the log: their payloads decoded, and the hash of everything up to one of them."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b

from google.protobuf.message import DecodeError

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.canonical import canonical
from parleyd.machine.errors import MachineReleaseError
from parleyd.machine.files import STATE_HASH_BYTES, release_text
from parleyd.machine.levels import MAX_LEVEL
from parleyd.machine.records import CommittedEntry, MembershipChange


@dataclass(frozen=True, slots=True)
class DecodedEntry:
    """A slot of the log with its decoded payload; `batch` is None for an empty or undecodable payload."""

    entry: CommittedEntry
    batch: pb.CommandBatch | None

    @classmethod
    def of(cls, entry: CommittedEntry) -> DecodedEntry:
        """Decode the payload."""
        if not entry.payload:
            return cls(entry, None)
        try:
            return cls(entry, pb.CommandBatch.FromString(entry.payload))
        except DecodeError:
            return cls(entry, None)


def decode_entries(entries: Sequence[CommittedEntry]) -> list[DecodedEntry]:
    """Decode entries. Raises MachineReleaseError if one of them needs a newer release."""
    decoded = [DecodedEntry.of(entry) for entry in entries]
    for slot in decoded:
        if slot.batch is not None and slot.batch.level > MAX_LEVEL:
            raised = _raises_in(decoded).get(slot.batch.level, "")
            raise MachineReleaseError(release_text(f"entry {slot.entry.index} of the log", slot.batch.level, raised))
    return decoded


def _raises_in(decoded: Sequence[DecodedEntry]) -> dict[int, str]:
    """Return the levels that these entries raise the cluster to, with the releases that they name."""
    commands = [command for slot in decoded if slot.batch is not None for command in slot.batch.commands]
    raises = [command.raise_level for command in commands if command.WhichOneof("command") == "raise_level"]
    return {one.level: one.release for one in raises}


def next_hash(previous: bytes, entry: CommittedEntry, results: tuple[pb.CommandResult, ...]) -> bytes:
    """Return the hash of everything up to an entry. Its form belongs to the level."""
    digest = blake2b(previous, digest_size=STATE_HASH_BYTES)
    digest.update(struct.pack("<QQQ", entry.index, entry.term, len(entry.payload)))
    digest.update(entry.payload)
    digest.update(canonical(results))
    if entry.membership is not None:
        digest.update(_membership_bytes(entry.membership))
    return digest.digest()


def _membership_bytes(change: MembershipChange) -> bytes:
    parts = [change.encoded, struct.pack(f"<{len(change.node_ids)}Q", *change.node_ids)]
    for row in change.added:
        texts = (row.name, row.peer_address, row.client_address)
        parts += (struct.pack("<QII", row.node_id, row.min_level, row.max_level), *(text.encode() for text in texts))
        if row.key_digest:  # from level 3 on
            parts.append(row.key_digest)
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)
