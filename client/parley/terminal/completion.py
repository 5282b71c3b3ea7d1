"""What a shell completes: names that this machine has met. It asks no node, because each press of a key would wait.

What was typed before the word counts: the cluster of --context, the account of --account, and so on.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import typer

from parley import ParleyError, StateDirectory, parse_endpoints
from parley.terminal.options import ConnectionOptions, Flags, contexts_of, resolve_options


def complete_target(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the accounts and channels that begin with what was typed, for the account in use."""

    def names(options: ConnectionOptions, directory: StateDirectory) -> Iterable[str]:
        hosts = parse_endpoints(options.hosts)
        if not options.account:
            return ()
        accounts = directory.known_names(options.account, hosts)
        return (*accounts, *(f"#{title}" for title in directory.known_channels(options.account, hosts)), "everyone")

    return _complete(ctx, incomplete, names)


def complete_channel(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the channels that begin with what was typed, for the account in use."""
    return [name for name in complete_target(ctx, incomplete) if name.startswith("#")]


def complete_name(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the accounts that begin with what was typed."""
    return [name for name in complete_target(ctx, incomplete) if not name.startswith("#") and name != "everyone"]


def complete_account(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the accounts of this machine that begin with what was typed."""
    return _complete(ctx, incomplete, lambda _, directory: directory.accounts())


def complete_context(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the contexts that begin with what was typed."""
    try:
        return _that_begin(sorted(contexts_of(_flags_before(ctx)).by_name), incomplete)
    except ParleyError:
        return []


def _complete(
    ctx: typer.Context, incomplete: str, names: Callable[[ConnectionOptions, StateDirectory], Iterable[str]]
) -> list[str]:
    try:
        options = resolve_options(_flags_before(ctx))
        return _that_begin(names(options, StateDirectory(options.state_dir)), incomplete)
    except ParleyError:
        return []


def _that_begin(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.casefold().startswith(incomplete.casefold())]


def _path(typed: object) -> Path | None:
    return Path(str(typed)) if typed else None  # it is not converted while a word is completed


def _flags_before(ctx: typer.Context) -> Flags:
    """Return the flags that were typed by now, after the command's name and before it."""
    flags = Flags()
    place: Any = ctx
    while place is not None:
        given = place.params
        flags = flags.over(
            Flags(
                hosts=tuple(given.get("host") or ()),
                account=given.get("account"),
                state_dir=_path(given.get("state_dir")),
                config=_path(given.get("config")),
                context=given.get("context"),
            )
        )
        place = place.parent
    return flags
