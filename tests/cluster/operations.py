"""Writes what the procedures of docs/OPERATIONS.md cost into build/operations.json, one entry for each."""

from __future__ import annotations

import json
from contextlib import suppress

from scripts.cluster_layout import write_atomically
from scripts.cluster_process import ROOT

FILE = ROOT / "build" / "operations.json"


def record(procedure: str, **figures: float | str | list[str]) -> None:
    """Replace the entry of a procedure, and keep the others."""
    entries: dict[str, object] = {}
    with suppress(FileNotFoundError, ValueError):
        entries = json.loads(FILE.read_text())
    entries[procedure] = {
        name: round(figure, 1) if isinstance(figure, float) else figure for name, figure in figures.items()
    }
    FILE.parent.mkdir(exist_ok=True)
    write_atomically(FILE, json.dumps(entries, indent=2, ensure_ascii=False) + "\n")
