"""The command `parley`: its subcommands and flags.

terminal/commands.py implements the commands. An error is one block of text on stderr and one of the exit codes of
terminal/exits.py, never a traceback.
"""

import asyncio
import inspect
import os
import sys
from collections.abc import Callable, Coroutine
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer

os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # before grpc is imported: its remarks are not for people

from parley import ParleyError
from parley.terminal import cluster_admin, commands
from parley.terminal.chat import chat as run_chat
from parley.terminal.exits import EPILOG, ExitCode, code_of
from parley.terminal.options import ConnectionOptions, Flags, resolve_options

app = typer.Typer(
    name="parley",
    help="Talk over a Parley cluster: chat, send, listen, look after your account.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
cluster_app = typer.Typer(help="See the state of the cluster, and look after it.", epilog=EPILOG, no_args_is_help=True)
app.add_typer(cluster_app, name="cluster")
channel_app = typer.Typer(help="Create channels.", epilog=EPILOG, no_args_is_help=True)
app.add_typer(channel_app, name="channel")

_CONNECTION = "Connection"
_CONNECTION_OPTIONS: dict[str, tuple[Any, Any]] = {
    "host": (
        list[str] | None,
        typer.Option(
            "--host",
            metavar="HOST:PORT",
            help="A node: host:port, or host:first-last for a range of ports. May be repeated. Also PARLEY_HOSTS "
            "(with commas) or the settings file.",
            rich_help_panel=_CONNECTION,
            show_default=False,
        ),
    ),
    "ca": (
        Path | None,
        typer.Option(
            "--ca",
            metavar="FILE",
            help="The cluster's CA. Also PARLEY_CA.",
            rich_help_panel=_CONNECTION,
            show_default=False,
        ),
    ),
    "insecure": (
        bool | None,
        typer.Option(
            "--insecure/--no-insecure",
            help="Without TLS, for test clusters: everybody on the way can read along. Also PARLEY_INSECURE.",
            rich_help_panel=_CONNECTION,
            show_default=False,
        ),
    ),
    "account": (
        str | None,
        typer.Option(
            "--account",
            "-a",
            metavar="NAME",
            help="As whom. Also PARLEY_ACCOUNT; otherwise who signed in last.",
            rich_help_panel=_CONNECTION,
            show_default=False,
        ),
    ),
    "state_dir": (
        Path | None,
        typer.Option(
            "--state-dir",
            metavar="FOLDER",
            help="Where sessions and outboxes are kept. Also PARLEY_STATE_DIR.",
            rich_help_panel=_CONNECTION,
            show_default=False,
        ),
    ),
    "config": (
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Settings file (TOML: hosts, ca, insecure, account, state_dir). Also PARLEY_CONFIG.",
            rich_help_panel=_CONNECTION,
            show_default=False,
        ),
    ),
}
_PasswordStdin = Annotated[
    bool, typer.Option("--password-stdin", help="Read the password from standard input. Also PARLEY_PASSWORD.")
]
_Target = Annotated[
    str, typer.Argument(metavar="TARGET", help="An account name, or a channel: #ID or #TITLE.", show_default=False)
]
_Json = Annotated[bool, typer.Option("--json", help="For programs.")]

Work = Coroutine[Any, Any, int | None]


def _with_connection_options(command: Callable[..., Work]) -> Callable[..., None]:
    """Add the connection flags to a command. The command receives them as ConnectionOptions and is run to its end."""

    def run(ctx: typer.Context, **given: Any) -> None:
        flags = _flags({name: given.pop(name) for name in _CONNECTION_OPTIONS})
        _finish(lambda: command(resolve_options(flags.over(ctx.obj or Flags())), **given))

    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "options"]
    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    run.__signature__ = inspect.Signature([context, *own, *_connection_parameters()])  # type: ignore[attr-defined]
    run.__name__ = command.__name__
    run.__doc__ = command.__doc__
    return run


def _connection_parameters() -> list[inspect.Parameter]:
    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])
        for name, (kind, option) in _CONNECTION_OPTIONS.items()
    ]


def _flags(given: dict[str, Any]) -> Flags:
    return Flags(tuple(given.pop("host") or ()), **given)


def _finish(work: Callable[[], Work]) -> None:
    """Run a command and end the process with an exit code of exits.py."""
    try:
        code = asyncio.run(_run(work))
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing more to flush to
        code = ExitCode.OK
    except BaseExceptionGroup as group:
        error = _first_parley_error(group)
        if error is None:
            raise
        code = _tell(error)
    except ParleyError as error:
        code = _tell(error)
    raise typer.Exit(code)


