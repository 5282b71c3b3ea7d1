"""Encodes memberships and entries for the disk: memberships as readable JSON, entries with a checksum."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from parleyd.raft.types import ConfState, HardState, NodeId, SnapshotMeta

_ENTRY_HEADER = struct.Struct("<QQB")
_STATE = struct.Struct("<QQQQQ")


def encode_conf_state(conf_state: ConfState) -> bytes:
    """Encode a membership; equal memberships give equal bytes."""
    return json.dumps(
        {
            "voters": conf_state.voters,
            "learners": conf_state.learners,
            "voters_outgoing": conf_state.voters_outgoing,
            "learners_next": conf_state.learners_next,
            "auto_leave": conf_state.auto_leave,
        },
        separators=(",", ":"),
    ).encode()


def decode_conf_state(data: bytes) -> ConfState:
    """Decode a membership; raises ValueError for bytes that `encode_conf_state` did not make."""
    try:
        fields = json.loads(data)
        return ConfState(
            voters=_ids(fields["voters"]),
            learners=_ids(fields["learners"]),
            voters_outgoing=_ids(fields["voters_outgoing"]),
            learners_next=_ids(fields["learners_next"]),
            auto_leave=bool(fields["auto_leave"]),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"not a membership: {error}") from error


def entry_checksum(term: int, index: int, type_: int, data: bytes) -> int:
    """Return the checksum of one log entry. It covers the entry's index, so a misplaced entry is damage too."""
    with _numbers_and_bytes("an entry"):
        return zlib.crc32(data, zlib.crc32(_ENTRY_HEADER.pack(term, index, type_)))


def state_checksum(hard_state: HardState, snapshot: SnapshotMeta, conf_state: bytes) -> int:
    """Return the checksum of what a server must never forget, and of where its log starts."""
    with _numbers_and_bytes("term and vote"):
        packed = _STATE.pack(
            hard_state.current_term, hard_state.voted_for, hard_state.commit_index, snapshot.index, snapshot.term
        )
        return zlib.crc32(conf_state, zlib.crc32(packed))


@contextmanager
def _numbers_and_bytes(what: str) -> Iterator[None]:
    """Check types, which SQLite does not do when it reads: a misplaced page of another table gives any values."""
    try:
        yield
    except (struct.error, TypeError) as error:
        raise ValueError(f"this is not {what}: {error}") from error


def _ids(values: list[int]) -> tuple[NodeId, ...]:
    return tuple(NodeId(int(value)) for value in values)
