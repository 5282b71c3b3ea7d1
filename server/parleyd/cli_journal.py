"""`parleyd journal`: prints the Raft history of a node from its own file, with the node stopped or running."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from parleyd.cli_common import ConfigFile, load
from parleyd.events.journal import (
    FILE_NAME,
    ForeignFileError,
    Journal,
    NoRegularFileError,
    Record,
    read_journal,
)
from parleyd.events.since import ALLOWED, parse_since
from parleyd.exits import ExitCode
from parleyd.formats import FormatRefusedError


def journal(
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="FOLDER",
            help="Data directory of the node. Default: that of the settings.",
            show_default=False,
        ),
    ] = None,
    config: ConfigFile = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="MOMENT", help=f"Begin there: {ALLOWED}.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one document with all records.")] = False,
) -> None:
    """Print this node's Raft history: starts and stops, elections, votes, roles, members, snapshots, stalls.

    It is read from the node's own file, with the node stopped or running, and also after a crash. Nothing is changed.
    """
    folder = load({}, config).settings.data_dir if data_dir is None else data_dir
    path = folder / FILE_NAME
    found = _read(path)
    records = found.records if since is None else since_moment(found.records, _moment(since))
    if as_json:
        typer.echo(json.dumps(_document(path, found, records), indent=2))
    else:
        for record in records:
            typer.echo(line(record))
    if not found.records:
        _remark(f"{path} has no records: {_why_empty(found)}")
    elif not records:
        _remark(f"there is no record since {since}. The last one is from {_time(found.records[-1].event.at_ms)}.")
    if found.torn:
        what = "1 record could not be read and is"
        what = what if found.torn == 1 else f"{found.torn} records could not be read and are"
        reason = "the node or the machine was stopped during a write, or the file is damaged"
        _remark(f"{what} left out: {reason}.")


def since_moment(records: Sequence[Record], moment_ms: int) -> Sequence[Record]:
    """Return the first record at or after the moment, and all that follow it, also if the clock jumped back then."""
    first = next((place for place, record in enumerate(records) if record.event.at_ms >= moment_ms), len(records))
    return records[first:]


def line(record: Record) -> str:
    """Return a record as text."""
    event = record.event
    fields = "".join(f"  {name}={_shown(value)}" for name, value in event.fields.items())
    return f"{_time(event.at_ms)}  {event.kind}{fields}"


def _why_empty(found: Journal) -> str:
    if found.torn:
        return "none of them could be read."
    if found.slots:
        return "the node has written none yet."
    return "the file is empty, or holds zeros only. The node makes it anew at its next start."


def _shown(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and " " not in text and text else json.dumps(text)


def _time(at_ms: int) -> str:
    try:
        return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(" ", "milliseconds").removesuffix("+00:00")
    except (ValueError, OverflowError, OSError):  # a clock may show anything
        return f"{at_ms} ms"


def _read(path: Path) -> Journal:
    try:
        return read_journal(path)
    except FileNotFoundError:
        _fail(ExitCode.USAGE, f"{path} does not exist: no node has run there with this release.")
    except NoRegularFileError as error:
        _fail(ExitCode.USAGE, f"{error} A node keeps its history in a file there. Nothing was read.")
    except OSError as error:
        _fail(ExitCode.USAGE, f"{path} cannot be read: {error.strerror or error}.")
    except ForeignFileError as error:
        _fail(ExitCode.STORAGE, f"{error} The node moves it aside at its next start and begins a new one.")
    except FormatRefusedError as error:
        _fail(ExitCode.RELEASE, str(error))


def _moment(since: str) -> int:
    try:
        return parse_since(since, datetime.now(UTC))
    except ValueError as error:
        _fail(ExitCode.USAGE, f"--since: {error}")


def _document(path: Path, found: Journal, records: Sequence[Record]) -> dict[str, object]:
    return {"file": str(path), "unreadable_records": found.torn, "records": [_as_record(record) for record in records]}


def _as_record(record: Record) -> dict[str, object]:
    event = record.event
    return {
        "sequence": record.sequence,
        "start": event.start,
        "number": event.number,
        "at_ms": event.at_ms,
        "event": event.kind,
        "fields": dict(event.fields),
    }


def _remark(text: str) -> None:
    typer.echo(f"parleyd: {text}", err=True)


def _fail(code: ExitCode, text: str) -> NoReturn:
    _remark(text)
    raise typer.Exit(code)
