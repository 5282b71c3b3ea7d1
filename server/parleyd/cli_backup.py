"""`parleyd backup`, `parleyd restore`, `parleyd recover`: the ways back of a cluster. No node may run meanwhile.

What they need is imported when they run: the command `parleyd` starts without it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from parleyd.cli_common import EXIT_CODES, ConfigFile, foreseen, load
from parleyd.exits import ExitCode
from parleyd.observability.logs import close_logging, configure_logging

if TYPE_CHECKING:
    from parley_proto.v1.admin_pb2 import BackupHeader
    from parleyd.backup.recover import Survey
    from parleyd.settings.table import Settings

backup_app = typer.Typer(
    help="Check backups. They are made by: parley cluster backup, or the setting backup_folder.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
CHECKED = (
    "header, size, SHA-256 of the file and of its content",
    "every page of the state with its checksum",
    "SQLite's integrity check",
    "schema and level of the state",
)

_File = Annotated[Path, typer.Argument(metavar="FILE", help="Name the backup.", show_default=False)]
_PROGRESS_EVERY_S = 0.5


@backup_app.callback()
def _group() -> None:
    """Keep `verify` a command of its own."""


@backup_app.command(epilog=EXIT_CODES)
def verify(
    file: _File,
    scratch: Annotated[
        Path | None,
        typer.Option(
            "--scratch",
            metavar="FOLDER",
            help="Write the state here while it is checked. Default: the folder of FILE.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: what the backup is.")] = False,
) -> None:
    """Read all of a backup, check it, and print what it is. Needs no node and no settings."""
    from parleyd.backup.verify import verify as check

    with _ending():
        header = check(file, scratch or file.absolute().parent, _Progress("Checking").show)
    if as_json:
        typer.echo(json.dumps({**_as_record(header), "checked": list(CHECKED)}, indent=2))
        return
    for line in _lines(header):
        typer.echo(line)
    typer.echo(f"The backup is sound. Checked: {'; '.join(CHECKED)}.")


def restore(flags: dict[str, object], file: _File, config: ConfigFile = None) -> None:
    """Make a new cluster of this node alone from a backup. The data directory must be empty or missing.

    Destroy the nodes of the old cluster first: if a majority of them runs, devices find two clusters. Afterwards start
    this node, and let others join it.
    """
    from parleyd.backup.restore import restore as carry_out
    from parleyd.own_record import own_record
    from parleyd.security.node_certificates import NodeCertificates
    from parleyd.storage.identity import new_identity

    settings = _settings(flags, config)
    with _ending():
        own = own_record(settings, new_identity(settings.name).node_id, NodeCertificates.of(settings))
        done = carry_out(file, settings.data_dir, own, _now_ms, _Progress("Restoring").show)
    for line in _lines(done.backup):
        typer.echo(line)
    typer.echo(
        f"Restored into {settings.data_dir} as cluster {done.identity.cluster_id}, generation {done.begun.generation}, "
        f"with {settings.name} as its only node. What was sent after the backup is not in it.\n"
        "Start this node: parleyd start. Start others with empty data directories and --join, and admit them: "
        "parley cluster add NAME HOST:PORT. Never start a node of the old cluster again."
    )


def recover(
    flags: dict[str, object],
    force_new_cluster: Annotated[
        bool,
        typer.Option("--force-new-cluster", help="Make this node the only member. Default: show what it has, no more."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    accept_untrusted_state: Annotated[
        bool, typer.Option("--accept-untrusted-state", help="Recover also from a node that is fenced.")
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Go on with this node alone after a majority of the nodes was lost for good. The node must be stopped.

    All entries of its log count, also those that no majority confirmed. What only the lost nodes had is lost. Destroy
    their data first.
    """
    from parleyd.backup.recover import Recovery
    from parleyd.storage import identity as identities
    from parleyd.storage.data_directory import DataDirectory

    settings = _settings(flags, config)
    if not (settings.data_dir / "identity.json").is_file():
        _fail(ExitCode.USAGE, f"{settings.data_dir} is no data directory of a node. Nothing was changed.")
    configure_logging("warning", settings.log_format, node=settings.name)
    try:
        with _ending(), DataDirectory.open(settings.data_dir, settings.disk_reserve_bytes) as data:
            identity = identities.load(data.identity)
            if identity is None or identity.name != settings.name:
                _fail(
                    ExitCode.USAGE,
                    f"{settings.data_dir} is not the data directory of {settings.name}. Nothing was changed.",
                )
            with Recovery.open(data, identity) as recovery:
                for line in recovery.survey.lines():
                    typer.echo(line)
                _confirm(recovery.survey, is_forced=force_new_cluster, yes=yes, accepts=accept_untrusted_state)
                begun = recovery.carry_out(_now_ms)
    finally:
        close_logging()
    typer.echo(
        f"Recovered: {settings.name} is the only member, generation {begun.generation}, from entry {begun.index} on. "
        "Start it: parleyd start. Start others with empty data directories and --join, and admit them: parley cluster "
        "add NAME HOST:PORT."
    )


