"""The commands `parley context`: names for clusters. contexts.py keeps the file."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from parley import BadInputError, parse_endpoints
from parley.chat import safe_name
from parley.terminal import text
from parley.terminal.command_line import AsJson, with_flags
from parley.terminal.commands import note, say
from parley.terminal.completion import complete_context
from parley.terminal.contexts import Context, Contexts
from parley.terminal.exits import EPILOG
from parley.terminal.json_result import record
from parley.terminal.options import Flags, contexts_of, with_port

context_app = typer.Typer(
    help="Give names to clusters, and choose one. A command uses the one in use, or that of --context.",
    no_args_is_help=True,
)
_Name = Annotated[
    str, typer.Argument(metavar="NAME", help="Name the context.", show_default=False, autocompletion=complete_context)
]


@context_app.command(name="add", epilog=EPILOG)
@with_flags
async def add(
    flags: Flags,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Choose a name.", show_default=False)],
    use: Annotated[bool, typer.Option("--use", help="Use it from now on.")] = False,
    replace_it: Annotated[bool, typer.Option("--replace", help="Replace the context of this name.")] = False,
) -> None:
    """Add a context: --host or --hosts, --ca or --insecure, and perhaps --account. It asks no node.

    Example: parley context add ward --hosts alpha,beta,gamma --ca ca.pem. The port is 7600 if none is named.
    """
    if flags.host_names and not (flags.ports or flags.num_ports):
        flags = replace(flags, hosts=(*flags.hosts, *flags.host_names), host_names=())
    hosts = tuple(host for spec in flags.all_hosts for host in with_port(spec).split(",") if host)
    if not hosts:
        raise BadInputError("A context needs a host. Nothing was changed. Name one: --host HOST:PORT.")
    parse_endpoints(hosts)  # raises BadInputError for a wrong address
    if bool(flags.ca) == bool(flags.insecure):
        raise BadInputError("A context needs --ca FILE or --insecure, and not both. Nothing was changed.")
    contexts = contexts_of(flags)
    if name in contexts.by_name and not replace_it:
        raise BadInputError(f"There is a context {name} already. Nothing was changed. To replace it: --replace.")
    context = Context(hosts, _absolute(flags.ca), bool(flags.insecure), flags.account or "")
    changed = contexts.with_context(name, context)
    (replace(changed, current=name) if use else changed).save()
    record(name=name, in_use=use)
    note(f"Added {name}. It is in use now." if use else f"Added {name}. To use it: parley context use {name}.")


@context_app.command(name="list", epilog=EPILOG)
@with_flags
async def list_contexts(flags: Flags, as_json: AsJson = False) -> None:
    """List the contexts. The one in use has a *."""
    contexts = contexts_of(flags)
    if as_json:
        say(text.as_json([_record(contexts, name) for name in sorted(contexts.by_name)]))
        return
    for name, one in sorted(contexts.by_name.items()):
        say(f"{'*' if name == contexts.current else ' '} {name}  {_line(one)}")
    if not contexts.by_name:
        note("There is no context. To add one: parley context add NAME --host HOST:PORT --ca FILE.")


@context_app.command(name="use", epilog=EPILOG)
@with_flags
async def use(
    flags: Flags,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Name the context.", show_default=False, autocompletion=complete_context),
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Use no context, but the last log-in.")] = False,
) -> None:
    """Use a context in all commands that name no other cluster, until another one is chosen."""
    contexts = contexts_of(flags)
    if bool(name) == none:
        raise BadInputError("Name one context, or --none. Nothing was changed.")
    if name:
        contexts.named(name, "of this command")
    replace(contexts, current=name or "").save()
    record(name=name or "")
    note(f"{name} is in use." if name else "No context is in use. Commands use the last log-in.")


@context_app.command(name="show", epilog=EPILOG)
@with_flags
async def show(
    flags: Flags,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Name it. Default: the one in use.", autocompletion=complete_context),
    ] = None,
    as_json: AsJson = False,
) -> int:
    """Show one context. The exit code is 1 if none is named and none is in use."""
    contexts = contexts_of(flags)
    wanted = name or contexts.current
    if not wanted:
        note("No context is in use.")
        return 1
    one = contexts.named(wanted, "of this command")
    say(text.as_json(_record(contexts, wanted)) if as_json else f"{wanted}  {_line(one)}")
    return 0


@context_app.command(name="remove", epilog=EPILOG)
@with_flags
async def remove(flags: Flags, name: _Name) -> None:
    """Remove a context. Sessions and messages on this machine stay."""
    contexts = contexts_of(flags)
    contexts.named(name, "of this command")
    changed = contexts.without(name)
    changed.save()
    record(name=name)
    note(f"Removed {name}." + (" No context is in use." if changed.current != contexts.current else ""))


def _absolute(ca: Path | None) -> str:
    if ca is None:
        return ""
    if not ca.is_file():
        raise BadInputError(f"There is no file {ca} with a CA. Nothing was changed.")
    return str(ca.absolute())


def _record(contexts: Contexts, name: str) -> dict[str, object]:
    return {"name": name, **contexts.by_name[name].to_json(), "current": name == contexts.current}


def _line(one: Context) -> str:
    """Return a context as one line. Somebody may have edited the file, so its texts may hold control characters."""
    trust = "not encrypted" if one.insecure else f"CA {one.ca}"
    parts = (",".join(one.hosts), trust, *([f"account {one.account}"] if one.account else []))
    return "  ".join(map(safe_name, parts))
