"""The mark of a node whose log lacks entries that it had confirmed. It stays for ever: no start uses this log again.

Without it, a node that is started again could vote before it hears from a leader, and elect one without the entries.
If the mark cannot be written, the node stops, and its next start is such a start.
"""

from __future__ import annotations

from pathlib import Path

from parleyd.storage.errors import damaged
from parleyd.storage.files import io_errors, write_durably


def save(path: Path, detail: str) -> None:
    """Write the mark durably; `detail` says which entries are lost."""
    write_durably(path, detail.encode())


def refuse(path: Path) -> None:
    """Raise StorageDamagedError if the mark is there, whatever it has."""
    with io_errors(f"reading {path}"):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return
    found = content.decode(errors="replace")
    raise damaged(path, f"an earlier run found that the disk lost entries of the log ({found})")
