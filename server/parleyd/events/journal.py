"""The file of a node's Raft history: a ring of slots of equal size, which is read after any crash.

A header slot names the version. Record n stands in slot n modulo their number, with a checksum, and is written by one
write. So a crash in the middle of a write harms that record, and the oldest one whose place it takes, and no other.
Nothing is ever synced: after a loss of power the last records may be missing or torn. Records are ordered by their
number, never by their time, because clocks jump.

Every release keeps magic, version, release and checksum of the header, so that an older release can name a newer one.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from parleyd.events.event import Event, decode_content, encode_content
from parleyd.formats import newer_format, own_release

FILE_NAME = "journal.ring"
VERSION = 1
SLOT_BYTES = 512
MIN_BYTES = 16 << 10
MAX_BYTES = 64 << 20
FOREIGN_SUFFIX = ".foreign"

_MAGIC = b"PRLYJRNL"
_HEADER = struct.Struct(">8sI16sI")  # magic, version, release, checksum of those
_GEOMETRY = struct.Struct(">I")  # slots, from version 1 on
_RECORD = struct.Struct(">IHQQqI")  # checksum of what follows, bytes of the content, sequence, start, time, number
_CHECKSUM_BYTES = 4
_CONTENT_BYTES = SLOT_BYTES - _RECORD.size


class ForeignFileError(Exception):
    """The file is no journal."""


class NoRegularFileError(OSError):
    """What stands in the journal's place is a folder, a device or a pipe, from which a read may never return."""


@dataclass(frozen=True, slots=True)
class Record:
    """An event, and its number in the file, which goes on over all starts."""

    sequence: int
    event: Event


@dataclass(frozen=True, slots=True)
class Journal:
    """What a file holds. `torn` slots could not be read. `slots` is 0 if the header could not be read."""

    records: Sequence[Record]
    torn: int = 0
    slots: int = 0

    @property
    def next_sequence(self) -> int:
        """Return the number of the next record."""
        return self.records[-1].sequence + 1 if self.records else 1


def slots_of(size_bytes: int) -> int:
    """Return how many records a file of this size has room for."""
    return size_bytes // SLOT_BYTES - 1


def encode_slot(record: Record) -> bytes:
    """Return the bytes of a slot."""
    event = record.event
    content = encode_content(event.kind, event.fields, _CONTENT_BYTES)
    body = _RECORD.pack(0, len(content), record.sequence, event.start, event.at_ms, event.number)[_CHECKSUM_BYTES:]
    checked = body + content
    return (zlib.crc32(checked).to_bytes(_CHECKSUM_BYTES, "big") + checked).ljust(SLOT_BYTES, b"\0")


def decode_slot(slot: bytes) -> Record | None:
    """Return the record of a slot; None if it is empty. Raises ValueError if it is torn."""
    if not any(slot):
        return None
    if len(slot) < _RECORD.size:
        raise ValueError("a slot is cut off")
    checksum, length, sequence, start, at_ms, number = _RECORD.unpack_from(slot)
    checked = slot[_CHECKSUM_BYTES : _RECORD.size + length]
    if _RECORD.size + length > len(slot) or zlib.crc32(checked) != checksum or not sequence:
        raise ValueError("a slot does not match its checksum")
    kind, fields = decode_content(slot[_RECORD.size : _RECORD.size + length])
    return Record(sequence, Event(start, number, at_ms, kind, fields))


def read_journal(path: Path) -> Journal:
    """Read all records, in their order, beside a running node or without one; changes nothing.

    Raises OSError (also NoRegularFileError), ForeignFileError, and FormatRefusedError for the file of a newer release.
    """
    journal = _read(path)
    # A node may have been writing at that moment.
    return journal if not journal.torn else min(journal, _read(path), key=lambda one: one.torn)


def _read(path: Path) -> Journal:
    with open(path, "rb", opener=_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise NoRegularFileError(f"{path} is no regular file.")
        content = file.read(MAX_BYTES + SLOT_BYTES)
    slots = _read_header(path, content)
    records: dict[int, Record] = {}
    torn = 0
    for at in range(SLOT_BYTES, len(content), SLOT_BYTES):
        try:
            record = decode_slot(content[at : at + SLOT_BYTES])
        except ValueError:
            torn += 1
            continue
        if record is not None:
            records[record.sequence] = record
    if not slots and not records and any(content):
        raise ForeignFileError(f"{path} is no journal of a node.")
    return Journal(tuple(records[number] for number in sorted(records)), torn, slots)


def _read_header(path: Path, content: bytes) -> int:
    """Return the number of slots, 0 if the header is damaged."""
    if len(content) < _HEADER.size + _GEOMETRY.size:
        return 0
    magic, version, release, checksum = _HEADER.unpack_from(content)
    if magic != _MAGIC or checksum != zlib.crc32(content[: _HEADER.size - _CHECKSUM_BYTES]):
        return 0
    if version > VERSION:
        raise newer_format(path, release.rstrip(b"\0").decode(errors="replace"), version, VERSION)
    return int(_GEOMETRY.unpack_from(content, _HEADER.size)[0])


def encode_header(slots: int, version: int = VERSION, release: str | None = None) -> bytes:
    """Return the bytes of the header's slot."""
    named = (own_release() if release is None else release).encode()[:16]
    start = _HEADER.pack(_MAGIC, version, named, 0)[:-_CHECKSUM_BYTES]
    header = start + zlib.crc32(start).to_bytes(_CHECKSUM_BYTES, "big") + _GEOMETRY.pack(slots)
    return header.ljust(SLOT_BYTES, b"\0")


class JournalFile:
    """A journal that is open for writing. One thread uses it."""

    def __init__(self, descriptor: int, slots: int, next_sequence: int) -> None:
        self._descriptor = descriptor
        self._slots = slots
        self._next = next_sequence

    @classmethod
    def open(cls, path: Path, size_bytes: int) -> JournalFile:
        """Open the file, or make it; another size keeps the newest records that fit.

        A file that is no journal is moved aside. Raises OSError, and FormatRefusedError for the file of a newer
        release, which stays as it is.
        """
        slots = slots_of(size_bytes)
        try:
            found = read_journal(path)
        except FileNotFoundError:
            found = Journal(())
        except ForeignFileError:
            os.replace(path, path.with_name(path.name + FOREIGN_SUFFIX))
            found = Journal(())
        if found.slots != slots or path.stat().st_size != (slots + 1) * SLOT_BYTES:
            _make(path, slots, found.records[-slots:])
        return cls(os.open(path, os.O_WRONLY | os.O_CLOEXEC), slots, found.next_sequence)

    def append(self, event: Event) -> None:
        """Write one record. Raises OSError; the file is as it was then, or has a torn slot."""
        slot = encode_slot(Record(self._next, event))
        if os.pwrite(self._descriptor, slot, _place(self._next, self._slots)) != SLOT_BYTES:
            raise OSError("the file system took only a part of a record")
        self._next += 1

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


def _place(sequence: int, slots: int) -> int:
    return (1 + sequence % slots) * SLOT_BYTES


def _make(path: Path, slots: int, records: Iterable[Record]) -> None:
    """Replace the file by one of its full size, so that the disk has room for all that comes."""
    content = bytearray((slots + 1) * SLOT_BYTES)
    content[:SLOT_BYTES] = encode_header(slots)
    for record in records:
        at = _place(record.sequence, slots)
        content[at : at + SLOT_BYTES] = encode_slot(record)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with open(temporary, "wb", opener=_private) as file:
            file.write(content)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise


def _without_waiting(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NONBLOCK)  # the open of a pipe waits for its writer


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)
