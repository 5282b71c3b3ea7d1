"""Small JSON files of the client, such as `hosts.json`: checked when they are read, and replaced whole.

They hold nothing that cannot be learned again. So a damaged one is set aside, which a person is told, and the client
goes on without it. Notes of a newer release are not read and never overwritten.
"""

import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from parley.device.file_format import is_newer, marked
from parley.strict_json import parse_json

T = TypeVar("T")

DAMAGED_SUFFIX = ".damaged"
_told = logging.getLogger("parley.files")


class NotesDamagedError(ValueError):
    """A value has the wrong type."""


def read_notes(path: Path, parse: Callable[[dict[str, Any]], T]) -> T:
    """Return what `parse` makes of the notes, or of none if the file is missing, damaged, or of a newer release.

    `parse` raises NotesDamagedError for a wrong value.
    """
    try:
        text = _read(path).decode()
    except OSError:
        return parse({})
    except ValueError as error:
        return _set_aside(path, error, parse)
    try:
        document = parse_json(text)
        if not isinstance(document, dict):
            raise NotesDamagedError("not an object")
        return parse({} if is_newer(document) else document)
    except ValueError as error:
        return _set_aside(path, error, parse)


def _set_aside(path: Path, error: Exception, parse: Callable[[dict[str, Any]], T]) -> T:
    kept = path.with_name(path.name + DAMAGED_SUFFIX)
    try:
        path.replace(kept)
        effect = f"It was moved to {kept.name}"
    except OSError:
        effect = "It is not used"
    _told.warning(
        "The file %s is damaged (%s). %s. Waiting messages are in another file and are kept. What it held is learned "
        "again, or name it: --host, --ca.",
        path,
        error,
        effect,
    )
    return parse({})


def text_in(document: dict[str, Any], key: str) -> str:
    """Return a text, empty if it is missing."""
    return _checked(document.get(key, ""), str, key)


def flag_in(document: dict[str, Any], key: str) -> bool:
    """Return a truth value, False if it is missing."""
    return _checked(document.get(key, False), bool, key)


def texts_in(document: dict[str, Any], key: str) -> tuple[str, ...]:
    """Return a list of texts, empty if it is missing."""
    return tuple(_checked(text, str, key) for text in _checked(document.get(key, []), list, key))


def pairs_in(document: dict[str, Any], key: str) -> tuple[tuple[str, str], ...]:
    """Return texts by text, empty if they are missing."""
    return tuple(
        (name, _checked(value, str, key)) for name, value in _checked(document.get(key, {}), dict, key).items()
    )


def _checked(value: Any, kind: type[T], key: str) -> T:
    if not isinstance(value, kind):
        raise NotesDamagedError(f"{key} holds {type(value).__name__}, not {kind.__name__}")
    return value


def write_notes(path: Path, document: dict[str, Any]) -> None:
    """Replace the whole file. Errors are ignored, because a full disk must not stop a send."""
    if _is_of_newer_release(path):
        return
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(temporary, "w", encoding="utf-8", opener=_open_private) as file:
            file.write(json.dumps(marked(document), indent=1))
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _read(path: Path) -> bytes:
    if not path.is_file():  # opening a pipe would wait for its other end
        raise OSError(f"{path} is missing, or no file")
    return path.read_bytes()


def _is_of_newer_release(path: Path) -> bool:
    try:
        document = parse_json(_read(path))
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and is_newer(document)
