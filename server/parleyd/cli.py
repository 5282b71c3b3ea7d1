"""The command `parleyd`: runs a node, shows its settings, makes certificates.

Every command ends with one of the codes of exits.py. An error is one block of text on stderr, never a traceback.
Tracebacks go to the log, and only for unexpected errors.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Annotated, NoReturn

import structlog
import typer

from parleyd.cli_admin import admin_app
from parleyd.cli_backup import backup_app, recover, restore
from parleyd.cli_cert import cert_app
from parleyd.cli_common import EXIT_CODES, ConfigFile, foreseen, load, takes_settings
from parleyd.cli_doctor import doctor
from parleyd.cli_journal import journal
from parleyd.cli_moved import moved
from parleyd.events.source import EventSource
from parleyd.exits import ExitCode
from parleyd.formats import own_release
from parleyd.observability.logs import close_logging, configure_logging, is_read_by_people, print_error, set_log_level
from parleyd.security.certificate_checks import check_node_certificate
from parleyd.settings.load import LoadedSettings, SettingsError, load_settings
from parleyd.settings.table import SETTINGS, Settings, show

INSECURE_BANNER = """\
**********************************************************************
*  INSECURE: this node runs without TLS. Anybody who can reach its   *
*  ports can read messages and passwords and can act as a node.      *
*  Never use this for a cluster with real data.                      *
**********************************************************************"""

app = typer.Typer(
    name="parleyd",
    help="Run and maintain one node of a Parley cluster.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cert_app, name="cert")
app.add_typer(admin_app, name="admin")
app.add_typer(backup_app, name="backup")
app.command(epilog=EXIT_CODES)(takes_settings(restore))
app.command(epilog=EXIT_CODES)(takes_settings(recover))
app.command(epilog=EXIT_CODES)(takes_settings(moved))
app.command(epilog=EXIT_CODES)(doctor)
app.command(epilog=EXIT_CODES)(journal)


@app.command(epilog=EXIT_CODES)
@takes_settings
def start(flags: dict[str, object], config: ConfigFile = None) -> None:
    """Run this node until SIGTERM or Ctrl-C. Flags override environment variables, which override the settings file."""
    os.umask(0o077)  # whatever this process makes holds messages or password hashes
    loaded = load(flags, config)
    settings = loaded.settings
    events = EventSource()
    configure_logging(settings.log_level, settings.log_format, node=settings.name, tap=events.tap)
    log = structlog.get_logger("parleyd.cli")
    for warning in loaded.warnings:
        log.warning("settings_warning", detail=warning)
    if settings.insecure:
        print_error(INSECURE_BANNER)
        log.warning("insecure_mode_enabled")
    try:
        _check_certificates(settings, log)
        log.info("node_started", release=own_release(), process=os.getpid())
        if _run(settings, partial(_reload, flags, config, log), events):
            log.info("process_replaced", detail="an administrator restarts this node")
            _stopped(log, "an administrator restarts it")
            events.close()
            close_logging()
            _start_again()
        _stopped(log, "as asked")
        raise typer.Exit(ExitCode.OK)
    except typer.Exit:
        raise
    except Exception as error:
        _end(error, log)
    finally:
        events.close()
        close_logging()


@app.command(name="config", epilog=EXIT_CODES)
@takes_settings
def show_config(
    flags: dict[str, object],
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: settings, origins, warnings.")] = False,
) -> None:
    """Print the settings that `start` would use and their sources. The text is itself a settings file."""
    loaded = load(flags, config)
    if as_json:
        typer.echo(json.dumps(_as_json(loaded), indent=2, ensure_ascii=False))
        return
    for warning in loaded.warnings:
        typer.echo(f"parleyd: warning: {warning}", err=True)
    for line in _as_toml(loaded):
        typer.echo(line)


@app.command()
def version() -> None:
    """Print the version of Parley and of what it runs on."""
    try:
        number = metadata.version("parley")
    except metadata.PackageNotFoundError:
        number = "(run from a source tree that is not installed)"
    typer.echo(f"parleyd {number}, Python {platform.python_version()}, {platform.system()}")


def _as_json(loaded: LoadedSettings) -> dict[str, object]:
    values = {name: getattr(loaded.settings, name) for name in SETTINGS}
    values |= {"peers": dict(loaded.settings.peers), "join": dict(loaded.settings.join)}
    return {
        "settings": {name: str(value) if isinstance(value, Path) else value for name, value in values.items()},
        "origins": dict(loaded.origins),
        "warnings": list(loaded.warnings),
    }


def _as_toml(loaded: LoadedSettings) -> Iterator[str]:
    group = ""
    for setting in SETTINGS.values():
        if setting.group != group:
            yield f"{chr(10) if group else ''}# {setting.group}"
            group = setting.group
        value = show(setting.name, loaded.settings)
        # A path may have any characters. A comment must stay on its line.
        origin = loaded.origins[setting.name].encode("unicode_escape").decode()
        yield f"{setting.name} = {value}  # {origin}" if value else f"# {setting.name} is not set"


def _check_certificates(settings: Settings, log: structlog.stdlib.BoundLogger) -> None:
    if settings.insecure or settings.ca_file is None or settings.cert_file is None or settings.key_file is None:
        return  # the settings check ensures all three without `insecure`
    report = check_node_certificate(
        settings.ca_file,
        settings.cert_file,
        settings.key_file,
        settings.name,
        advertised=(settings.client_advertise,),
    )
    for warning in report.warnings:
        log.warning("certificate_warning", detail=warning)


def _reload(flags: dict[str, object], config: Path | None, log: structlog.stdlib.BoundLogger) -> None:
    """Take over the log level of the present settings; all others need a restart."""
    try:
        level = load_settings(flags, os.environ, config).settings.log_level
    except SettingsError as error:
        log.error("settings_not_reloaded", effect="the log level stays as it is", error=str(error))
        return
    set_log_level(level)
    log.warning("log_level_reloaded", log_level=level)  # visible at most levels


def _start_again() -> NoReturn:
    """Replace this process by a new one with the same arguments. So a restart needs nobody who starts the node."""
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - no shell


def _run(settings: Settings, reload: Callable[[], None], events: EventSource) -> bool:
    # gRPC's C++ core writes its own lines to stderr, one for every failed handshake of a port scan. The important ones
    # come back as errors. It reads this variable once, when it is first imported.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    from parleyd.node import run_node

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(run_node(settings, reload, events))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:  # not on every platform; asyncio's own loop is slower, not different
        return None
    return uvloop.new_event_loop


def _stopped(
    log: structlog.stdlib.BoundLogger, reason: str, code: ExitCode = ExitCode.OK, level: int = logging.INFO
) -> None:
    log.log(level, "node_stopped", release=own_release(), exit_code=int(code), reason=reason)


def _end(error: Exception, log: structlog.stdlib.BoundLogger) -> None:
    found = foreseen(error)
    if found is None:
        log.error("unhandled_error", exc_info=error)
        print_error(
            f"parleyd: stopped by an unexpected error: {type(error).__name__}: {error}\n"
            "Acknowledged messages are safe on a majority of disks. The log has the details; please report them."
        )
        raise typer.Exit(ExitCode.FAILED)
    code, text = found
    # A program that reads the log gets a record, and a person the text alone.
    _stopped(log, text, code, logging.DEBUG if is_read_by_people() else logging.ERROR)
    print_error(f"parleyd: {text}")
    raise typer.Exit(code)


def main() -> None:
    """Run `parleyd` with the arguments of the process."""
    sys.exit(app(prog_name="parleyd"))
