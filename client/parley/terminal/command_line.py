"""What all commands of `parley` share: the connection flags, common arguments, and how a command is run.

An error ends a command with one block of text on stderr and one of the exit codes of exits.py.
"""

import copy
import inspect
from collections.abc import Callable, Coroutine
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from parley import NotSignedInError, ParleyError
from parley.chat import safe_body
from parley.terminal.completion import complete_account, complete_context, complete_target
from parley.terminal.exits import ExitCode, code_of, first_of
from parley.terminal.filter_options import FilterFlags
from parley.terminal.json_result import Result, collected, present
from parley.terminal.options import DEFAULT_PORT, Flags, resolve_options
from parley.terminal.signals import run_until_signal
from parley.terminal.standard_streams import StandardStreamError

_CONNECTION = "Connection"
_FILTER = "Text filter"
_FILTER_NAMES = ("filter_address", "filter_fails", "filter_ms", "filter_ca")
_CONNECTION_OPTIONS: dict[str, tuple[Any, Any]] = {
    "host": (
        list[str] | None,
        typer.Option(
            "--host",
            metavar="HOST:PORT",
            help="Connect to this node: host, host:port, or host:first-last for a range of ports. Can be repeated. "
            f"The port is {DEFAULT_PORT} if none is named. "
            "Default: PARLEY_HOSTS (separated by commas), the settings file, or the last log-in.",
            rich_help_panel=_CONNECTION,
            show_default=False,
        ),
    ),
    "host_names": (
        list[str] | None,
        typer.Option(
            "--hosts",
            metavar="HOST,HOST",
            help="Connect to these hosts, too, with --ports and --num_ports: the flags of other clients.",
            rich_help_panel=_CONNECTION,
            show_default=False,
        ),
    ),
    "ports": (
        list[str] | None,
        typer.Option(
            "--ports",
            metavar="PORT,PORT",
            help="Give the first port of each of --hosts.",
            rich_help_panel=_CONNECTION,
            show_default=False,
        ),
    ),
    "num_ports": (
        list[str] | None,
        typer.Option(
            "--num_ports",
            "--num-ports",
            metavar="N,N",
            help="Give the number of ports of each of --hosts. Default: 1 each.",
            rich_help_panel=_CONNECTION,
            show_default=False,
        ),
    ),
    "ca": (
        Path | None,
        typer.Option(
            "--ca",
            metavar="FILE",
            help="Check the nodes against this CA. Default: PARLEY_CA, the settings file, or the last log-in.",
            rich_help_panel=_CONNECTION,
            show_default=False,
        ),
    ),
    "insecure": (
        bool | None,
        typer.Option(
            "--insecure/--no-insecure",
            help="Connect without TLS, for test clusters only. Others on the network can read everything. "
            "Default: PARLEY_INSECURE, the settings file, or the last log-in if it was to this machine.",
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
            help="Use this account. Default: PARLEY_ACCOUNT, the settings file, or the last log-in.",
            rich_help_panel=_CONNECTION,
            show_default=False,
            autocompletion=complete_account,
        ),
    ),
    "context": (
        str | None,
        typer.Option(
            "--context",
            metavar="NAME",
            help="Use hosts, CA and account of this context: parley context list. Default: PARLEY_CONTEXT, or the one "
            "in use.",
            rich_help_panel=_CONNECTION,
            show_default=False,
            autocompletion=complete_context,
        ),
    ),
    "state_dir": (
        Path | None,
        typer.Option(
            "--state-dir",
            metavar="FOLDER",
            help="Store sessions and outboxes in this folder. Default: PARLEY_STATE_DIR, the settings file, or the "
            "state folder of the user.",
            rich_help_panel=_CONNECTION,
            show_default=False,
        ),
    ),
    "config": (
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Read this settings file (TOML: hosts, ca, insecure, account, state_dir, filter and so on). Default: "
            "PARLEY_CONFIG.",
            rich_help_panel=_CONNECTION,
            show_default=False,
        ),
    ),
    "filter_address": (
        str | None,
        typer.Option(
            "--filter",
            metavar="HOST:PORT",
            help="Ask this text filter about each text before it is stored and sent; 'none' asks nobody. Default: "
            "PARLEY_FILTER, or the settings file (filter).",
            rich_help_panel=_FILTER,
            show_default=False,
        ),
    ),
    "filter_fails": (
        str | None,
        typer.Option(
            "--filter-fails",
            metavar="send|refuse",
            help="If the filter is down or slow: send the text as it is, or refuse it. Default: PARLEY_FILTER_FAILS, "
            "the settings file (filter_fails), or refuse.",
            rich_help_panel=_FILTER,
            show_default=False,
        ),
    ),
    "filter_ms": (
        int | None,
        typer.Option(
            "--filter-ms",
            metavar="MS",
            help="Wait at most this many milliseconds for the filter. Default: PARLEY_FILTER_MS, the settings file "
            "(filter_ms), or 300.",
            rich_help_panel=_FILTER,
            show_default=False,
        ),
    ),
    "filter_ca": (
        Path | None,
        typer.Option(
            "--filter-ca",
            metavar="FILE",
            help="Check the filter against this CA. Default: PARLEY_FILTER_CA, the settings file (filter_ca), no TLS "
            "on this machine, or the authorities of the system.",
            rich_help_panel=_FILTER,
            show_default=False,
        ),
    ),
}
PasswordStdin = Annotated[
    bool,
    typer.Option(
        "--password-stdin", help="Read the password from standard input. Default: PARLEY_PASSWORD, or a prompt."
    ),
]
TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="TARGET",
        help="Name an account, a channel (#ID or #TITLE), or everyone.",
        show_default=False,
        autocompletion=complete_target,
    ),
]
BodyArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="TEXT",
        help="Send this text. One that begins with '-' goes after '--'. Default, and for '-': standard input.",
    ),
]
Urgent = Annotated[bool, typer.Option("--urgent", help="Send it as urgent. It comes first in notifications.")]
MajorityTimeout = Annotated[
    float, typer.Option("--timeout", min=0.0, help="Wait at most this many seconds for a majority.")
]
InLines = Annotated[
    bool,
    typer.Option(
        "--lines/--screen",
        envvar="PARLEY_CHAT_LINES",
        show_envvar=False,
        help="Print line by line, as screen readers need it. Default: PARLEY_CHAT_LINES (1), or show list and "
        "conversation on the whole screen. Pipes and dumb terminals have lines.",
        show_default=False,
    ),
]
WithOwn = Annotated[bool, typer.Option("--own", help="Print your messages from other devices, too.")]
AsJsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object per line. Default: text.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON. Default: text.")]

