"""The command `parley`: its subcommands and flags.

terminal/commands.py implements the commands. An error is one block of text on stderr and one of the exit codes of
terminal/exits.py, never a traceback.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from parley import HistoryStart, ParleyError, StateDirectory
from parley.terminal import (
    channel_commands,
    commands,
    fetch_command,
    invite_command,
    join_command,
    lost_commands,
    outbox_command,
    ping_command,
    presence_commands,
    receipt_commands,
    session_commands,
    view_commands,
)
from parley.terminal.account_commands import devices_app
from parley.terminal.audit_commands import audit_app
from parley.terminal.backup_commands import backup_app
from parley.terminal.channel_commands import channel_app
from parley.terminal.cluster_commands import cluster_app
from parley.terminal.command_line import (
    AsJson,
    AsJsonLines,
    BodyArgument,
    InLines,
    MajorityTimeout,
    TargetArgument,
    TextCommand,
    Urgent,
    WithOwn,
    flags_of,
    root_signature,
    version_text,
    with_connection_options,
)
from parley.terminal.completion import complete_target
from parley.terminal.context_commands import context_app
from parley.terminal.desktop_command import desktop_app
from parley.terminal.exits import EPILOG
from parley.terminal.filter_command import filter_app
from parley.terminal.json_result import FORMAT
from parley.terminal.lazy_commands import lazy_command
from parley.terminal.options import ConnectionOptions
from parley.terminal.standard_streams import run_with_standard_streams

app = typer.Typer(
    name="parley",
    help="Use a Parley cluster: chat, send and receive messages, and manage your account.",
    epilog=EPILOG,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cluster_app, name="cluster")
app.add_typer(audit_app, name="audit")
app.add_typer(backup_app, name="backup")
app.add_typer(channel_app, name="channel")
app.add_typer(context_app, name="context")
app.add_typer(desktop_app, name="desktop")
app.add_typer(devices_app, name="devices")
app.add_typer(filter_app, name="filter")
for _name, _command in (
    ("register", session_commands.register),
    ("login", session_commands.login),
    ("password", session_commands.password),
    ("logout", session_commands.logout),
    ("unregister", session_commands.unregister),
    ("channels", channel_commands.list_channels),
    ("invite", invite_command.invite),
    ("join", join_command.join),
    ("leave", channel_commands.leave),
    ("ping", ping_command.ping),
    ("who", presence_commands.who),
    ("presence", presence_commands.presence),
    ("outbox", outbox_command.outbox),
    ("receipts", receipt_commands.receipts),
    ("mute", view_commands.mute),
    ("unmute", view_commands.unmute),
    ("put-away", view_commands.put_away),
    ("bring-back", view_commands.bring_back),
    ("remove-conversation", view_commands.remove_conversation),
    ("lost", lost_commands.lost),
):
    app.command(name=_name, epilog=EPILOG)(_command)


def _root(ctx: typer.Context, *, show_version: bool, **given: Any) -> None:
    ctx.obj = flags_of(given)


_root.__signature__ = root_signature()  # type: ignore[attr-defined]
app.callback()(_root)


@app.command(epilog=EPILOG)
@with_connection_options
async def accounts(
    options: ConnectionOptions,
    pattern: Annotated[
        str, typer.Argument(help="List only matching names: '*' is any text, '?' one character. Default: all.")
    ] = "",
    as_json: AsJson = False,
) -> int:
    """List accounts. The exit code is 1 if no name matches."""
    return await commands.accounts(options, pattern, as_json=as_json)


@app.command(epilog=EPILOG, cls=TextCommand)
@with_connection_options
async def send(
    options: ConnectionOptions,
    to: TargetArgument,
    body: BodyArgument = None,
    timeout: MajorityTimeout = 10.0,
    urgent: Urgent = False,
    as_json: AsJson = False,
) -> None:
    """Send a message and wait until it is on a majority's disks.

    If that takes too long, the message stays in the outbox on this machine (exit code 75). It goes out, once, with the
    next parley send, listen, fetch or chat. That is also so if the command is interrupted once the message is stored.
    parley outbox lists, sends and withdraws what waits.
    """
    await commands.send(options, to, body, timeout=timeout, as_json=as_json, urgent=urgent)


app.command(name="dm", epilog=EPILOG, help="The same as `parley send`.", cls=TextCommand)(send)


@app.command(name="all", epilog=EPILOG, cls=TextCommand)
@with_connection_options
async def to_all(
    options: ConnectionOptions,
    body: BodyArgument = None,
    timeout: MajorityTimeout = 10.0,
    urgent: Urgent = False,
    as_json: AsJson = False,
) -> None:
    """Send a message to every account of the cluster. The same as `parley send everyone`.

    Administrators decide who may do that: the setting `everyone_writers` of the cluster.
    """
    await commands.send(options, "everyone", body, timeout=timeout, as_json=as_json, urgent=urgent)


@app.command(epilog=EPILOG)
@with_connection_options
async def listen(
    options: ConnectionOptions,
    count: Annotated[int, typer.Option("--count", min=0, help="End after this many messages. 0: do not end.")] = 0,
    timeout: Annotated[
        float | None, typer.Option("--timeout", min=0.0, help="End after this many seconds. Default: do not end.")
    ] = None,
    own: WithOwn = False,
    as_json: AsJsonLines = False,
) -> int:
    """Print messages as they come, each once. Includes messages that came while nobody listened."""
    return await commands.listen(options, count=count, timeout=timeout, as_json=as_json, own=own)


@app.command(epilog=EPILOG)
@with_connection_options
async def fetch(
    options: ConnectionOptions,
    wait: Annotated[
        float, typer.Option("--wait", min=0.0, help="Wait at most this many seconds for the first message.")
    ] = 0.0,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Print at most this many messages.")] = 1000,
    own: WithOwn = False,
    as_json: AsJsonLines = False,
) -> None:
    """Print new messages, each once, and end. For scripts and cron: the exit code is 0 also if there was nothing.

    Messages that wait in the outbox are sent, too.
    """
    await fetch_command.fetch(options, wait=wait, limit=limit, as_json=as_json, own=own)


@app.command(epilog=EPILOG)
@with_connection_options
async def conversations(
    options: ConnectionOptions,
    unread: Annotated[bool, typer.Option("--unread", help="List only conversations with unread messages.")] = False,
    as_json: AsJson = False,
) -> None:
    """List your conversations, the latest first, with their unread messages."""
    await commands.conversations(options, unread_only=unread, as_json=as_json)


@app.command(name="display-name", epilog=EPILOG)
@with_connection_options
async def display_name(
    options: ConnectionOptions,
    name: Annotated[str, typer.Argument(help="The name to show; '' takes it away.", show_default=False)],
) -> None:
    """Set the name that others see beside your account name."""
    await commands.set_display_name(options, name)


@app.command(epilog=EPILOG)
@with_connection_options
async def history(
    options: ConnectionOptions,
    where: TargetArgument,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, max=1000, help="Print at most this many messages.")
    ] = 50,
    before: Annotated[int, typer.Option("--before", min=0, help="Print only messages older than this id.")] = 0,
    after: Annotated[
        int | None, typer.Option("--after", min=0, help="Print the first messages newer than this id.")
    ] = None,
    around: Annotated[
        int | None, typer.Option("--around", min=0, help="Print the messages before and after this id.")
    ] = None,
    unread: Annotated[
        bool, typer.Option("--unread", help="Print the messages before and after the first unread one.")
    ] = False,
    read: Annotated[
        bool | None,
        typer.Option("--read/--peek", help="Mark the messages as read, or do not. Default: mark on a terminal."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Print messages of a conversation, oldest first: the last ones, or those at the place that is named."""
    start = HistoryStart(before, after, around, unread)
    mark = read if read is not None else sys.stdout.isatty() and not as_json
    await commands.history(options, where, start, limit=limit, read=mark, as_json=as_json)


