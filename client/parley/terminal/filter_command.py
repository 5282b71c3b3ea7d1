"""`parley filter serve`: the text filter that is included. It squeezes blank space."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from parley import TextFilterServer, squeeze_blanks
from parley.terminal.command_line import run_to_end
from parley.terminal.commands import note
from parley.terminal.exits import EPILOG

filter_app = typer.Typer(
    help="Serve a text filter, which clients with --filter ask about each outgoing text.",
    epilog=EPILOG,
    no_args_is_help=True,
)


@filter_app.callback()
def _filter() -> None:
    """Keep `serve` a command of its own."""


@filter_app.command(epilog=EPILOG)
def serve(
    listen: Annotated[
        str, typer.Option("--listen", metavar="HOST:PORT", help="Listen on this address. Port 0 is any free port.")
    ] = "127.0.0.1:7650",
    cert: Annotated[
        Path | None,
        typer.Option(
            "--cert", metavar="FILE", help="Use TLS with this certificate. Other machines need it.", show_default=False
        ),
    ] = None,
    key: Annotated[
        Path | None, typer.Option("--key", metavar="FILE", help="Give the key of --cert.", show_default=False)
    ] = None,
) -> None:
    """Serve a filter that squeezes blank space: one blank for several, none at the ends of lines. Ctrl-C ends it.

    It stores and logs nothing.
    """

    async def run() -> int:
        async with TextFilterServer(squeeze_blanks, listen, cert=cert, key=key) as server:
            note(f"Filters texts on {server.address}. Clients: PARLEY_FILTER={server.address}")
            await asyncio.Event().wait()
        return 0

    run_to_end(run)
