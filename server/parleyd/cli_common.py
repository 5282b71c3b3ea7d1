"""What commands of `parleyd` that take the settings of a node have in common: flags, settings, and foreseen errors."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from parleyd.backup.errors import BackupError, BackupReleaseError, RecoveryRefusedError
from parleyd.exits import EXIT_CODE_MEANINGS, ExitCode, FatalError
from parleyd.formats import FormatRefusedError
from parleyd.machine.errors import MachineDamagedError, MachineStorageError
from parleyd.security.certificates import CertificateError
from parleyd.settings.load import CONFIG_VARIABLE, LoadedSettings, SettingsError, load_settings
from parleyd.settings.table import SETTINGS, Setting
from parleyd.storage.errors import CopyFailedError, StorageError

EXIT_CODES = "Exit codes: " + "; ".join(f"{code.value} {text}" for code, text in EXIT_CODE_MEANINGS.items()) + "."

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", "-c", help=f"Settings file (TOML); also {CONFIG_VARIABLE}.", show_default=False),
]


def takes_settings(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command a flag for every setting; the command receives them as one mapping, `flags`."""

    def with_flags(**given: Any) -> None:
        command(flags={name: given.pop(name) for name in SETTINGS}, **given)

    own = inspect.signature(command, eval_str=True).parameters.values()
    flags = [_flag(setting) for setting in SETTINGS.values()]
    parameters = [parameter for parameter in own if parameter.name != "flags"] + flags
    with_flags.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_flags.__name__ = command.__name__
    with_flags.__doc__ = command.__doc__
    return with_flags


def _flag(setting: Setting) -> inspect.Parameter:
    declared = f"{setting.flag}/--no-{setting.flag.removeprefix('--')}" if setting.is_switch else setting.flag
    kind: Any = bool | None if setting.is_switch else list[str] | None if setting.is_repeatable else str | None
    option = typer.Option(
        declared,
        help=f"{setting.help} {_default_text(setting)}",
        metavar=None if setting.is_switch else "NAME=HOST:PORT" if setting.is_repeatable else "VALUE",
        rich_help_panel=setting.group,
        show_default=False,
    )
    return inspect.Parameter(
        setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option]
    )


def _default_text(setting: Setting) -> str:
    if setting.required:
        return "Required."
    if setting.default in (None, "") or setting.is_repeatable:
        return ""
    return f"Default: {setting.kind.to_toml(setting.default)}."


def load(flags: dict[str, object], config: Path | None) -> LoadedSettings:
    """Return the settings; end the command with a text if they cannot be used."""
    try:
        return load_settings(flags, os.environ, config)
    except SettingsError as error:
        typer.echo(f"parleyd: {error}\n\nNothing was started. All settings: parleyd start --help", err=True)
        raise typer.Exit(ExitCode.USAGE) from None


def foreseen(error: BaseException) -> tuple[ExitCode, str] | None:
    """Find what stopped the node, also inside the groups that task groups raise."""
    if isinstance(error, FatalError):
        return error.exit_code, str(error)
    if isinstance(error, CertificateError):
        return ExitCode.CERTIFICATE, f"{error}. Nothing was started."
    if isinstance(error, FormatRefusedError | BackupReleaseError):
        return ExitCode.RELEASE, str(error)
    if isinstance(error, RecoveryRefusedError):
        return ExitCode.USAGE, str(error)
    if isinstance(error, BackupError | CopyFailedError | StorageError | MachineDamagedError | MachineStorageError):
        return ExitCode.STORAGE, str(error)
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(foreseen, error.exceptions)), None)
    return None