@app.command(epilog=EPILOG)
@with_connection_options
async def chat(
    options: ConnectionOptions,
    where: Annotated[
        str | None,
        typer.Argument(
            metavar="TARGET",
            help="Open this conversation: an account name, #ID or #TITLE. Default: none.",
            autocompletion=complete_target,
        ),
    ] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="TARGET", help="The same as TARGET.")] = None,
    create: Annotated[
        bool, typer.Option("--register", help="Create the account if it does not exist. Default: ask.")
    ] = False,
    in_lines: InLines = False,
) -> int:
    """Chat: send what you type and show what comes. The command /help lists more.

    From a pipe, each line is a message or a command, and the exit code is that of the first line that failed.
    """
    from parley.terminal.chat import chat as run_chat  # its libraries take long to load

    return await run_chat(options, to or where or "", create=create, in_lines=in_lines)


@app.command(epilog=EPILOG)
@with_connection_options
async def gui(
    options: ConnectionOptions,
    invitation: Annotated[
        str,
        typer.Argument(
            metavar="[INVITATION]",
            help="Begin with this invitation: a link parley://..., a file, or - for a line of standard input.",
            show_default=False,
        ),
    ] = "",
) -> int:
    """Open the window. The command ends when the window is closed.

    With an invitation, cluster and name are filled in, and the CA is shown so that it can be compared.
    """
    from parley.gui.app import run  # the window's libraries are an extra
    from parley.gui.commands import Invited

    invited, problem = None, ""
    if invitation:
        try:
            joining = join_command.prepare(options, invitation)
            options, offer = joining.options, joining.offered
            if offer is not None:
                invited = Invited(offer.account, offer.code, joining.about, offer.fingerprints, joining.keep)
        except ParleyError as error:  # who opened it with the mouse sees no terminal
            problem = error.text
    # Qt's loop blocks asyncio's loop, which has nothing else to do here. The SDK runs on a loop in another thread.
    return run(
        ", ".join(options.hosts),
        options.ca,
        options.account,
        insecure=options.insecure,
        insecure_network=options.insecure_given,
        state_dir=options.state_dir,
        text_filter=options.text_filter,
        invited=invited,
        problem=problem,
    )


