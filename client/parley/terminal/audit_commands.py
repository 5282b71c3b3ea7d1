"""`parley cluster audit` and `parley audit verify`. Rows go to stdout, remarks to stderr."""

import asyncio
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from parley import (
    Administration,
    AuditChain,
    AuditFile,
    AuditRow,
    BadInputError,
    audit_row_json,
    check_audit_file,
)
from parley.chat import safe_name
from parley.terminal import text
from parley.terminal.command_line import AsJson, run_to_end
from parley.terminal.commands import note, say
from parley.terminal.exits import EPILOG
from parley.terminal.options import ConnectionOptions

FOLLOW_EVERY_S = 2.0

Expect = Annotated[
    str,
    typer.Option("--expect", metavar="HASH", help="Fail unless a row has this hash, which was the head once."),
]

audit_app = typer.Typer(
    help="Check an audit log that `parley cluster audit --export` has written.", epilog=EPILOG, no_args_is_help=True
)


@audit_app.callback()
def _group() -> None:
    """Keep `verify` a command of its own."""


@audit_app.command(epilog=EPILOG)
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Read this export.", show_default=False)],
    expect: Expect = "",
    as_json: AsJson = False,
) -> None:
    """Read an exported audit log and check its chain. Needs no cluster.

    The exit code is 0 if every row follows the one before, 1 if rows were changed, removed or moved, or none has the
    hash of --expect, and 2 if the file is no export.
    """

    async def check() -> None:
        found = check_audit_file(file, expect=expect)
        if as_json:
            say(text.as_json(asdict(found)))
        else:
            say(f"{found.rows} rows, from {found.first} to {found.last}. Head: {found.head}")
        note("Checked: each row follows the one before." + _EXPECTED[bool(expect)])

    run_to_end(check)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is read, and where it goes."""

    since: int
    export: Path | None
    force: bool
    expect: str
    follow: bool
    as_json: bool


async def audit(options: ConnectionOptions, wanted: Wanted) -> None:
    """Print or export the audit log, and check it."""
    if wanted.follow and (wanted.export or wanted.expect):
        raise BadInputError("--follow goes with neither --export nor --expect. Nothing was read. Give one of them.")
    options.must_name_account()
    AuditChain("0" * 64, 0, expect=wanted.expect)  # a hash that is none is refused before anything is asked
    file = AuditFile(wanted.export, force=wanted.force) if wanted.export is not None else None
    try:
        async with options.client() as client:
            await _read(await client.administration(), wanted, file)
    finally:
        if file is not None:
            file.discard()


async def _read(administration: Administration, wanted: Wanted, file: AuditFile | None) -> None:
    chain: AuditChain | None = None
    removed = 0
    async for page in administration.audit(since=wanted.since):
        if chain is None:
            removed = page.removed_up_to
            after = page.rows[0].number - 1 if page.rows else max(removed, wanted.since - 1)
            chain = AuditChain(page.previous_hash, after, expect=wanted.expect)
            if file is not None:
                file.begin(page.previous_hash, after)
        for row in page.rows:
            chain.add(row)
        if file is not None:
            file.add(page.rows)
        else:
            _show(page.rows, as_json=wanted.as_json)
    assert chain is not None  # there is one page at least
    chain.check_expected()
    if wanted.follow:
        await _follow(administration, chain, as_json=wanted.as_json)
    if file is not None:
        file.finish(chain)
        note(f"Written: {wanted.export}. Check it at any time with: parley audit verify {wanted.export}")
    if removed:
        note(f"Rows up to {removed} are not kept any more (settings max_audit_rows and max_audit_bytes).")
    note(
        f"Checked: {chain.rows} rows up to {chain.last}, each follows the one before.{_EXPECTED[bool(wanted.expect)]} "
        f"Head: {chain.head}. Keep the head elsewhere. Later, --expect finds out whether a row up to it was changed."
    )


_EXPECTED = {True: " The expected hash is among them.", False: ""}


async def _follow(administration: Administration, chain: AuditChain, *, as_json: bool) -> None:
    while True:
        await asyncio.sleep(FOLLOW_EVERY_S)
        async for page in administration.audit(since=chain.last + 1):
            for row in page.rows:
                chain.add(row)
            _show(page.rows, as_json=as_json)


def _show(rows: tuple[AuditRow, ...], *, as_json: bool) -> None:
    for row in rows:
        if as_json:
            say(json.dumps(audit_row_json(row), ensure_ascii=False))
        else:
            say(row_line(row))


def row_line(row: AuditRow) -> str:
    """Return a row as one line for people."""
    rest = "  ".join(safe_name(part) for part in (row.object, row.detail) if part)
    return f"{row.number:>6}  {text.time_text(row.time_ms)}  {safe_name(row.actor)}  {row.action}  {rest}".rstrip()
