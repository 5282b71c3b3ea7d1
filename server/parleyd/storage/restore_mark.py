"""The mark of a directory into which a restore is not finished. No node starts with it.

A node without an identity would begin an empty cluster in place of the one that was to be restored.

The mark is written before anything of the backup and removed after the identity, which is written last. A repeated
restore begins again.
"""

from __future__ import annotations

from pathlib import Path

from parleyd.storage.errors import IdentityError
from parleyd.storage.files import fsync_path, io_errors, write_durably


def save(path: Path, source: Path) -> None:
    """Write the mark durably."""
    write_durably(path, str(source).encode(errors="replace"))


def clear(path: Path) -> None:
    """Remove the mark durably."""
    with io_errors(f"removing {path}"):
        path.unlink(missing_ok=True)
        fsync_path(path.parent)


def refuse_unfinished(path: Path, identity: Path) -> None:
    """Raise IdentityError if a restore was not finished. If it was, and only its mark is left, remove the mark."""
    if not path.exists():
        return
    if identity.exists():
        clear(path)
        return
    raise IdentityError(
        f"a restore into {path.parent} was not finished. Nothing was started, because this node would begin an empty "
        "cluster. The backup is unchanged. Repeat the restore with it: parleyd restore FILE"
    )