async def _run(work: Callable[[], Work]) -> int:
    return await work() or ExitCode.OK


def _tell(error: ParleyError) -> int:
    typer.echo(f"parley: {error.text}", err=True)
    return code_of(error)


def _first_parley_error(group: BaseExceptionGroup[BaseException]) -> ParleyError | None:
    for error in group.exceptions:
        found = _first_parley_error(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(found, ParleyError):
            return found
    return None


def _root(ctx: typer.Context, **given: Any) -> None:
    ctx.obj = _flags(given)


_root.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
    [inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context), *_connection_parameters()]
)
app.callback()(_root)


@app.command(epilog=EPILOG)
@_with_connection_options
async def register(
    options: ConnectionOptions,
    name: Annotated[str, typer.Argument(help="The new account's name.")],
    password_stdin: _PasswordStdin = False,
) -> None:
    """Create an account."""
    await commands.register(options, name, password_stdin=password_stdin)


@app.command(epilog=EPILOG)
@_with_connection_options
async def login(
    options: ConnectionOptions,
    name: Annotated[str, typer.Argument(help="The account.")],
    password_stdin: _PasswordStdin = False,
) -> None:
    """Sign in; later commands use this session, hosts and CA."""
    await commands.login(options, name, password_stdin=password_stdin)


@app.command(epilog=EPILOG)
@_with_connection_options
async def logout(options: ConnectionOptions) -> None:
    """End the session. Messages that wait here are kept until the next login."""
    await commands.logout(options)


