"""The mark of a node whose state is not trusted: a file that stays over restarts until the state is replaced.

An unreadable mark counts as a mark: the node may be fenced.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from parleyd.storage.files import fsync_path, io_errors, write_durably

UNREADABLE = "the mark of this node's data directory cannot be read"


@dataclass(frozen=True, slots=True)
class Fence:
    """The reason of a fence. `index` is the first entry at which the state is known to differ, 0 if unknown."""

    reason: str
    index: int = 0
    own_hash: str = ""
    majority_hash: str = ""


def save(path: Path, fence: Fence) -> None:
    """Write the mark durably."""
    write_durably(path, json.dumps({"format": 1, "fence": asdict(fence)}, indent=2).encode() + b"\n")


def load(path: Path) -> Fence | None:
    """Read the mark; None if the node is not fenced."""
    with io_errors(f"reading {path}"):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
    try:
        body = json.loads(content)["fence"]
        return Fence(str(body["reason"]), int(body["index"]), str(body["own_hash"]), str(body["majority_hash"]))
    except (ValueError, KeyError, TypeError):
        return Fence(UNREADABLE)


def clear(path: Path) -> None:
    """Remove the mark durably; the state that replaced the old one must be durable already."""
    with io_errors(f"removing {path}"):
        path.unlink(missing_ok=True)
        fsync_path(path.parent)
