"""A cursor is opaque to clients, so whatever they send back is either one of ours or refused."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parleyd.delivery.cursor import InvalidCursorError, StreamCursor, decode_cursor
from parleyd.machine.limits import GROUP_SHIFT

MAX_COUNTER = (1 << GROUP_SHIFT) - 1


@given(generation=st.integers(0, (1 << 63) - 1), message_id=st.integers(0, MAX_COUNTER))
def test_a_cursor_is_read_back_as_it_was_made(generation: int, message_id: int) -> None:
    decoded = decode_cursor(StreamCursor.at(generation, message_id).encode())
    assert decoded.message_id(generation) == message_id
    assert decoded.message_id(generation + 1) == 0, "a cursor of another generation is as good as none"


def test_no_bytes_are_the_beginning() -> None:
    assert decode_cursor(b"").message_id(0) == 0


def test_cursors_of_several_groups_keep_one_place_for_each() -> None:
    cursor = StreamCursor(1, ((0, 7), (2, (2 << GROUP_SHIFT) + 9)))
    assert decode_cursor(cursor.encode()) == cursor


def packed(version: int, generation: int, *pairs: tuple[int, int]) -> bytes:
    return struct.pack("<BQH", version, generation, len(pairs)) + b"".join(struct.pack("<IQ", *pair) for pair in pairs)


@pytest.mark.parametrize(
    "encoded",
    [
        b"\x01",
        packed(0, 0),
        packed(2, 0, (0, 1)),
        packed(1, 1 << 63),
        packed(1, 0, (0, 1)) + b"x",
        packed(1, 0, (0, 1))[:-1],
        packed(1, 0, (0, 1), (0, 2)),
        packed(1, 0, (1, (1 << GROUP_SHIFT) + 1), (0, 1)),
        packed(1, 0, (0, 1 << GROUP_SHIFT)),
        packed(1, 0, (1 << 16, 1 << 63)),
        struct.pack("<BQH", 1, 0, 65535),
    ],
    ids=[
        "short",
        "version 0",
        "version 2",
        "generation",
        "longer",
        "shorter",
        "group twice",
        "falling groups",
        "id of another group",
        "id too large",
        "count",
    ],
)
def test_bytes_that_no_node_gave_out_are_refused(encoded: bytes) -> None:
    with pytest.raises(InvalidCursorError, match="Send the newest cursor"):
        decode_cursor(encoded)


@given(st.binary(max_size=64))
def test_any_bytes_are_either_refused_or_a_cursor_that_says_the_same(encoded: bytes) -> None:
    try:
        cursor = decode_cursor(encoded)
    except InvalidCursorError:
        return
    assert cursor.encode() == encoded or not encoded
