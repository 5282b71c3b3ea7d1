"""Builds requests. What no request can hold is refused here, before anything is sent."""

from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

from parley.errors import BadInputError
from parley.model import HistoryStart

P = ParamSpec("P")
T = TypeVar("T")

NUMBERS = range(2**63)
"""The numbers that a cluster stores. A field can hold more, but every node refuses them."""


def build(kind: Callable[P, T], /, *args: P.args, **fields: P.kwargs) -> T:
    """Return a request. Raise BadInputError for a text that is not Unicode, or a number that no cluster stores.

    A surrogate is the sign of bytes that were not UTF-8 when Python read them.
    """
    for name, value in fields.items():
        _check(name.replace("_", " "), value)
    try:
        return kind(*args, **fields)
    except ValueError as error:  # a number that is too large for its field
        raise BadInputError(f"The request cannot be made: {error}. Nothing was sent.") from None


def check_numbers(**numbers: int) -> None:
    """Raise BadInputError for a number that neither a cluster nor the file of a device stores."""
    for name, value in numbers.items():
        _check(name.replace("_", " "), value)


def check_start(start: HistoryStart, limit: int) -> None:
    """Raise BadInputError for a page of history that has more than one place, or a wrong number."""
    if start.choices > 1:
        raise BadInputError(
            "Two places of the history were named. Nothing was read. Name one: before an id, after an id, around an "
            "id, or the first unread message."
        )
    check_numbers(before_id=start.before_id, after_id=start.after_id or 0, around_id=start.around_id or 0, limit=limit)


def check_text(what: str, value: str) -> str:
    """Return a text that can be sent. The error does not show it: it may be a password."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadInputError(
            f"The {what} contains bytes that are not valid UTF-8. Nothing was sent. Write it again, and check that "
            "the terminal or the file uses UTF-8."
        ) from None
    return value


def _check(what: str, value: object) -> None:
    match value:
        case str():
            check_text(what, value)
        case bool() | bytes():
            return
        case int() if value not in NUMBERS:
            raise BadInputError(f"The {what} is {value}. Nothing was sent. Give a number from 0 to {NUMBERS.stop - 1}.")
        case Iterable():
            for one in value:
                _check(what, one)
