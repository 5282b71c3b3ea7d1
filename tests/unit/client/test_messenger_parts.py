"""The parts of the messenger's screen without a terminal: widths, wrapping, the place in a thread, list and notes."""

from dataclasses import replace
from datetime import date

import pytest

from parley import MessageStatus
from parley.chat import ConversationItem, ConversationKey, Row
from parley.terminal.cells import cells, cut, padded, wrap
from parley.terminal.messenger_lines import Line, item_lines, row_lines
from parley.terminal.messenger_notes import Notes
from parley.terminal.messenger_thread import Viewport

TODAY = date(2026, 11, 28)
TEXTS = (
    "",
    "word " * 40,
    "x" * 200,
    "漢字かな交じり文" * 12,
    "שלום עולם " * 12,
    "e\u0301" * 90,
    "a\tb\n\n  c",
    "🎉" * 50,
)


def row(message_id: int, body: str = "text", **more: object) -> Row:
    return replace(Row(message_id, 0, "bob", body, 1_790_000_000_000), **more)  # type: ignore[arg-type]


def plain(line: Line) -> str:
    return "".join(text for _, text in line)


def one_line(_: Row) -> list[Line]:
    return [(("", "x"),)]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("room", [2, 3, 7, 20, 80])
def test_no_line_is_wider_than_its_room_and_no_character_is_lost(text: str, room: int) -> None:
    lines = wrap(text, room)
    assert all(cells(line) <= room for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert cells(cut(text, room)) <= room
    assert cells(padded(text, room)) == room


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("room", [2, 9, 29, 30, 80])
def test_every_row_fits_its_room(text: str, room: int) -> None:
    own = row(
        1, text, status=MessageStatus.FAILED, detail="no such account", new_day=True, unread_above=True, gap_above=text
    )
    for shown in (row(1, text), own, row(1, text, event=True), row(1, text, urgent=True, sender="漢字" * 20)):
        assert all(cells(plain(line)) <= room for line in row_lines(shown, room, TODAY)), shown


def test_a_failed_message_says_how_to_send_it_again() -> None:
    shown = row(0, "lost", local_id=7, status=MessageStatus.FAILED, detail="There is no such account.")
    assert "There is no such account. /retry 7" in " ".join(plain(line).strip() for line in row_lines(shown, 80, TODAY))


@pytest.mark.parametrize("room", [3, 12, 20, 36])
def test_an_entry_of_the_list_keeps_its_unread_count_and_its_width(room: int) -> None:
    key = ConversationKey(conversation_id=5)
    item = ConversationItem(key, "漢字 Ward " * 9, "last\ntext", 1_790_000_000_000, 42, None, False, False, urgent=True)
    head, below = item_lines(item, room, TODAY, chosen=True, open_=True)
    assert cells(plain(below)) <= room
    if room > 3:
        assert "!42" in plain(head)
        assert cells(plain(head)) <= room


def test_the_place_stays_while_rows_come_above_and_below() -> None:
    rows = [row(number) for number in range(10, 60)]
    place = Viewport()
    assert [one.message_id for one in place.show(rows, one_line, 5).rows] == [55, 56, 57, 58, 59]
    place.scroll(rows, one_line, 5, -20)
    assert [one.message_id for one in place.show(rows, one_line, 5).rows] == [35, 36, 37, 38, 39]
    more = [row(number) for number in range(1, 70)]
    assert [one.message_id for one in place.show(more, one_line, 5).rows] == [35, 36, 37, 38, 39]
    place.scroll(more, one_line, 5, 1000)
    assert place.at_end
    assert [one.message_id for one in place.show(more, one_line, 5).rows][-1] == 69


def test_a_row_whose_last_line_is_not_on_the_screen_was_not_seen() -> None:
    def three(_: Row) -> list[Line]:
        return [(("", "x"),)] * 3

    rows = [row(number) for number in range(1, 10)]
    place = Viewport()
    place.to_row(rows, 0)
    assert [one.message_id for one in place.show(rows, three, 8).rows] == [1, 2]


def test_the_notes_are_bounded_and_scroll() -> None:
    notes = Notes()
    for number in range(5000):
        notes.add("", f"note {number}")
    assert [plain(line) for line in notes.draw(40, 4)][1:] == ["note 4997", "note 4998", "note 4999"]
    notes.scroll(10**9)
    assert plain(notes.draw(40, 4)[1]) == "note 3000"
    notes.close()
    assert notes.height(40, 10) == 0
