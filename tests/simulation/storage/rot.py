"""Damages what was synced: a start must refuse with a clear error, or know exactly what it knew before.

For the log, term, vote and identity this must hold for every bit, with two limits that no checksum inside the file can
lift. They are counted, not hidden:

- Rot inside the last transaction of the log's write-ahead log looks like a write that power cut short, and so does rot
  that takes the frame header between the last two. The node starts without them ("last writes taken for torn ones").
  Rot in any earlier transaction is told apart by the ones behind it.
- A page that is whole but of an earlier time (a write that was acknowledged as synced and then lost by the disk) is a
  valid page. Where all that is newer sat in that page, nothing contradicts it ("stale page believed").

Each page of the state has a checksum, so whatever a flipped bit or a lost sector changes must be noticed when it is
read. A page of another place and a page of an earlier time have a correct checksum: what they change may pass ("wrong
values in the state"). What the write-ahead log of the state loses is replayed from the log.
A snapshot is refused if one bit of it changed on its way in; what rots after it was received and checked is like any
other rot of the state.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from parley_proto.v1 import peer_pb2
from parleyd.group.snapshot_store import SnapshotStore
from parleyd.raft.errors import PeerProtocolError
from parleyd.storage.data_directory import DataDirectory
from tests.simulation.storage.campaign import Laboratory
from tests.simulation.storage.disk import Call, Disk, Image
from tests.simulation.storage.history import LAST, SNAPSHOTS
from tests.simulation.storage.judge import judge
from tests.simulation.storage.promises import LogVersion, Promises
from tests.simulation.storage.start import Observation
from tests.simulation.storage.workload import FOLDER

PAGE_BYTES = 4096
MISDIRECTED, LOST = "write misdirected", "synced write lost"
SECTOR_BYTES = 512
FILES = (
    "identity.json",
    "raft.sqlite",
    "raft.sqlite-wal",
    "state.sqlite",
    "state.sqlite-wal",
    "state.sqlite.installing",
)
ALLOWED = (
    "refused",
    "unharmed",
    "noticed when read",
    "last writes taken for torn ones",
    "stale page believed",
    "wrong values in the state",
)


@dataclass(slots=True)
class RotTally:
    """Outcomes by file and kind of damage, and what was silently wrong."""

    outcomes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    def by_file(self) -> dict[str, dict[str, int]]:
        """How often each outcome was seen, by file."""
        table: dict[str, dict[str, int]] = {}
        for (file, _, outcome), count in sorted(self.outcomes.items()):
            row = table.setdefault(file, {})
            row[outcome] = row.get(outcome, 0) + count
        return table


@dataclass(frozen=True, slots=True)
class _Rotten:
    damage: str
    detail: str
    content: bytes


def rot_everywhere(
    laboratory: Laboratory, calls: list[Call], promises: list[Promises], points: list[int], seed: int, stride: int
) -> RotTally:
    """Damage each file as it is on the disk at `points`, every `stride` bytes in turn."""
    tally, disk = RotTally(), Disk()
    earlier: Image = {}
    for point in range(len(calls) + 1):
        if point:
            disk.carry_out(calls[point - 1])
        if point not in points:
            continue
        image = disk.image(disk.pending)
        for file in FILES:
            path = f"{FOLDER}/{file}"
            content = image.get(path)
            if content is not None:
                draw = random.Random(f"{seed}/{point}/{file}")
                for rotten in _rots(content, earlier.get(path) or b"", stride, draw):
                    damaged = {**image, path: rotten.content}
                    _examine(laboratory, tally, file, rotten, damaged, point, promises)
        earlier = dict(image)
    return tally


def _rots(content: bytes, earlier: bytes, stride: int, draw: random.Random) -> Iterator[_Rotten]:
    for start in range(0, len(content), stride):
        place, bit = start + draw.randrange(min(stride, len(content) - start)), draw.randrange(8)
        yield _Rotten("bit flipped", f"bit {bit} of byte {place}", _flip(content, place, bit))
    for start in range(0, len(content), max(SECTOR_BYTES, stride * 4)):
        end = min(start + SECTOR_BYTES, len(content))
        for what, filling in (("zeros", bytes(end - start)), ("garbage", draw.randbytes(end - start))):
            if content[start:end] != filling:
                yield _Rotten(f"sector of {what}", f"at {start}", content[:start] + filling + content[end:])
    pages = range(0, len(content) - PAGE_BYTES + 1, PAGE_BYTES)
    for start in pages[:: max(1, stride // 256)]:
        other = draw.choice(pages) if len(pages) > 1 else start
        page = content[other : other + PAGE_BYTES]
        if page != content[start : start + PAGE_BYTES]:
            misdirected = content[:start] + page + content[start + PAGE_BYTES :]
            yield _Rotten(MISDIRECTED, f"page at {other} over the one at {start}", misdirected)
        old = earlier[start : start + PAGE_BYTES]
        if len(old) == PAGE_BYTES and old != content[start : start + PAGE_BYTES]:
            stale = content[:start] + old + content[start + PAGE_BYTES :]
            yield _Rotten(LOST, f"page at {start} is an earlier one", stale)


def _flip(content: bytes, place: int, bit: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def _examine(
    laboratory: Laboratory,
    tally: RotTally,
    file: str,
    rotten: _Rotten,
    image: Image,
    point: int,
    promises: list[Promises],
) -> None:
    where = f"{file} after {point} calls, {rotten.damage}: {rotten.detail}"
    try:
        seen = laboratory.look(image)
    except Exception as error:
        outcome, wrong = "unclear error", f"{type(error).__name__}: {error}"
    else:
        outcome, wrong = _outcome(seen, file, rotten, point, promises)
    tally.outcomes[(file, rotten.damage, outcome)] += 1
    if outcome not in ALLOWED:
        tally.violations.append(f"{where}: {outcome}: {wrong}")


def _outcome(seen: Observation, file: str, rotten: _Rotten, point: int, promises: list[Promises]) -> tuple[str, str]:
    if seen.refused:
        return ("refused", "") if seen.damaged else ("not called damage", seen.refused)
    # Whatever the state lost is replayed: it may be as of any entry, if only log and state cover everything together.
    promised = replace(promises[point], states=frozenset(range(LAST + 1)))
    wrong = judge(seen, promised, killed=False)
    if not wrong:
        return "unharmed", ""
    if file.startswith("state") and seen.unreadable:
        return "noticed when read", wrong
    if file.startswith("state") and seen.problem and rotten.damage in (MISDIRECTED, LOST):
        return "wrong values in the state", wrong
    if rotten.damage == LOST:
        return "stale page believed", wrong
    before = _versions_before(promises, point)
    if file == "raft.sqlite-wal" and seen.log is not None and any(not v.difference(seen.log) for v in before):
        return "last writes taken for torn ones", wrong
    return "silently wrong", wrong


def _versions_before(promises: list[Promises], point: int) -> list[LogVersion]:
    """The log as it was before the last write to it, and before the one before that."""
    versions = [promises[point].logs[0]]
    for promised in reversed(promises[:point]):
        if len(promised.logs) == 1 and promised.logs[0] != versions[-1]:
            versions.append(promised.logs[0])
            if len(versions) > 2:
                break
    return versions[1:]


def rot_in_transfer(laboratory: Laboratory, seed: int, count: int) -> RotTally:
    """Flip bits of a snapshot on its way in: the receiver must refuse it and keep nothing of it."""
    tally, folder = RotTally(), laboratory.folder.with_name("receiving")
    index = SNAPSHOTS[0]
    made, meta = laboratory.history.snapshots[index], laboratory.history.meta(index)
    content, draw = made.path.read_bytes(), random.Random(seed)
    header = peer_pb2.SnapshotHeader(total_bytes=made.total_bytes, sha256=made.sha256)
    with DataDirectory.open(folder) as data:
        snapshot_store = SnapshotStore(data, 1)
        for _ in range(count):
            damaged = _flip(content, draw.randrange(len(content)), draw.randrange(8))
            try:
                asyncio.run(snapshot_store.receive(header, meta, _chunks(damaged)))
                outcome = "silently wrong"
            except PeerProtocolError:
                outcome = "silently wrong" if _leftovers(data.snapshots) else "refused"
            tally.outcomes[("received snapshot", "bit flipped", outcome)] += 1
            if outcome not in ALLOWED:
                tally.violations.append("a snapshot altered on its way was kept")
        snapshot_store.close()
    return tally


def _leftovers(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def _chunks(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), 1 << 16):
        yield content[start : start + (1 << 16)]