@app.command(epilog=EPILOG)
@_with_connection_options
async def unregister(
    options: ConnectionOptions,
    password_stdin: _PasswordStdin = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete your account and everything queued for it."""
    await commands.unregister(options, password_stdin=password_stdin, yes=yes)


@app.command(epilog=EPILOG)
@_with_connection_options
async def accounts(
    options: ConnectionOptions,
    pattern: Annotated[str, typer.Argument(help="'*' is any run, '?' one character; nothing lists all.")] = "",
    as_json: _Json = False,
) -> None:
    """List accounts."""
    await commands.accounts(options, pattern, as_json=as_json)


@app.command(epilog=EPILOG)
@_with_connection_options
async def send(
    options: ConnectionOptions,
    to: _Target,
    body: Annotated[str | None, typer.Argument(help="The text; '-' or nothing reads it from standard input.")] = None,
    timeout: Annotated[
        float, typer.Option("--timeout", min=0.0, help="How many seconds to wait for a majority.")
    ] = 10.0,
    as_json: _Json = False,
) -> None:
    """Send a message and wait until it is on a majority's disks.

    If that takes too long, the message stays in the outbox on this machine (exit code 75). The next command that
    connects sends it, once.
    """
    await commands.send(options, to, body, timeout=timeout, as_json=as_json)


@app.command(epilog=EPILOG)
@_with_connection_options
async def listen(
    options: ConnectionOptions,
    count: Annotated[int, typer.Option("--count", min=0, help="End after so many messages; 0: go on.")] = 0,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0.0, help="End after so many seconds.")] = None,
    own: Annotated[bool, typer.Option("--own", help="Also what you send from other devices.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per line.")] = False,
) -> int:
    """Print messages as they come, each once. Includes messages that came while nobody listened."""
    return await commands.listen(options, count=count, timeout=timeout, as_json=as_json, own=own)


@app.command(epilog=EPILOG)
@_with_connection_options
async def conversations(
    options: ConnectionOptions,
    unread: Annotated[bool, typer.Option("--unread", help="Only conversations with something new.")] = False,
    as_json: _Json = False,
) -> None:
    """List your conversations, the latest first, with their unread messages."""
    await commands.conversations(options, unread_only=unread, as_json=as_json)


@channel_app.command(epilog=EPILOG)
@_with_connection_options
async def create(
    options: ConnectionOptions,
    title: Annotated[str, typer.Argument(metavar="TITLE", help="What it is called.", show_default=False)],
    members: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="Accounts to add besides you.", show_default=False)
    ] = None,
) -> None:
    """Create a channel with you as its owner, and print its number."""
    await commands.create_channel(options, title, members or [])


@app.command(epilog=EPILOG)
@_with_connection_options
async def history(
    options: ConnectionOptions,
    where: _Target,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=1000, help="How many messages.")] = 50,
    before: Annotated[int, typer.Option("--before", min=0, help="Only messages older than this id.")] = 0,
    read: Annotated[
        bool | None,
        typer.Option("--read/--peek", help="Mark it as read, or not. Without either: as read on a terminal."),
    ] = None,
    as_json: _Json = False,
) -> None:
    """Print the last messages of a conversation, oldest first."""
    mark = read if read is not None else sys.stdout.isatty() and not as_json
    await commands.history(options, where, before_id=before, limit=limit, read=mark, as_json=as_json)


@app.command(epilog=EPILOG)
@_with_connection_options
async def chat(
    options: ConnectionOptions,
    where: Annotated[
        str | None, typer.Argument(metavar="TARGET", help="Where to begin: an account name, #ID or #TITLE.")
    ] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="TARGET", help="The same.")] = None,
    create: Annotated[
        bool, typer.Option("--register", help="Create the account if there is none of this name.")
    ] = False,
) -> int:
    """Chat: send what you type and show what comes. The command /help lists more."""
    return await run_chat(options, to or where or "", create=create)


@app.command(epilog=EPILOG)
@_with_connection_options
async def gui(options: ConnectionOptions) -> int:
    """Open the window. The command ends when the window is closed."""
    from parley.gui.app import run  # the window's libraries are an extra

    # Qt's loop takes the place of asyncio's, which has nothing else to do here; the SDK gets a loop in a thread.
    return run(
        ", ".join(options.hosts), options.ca, options.account, insecure=options.insecure, state_dir=options.state_dir
    )


@cluster_app.command(epilog=EPILOG)
@_with_connection_options
async def status(options: ConnectionOptions, as_json: _Json = False) -> int:
    """Ask every known node for its status. Needs no account."""
    return await commands.cluster_status(options, as_json=as_json)


_MemberName = Annotated[str, typer.Argument(metavar="NAME", help="The node's name.", show_default=False)]
_AccountName = Annotated[str, typer.Argument(metavar="ACCOUNT", help="The account's name.", show_default=False)]


@cluster_app.command(epilog=EPILOG)
@_with_connection_options
async def add(
    options: ConnectionOptions,
    name: _MemberName,
    peer_address: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Its peer address.", show_default=False)],
) -> None:
    """Add a node that was started with --join and waits. Nodes that reach the cluster ask for it by themselves."""
    await cluster_admin.add(options, name, peer_address)


@cluster_app.command(epilog=EPILOG)
@_with_connection_options
async def promote(options: ConnectionOptions, name: _MemberName) -> None:
    """Make a learner that has caught up a voter. Nodes started with --join ask for it by themselves."""
    await cluster_admin.promote(options, name)


@cluster_app.command(epilog=EPILOG)
@_with_connection_options
async def remove(
    options: ConnectionOptions,
    name: _MemberName,
    force: Annotated[
        bool, typer.Option("--force", help="Even where the voters left that answer are no majority.")
    ] = False,
) -> None:
    """Remove a node for good, dead or alive. To bring the machine back, start it with --join and an empty directory."""
    await cluster_admin.remove(options, name, force=force)


@cluster_app.command(epilog=EPILOG)
@_with_connection_options
async def transfer(
    options: ConnectionOptions,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Who is to lead; any if left out.", show_default=False)
    ] = "",
) -> None:
    """Transfer leadership to another node."""
    await cluster_admin.transfer(options, name)


@cluster_app.command(epilog=EPILOG)
@_with_connection_options
async def rebuild(options: ConnectionOptions, name: _MemberName) -> None:
    """Replace the state of a node that is not trusted by the leader's, and wait until that is done."""
    await cluster_admin.rebuild(options, name)


@cluster_app.command(epilog=EPILOG)
@_with_connection_options
async def grant(options: ConnectionOptions, who: _AccountName) -> None:
    """Make an account an administrator. The first account of a cluster is one."""
    await cluster_admin.set_administrator(options, who, administrator=True)


@cluster_app.command(epilog=EPILOG)
@_with_connection_options
async def revoke(options: ConnectionOptions, who: _AccountName) -> None:
    """Revoke the rights of an administrator from an account."""
    await cluster_admin.set_administrator(options, who, administrator=False)


@cluster_app.command(epilog=EPILOG)
@_with_connection_options
async def settings(
    options: ConnectionOptions,
    change: Annotated[str, typer.Argument(metavar="NAME=VALUE", help="A setting to change.", show_default=False)] = "",
    as_json: _Json = False,
) -> None:
    """List the settings that are equal on all nodes, or change one. Only an administrator can change one."""
    await cluster_admin.settings(options, change, as_json=as_json)


@app.command()
def version() -> None:
    """Print the version."""
    typer.echo(f"parley {metadata.version('parley')}")


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
