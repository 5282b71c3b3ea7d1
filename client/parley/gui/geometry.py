"""Where the window stood. Hosts, account and session are the SDK's to remember; this only saves dragging."""

from pathlib import Path

FILE_NAME = "window"
MAX_BYTES = 4096


def load(root: Path) -> bytes:
    """What was kept, or nothing."""
    try:
        kept = (root / FILE_NAME).read_bytes()
    except OSError:
        return b""
    return kept if len(kept) <= MAX_BYTES else b""


def save(root: Path, geometry: bytes) -> None:
    """Keeps it; a disk that is full must not stop anybody."""
    part = root / f"{FILE_NAME}.part"
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        part.write_bytes(geometry)
        part.replace(root / FILE_NAME)
    except OSError:
        part.unlink(missing_ok=True)
