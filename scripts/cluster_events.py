"""The joined stream of events of all nodes: clients that connect and go, and commands. It is read from their logs.

A node writes a command into its log only with `log_commands`, and never a body.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from scripts.cluster_layout import Layout

MAX_READ_BYTES = 256 * 1024
"""What is read of one log in one round. If a node writes more, the older part is skipped, and a line says so."""


class EventStream:
    """Reads what the nodes have logged since the last time."""

    def __init__(self, layout: Layout) -> None:
        """Begin at the present end of each log."""
        self._files = {name: layout.log_file(name) for name in layout.names}
        self._offsets = {name: _size(file) for name, file in self._files.items()}

    def read(self) -> list[str]:
        """Return a line for each new event, in the order of the nodes' clocks."""
        found: list[tuple[str, str]] = []
        for name, file in self._files.items():
            for record in self._new_records(name, file):
                if text := describe(record):
                    at = str(record.get("timestamp", ""))
                    found.append((at, f"{_clock(at)}  {name}  {text}"))
        return [line for _, line in sorted(found, key=lambda one: one[0])]

    def _new_records(self, name: str, file: Path) -> Sequence[Mapping[str, object]]:
        size, start = _size(file), self._offsets[name]
        skipped = size - start > MAX_READ_BYTES
        if skipped:
            start = size - MAX_READ_BYTES
        if size <= start:
            self._offsets[name] = size
            return ()
        with file.open("rb") as log:
            log.seek(start)
            whole = log.read(size - start)
        end = whole.rfind(b"\n") + 1  # a line that is half written is read next time
        self._offsets[name] = start + end
        records = [record for line in whole[:end].splitlines() if (record := _parse(line)) is not None]
        return [{"event": "events_skipped"}, *records] if skipped else records


def describe(record: Mapping[str, object]) -> str:
    """Return an event of a log as text, or an empty string if it does not belong to the stream."""
    match record.get("event"):
        case "client_connected":
            return f"client connected: account {record.get('account_id')}, {_clients(record)}"
        case "client_gone":
            return f"client gone: account {record.get('account_id')}, {_clients(record)}"
        case "command_submitted":
            many = f", {record['messages']} messages" if record.get("messages") else ""
            return f"command {record.get('kind')}: {record.get('bytes')} bytes{many}"
        case "commands_left_out":
            return f"{record.get('commands')} more commands"
        case "events_skipped":
            return "(older events are left out: there are too many)"
        case _:
            return ""


def _clients(record: Mapping[str, object]) -> str:
    count = record.get("clients")
    return f"now {count} client{'' if count == 1 else 's'} here"


def _parse(line: bytes) -> Mapping[str, object] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None


def _clock(timestamp: str) -> str:
    """Return the local time of day of a UTC timestamp."""
    try:
        at = datetime.fromisoformat(timestamp)
    except ValueError:
        return " " * 12
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone().strftime("%H:%M:%S.%f")[:12]


def _size(file: Path) -> int:
    try:
        return os.stat(file).st_size
    except FileNotFoundError:
        return 0