@app.command(epilog=EPILOG)
@with_connection_options
async def gateway(
    options: ConnectionOptions,
    listen: Annotated[
        str, typer.Option("--listen", metavar="ADDRESS:PORT", help="Take connections here.")
    ] = "127.0.0.1:7070",
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            metavar="FOLDER",
            help="Keep the files of the accounts here. Only you may read it. Default: `gateway` in the state folder.",
            show_default=False,
        ),
    ] = None,
    cert: Annotated[
        Path | None, typer.Option("--cert", metavar="FILE", help="Use TLS with this certificate. Default: no TLS.")
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", metavar="FILE", help="The key of the certificate.")] = None,
    allow_plain: Annotated[
        bool, typer.Option("--allow-plain", help="Take connections without TLS from other machines, too.")
    ] = False,
    allow_secrets: Annotated[
        bool,
        typer.Option("--allow-secrets", help="Take names without a password. Each gets a secret, which is shown once."),
    ] = False,
    compact: Annotated[
        bool, typer.Option("--compact", help="Begin in the style for programs. Default: the style for people.")
    ] = False,
    max_connections: Annotated[
        int, typer.Option("--max-connections", min=1, max=100_000, help="Take at most this many connections.")
    ] = 1000,
    max_per_address: Annotated[
        int, typer.Option("--max-per-address", min=1, max=100_000, help="Take at most this many from one address.")
    ] = 100,
    max_line: Annotated[
        int, typer.Option("--max-line", min=64, max=1_048_576, help="Refuse lines of more bytes than this.")
    ] = 65_536,
    rate: Annotated[
        float, typer.Option("--rate", min=0.1, help="Read at most this many lines a second of one connection.")
    ] = 20.0,
) -> None:
    """Serve telnet, nc and old clients: a text protocol on TCP, docs/GATEWAY.md. It runs until a signal ends it.

    One process serves many connections, each with an account of the cluster. It logs connections and commands, never
    a text. --state-dir and --account are not used, except for the default of --data.
    """
    from parley.gateway.app import private_folder, serve
    from parley.gateway.settings import CALM, GatewaySettings

    settings = GatewaySettings(
        listen=listen,
        cert=cert,
        key=key,
        allow_plain=allow_plain,
        allow_secrets=allow_secrets,
        style="compact" if compact else "plain",
        max_connections=max_connections,
        max_per_address=max_per_address,
        max_line_bytes=max_line,
        lines_per_s=rate,
        lines_burst=5 * rate,
    )
    folder = private_folder(data or StateDirectory(options.state_dir).root / "gateway")
    await serve(options.group(folder, CALM), settings)


@app.command()
def version(as_json: AsJson = False) -> None:
    """Print the version."""
    name, number = version_text().split()
    typer.echo(json.dumps({"format": FORMAT, "name": name, "version": number}) if as_json else version_text())


def main() -> None:
    """Run the command line."""
    run_with_standard_streams(lazy_command(app))


if __name__ == "__main__":
    main()
