"""Tells a data directory from a copy of it: two nodes of one identity vote twice, and an old copy lacks votes.

`place.json` names the folder and the number (inode) of the file itself. A copy of the file has another number, whatever
made it. A folder that is renamed keeps it. So no node starts with a copy, until `parleyd moved` says that the original
will never be started again. If the original is on this machine, it gets a mark first, with which no node starts.

A snapshot of a whole disk has the same numbers. Nothing here can tell it from the disk.
"""

from __future__ import annotations

import filecmp
import json
import os
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from parleyd.storage.data_directory import FolderLock
from parleyd.storage.errors import IdentityError
from parleyd.storage.files import io_errors, rename_durably

_COMPARED = ("identity.json", "raft.sqlite", "raft.sqlite-wal")
"""Files that must be equal in a copy. The state may be large: its size is compared, and each page has a checksum."""


class OriginalNotFoundError(IdentityError):
    """Nobody can see whether the original still exists. The text says where it was."""


@dataclass(frozen=True, slots=True)
class Place:
    """What a directory says of its place."""

    folder: str  # where the file was written
    is_here: bool  # false in a copy
    moved_to: str  # the copy that took its place; empty if none did


def check(folder: Path) -> None:
    """Write the place of a directory that has none, and raise IdentityError for a copy and for a retired original."""
    place = refuse_copy(folder)
    if place is None or place.folder != str(folder.absolute()):  # else the folder was renamed
        _write(folder)


def refuse_copy(folder: Path) -> Place | None:
    """Raise IdentityError for a copy and for a retired original; else return its place. Changes nothing."""
    place = _read(folder)
    if place is None:
        return None
    _refuse_retired(folder, place)
    if not place.is_here:
        raise IdentityError(
            f"{folder} is a copy of the data directory {place.folder}. Nothing was started, and nothing was changed. "
            "Two nodes from one directory, or one from an old copy, can lose accepted messages. If the node was "
            "stopped before its whole directory was copied, and the original is never started again: parleyd moved. "
            "Otherwise replace the node: parley cluster replace NAME"
        )
    return place


def settle(folder: Path, *, original_is_gone: bool = False) -> str:
    """Let a copy take the place of its original; return the original that was marked, or an empty text.

    Raises OriginalNotFoundError if there is none on this machine, unless `original_is_gone`. Raises IdentityError if
    the copy is not what the original has, and DirectoryBusyError if a node runs on either. Repeating it is safe.
    """
    with closing(FolderLock(folder)):
        place = _read(folder)
        if place is None or (place.is_here and not place.moved_to):
            _write(folder)
            return ""
        _refuse_retired(folder, place)
        original = Path(place.folder)
        if not _is_original(original, folder):
            if not original_is_gone:
                raise OriginalNotFoundError(
                    f"the original of this copy was {place.folder}, and it is not there. Nothing was changed. Nobody "
                    "can see whether the copy is complete and new. If the node was stopped before its whole directory "
                    "was copied, and the original is never started again, give --original-is-gone"
                )
            _write(folder)
            return ""
        with closing(FolderLock(original)):
            _compare(original, folder)
            _write(original, moved_to=str(folder.absolute()))
        # From here on no node starts with the original. If this process ends now, a repetition goes on here.
        _write(folder)
        return str(original)


def _is_original(original: Path, folder: Path) -> bool:
    with io_errors(f"looking at {original}"):
        if not (original / "identity.json").is_file() or original.samefile(folder):
            return False
        return filecmp.cmp(original / "identity.json", folder / "identity.json", shallow=False)


def _compare(original: Path, folder: Path) -> None:
    with io_errors(f"comparing {folder} with {original}"):
        differing = [name for name in _COMPARED if not _are_equal(original / name, folder / name)]
        if _size(original / "state.sqlite") != _size(folder / "state.sqlite"):
            differing.append("state.sqlite")
    if differing:
        raise IdentityError(
            f"{', '.join(differing)} in {folder} is not what {original} has now. Nothing was changed. Stop the node, "
            "remove the copy, and copy the whole directory again"
        )


def _are_equal(one: Path, other: Path) -> bool:
    if not one.exists() or not other.exists():
        return one.exists() == other.exists()
    return filecmp.cmp(one, other, shallow=False)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


def _refuse_retired(folder: Path, place: Place) -> None:
    if place.moved_to:
        raise IdentityError(
            f"the data of {folder} was moved to {place.moved_to}, where the node has gone on. Nothing was started, and "
            "nothing was changed. Start the node there. Remove this directory when the node works"
        )


def _read(folder: Path) -> Place | None:
    path = folder / "place.json"
    with io_errors(f"reading {path}"):
        try:
            with path.open("rb") as file:
                content, inode = file.read(), os.fstat(file.fileno()).st_ino
        except FileNotFoundError:
            return None
    try:
        stored = json.loads(content)
        return Place(str(stored["folder"]), stored["inode"] == inode, str(stored["moved_to"]))
    except (ValueError, KeyError, TypeError):
        return Place("(place.json cannot be read)", is_here=False, moved_to="")


def _write(folder: Path, moved_to: str = "") -> None:
    path = folder / "place.json"
    temporary = path.with_name(path.name + ".tmp")
    with io_errors(f"writing {path}"):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            inode = os.fstat(file.fileno()).st_ino  # it keeps it under its final name
            json.dump({"folder": str(folder.absolute()), "inode": inode, "moved_to": moved_to}, file)
            file.flush()
            os.fsync(file.fileno())
        rename_durably(temporary, path)
