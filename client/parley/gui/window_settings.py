"""What a person chose for the window, and the file that keeps it for the next start.

The file belongs to the state directory, so it counts for all accounts on it. A file that cannot be understood is put
aside and told of in words. The window begins with the usual settings then.
"""

import codecs
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

from parley import parse_json, read_private, replace_private, turn_to_change

FILE_NAME = "window.json"
REFUSED_NAME = "window.json.refused"
MAX_BYTES = 4096
MOST_SHOWN = 40
TEXT_PERCENTS = (90, 100, 115, 130, 150)
UNTIL_SWITCHED_OFF = -1
LATEST_MS = 32_503_680_000_000  # the year 3000: later times cannot be shown in every time zone


class Preview(StrEnum):
    """What a notification shows."""

    ALL = "all"
    NAMES = "names"
    NONE = "none"


_KINDS: dict[type, str] = {int: "a whole number", bool: "true or false", Preview: f"one of {', '.join(Preview)}"}


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """The settings. Raises ValueError for a value that cannot be meant.

    `quiet_until_ms` is the end of do-not-disturb as a Unix time, 0 for none, or UNTIL_SWITCHED_OFF.
    """

    text_percent: int = 100
    notify: bool = True
    preview: Preview = Preview.ALL
    sound: bool = False
    quiet_until_ms: int = 0
    urgent_when_quiet: bool = True

    def __post_init__(self) -> None:
        """Check every value."""
        for field in fields(self):
            value = getattr(self, field.name)
            wanted = type(field.default)
            if type(value) is not wanted:
                raise ValueError(f"{field.name} is {_shown(value)}, which is not {_KINDS[wanted]}")
        if self.text_percent not in TEXT_PERCENTS:
            raise ValueError(
                f"text_percent is {_shown(self.text_percent)}, not one of {', '.join(map(str, TEXT_PERCENTS))}"
            )
        if not UNTIL_SWITCHED_OFF <= self.quiet_until_ms <= LATEST_MS:
            raise ValueError("quiet_until_ms is no time that can be meant")


def _shown(value: object) -> str:
    """Return a value of the file in a few characters."""
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def from_json(text: bytes) -> WindowSettings:
    """Return the settings of a file. Names of later releases are ignored. Raises ValueError."""
    found: Any = parse_json(text.removeprefix(codecs.BOM_UTF8))
    if not isinstance(found, dict):
        raise ValueError("it holds no settings")
    known = {field.name: found[field.name] for field in fields(WindowSettings) if field.name in found}
    if known.get("preview") in [*Preview]:
        known["preview"] = Preview(known["preview"])
    return WindowSettings(**known)


def load(root: Path) -> tuple[WindowSettings, str]:
    """Return the stored settings, and what to tell the person if they could not be used."""
    path = root / FILE_NAME
    try:
        return from_json(read_private(path, MAX_BYTES)), ""
    except FileNotFoundError:
        return WindowSettings(), ""
    except OSError as error:
        return WindowSettings(), (
            f"The settings of the window cannot be read: {path}: {error.strerror}. Nothing was changed. "
            "The window uses the usual settings."
        )
    except ValueError as error:
        return WindowSettings(), f"{_put_aside(path)} The reason: {error}. The window uses the usual settings."


def _put_aside(path: Path) -> str:
    """Keep a file that cannot be used under another name. Return what happened."""
    try:
        path.replace(path.with_name(REFUSED_NAME))
    except OSError:
        return f"The settings of the window in {path} cannot be used."
    return f"The settings of the window in {path} cannot be used and are kept as {REFUSED_NAME}."


def change(
    root: Path, used: WindowSettings, changed: Callable[[WindowSettings], WindowSettings]
) -> tuple[WindowSettings, str]:
    """Change what is stored now, because another window may have stored a choice since, and store it.

    `used` counts if nothing is stored that can be used. Return the settings, and what to tell the person if they could
    not be stored.
    """
    try:
        with turn_to_change(root / FILE_NAME):
            stored, problem = load(root)
            settings = changed(used if problem else stored)
            return settings, save(root, settings)
    except OSError as error:
        return changed(used), _not_stored(error)


def save(root: Path, settings: WindowSettings) -> str:
    """Store the settings. Return what to tell the person if that failed, otherwise an empty string."""
    try:
        replace_private(root / FILE_NAME, json.dumps(asdict(settings), indent=1) + "\n")
    except OSError as error:
        return _not_stored(error)
    return ""


def _not_stored(error: OSError) -> str:
    return f"The settings could not be stored: {error.strerror}. They count until the window is closed."
