"""`parleyd doctor`: looks at a node, offline or beside it, and says what is wrong and how it is mended."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Annotated

import typer

from parleyd.doctor import findings as reports
from parleyd.doctor.rules import judge
from parleyd.settings.load import CONFIG_VARIABLE


def doctor(
    data_dir: Annotated[
        Path | None,
        typer.Argument(
            metavar="FOLDER",
            help="Data directory of the node. Default: that of the settings. Without settings, only this is looked at.",
            show_default=False,
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", help=f"Settings file (TOML); also {CONFIG_VARIABLE}.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: findings, worst first.")] = False,
) -> None:
    """Look at a node's settings, files, machine and network, and print what is wrong and the command that mends it.

    The node may run or not. Nothing is changed: a file without a name, in the data directory, measures the disk.
    """
    # gRPC's C++ core writes its own lines to stderr. It reads this variable once, when it is first imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from parleyd.doctor.examine import examine, examine_directory

    only_folder = data_dir is not None and config is None and not os.environ.get(CONFIG_VARIABLE)
    facts = (
        examine_directory(data_dir) if only_folder and data_dir is not None else examine(os.environ, config, data_dir)
    )
    found = judge(facts)
    if as_json:
        directory = facts.directory
        document = reports.report(
            found,
            node=facts.name or (directory.identity_name if directory is not None else ""),
            data_dir=directory.path if directory is not None else "",
            is_running=directory is not None and directory.is_running,
            now_ms=time.time_ns() // 1_000_000,
        )
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        for line in reports.lines(found):
            typer.echo(line)
    raise typer.Exit(reports.EXITS[reports.worst(found)])
