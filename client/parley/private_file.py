"""Small files of the person that programs read at their start and replace whole, such as settings.

A crash or a full disk leaves the old file or the new one. What else may be under such a name holds up no start: a pipe
is not waited for, and a large file is not read.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from parley.device.profile import FileLock

TURN_WITHIN_S = 2.0


def read_private(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file. Raises OSError, and ValueError if it is larger."""
    try:  # opening a pipe would wait for its other end
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except ValueError:  # a null byte
        raise OSError(errno.EINVAL, "its name cannot be used", str(path)) from None
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is no file", str(path))
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"it is larger than {max_bytes} bytes")
    return content


def replace_private(path: Path, content: str | bytes) -> None:
    """Write a file that only its owner can read. Raises OSError, and leaves what was there as it was."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(temporary, "wb", opener=_open_private) as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextmanager
def turn_to_change(path: Path) -> Iterator[None]:
    """Let one process at a time read a file and replace it, so that none overwrites what another has just stored.

    After TURN_WITHIN_S the change is made without a turn: a process that was stopped there holds nobody up for good.
    Raises OSError if nothing can be written beside the file.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")) as lock:
        lock.acquire_within(TURN_WITHIN_S)
        yield


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
