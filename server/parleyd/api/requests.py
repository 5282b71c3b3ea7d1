"""Checks of requests, bounds of pages, and opaque page tokens."""

from __future__ import annotations

import struct
from contextvars import ContextVar

from parleyd.machine.limits import MAX_ID
from parleyd.security.names import InvalidInputError

DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
ID_BYTES = 16
PAGE_BYTES = 1 << 20
SMALL_PAGE_BYTES = 16 * 1024
"""The bound of a page whose call has no place for a large one."""

_PAGE_BYTES: ContextVar[int] = ContextVar("bound of a page", default=PAGE_BYTES)

_PAGE_TOKEN = struct.Struct("<BQ")
_PAGE_TOKEN_VERSION = 1


def check_id(field: str, value: bytes) -> None:
    """Raise InvalidInputError unless `value` is 16 bytes."""
    if len(value) != ID_BYTES:
        raise InvalidInputError(field, f"must be {ID_BYTES} random bytes, not {len(value)}")


def check_number(field: str, value: int) -> None:
    """Raise InvalidInputError for an id that no cluster can have assigned."""
    if value > MAX_ID:
        raise InvalidInputError(field, f"is {value}, which no cluster has assigned; at most {MAX_ID} is possible")


def page_size(field: str, value: int) -> int:
    """Return the page size of a request, in which 0 means the default; raises InvalidInputError above the bound."""
    if value > MAX_PAGE_SIZE:
        raise InvalidInputError(field, f"is {value}; at most {MAX_PAGE_SIZE} are allowed")
    return value or DEFAULT_PAGE_SIZE


def bound_page(most_bytes: int) -> None:
    """Bound the page that the current call reads next. A page has at least one entry, whatever its size."""
    _PAGE_BYTES.set(most_bytes)


def page_bytes() -> int:
    """Return the bound of the page that the current call reads."""
    return _PAGE_BYTES.get()


def entries_within_page(limit: int, entry_bytes: int) -> int:
    """Return how many entries of at most `entry_bytes` a page may have: at most `limit`, and at least one."""
    return max(1, min(limit, page_bytes() // entry_bytes))


def page_token(before_message_id: int) -> bytes:
    """Return the token of the page of conversations whose last messages are older than this one."""
    return _PAGE_TOKEN.pack(_PAGE_TOKEN_VERSION, before_message_id)


def before_message_id(token: bytes) -> int:
    """Return the id in a page token; 0 for none. Raises InvalidInputError."""
    if not token:
        return 0
    if len(token) == _PAGE_TOKEN.size:
        version, message_id = _PAGE_TOKEN.unpack(token)
        if version == _PAGE_TOKEN_VERSION and 0 < message_id <= MAX_ID:
            return int(message_id)
    raise InvalidInputError("page_token", "is not a token of this release; begin again with the first page")