_FLAGS_ELSEWHERE = "Flags for the cluster and the account, such as --host, --ca and --account: parley --help."
Work = Coroutine[Any, Any, int | None]
_RESULT = "as_json_result"
_AsResult = Annotated[
    bool, typer.Option("--json", help="Print one JSON object that says what was done. Default: text.")
]
_WITHOUT_RESULT = ("chat", "gui", "gateway")
"""They end when a person ends them."""


class TextCommand(TyperCommand):
    """A command with a text, which may begin with a hyphen and is then no flag."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words. For a flag that does not exist, say how to send it as a text."""
        try:
            return super().parse_args(ctx, args)
        except Exception as error:
            if isinstance(option := getattr(error, "option_name", None), str):
                hint = f" To send a text that begins with a hyphen, put -- before it: ... -- {option}"
                vars(error)["message"] = f"{vars(error).get('message', '')}.{hint}"
            raise


def with_connection_options(command: Callable[..., Work]) -> Callable[..., None]:
    """Add the connection flags to a command. The command receives them as ConnectionOptions and is run to its end."""
    return _with_shared(command, resolve_options, "options")


def _with_shared(command: Callable[..., Work], resolve: Callable[[Flags], Any], name: str) -> Callable[..., None]:
    def run(ctx: typer.Context, **given: Any) -> None:
        flags = flags_of({shared: given.pop(shared) for shared in _CONNECTION_OPTIONS})
        result = Result(_words_of(ctx)) if given.pop(_RESULT, False) else None
        run_to_end(lambda: command(resolve(flags.over(ctx.obj or Flags())), **given), result)

    own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != name]
    if command.__name__ not in _WITHOUT_RESULT and all(p.name != "as_json" for p in own):
        own.append(inspect.Parameter(_RESULT, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=_AsResult))
    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    shared = connection_parameters(hidden=True)
    run.__signature__ = inspect.Signature([context, *own, *shared])  # type: ignore[attr-defined]
    run.__name__ = command.__name__
    run.__doc__ = f"{inspect.cleandoc(command.__doc__ or '')}\n\n{_FLAGS_ELSEWHERE}"
    return run


