"""`parleyd moved`: a copy of a data directory takes the place of its original."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from parleyd.cli_common import ConfigFile, foreseen, load


def moved(
    flags: dict[str, object],
    original_is_gone: Annotated[
        bool,
        typer.Option(
            "--original-is-gone", help="Accept the copy though its original is not on this machine. Default: refuse."
        ),
    ] = False,
    config: ConfigFile = None,
) -> None:
    """Let a copy of the data directory take the place of its original, which no node starts with after that.

    Stop the node, copy its whole data directory, name the copy in data_dir, run this command, and start the node.
    Without it a copy is refused, because two nodes from one directory can lose accepted messages. It can be repeated.
    """
    from parleyd.storage.place import settle

    folder = load(flags, config).settings.data_dir
    os.umask(0o077)
    try:
        if not (folder / "identity.json").is_file():
            raise FileNotFoundError(2, "no data directory of a node", str(folder))
        original = settle(folder, original_is_gone=original_is_gone)
    except Exception as error:
        found = foreseen(error)
        if found is None:
            raise
        typer.echo(f"parleyd: {found[1].rstrip('.')}.", err=True)
        raise typer.Exit(found[0]) from None
    if original:
        typer.echo(f"{folder} has taken the place of {original}, which no node starts with any more.")
    typer.echo(f"Start the node. Its data directory is {folder}.")
