"""Which pending changes a crash keeps: the simple extremes, every prefix, each one alone or missing, torn, rotten.

Whatever is drawn is drawn from a seed and the number of the call, so that a crash state has a name for good.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tests.simulation.storage.disk import Change, Kind

SECTOR_BYTES = 512


@dataclass(frozen=True, slots=True)
class Choice:
    """Some changes, in order, whole or damaged; `damage` is the kind, `detail` says which."""

    damage: str
    detail: str
    kept: tuple[Change, ...]


KILLED = "process killed"
DAMAGES = (
    KILLED,
    "nothing unsynced kept",
    "a prefix kept",
    "one change lost",
    "one change alone kept",
    "names without content",
    "content without names",
    "each file its own prefix",
    "last write torn",
    "last write half there",
    "rot in the last write",
    "any subset",
)


def choices(pending: Sequence[Change], name: str, width: int) -> Iterator[Choice]:
    """Crash states over `pending`; `width` bounds how many of one kind, newest changes first."""
    everything, draw = tuple(pending), random.Random(name)
    yield Choice(KILLED, "", everything)
    if not everything:
        return
    yield Choice("nothing unsynced kept", "", ())
    places = _some(len(everything), width, draw)
    for place in places:
        yield Choice("a prefix kept", f"up to {place}", everything[: place + 1])
    for place in places if len(everything) > 1 else ():
        yield Choice("one change lost", f"without {place}", everything[:place] + everything[place + 1 :])
        yield Choice("one change alone kept", f"only {place}", (everything[place],))
    yield Choice("names without content", "", tuple(c for c in everything if not c.is_content))
    yield Choice("content without names", "", tuple(c for c in everything if c.is_content))
    writes = [place for place in places if everything[place].kind is Kind.WRITE]
    for place in writes[: max(1, width // 2)]:
        yield from _damaged(everything, place, draw)
    for turn in range(width // 2):
        yield Choice("each file its own prefix", f"draw {turn}", _own_prefixes(everything, draw))
        kept = tuple(change for change in everything if draw.random() < 0.7)
        yield Choice("any subset", f"draw {turn}", kept)


def _some(count: int, width: int, draw: random.Random) -> list[int]:
    """Places in a list: all of a short one; else the last ones and some of the others."""
    if count <= width:
        return list(reversed(range(count)))
    last = list(reversed(range(count - width // 2, count)))
    return last + sorted(draw.sample(range(count - width // 2), width - len(last)), reverse=True)


def _damaged(changes: tuple[Change, ...], place: int, draw: random.Random) -> Iterator[Choice]:
    before, write = changes[:place], changes[place]
    cuts = _boundaries(write)
    if cuts:
        cut = draw.choice(cuts)
        head = replace(write, data=write.data[:cut])
        tail = replace(write, data=write.data[cut:], offset=write.offset + cut)
        yield Choice("last write torn", f"{place} cut at {cut}", (*before, head))
        yield Choice("last write half there", f"{place} from {cut} on", (*before, tail))
    first, last = _sector(write, draw)
    for filling in (bytes(last - first), draw.randbytes(last - first)):
        rotten = replace(write, data=write.data[:first] + filling + write.data[last:])
        what = "garbage" if any(filling) else "zeros"
        yield Choice("rot in the last write", f"{place}: {what} from {first} to {last}", (*before, rotten))


def _boundaries(write: Change) -> list[int]:
    """Where sectors of the file begin inside the data of `write`."""
    first = SECTOR_BYTES - write.offset % SECTOR_BYTES
    return list(range(first, len(write.data), SECTOR_BYTES))


def _sector(write: Change, draw: random.Random) -> tuple[int, int]:
    """The part of the data that falls into one of its sectors."""
    edges = [0, *_boundaries(write), len(write.data)]
    place = draw.randrange(len(edges) - 1)
    return edges[place], edges[place + 1]


def _own_prefixes(changes: tuple[Change, ...], draw: random.Random) -> tuple[Change, ...]:
    """Of each file some first changes, of the names as well: files are written back in no order among each other."""
    owners = sorted({_owner(change) for change in changes})
    left = {owner: draw.randint(0, sum(_owner(change) == owner for change in changes)) for owner in owners}
    kept = []
    for change in changes:
        owner = _owner(change)
        if left[owner]:
            left[owner] -= 1
            kept.append(change)
    return tuple(kept)


def _owner(change: Change) -> tuple[int, str]:
    return (change.inode, "") if change.is_content else (0, "names")
