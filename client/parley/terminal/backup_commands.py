"""`parley cluster backup` and `parley backup verify`. Remarks and the progress go to stderr."""

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from parley import BackupInfo, check_backup
from parley.terminal import text
from parley.terminal.command_line import AsJson, run_to_end
from parley.terminal.commands import note, say
from parley.terminal.exits import EPILOG
from parley.terminal.options import ConnectionOptions
from parley.terminal.signals import prompting

PROGRESS_EVERY_S = 0.5
CHECKED = "Checked: header, size, and SHA-256 of the file and of the state in it."

backup_app = typer.Typer(
    help="Check a backup that `parley cluster backup` or a node has written.", epilog=EPILOG, no_args_is_help=True
)


@backup_app.callback()
def _group() -> None:
    """Keep `verify` a command of its own."""


@backup_app.command(epilog=EPILOG)
def verify(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Read this backup.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Read all of a backup and check its digests. Needs no cluster. `parleyd backup verify` checks the state, too."""

    async def check() -> None:
        with prompting():  # the loop stands still while the file is read
            info = check_backup(file)
        _show(info, as_json=as_json)
        note(f"{CHECKED} The pages of the state are checked by: parleyd backup verify {file}")

    run_to_end(check)


async def back_up(options: ConnectionOptions, file: Path, *, node: str, force: bool, as_json: bool) -> None:
    """Write a backup to a file."""
    options.must_name_account()
    progress = _Progress()
    async with options.client() as client:
        administration = await client.administration()
        try:
            info = await administration.back_up(file, node=node, force=force, progress=progress.show)
        finally:
            progress.end()
        _show(info, as_json=as_json)
        note(f"Written: {file}. {CHECKED} It has the messages of all accounts: keep it in a safe place.")


def _show(info: BackupInfo, *, as_json: bool) -> None:
    if as_json:
        say(text.as_json({**asdict(info), "state_hash": info.state_hash.hex()}))
        return
    for line in text.safe_lines(backup_lines(info)):
        say(line)


def backup_lines(info: BackupInfo) -> Iterator[str]:
    """Describe a backup for people."""
    made = text.time_text(info.made_at_ms)
    yield (
        f"Backup of cluster {info.cluster_id}, generation {info.generation}, made by {info.node} at {made} with Parley "
        f"{info.release}."
    )
    yield (
        f"It has entries up to {info.index} of term {info.term}, level {info.level}, and {info.messages_total} "
        f"messages were stored until then: {info.content_bytes} bytes, in the file {info.file_bytes}."
    )
    if not info.is_current:
        yield "The node had no majority, or lagged: newer entries may have existed on other nodes."


class _Progress:
    """Shows how far a backup is, at most twice a second, if a person looks."""

    def __init__(self) -> None:
        self._shown_at = time.monotonic()
        self._is_shown = False

    def show(self, done: int, of_all: int) -> None:
        """Show it, if it is time."""
        now = time.monotonic()
        if not sys.stderr.isatty() or now - self._shown_at < PROGRESS_EVERY_S:
            return
        self._shown_at, self._is_shown = now, True
        part = f"{done * 100 // of_all}% of {of_all} bytes" if of_all else "the node copies its state"
        sys.stderr.write(f"\rBackup: {part}   ")
        sys.stderr.flush()

    def end(self) -> None:
        """End the line, if one was begun."""
        if self._is_shown:
            sys.stderr.write("\n")
