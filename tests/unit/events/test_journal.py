"""The file of the Raft history: what it gives back after a crash at any byte, after damage, and to other releases."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parleyd.events.event import Event, Value, encode_content
from parleyd.events.journal import (
    MIN_BYTES,
    SLOT_BYTES,
    ForeignFileError,
    JournalFile,
    Record,
    decode_slot,
    encode_header,
    encode_slot,
    read_journal,
    slots_of,
)
from parleyd.formats import FormatRefusedError

SLOTS = slots_of(MIN_BYTES)


def event(number: int, at_ms: int = 1_000, **fields: Value) -> Event:
    return Event(77, number, at_ms, "role_changed", fields or {"term": number})


def write(path: Path, *events: Event, size_bytes: int = MIN_BYTES) -> None:
    """Write as one run of a node does."""
    file = JournalFile.open(path, size_bytes)
    for one in events:
        file.append(one)
    file.close()


def numbers(path: Path) -> list[int]:
    return [record.event.number for record in read_journal(path).records]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.ring"


def test_what_was_written_is_read_with_its_fields_over_several_starts(path: Path) -> None:
    first = Event(1, 1, 5, "role_changed", {"role": "leader", "term": 4, "leader": "n1", "is_new": True})
    second = Event(2, 1, 6, "node_started", {})
    write(path, first)
    write(path, second)
    assert read_journal(path).records == (Record(1, first), Record(2, second))
    assert path.stat().st_size == MIN_BYTES
    assert path.stat().st_mode & 0o077 == 0


def test_the_oldest_records_make_room_and_the_file_never_grows(path: Path) -> None:
    write(path, *(event(number) for number in range(1, SLOTS + 8)))
    assert numbers(path) == [*range(8, SLOTS + 8)]
    write(path, event(SLOTS + 8))
    assert numbers(path) == [*range(9, SLOTS + 9)]
    assert path.stat().st_size == MIN_BYTES


@pytest.mark.parametrize("count", [3, SLOTS, SLOTS + 5], ids=["first-round", "full", "second-round"])
def test_a_write_that_ends_at_any_byte_harms_one_record_and_no_other(path: Path, count: int) -> None:
    write(path, *(event(number) for number in range(1, count + 1)))
    whole = path.read_bytes()
    kept = numbers(path)
    new = Record(count + 1, event(count + 1, role="follower"))
    slot = encode_slot(new)
    at = (1 + new.sequence % SLOTS) * SLOT_BYTES
    replaced = count + 1 - SLOTS
    outcomes = set()
    for cut in range(SLOT_BYTES + 1):
        path.write_bytes(whole[:at] + slot[:cut] + whole[at + cut :])
        found = read_journal(path)
        others = [record.event.number for record in found.records if record.event.number not in (count + 1, replaced)]
        assert others == [number for number in kept if number != replaced]
        is_new = new in found.records
        is_old = replaced in [record.event.number for record in found.records]
        assert is_new + is_old + found.torn == (1 if replaced > 0 or cut > 0 else 0)
        outcomes.add("new" if is_new else "torn" if found.torn else "before")
        # The next start goes on, and what it writes can be read.
        write(path, event(999))
        assert numbers(path)[-1] == 999
    assert outcomes == {"before", "torn", "new"}


@pytest.mark.parametrize("keep", [0, 1, 30, SLOT_BYTES - 1, SLOT_BYTES, SLOT_BYTES + 1, 3 * SLOT_BYTES + 30])
def test_a_file_that_is_cut_off_gives_what_it_has_and_is_made_whole_by_the_next_start(path: Path, keep: int) -> None:
    write(path, *(event(number) for number in range(1, 6)))
    path.write_bytes(path.read_bytes()[:keep])
    if keep in (1, 30):
        with pytest.raises(ForeignFileError):
            read_journal(path)
    else:
        assert numbers(path) == [number for number in range(1, 6) if (number + 2) * SLOT_BYTES <= keep]
    write(path, event(6))
    assert numbers(path)[-1] == 6
    assert path.stat().st_size == MIN_BYTES


def test_a_damaged_header_costs_no_record(path: Path) -> None:
    write(path, event(1), event(2))
    content = bytearray(path.read_bytes())
    content[9] ^= 1
    path.write_bytes(content)
    assert numbers(path) == [1, 2]
    write(path, event(3))
    assert numbers(path) == [1, 2, 3]
    assert read_journal(path).slots == SLOTS


def test_a_flipped_bit_costs_one_record_and_is_said(path: Path) -> None:
    write(path, *(event(number) for number in range(1, 6)))
    content = bytearray(path.read_bytes())
    content[(1 + 3) * SLOT_BYTES + 37] ^= 16
    path.write_bytes(content)
    assert (numbers(path), read_journal(path).torn) == ([1, 2, 4, 5], 1)


def test_the_order_is_that_of_writing_when_the_clock_jumps_back(path: Path) -> None:
    write(path, event(1, at_ms=9_000), event(2, at_ms=10_000), event(3, at_ms=-5), event(4, at_ms=2_000))
    assert [record.event.at_ms for record in read_journal(path).records] == [9_000, 10_000, -5, 2_000]


@pytest.mark.parametrize("content", [b"#!/bin/sh\n", b"x" * 100_000, b"PRLYJRNL" + b"\xff" * 2_000])
def test_a_foreign_file_is_refused_and_moved_aside_whole_by_a_node(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ForeignFileError, match="no journal"):
        read_journal(path)
    write(path, event(1))
    assert numbers(path) == [1]
    assert path.with_name("journal.ring.foreign").read_bytes() == content


def test_a_file_of_a_newer_release_is_refused_in_the_usual_words_and_left_as_it_is(path: Path) -> None:
    content = encode_header(SLOTS, version=7, release="9.1.0") + b"what only 9.1 knows" * 300
    path.write_bytes(content)
    with pytest.raises(FormatRefusedError, match=r"release 9.1.0 \(format 7; .* formats up to 1\).*9.1.0 or newer"):
        read_journal(path)
    with pytest.raises(FormatRefusedError):
        JournalFile.open(path, MIN_BYTES)
    assert path.read_bytes() == content


def test_another_size_keeps_the_newest_records(path: Path) -> None:
    write(path, *(event(number) for number in range(1, 41)), size_bytes=2 * MIN_BYTES)
    write(path, event(41), size_bytes=MIN_BYTES)
    assert numbers(path) == [*range(41 - SLOTS + 1, 42)]
    assert path.stat().st_size == MIN_BYTES
    write(path, event(42), size_bytes=2 * MIN_BYTES)
    assert numbers(path) == [*range(41 - SLOTS + 1, 43)]


@given(
    st.text(max_size=20),
    st.dictionaries(st.text(max_size=10), st.one_of(st.integers(), st.booleans(), st.text(max_size=900)), max_size=12),
)
def test_any_event_fits_into_a_slot(kind: str, fields: dict[str, Value]) -> None:
    record = Record(5, Event(1, 2, 3, kind, fields))
    slot = encode_slot(record)
    assert len(slot) == SLOT_BYTES
    if len(encode_content(kind, fields, 10**6)) <= SLOT_BYTES - 40:
        assert decode_slot(slot) == record


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_after_any_history_of_starts_sizes_and_crashes_a_suffix_is_read_in_order(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("ring") / "journal.ring"
    written: list[Event] = []
    torn: set[int] = set()
    room = 10**9
    for _ in range(data.draw(st.integers(1, 6))):
        size_bytes = data.draw(st.sampled_from([MIN_BYTES, MIN_BYTES + SLOT_BYTES, 2 * MIN_BYTES]))
        file = JournalFile.open(path, size_bytes)
        for _ in range(data.draw(st.integers(0, 45))):
            one = Event(1, len(written) + 1, data.draw(st.integers(-(10**15), 10**15)), "vote_given", {"term": 1})
            file.append(one)
            written.append(one)
        file.close()
        room = min(room, slots_of(size_bytes))
        found = read_journal(path)
        is_torn = data.draw(st.booleans())
        if found.records and is_torn:
            # The machine stops in the middle of the last write.
            last = found.records[-1]
            cut = data.draw(st.integers(1, 58))
            content = bytearray(path.read_bytes())
            at = (1 + last.sequence % slots_of(size_bytes)) * SLOT_BYTES
            content[at + cut : at + SLOT_BYTES] = random.Random(cut).randbytes(SLOT_BYTES - cut)
            path.write_bytes(content)
            torn.add(last.event.number)
    found = read_journal(path)
    read = [record.event for record in found.records]
    intact = [one for one in written if one.number not in torn]
    assert read == intact[len(intact) - len(read) :]
    assert len(read) >= min(len(intact), room - len(torn))
