"""Reads JSON that a person or a stranger has written. All of the client's files in JSON are read by this function.

The reader of Python accepts an object that names a value twice, and takes the last one. Then two programs read two
different things from one line. It also ends a program by RecursionError for a line of many brackets.
"""

import json
from typing import Any, NoReturn


class JsonError(ValueError):
    """The text is no JSON that the client accepts. The error shows nothing of its values."""


class DoubledNameError(JsonError):
    """An object names a value twice."""


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text. Bytes must be UTF-8. Raises JsonError for anything else."""
    try:
        return json.loads(
            text.decode() if isinstance(text, bytes) else text, object_pairs_hook=_once, parse_constant=_no_number
        )
    except JsonError:
        raise
    except RecursionError:
        raise JsonError("its values are nested too deeply") from None
    except json.JSONDecodeError as error:
        raise JsonError(f"it is no JSON: {error}") from None
    except UnicodeDecodeError:
        raise JsonError("it is not in UTF-8") from None
    except ValueError:  # a number of thousands of digits
        raise JsonError("it has a number that is too long") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        doubled = next(name for name in names if names.count(name) > 1)
        raise DoubledNameError(f"{doubled[:40]!r} is in one object twice")
    return found


def _no_number(text: str) -> NoReturn:
    raise JsonError(f"{text} is no number")
