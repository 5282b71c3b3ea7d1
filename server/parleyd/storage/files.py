"""Durable file operations: a rename or removal made here is on disk when the call returns.

A rename without an fsync of the file before and of the folder after may be lost in a power loss, or leave an empty
file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from parleyd.storage.errors import StorageError


@contextmanager
def io_errors(what: str) -> Iterator[None]:
    """Convert an operating-system error into the StorageError that stops the node."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{what} failed: {error}. The node stops, because a failed write must not be repeated. "
            "All acknowledged data is safe. Repair the disk (space, permissions, health) and start the node."
        ) from error


def fsync_path(path: Path) -> None:
    """Make a file's content or a folder's entries durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder_durably(path: Path, mode: int) -> None:
    """Make a folder and its missing parents, each one durable before anything is put into it.

    An existing folder is synced again, because a process may have been killed between making and syncing it.
    """
    existing = path
    while not existing.exists():
        existing = existing.parent
    if not existing.is_mount():
        with suppress(PermissionError):  # a parent that is not readable was not made here
            fsync_path(existing.parent)
    for name in path.relative_to(existing).parts:
        existing /= name
        existing.mkdir(mode, exist_ok=True)
        fsync_path(existing.parent)


def create_private(path: Path) -> BinaryIO:
    """Make a file that only its owner can read, and open it for writing; raises FileExistsError if there is one."""
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")


def rename_durably(source: Path, target: Path) -> None:
    """Replace `target` by `source`, whose content is already durable; both must be in one folder."""
    os.replace(source, target)
    fsync_path(target.parent)


def write_durably(target: Path, content: bytes) -> None:
    """Replace a small file of the node. After a crash it has the old content or the new, complete."""
    with io_errors(f"writing {target}"):
        replace_durably(target, content)


def replace_durably(target: Path, content: bytes) -> None:
    """Replace a small file, like write_durably(). Raises OSError."""
    temporary = target.with_name(target.name + ".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    rename_durably(temporary, target)
