"""Replaces a file of the person whole, so that a crash or a full disk leaves the old one or the new one."""

import os
from contextlib import suppress
from pathlib import Path


def replace_private(path: Path, content: str) -> None:
    """Write a file that only its owner can read. Raises OSError, and leaves what was there as it was."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8", opener=_open_private) as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
