"""The rules for a file that a person names and a command writes, such as a backup or an export.

The command writes a temporary file beside it, and gives it the name only once it is complete and durable. Only a
regular file is ever replaced: a device, a pipe, a folder or a link under the name stays, also with --force.
"""

import os
import stat
from pathlib import Path

from parley.errors import ParleyError

_KINDS = {
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def refuse_existing(path: Path, *, force: bool, error: type[ParleyError]) -> None:
    """Raise `error` if the file must not be written under this name. Raises OSError if that cannot be found out."""
    if (kind := other_kind(path)) is not None:
        raise error(
            f"{path} is {kind} and no regular file. It stays as it is, also with --force. Nothing was written. Name "
            "another file."
        )
    if path.exists() and not force:
        raise error(f"{path} exists already and stays as it is. Give another name, or --force.")


def other_kind(path: Path) -> str | None:
    """Return what is under this name in words, or None for a regular file or nothing. A link is not followed."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    return None if stat.S_ISREG(mode) else _KINDS.get(stat.S_IFMT(mode), "something else")


def create_private(temporary: Path) -> int:
    """Make a file that only its owner can read. Return its descriptor. Raises FileExistsError if there is one."""
    return os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)


def put_in_place(temporary: Path, path: Path, *, force: bool, error: type[ParleyError]) -> None:
    """Give a complete and durable file its name, durably. What came under the name meanwhile counts, too."""
    refuse_existing(path, force=force, error=error)
    os.replace(temporary, path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
