"""Reads the settings of a node: flags before environment before a TOML file.

Reading does not stop at the first mistake. Every wrong value is reported with its source and with what is allowed. A
file that cannot be read is reported alone, because nothing is known of the settings in it.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from parleyd.settings.checks import findings
from parleyd.settings.kinds import AddressMap, BadValueError
from parleyd.settings.table import ENVIRONMENT_PREFIX, SETTINGS, Setting, Settings, show

CONFIG_VARIABLE = ENVIRONMENT_PREFIX + "CONFIG"
MAX_FILE_BYTES = 1 << 20

# These values replace a required setting that is missing or wrong, so that the other checks can run.
_PLACEHOLDERS: Mapping[str, object] = {"name": "unnamed", "data_dir": Path("unset")}


@dataclass(frozen=True, slots=True)
class Problem:
    """One fault: the setting, the source of its value, the value, and what to do."""

    setting: str
    origin: str
    value: str
    text: str

    def __str__(self) -> str:
        value = f" = {self.value}" if self.value else ""
        return f"{self.setting}{value}  ({self.origin})\n      {self.text}"


class SettingsError(Exception):
    """The settings cannot be used; contains every problem that was found, not just the first."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = "1 setting is" if len(self.problems) == 1 else f"{len(self.problems)} settings are"
        super().__init__(f"{count} wrong:\n\n" + "\n".join(f"  {problem}" for problem in self.problems))


@dataclass(frozen=True, slots=True)
class LoadedSettings:
    """Valid settings, the source of each, and warnings."""

    settings: Settings
    origins: Mapping[str, str]
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as it was given, not yet read."""

    raw: object
    origin: str
    folder: Path | None  # of the file it stands in


def load_settings(
    flags: Mapping[str, object], environ: Mapping[str, str], config_file: Path | None = None
) -> LoadedSettings:
    """Gather, read and check all settings; raise `SettingsError` with every problem.

    `flags` maps names of settings to text, to a bool for a switch, to a list for a repeatable one; None is "not
    given". Without `config_file` the variable PARLEYD_CONFIG may name one.
    """
    problems: list[Problem] = []
    warnings = [
        f"environment variable {name} is not a setting and has no effect{_did_you_mean(name, _variables())}"
        for name in sorted(environ)
        if name.startswith(ENVIRONMENT_PREFIX) and name not in _variables() and name != CONFIG_VARIABLE
    ]
    if config_file is None and environ.get(CONFIG_VARIABLE):
        config_file = Path(environ[CONFIG_VARIABLE])

    given = _from_file(config_file, problems) if config_file is not None else {}
    if given is None:
        raise SettingsError(problems)
    given |= _from_environment(environ)
    given |= _from_flags(flags)

    values: dict[str, Any] = {}
    bad: set[str] = set()
    for setting in SETTINGS.values():
        if setting.name in given:
            _read(setting, given[setting.name], values, problems)
        elif setting.required:
            problems.append(Problem(setting.name, "not given", "", _how_to_give(setting)))
        if setting.name not in values and (setting.name in given or setting.required):
            bad.add(setting.name)
            values |= {name: value for name, value in _PLACEHOLDERS.items() if name == setting.name}

    settings = Settings(**values)
    origins = {name: given[name].origin if name in given else "default" for name in SETTINGS}
    _check(settings, origins, bad, problems, warnings)
    if problems:
        raise SettingsError(problems)
    return LoadedSettings(settings, MappingProxyType(origins), tuple(warnings))


def _check(
    settings: Settings, origins: Mapping[str, str], bad: set[str], problems: list[Problem], warnings: list[str]
) -> None:
    for finding in findings(settings, origins, bad):
        if finding.is_error:
            value = "" if origins[finding.setting] == "default" else show(finding.setting, settings)
            problems.append(Problem(finding.setting, origins[finding.setting], value, finding.text))
        else:
            warnings.append(f"{finding.setting}: {finding.text}")


def _read(setting: Setting, given: _Given, values: dict[str, Any], problems: list[Problem]) -> None:
    kind, raw = setting.kind, given.raw
    try:
        if given.folder is not None:
            value = kind.from_toml(raw)
        elif isinstance(raw, str):
            value = kind.from_text(raw)
        elif isinstance(kind, AddressMap) and isinstance(raw, Sequence):
            value = kind.from_texts([str(text) for text in raw])
        else:
            value = kind.from_toml(raw)
    except BadValueError as error:
        text = f"it {error}; give {kind.allowed}"
        problems.append(Problem(setting.name, given.origin, _shorten(raw), text))
        return
    if isinstance(value, Path):
        # Absolute, so that its meaning does not depend on the current folder of a later command.
        value = (value if given.folder is None else given.folder / value).absolute()
        if not _is_utf_8(value):
            text = "its absolute path has bytes that are not UTF-8; give another path"
            problems.append(Problem(setting.name, given.origin, _shorten(raw), text))
            return
    values[setting.name] = value


def _is_utf_8(path: Path) -> bool:
    try:
        str(path).encode()
    except UnicodeEncodeError:  # the system gives bytes that cannot be decoded as surrogates
        return False
    return True


def _from_flags(flags: Mapping[str, object]) -> dict[str, _Given]:
    given = {}
    for name, raw in flags.items():
        if raw is None or (not isinstance(raw, bool | str) and not raw):
            continue
        setting = SETTINGS[name]
        flag = "--no-" + setting.flag.removeprefix("--") if raw is False else setting.flag
        given[name] = _Given(raw, f"flag {flag}", None)
    return given


def _from_environment(environ: Mapping[str, str]) -> dict[str, _Given]:
    # An empty variable counts as not given: compose files and shells write "unset" in this way.
    return {
        setting.name: _Given(environ[setting.variable], f"environment variable {setting.variable}", None)
        for setting in SETTINGS.values()
        if environ.get(setting.variable)
    }


def _from_file(path: Path, problems: list[Problem]) -> dict[str, _Given] | None:
    """Return what the file gives, or None if it cannot be read."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise OSError(None, f"is larger than {MAX_FILE_BYTES} bytes, so it is no settings file")
        table = tomllib.loads(path.read_bytes().decode())
    except (OSError, ValueError, RecursionError) as error:  # TOMLDecodeError and UnicodeDecodeError are ValueErrors
        reason = error.strerror if isinstance(error, OSError) else str(error)
        if isinstance(error, RecursionError):
            reason = "its values are nested too deeply"
        text = f"the settings file cannot be read: {reason}"
        problems.append(Problem("config", str(path), "", text))
        return None
    given = {}
    for key, raw in table.items():
        if key in SETTINGS:
            given[key] = _Given(raw, f"{path}: {key}", path.parent)
        else:
            hint = _did_you_mean(key, SETTINGS)
            if isinstance(raw, dict) and not hint:
                hint = "; settings stand at the top of the file, in no table (only [peers] is one)"
            problems.append(Problem(key, f"{path}: {key}", "", f"there is no such setting{hint}"))
    return given


def _how_to_give(setting: Setting) -> str:
    return (
        f"it is needed; give {setting.kind.allowed}, with {setting.flag}, {setting.variable} "
        f"or {setting.name} in the settings file"
    )


def _variables() -> frozenset[str]:
    return frozenset(setting.variable for setting in SETTINGS.values())


def _did_you_mean(word: str, words: Iterable[str]) -> str:
    close = difflib.get_close_matches(word.replace("-", "_"), sorted(words), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _shorten(raw: object) -> str:
    text = repr(raw)
    return text if len(text) <= 80 else text[:77] + "..."
