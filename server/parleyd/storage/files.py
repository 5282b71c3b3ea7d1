"""Durable file operations: what is renamed or removed here is on disk when the call returns.

A rename without an fsync of the file before and of the folder after may survive a power loss as an empty file, or not
at all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from parleyd.storage.errors import StorageError


@contextmanager
def io_errors(what: str) -> Iterator[None]:
    """Turn an operating-system error into the StorageError that stops the node."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{what} failed: {error}. The node stops, since a failed write must not be tried again; "
            "what was acknowledged before is safe. Mend the disk (space, permissions, health) and start the node."
        ) from error


def fsync_path(path: Path) -> None:
    """Make a file's content or a folder's entries durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder_durably(path: Path, mode: int) -> None:
    """Make a folder and those missing above it, each named durably in the one above before anything is put into it.

    Where the folder is there already, a process may have been killed between making and syncing it: it is synced again.
    """
    existing = path
    while not existing.exists():
        existing = existing.parent
    if not existing.is_mount():
        with suppress(PermissionError):  # a folder above that is not ours to read is not one that we made
            fsync_path(existing.parent)
    for name in path.relative_to(existing).parts:
        existing /= name
        existing.mkdir(mode, exist_ok=True)
        fsync_path(existing.parent)


def rename_durably(source: Path, target: Path) -> None:
    """Replace `target` by `source`, whose content is already durable; both must be in one folder."""
    os.replace(source, target)
    fsync_path(target.parent)


def write_durably(target: Path, content: bytes) -> None:
    """Replace a small file so that a crash leaves the old content or the new, whole."""
    temporary = target.with_name(target.name + ".tmp")
    with io_errors(f"writing {target}"):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        rename_durably(temporary, target)
