"""`parleyd admin`: makes an administrator with the rights of whoever owns a node's data directory."""

from __future__ import annotations

import os
import time
from pathlib import Path
from time import sleep
from typing import Annotated, NoReturn

import typer

from parleyd.exits import ExitCode
from parleyd.security.codes import digest_of_code, new_code
from parleyd.settings.load import CONFIG_VARIABLE, SettingsError, load_settings
from parleyd.standard_streams import write_what_has_to_be_seen
from parleyd.storage.administrator_claim import AdministratorClaim, was_refused, write_claim

VALID_S = 24 * 3600
WAIT_S = 15.0
POLL_S = 0.1

admin_app = typer.Typer(
    help="Make an administrator of the cluster, on a machine of one of its nodes.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@admin_app.callback()
def _group() -> None:
    """Keep `create` a command of its own."""


@admin_app.command()
def create(
    data_dir: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER", help="Data directory of the node. Default: that of the settings.", show_default=False
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help=f"Settings file (TOML); also {CONFIG_VARIABLE}.", show_default=False),
    ] = None,
) -> None:
    """Print a code that makes one account an administrator, once, within a day.

    The node that runs on the data directory gives the digest of the code to the cluster. A node that does not run does
    so after its start. The code goes to stdout, everything else to stderr.
    """
    folder = data_dir or _data_dir_of(config)
    if not (folder / "identity.json").is_file():
        _fail(
            ExitCode.USAGE, f"{folder} is no data directory of a node. Nothing was changed. Start the node there first."
        )
    code = new_code()
    # Nobody else has the code: it has to be out before the cluster takes it.
    write_what_has_to_be_seen(code)
    try:
        claim = leave_claim(folder, code)
    except OSError as error:
        _fail(ExitCode.STORAGE, f"the code could not be stored ({error}). It is worth nothing. Nothing was changed.")
    if not _was_taken(claim):
        typer.echo(
            "The cluster does not have the code yet. It takes it as soon as this node runs and a majority of the nodes "
            "is up.",
            err=True,
        )
    elif was_refused(claim):
        _fail(ExitCode.FAILED, "the cluster refused the code. It is worth nothing. The node's log has the reason.")
    typer.echo(
        "The code is valid once and for 24 hours. Use it with a new account: parley register NAME --code CODE\n"
        "Or with yours, signed in: parley cluster claim CODE",
        err=True,
    )


def leave_claim(folder: Path, code: str) -> Path:
    """Leave the digest of a new code in a data directory. Return the file, which the node removes. Raises OSError."""
    return write_claim(folder, AdministratorClaim(digest_of_code(code), (int(time.time()) + VALID_S) * 1000))


def _was_taken(claim: Path) -> bool:
    ends_at = time.monotonic() + WAIT_S
    while claim.exists():
        if time.monotonic() > ends_at:
            return False
        sleep(POLL_S)
    return True


def _data_dir_of(config: Path | None) -> Path:
    try:
        return load_settings({}, os.environ, config).settings.data_dir
    except SettingsError as error:
        _fail(ExitCode.USAGE, f"{error}\n\nNothing was changed. Name the data directory: parleyd admin create FOLDER")


def _fail(code: ExitCode, text: str) -> NoReturn:
    typer.echo(f"parleyd: {text}", err=True)
    raise typer.Exit(code)
