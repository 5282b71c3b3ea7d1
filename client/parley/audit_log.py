"""The audit log of the cluster, as the client checks and exports it: docs/PROTOCOL.md describes the form.

Each row has the hash of the row before it in its own hash. So a row that was changed, removed or moved is found, unless
all later hashes were made anew as well. Against that, keep a hash elsewhere and look for it later.

An exported file has a line of JSON for what it begins with, one for each row, and one for its end.
"""

import hashlib
import json
import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parley.errors import AuditError, BadInputError
from parley.named_file import create_private, put_in_place, refuse_existing
from parley.strict_json import DoubledNameError, JsonError, parse_json
from parley_proto.v1 import admin_pb2 as pb

FORMAT = 1
FIRST_HASH = "00" * 32
"""Stands before row 1."""
MAX_LINE_BYTES = 1 << 20
_TEXTS = ("actor", "action", "object", "detail")
_NUMBERS = ("number", "index", "time_ms")
_BEGIN = {"parley_audit", "after", "previous_hash"}


@dataclass(frozen=True, slots=True)
class AuditRow:
    """One administrative or security event. `time_ms` is the time of the cluster, `index` its place in the log."""

    number: int
    index: int
    time_ms: int
    actor: str
    action: str
    object: str
    detail: str
    hash: str


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Some rows. `head` is the hash of the newest row of all, `removed_up_to` the last that is not kept any more."""

    rows: tuple[AuditRow, ...]
    previous_hash: str
    head: str
    removed_up_to: int


@dataclass(frozen=True, slots=True)
class AuditSummary:
    """What an exported file has: so many rows from `first` to `last`, `head` is the hash of the last one."""

    rows: int
    first: int
    last: int
    head: str


def hash_of(previous: str, row: AuditRow) -> str:
    """Return the hash that a row must have after the one with this hash."""
    digest = hashlib.sha256(bytes.fromhex(previous))
    digest.update(struct.pack(">QQq", row.number, row.index, row.time_ms))
    for text in (row.actor, row.action, row.object, row.detail):
        encoded = text.encode()
        digest.update(struct.pack(">I", len(encoded)) + encoded)
    return digest.hexdigest()


class Chain:
    """Follows the hashes from row to row. AuditError says which row does not follow."""

    def __init__(self, previous_hash: str, after: int, *, expect: str = "") -> None:
        """Begin after the row of number `after`, which has that hash. Look for the hash `expect`, if it is given."""
        self.head = previous_hash
        self.last = after
        self.rows = 0
        self._expected = expect.strip().lower()
        if self._expected and not _is_hash(self._expected):
            raise BadInputError(f"{expect!r} is no hash. Nothing was read. Give the 64 digits that were shown as head.")
        self.is_found = not self._expected or self._expected == previous_hash

    def add(self, row: AuditRow) -> None:
        """Check the next row."""
        if row.number != self.last + 1:
            raise _broken(f"row {row.number} follows row {self.last}: rows are missing or were moved")
        if row.hash != hash_of(self.head, row):
            raise _broken(f"row {row.number} does not match its hash: it, or what was before it, was changed")
        self.head, self.last = row.hash, row.number
        self.rows += 1
        self.is_found = self.is_found or row.hash == self._expected

    def check_expected(self) -> None:
        """Raise AuditError if the hash that was looked for did not come."""
        if not self.is_found:
            raise _broken(
                f"no row has the hash {self._expected}: what was the head once is not in this log, or these rows begin "
                "later"
            )


def page_of(answer: pb.ListAuditResponse) -> AuditPage:
    """Convert what a node sent."""
    rows = tuple(
        AuditRow(row.number, row.index, row.at_ms, row.actor, row.action, row.object, row.detail, row.hash.hex())
        for row in answer.rows
    )
    return AuditPage(rows, answer.previous_hash.hex(), answer.last_hash.hex(), answer.removed_number)


# ---- files


class AuditFile:
    """Writes an export under a temporary name; only `finish` gives it its own, complete and durable."""

    def __init__(self, path: Path, *, force: bool) -> None:
        """Begin the file. With `force`, `finish` replaces an existing one."""
        self._path = path
        self._force = force
        try:
            refuse_existing(path, force=force, error=AuditError)
            self._temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
            self._file = os.fdopen(create_private(self._temporary), "wb")
        except OSError as error:
            raise self._failed(error) from error

    def begin(self, previous_hash: str, after: int) -> None:
        """Write what the rows follow."""
        self._write({"parley_audit": FORMAT, "after": after, "previous_hash": previous_hash})

    def add(self, rows: Iterable[AuditRow]) -> None:
        """Write rows that were checked."""
        for row in rows:
            self._write(row_json(row))

    def finish(self, chain: Chain) -> None:
        """Write the end, make the file durable, and give it its name."""
        self._write({"rows": chain.rows, "head": chain.head})
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            put_in_place(self._temporary, self._path, force=self._force, error=AuditError)
        except OSError as error:
            raise self._failed(error) from error

    def discard(self) -> None:
        """Remove the unfinished file; safe to call at any time."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def _write(self, value: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> AuditError:
        return AuditError(f"{self._path} was not written: {error.strerror}. Make room, or name a file elsewhere.")