def _words_of(ctx: Any) -> str:
    """Return the words that name the command, without the program."""
    return f"{_words_of(ctx.parent)} {ctx.info_name}".strip() if ctx.parent is not None else ""


def with_flags(command: Callable[..., Work]) -> Callable[..., None]:
    """Add the connection flags to a command that connects to nobody. The command receives them as Flags."""
    return _with_shared(command, lambda flags: flags, "flags")


def connection_parameters(*, hidden: bool = False) -> list[inspect.Parameter]:
    """Return the flags that every command takes. The help of the program shows them, those of its commands do not."""
    found = []
    for name, (kind, option) in _CONNECTION_OPTIONS.items():
        shown = copy.copy(option)
        shown.hidden = hidden
        annotation: Any = Annotated[kind, shown]
        found.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    return found


def root_signature() -> inspect.Signature:
    """Return the flags of the program itself."""
    option = typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end.")
    parameter = inspect.Parameter
    version = parameter("show_version", parameter.KEYWORD_ONLY, default=False, annotation=Annotated[bool, option])
    context = parameter("ctx", parameter.KEYWORD_ONLY, annotation=typer.Context)
    return inspect.Signature([context, version, *connection_parameters()])


def version_text() -> str:
    """Return the name and the version of this program."""
    return f"parley {metadata.version('parley')}"


def _print_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(version_text())
        raise typer.Exit(ExitCode.OK)


def flags_of(given: dict[str, Any]) -> Flags:
    lists = {name: tuple(given.pop(name) or ()) for name in ("host_names", "ports", "num_ports")}
    address, fails, timeout_ms, ca = (given.pop(name) for name in _FILTER_NAMES)
    asked = FilterFlags(address or "", fails or "", timeout_ms, ca)
    return Flags(tuple(given.pop("host") or ()), **{**given, **lists, "text_filter": asked})


def run_to_end(work: Callable[[], Work], result: Result | None = None) -> None:
    """Run a command and end the process with an exit code of exits.py. Print the result, if one is given, as JSON."""
    with nullcontext() if result is None else collected(result):
        try:
            code = run_until_signal(lambda: _run(work))
        except (ParleyError, BaseExceptionGroup) as raised:
            error = first_of(ParleyError, raised)
            if error is None or first_of(StandardStreamError, raised) is not None:
                raise
            code = _tell(error)
    if result is not None:
        result.exit_code = code
        typer.echo(result.to_json())
    raise typer.Exit(code)


async def _run(work: Callable[[], Work]) -> int:
    return await work() or ExitCode.OK


def _tell(error: ParleyError) -> int:
    if (result := present()) is not None:
        result.error, result.request_id = error.text, error.request_id
    typer.echo(f"parley: {safe_body(error.text)}", err=True)
    if error.request_id and not isinstance(error, NotSignedInError):
        typer.echo(f"parley: In the logs of the nodes, this is request {error.request_id}.", err=True)
    return code_of(error)
