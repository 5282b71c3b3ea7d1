"""What a disk holds for certain, and what it might: files by inode, folders by name, and the changes not yet synced.

A file's content becomes durable by an fsync of the file; its name by an fsync of the folder. A crash keeps what is
durable, and of the pending changes any that it likes (choices.py says which are tried).
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

FOLDER = 0  # the inode of every folder: it has no content but its names


class Kind(enum.Enum):
    """What one call asked of the disk."""

    CREATE = "create"
    WRITE = "write"
    TRUNCATE = "truncate"
    SYNC = "sync"
    RENAME = "rename"
    UNLINK = "unlink"
    MKDIR = "mkdir"
    SYNC_FOLDER = "sync folder"


@dataclass(frozen=True, slots=True)
class Call:
    """One call, by number; `during` is what the node was doing."""

    number: int
    kind: Kind
    path: str
    during: str
    inode: int = FOLDER
    offset: int = 0
    data: bytes = b""
    target: str = ""
    syncs_folder: bool = False

    def __str__(self) -> str:
        detail = ""
        if self.kind is Kind.WRITE:
            detail = f" {len(self.data)} bytes at {self.offset}"
        elif self.kind is Kind.TRUNCATE:
            detail = f" to {self.offset}"
        elif self.kind is Kind.RENAME:
            detail = f" -> {self.target}"
        elif self.syncs_folder:
            detail = " and its folder"
        return f"{self.number:5} {self.kind.value} {self.path}{detail}  [{self.during}]"


@dataclass(frozen=True, slots=True)
class Change:
    """One pending change: to the content of an inode, or to the names of a folder."""

    number: int
    kind: Kind
    inode: int = FOLDER
    offset: int = 0
    data: bytes = b""
    gone: str = ""
    name: str = ""

    @property
    def is_content(self) -> bool:
        return self.kind in (Kind.WRITE, Kind.TRUNCATE)

    def folders(self) -> set[str]:
        """The folders whose names it changes; never two, since a move between folders is two changes."""
        return {parent_of(name) for name in (self.gone, self.name) if name}


Image = Mapping[str, bytes | None]  # what is found after a crash: content by path; None for a folder


class Disk:
    """Durable content and names, and the changes since, in order."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {"": FOLDER}
        self.content: dict[int, bytes] = {}
        self.pending: list[Change] = []

    def copy(self) -> Disk:
        """An independent disk in the same state."""
        other = Disk()
        other.names, other.content, other.pending = dict(self.names), dict(self.content), list(self.pending)
        return other

    @classmethod
    def holding(cls, image: Image) -> Disk:
        """A disk on which `image` is durable."""
        disk = cls()
        for inode, (path, content) in enumerate(sorted(image.items()), start=1):
            disk.names[path] = FOLDER if content is None else inode
            if content is not None:
                disk.content[inode] = content
        return disk

    def carry_out(self, call: Call) -> None:
        """The call returned."""
        match call.kind:
            case Kind.SYNC:
                self._settle(change for change in self.pending if change.is_content and change.inode == call.inode)
                if call.syncs_folder:
                    self._sync_folder(parent_of(call.path))
            case Kind.SYNC_FOLDER:
                self._sync_folder(call.path)
            case _:
                self.pending.extend(_changes(call))

    def image(self, kept: Iterable[Change]) -> Image:
        """What a crash leaves that keeps `kept` of the pending changes; they are carried out in order."""
        names, content = dict(self.names), dict(self.content)
        _apply(names, content, kept)
        image: dict[str, bytes | None] = {}
        for path in sorted(names):
            inode = names[path]
            folder = parent_of(path)
            if path and (not folder or image.get(folder, b"") is None):  # what no folder names cannot be found
                image[path] = None if inode == FOLDER else content.get(inode, b"")
        return image

    def _sync_folder(self, folder: str) -> None:
        self._settle(change for change in self.pending if not change.is_content and folder in change.folders())

    def _settle(self, durable: Iterable[Change]) -> None:
        settled = list(durable)
        _apply(self.names, self.content, settled)
        numbers = {id(change) for change in settled}
        self.pending = [change for change in self.pending if id(change) not in numbers]


def parent_of(path: str) -> str:
    """The folder that `path` is named in; the topmost is ''."""
    return path.rpartition("/")[0]


def _changes(call: Call) -> list[Change]:
    change = Change(call.number, call.kind, call.inode, call.offset, call.data)
    match call.kind:
        case Kind.CREATE | Kind.MKDIR:
            return [replace(change, name=call.path)]
        case Kind.UNLINK:
            return [replace(change, gone=call.path)]
        case Kind.RENAME if parent_of(call.path) != parent_of(call.target):
            return [replace(change, name=call.target), replace(change, gone=call.path)]
        case Kind.RENAME:
            return [replace(change, name=call.target, gone=call.path)]
        case _:
            return [change]


def _apply(names: dict[str, int], content: dict[int, bytes], changes: Iterable[Change]) -> None:
    for change in changes:
        if change.kind is Kind.WRITE:
            old = content.get(change.inode, b"").ljust(change.offset, b"\0")
            content[change.inode] = old[: change.offset] + change.data + old[change.offset + len(change.data) :]
        elif change.kind is Kind.TRUNCATE:
            content[change.inode] = content.get(change.inode, b"")[: change.offset].ljust(change.offset, b"\0")
        else:
            if change.gone:
                names.pop(change.gone, None)
            if change.name:
                names[change.name] = change.inode


def put(image: Image, folder: Path) -> None:
    """Make the files of `image` in an empty folder."""
    for path, content in image.items():
        if content is None:
            (folder / path).mkdir()
        else:
            (folder / path).write_bytes(content)


def read_back(folder: Path, ignored: Iterable[str]) -> Image:
    """The files of a folder as an image, without those whose names end in `ignored`."""
    image: dict[str, bytes | None] = {}
    for path in sorted(folder.rglob("*")):
        if not path.name.endswith(tuple(ignored)):
            image[path.relative_to(folder).as_posix()] = None if path.is_dir() else path.read_bytes()
    return image