def _confirm(survey: Survey, *, is_forced: bool, yes: bool, accepts: bool) -> None:
    if not is_forced:
        _fail(ExitCode.USAGE, "nothing was changed. To make this node the only member, give --force-new-cluster.")
    if survey.fence and not accepts:
        _fail(
            ExitCode.USAGE,
            "nothing was changed: this node's state is not trusted, so other nodes have another one. Recover from one "
            "of them, or restore a backup. If there is neither, give --accept-untrusted-state.",
        )
    if yes:
        return
    if not _is_terminal():
        _fail(ExitCode.USAGE, "nothing was changed: there is no terminal to ask on. Give --yes.")
    if not typer.confirm("Are the other nodes lost for good, and is their data destroyed?", default=False, err=True):
        _fail(ExitCode.USAGE, "nothing was changed.")


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _settings(flags: dict[str, object], config: Path | None) -> Settings:
    os.umask(0o077)
    settings = load(flags, config).settings
    _check_user(settings.data_dir)
    return settings


def _check_user(folder: Path) -> None:
    """End the command if root runs it on the directory of a node's user, who could not read what root writes."""
    if os.name != "posix" or os.geteuid() != 0 or not folder.exists() or folder.stat().st_uid == 0:
        return
    import pwd

    try:
        user = pwd.getpwuid(folder.stat().st_uid).pw_name
    except KeyError:
        user = f"'#{folder.stat().st_uid}'"  # as sudo takes a number
    _fail(
        ExitCode.USAGE,
        f"{folder} belongs to {user}, who could not read what root writes. Nothing was changed. Run the command as "
        f"that user: sudo -u {user} parleyd ...",
    )


class _Progress:
    """Shows on stderr how far a command is, at most twice a second, if a person looks."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._shown_at = time.monotonic()

    def show(self, done: int, of_all: int) -> None:
        now = time.monotonic()
        if not sys.stderr.isatty() or now - self._shown_at < _PROGRESS_EVERY_S:
            return
        self._shown_at = now
        typer.echo(f"\r{self._what}: {done * 100 // max(1, of_all)}% of {of_all} bytes", err=True, nl=done >= of_all)


@contextmanager
def _ending() -> Iterator[None]:
    """End the command with a text and a code for what can go wrong."""
    try:
        yield
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(ExitCode.USAGE, f"{where}{error.strerror or error}. Nothing was changed.")
    except Exception as error:
        found = foreseen(error)
        if found is None:
            raise
        _fail(found[0], f"{found[1].rstrip('.')}.")


def _fail(code: ExitCode, text: str) -> NoReturn:
    typer.echo(f"parleyd: {text}", err=True)
    raise typer.Exit(code)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _as_record(header: BackupHeader) -> dict[str, object]:
    return {
        "cluster_id": header.cluster_id,
        "node": header.node_name,
        "release": header.release,
        "generation": header.generation,
        "level": header.level,
        "index": header.index,
        "term": header.term,
        "state_hash": header.state_hash.hex(),
        "made_at_ms": header.made_at_ms,
        "messages_total": header.messages_total,
        "content_bytes": header.content_bytes,
        "content_sha256": header.content_sha256.hex(),
        "is_current": header.is_current,
    }


def _lines(header: BackupHeader) -> Iterator[str]:
    """Describe a backup for people."""
    made = datetime.fromtimestamp(header.made_at_ms / 1000, UTC)
    yield (
        f"Backup of cluster {header.cluster_id}, generation {header.generation}, made by {header.node_name} on "
        f"{made:%Y-%m-%d %H:%M:%S} UTC with Parley {header.release}."
    )
    yield (
        f"It has entries up to {header.index} of term {header.term}, level {header.level}, and "
        f"{header.messages_total} messages were stored until then: {header.content_bytes} bytes."
    )
    if not header.is_current:
        yield "The node had no majority, or lagged: newer entries may have existed on other nodes."