def row_json(row: AuditRow) -> dict[str, Any]:
    """Return a row as it is exported."""
    return {name: getattr(row, name) for name in (*_NUMBERS, *_TEXTS, "hash")}


def check_audit_file(path: str | Path, *, expect: str = "") -> AuditSummary:
    """Read all of an exported file and check its chain. Raises AuditError if it is not what was exported.

    `expect` is a hash that was shown earlier: it must be that of a row, or of what the rows follow.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            lines = _lines(file)
            begin = next(lines, {})
            if begin.get("parley_audit") != FORMAT or not _is_hash(begin.get("previous_hash")):
                raise BadInputError(f"{path} is no exported audit log of format {FORMAT}. Check the name.")
            if begin.keys() != _BEGIN or not _is_count(begin["parley_audit"]) or not _is_count(begin["after"]):
                raise _broken("its first line was changed")
            after = int(begin["after"])
            chain = Chain(str(begin["previous_hash"]), after, expect=expect)
            end: dict[str, Any] = {}
            for line in lines:
                if end:
                    raise _broken("lines follow its end")
                if "head" in line:
                    end = line
                else:
                    chain.add(_row(line))
    except OSError as error:
        raise BadInputError(f"{path} cannot be read: {error.strerror}. Check the name and the disk.") from error
    if not end:
        raise _broken(f"its end is missing: it was cut short after row {chain.last}")
    if end != {"rows": chain.rows, "head": chain.head} or not _is_count(end["rows"]):
        raise _broken(f"its end tells of other rows: rows after {chain.last} are missing, or the end was changed")
    chain.check_expected()
    return AuditSummary(chain.rows, after + 1, chain.last, chain.head)


def _lines(file: Any) -> Iterator[dict[str, Any]]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        try:
            value = parse_json(line)
        except DoubledNameError as error:
            raise _broken(f"in its line {number}, {error}") from error
        except JsonError:
            value = None
        if not isinstance(value, dict) or not line.endswith(b"\n"):
            if number == 1:
                yield {}
                return
            raise _broken(f"its line {number} is no row")
        yield value


def _row(line: dict[str, Any]) -> AuditRow:
    numbers, texts = [line.get(name) for name in _NUMBERS], [line.get(name) for name in _TEXTS]
    is_whole = all(map(_is_count, numbers)) and all(map(_is_text, texts))
    if not is_whole or not _is_hash(line.get("hash")) or len(line) != len(_NUMBERS) + len(_TEXTS) + 1:
        raise _broken(f"a line has not what a row has: {str(line)[:80]}")
    return AuditRow(*line_values(line))


def line_values(line: dict[str, Any]) -> tuple[Any, ...]:
    """Return the values of a row in the order of its record."""
    return tuple(line[name] for name in (*_NUMBERS, *_TEXTS, "hash"))


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _is_text(value: object) -> bool:
    if not isinstance(value, str):
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a pair, which JSON can have and no row has
        return False
    return True


def _is_hash(value: object) -> bool:
    return isinstance(value, str) and len(value) == len(FIRST_HASH) and set(value) <= set("0123456789abcdef")


def _broken(what: str) -> AuditError:
    return AuditError(
        f"The audit log is not what the cluster recorded: {what}. Keep this copy, compare it with other exports, and "
        "find out who could write it."
    )
