"""Stores the position of the window. The SDK stores hosts, account and session."""

from pathlib import Path

FILE_NAME = "window"
MAX_BYTES = 4096


def load(root: Path) -> bytes:
    """Return the stored geometry, or empty bytes."""
    try:
        kept = (root / FILE_NAME).read_bytes()
    except OSError:
        return b""
    return kept if len(kept) <= MAX_BYTES else b""


def save(root: Path, geometry: bytes) -> None:
    """Store the geometry. Errors are ignored, because a full disk must not stop the window."""
    part = root / f"{FILE_NAME}.part"
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.write_bytes(geometry)
        part.replace(root / FILE_NAME)
    except OSError:
        part.unlink(missing_ok=True)
