"""The view of a thread: what is out of sight moves nothing in sight, and ten thousand rows are no work."""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QPixmap
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication
from pytestqt.qtbot import QtBot

from parley import HistoryPage, Message, MessageKind, MessageStatus, Outgoing, Target
from parley.chat import AccountBook, Row, Thread
from parley.gui.bubble import BubbleDelegate
from parley.gui.theme import LIGHT
from parley.gui.thread_model import ThreadModel
from parley.gui.thread_view import ThreadView
from tests.unit.chat.people import ANN, BEN, PEOPLE, direct

BUILD = Path(__file__).resolve().parents[2] / "build"
WORDS = ("pump", "makes", "a", "noise", "again", "I", "have", "put", "it", "on", "the", "list", "Thursday")
START_MS = 1_700_000_000_000
TO_BEN = Target(account="ben")


def body(number: int) -> str:
    """A text of a length that differs from row to row, some with links, lines and emoji."""
    words = " ".join(WORDS[(number + at) % len(WORDS)] for at in range(1 + (number * 7) % 40))
    if number % 11 == 0:
        words += f" https://example.org/{number}"
    if number % 17 == 0:
        words += "\nand another line 🎉"
    return words


def message(number: int, text: str = "") -> Message:
    mine = number % 3 == 0
    sender_id = ANN.id if mine else BEN.id
    return Message(7, number, MessageKind.TEXT, sender_id, text or body(number), START_MS + number * 90_000, mine)


def new_thread() -> Thread:
    book = AccountBook("ann")
    book.add(PEOPLE)
    return Thread(book, direct())


class Shown:
    """A thread in a view."""

    def __init__(self, qtbot: QtBot, numbers: range) -> None:
        self.thread = new_thread()
        self.thread.load(HistoryPage(tuple(message(n) for n in numbers), True), 0)
        self.model = ThreadModel()
        self.delegate = BubbleDelegate(LIGHT, QApplication.font())
        self.view = ThreadView(self.model, self.delegate)
        qtbot.addWidget(self.view)
        self.view.resize(800, 600)
        self.view.show()
        self.model.show(self.thread.rows)

    def places(self) -> dict[int, int]:
        """Where the rows in sight stand, by message."""
        rows = range(self.view.first_visible(), self.view.last_visible() + 1)
        return {self.model.row(at).message_id: self.view.visualRect(self.model.index(at)).bottom() for at in rows}

    def scroll(self, pixels: int) -> None:
        bar = self.view.verticalScrollBar()
        bar.setValue(bar.value() + pixels)


@pytest.fixture
def shown(qtbot: QtBot) -> Shown:
    return Shown(qtbot, range(1000, 1200))


def test_a_conversation_opens_at_its_end(shown: Shown) -> None:
    assert shown.view.is_at_bottom()
    assert shown.view.last_visible() == 199
    assert shown.view.verticalScrollBar().value() == shown.view.verticalScrollBar().maximum()


def test_older_messages_put_before_move_nothing_in_sight(shown: Shown) -> None:
    shown.scroll(-100_000)
    before = shown.places()
    shown.model.apply(shown.thread.load(HistoryPage(tuple(message(n) for n in range(900, 1000)), True), 1000))
    after = shown.places()
    assert len(after) >= 3
    assert {key: after[key] for key in before} == before
    assert shown.model.rowCount() == 300


def test_new_messages_follow_at_the_end_and_move_nothing_further_up(shown: Shown) -> None:
    shown.model.apply(shown.thread.arrive([message(1200)]))
    assert shown.view.is_at_bottom()
    assert shown.view.last_visible() == 200
    shown.scroll(-3000)
    before = shown.places()
    shown.model.apply(shown.thread.arrive([message(1201), message(1202)]))
    assert shown.places() == before
    assert not shown.view.is_at_bottom()
    shown.view.to_bottom()
    assert shown.view.last_visible() == 202


def test_a_message_that_fails_above_the_view_moves_nothing_in_sight(shown: Shown) -> None:
    for local_id in range(1, 30):
        shown.model.apply(
            shown.thread.update([Outgoing(local_id, TO_BEN, body(local_id), START_MS + 10**9, MessageStatus.WAITING)])
        )
    shown.view.to_bottom()
    first = shown.view.first_visible()
    assert first > 200, "the waiting ones fill the view"
    before = shown.places()
    failed = Outgoing(
        1, TO_BEN, body(1), START_MS + 10**9, MessageStatus.FAILED, detail="a reason that takes a line " * 9
    )
    shown.model.apply(shown.thread.update([failed]))
    assert shown.places() == before


def test_scrolling_down_and_up_again_returns_to_the_same_place(shown: Shown) -> None:
    shown.scroll(-4000)
    before = shown.places()
    for step in (-700, -50, -1200, 1200, 50, 700):
        shown.scroll(step)
    assert shown.places() == before


def test_a_resize_keeps_the_end_in_sight_and_a_short_thread_stands_at_the_bottom(qtbot: QtBot) -> None:
    short = Shown(qtbot, range(1, 4))
    last = short.view.visualRect(short.model.index(2))
    assert short.view.viewport().height() - last.bottom() <= 24
    short.view.resize(500, 420)
    QApplication.processEvents()
    assert short.view.is_at_bottom()
    assert short.view.verticalScrollBar().maximum() == 0


def test_the_keyboard_walks_through_rows_and_brings_them_into_sight(shown: Shown) -> None:
    shown.view.setCurrentIndex(shown.model.index(199))
    for _ in range(30):
        QTest.keyClick(shown.view, Qt.Key.Key_Up)
    row = shown.view.currentIndex().row()
    assert row == 169
    rect = shown.view.visualRect(shown.view.currentIndex())
    assert 0 <= rect.top() < shown.view.viewport().height()
    QTest.keyClick(shown.view, Qt.Key.Key_Home)
    assert shown.view.first_visible() == 0
    QTest.keyClick(shown.view, Qt.Key.Key_End)
    assert shown.view.is_at_bottom()


def test_a_click_on_a_link_opens_it_and_a_click_beside_does_not(qtbot: QtBot) -> None:
    one = Shown(qtbot, range(1, 2))
    one.model.apply(one.thread.arrive([message(2, "🎉 see https://example.org/a now")]))
    at = one.model.index(1)
    rect = one.view.visualRect(at)
    bubble = one.delegate.bubble_rect(one.model.row(1), rect)
    clicked: list[str] = []
    one.view.link_clicked.connect(clicked.append)
    QTest.mouseClick(
        one.view.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(int(bubble.left()) + 14, rect.bottom() - 14)
    )
    assert clicked == []
    QTest.mouseClick(
        one.view.viewport(), Qt.MouseButton.LeftButton, pos=QPoint(int(bubble.left()) + 120, rect.bottom() - 18)
    )
    assert clicked == ["https://example.org/a"]


def test_each_of_many_links_is_found_where_it_is_drawn(qtbot: QtBot) -> None:
    one = Shown(qtbot, range(1, 2))
    one.model.apply(one.thread.arrive([message(2, "🎉 https://example.org/a and https://example.org/b")]))
    row, rect = one.model.row(1), one.view.visualRect(one.model.index(1))
    bubble = one.delegate.bubble_rect(row, rect)
    y = round(bubble.top()) + 18
    found = [one.delegate.link_at(row, rect, QPoint(x, y)) for x in range(int(bubble.left()), int(bubble.right()))]
    assert list(dict.fromkeys(found)) == [None, "https://example.org/a", "https://example.org/b"]


def test_a_body_full_of_links_or_brackets_is_laid_out_in_a_time_that_grows_with_its_length_only(qtbot: QtBot) -> None:
    """Qt itself needs half of the time. What took the square of the length needed minutes."""
    one = Shown(qtbot, range(1, 2))
    bodies = ("https://a.b " * 20_000, "https://example.org/" + ")" * (1 << 20))
    one.model.apply(one.thread.arrive([message(number, text) for number, text in enumerate(bodies, start=2)]))
    began = time.process_time()
    for number in (1, 2):
        assert one.delegate.height(one.model.row(number), 800) > 400
    assert time.process_time() - began < 15


def test_what_could_mislead_a_reader_is_not_drawn(qtbot: QtBot) -> None:
    one = Shown(qtbot, range(1, 2))
    one.model.apply(one.thread.arrive([message(2, "pay\u202e eno\x07 now")]))
    assert one.delegate.laid_out_text(one.model.row(1), 800) == "pay� eno� now"


def test_markup_in_a_message_is_shown_as_it_was_typed(qtbot: QtBot) -> None:
    evil = "<b>bold</b> <img src=x> &amp; <a href='javascript:1'>x</a>"
    one = Shown(qtbot, range(1, 2))
    one.model.apply(one.thread.arrive([message(2, evil)]))
    assert one.delegate.laid_out_text(one.model.row(1), 800) == evil


def test_a_word_without_end_is_wrapped_into_the_bubble(qtbot: QtBot) -> None:
    one = Shown(qtbot, range(1, 2))
    one.model.apply(one.thread.arrive([message(2, "x" * 5000)]))
    bubble = one.delegate.bubble_rect(one.model.row(1), one.view.visualRect(one.model.index(1)))
    assert 0 <= bubble.left() < bubble.right() <= 800
    assert bubble.height() > 400


def test_people_who_listen_hear_who_when_what_and_how_far(shown: Shown) -> None:
    said = shown.model.data(shown.model.index(2), Qt.ItemDataRole.AccessibleTextRole)
    assert isinstance(said, str)
    assert said.startswith("You, ")
    assert "on a majority's disks" in said


class CountingDelegate(BubbleDelegate):
    """Records which rows are measured exactly, by their message ids."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.measured: set[int] = set()

    def height(self, row: Row, width: int) -> int:
        self.measured.add(row.message_id)
        return super().height(row, width)


def test_ten_thousand_messages_open_in_under_a_second_of_cpu_and_scroll_smoothly(qtbot: QtBot) -> None:
    """Times are CPU times of this process, so other processes of a busy machine do not count."""
    told = HistoryPage(tuple(message(n) for n in range(1, 10_001)), False)
    model, delegate = ThreadModel(), CountingDelegate(LIGHT, QApplication.font())
    view = ThreadView(model, delegate)
    qtbot.addWidget(view)
    view.resize(1000, 800)
    view.show()
    QApplication.processEvents()
    picture = QPixmap(view.viewport().size())
    begun = time.thread_time()
    thread = new_thread()
    thread.load(told, 0)
    model.show(thread.rows)
    view.viewport().render(picture)
    open_s = time.thread_time() - begun
    measured_to_open = len(delegate.measured)
    frames_ms = []
    bar = view.verticalScrollBar()
    for _ in range(400):
        before = time.thread_time()
        bar.setValue(bar.value() - 120)
        view.viewport().render(picture)
        frames_ms.append((time.thread_time() - before) * 1000)
    jump = time.thread_time()
    bar.setValue(bar.maximum() // 2)
    view.viewport().render(picture)
    jump_ms = (time.thread_time() - jump) * 1000
    figures = {
        "messages": 10_000,
        "rows_measured_to_open": measured_to_open,
        "rows_measured": len(delegate.measured),
        "open_s": round(open_s, 3),
        "frame_ms_median": round(statistics.median(frames_ms), 2),
        "frame_ms_p95": round(statistics.quantiles(frames_ms, n=20)[-1], 2),
        "frame_ms_max": round(max(frames_ms), 2),
        "jump_to_the_middle_ms": round(jump_ms, 2),
    }
    BUILD.mkdir(exist_ok=True)
    (BUILD / "gui-thread.json").write_text(json.dumps(figures, indent=2) + "\n")
    assert measured_to_open < 100, figures
    assert len(delegate.measured) < 2_000, figures
    assert open_s < 1.0, figures
    assert statistics.median(frames_ms) < 33.0, figures
    assert figures["frame_ms_p95"] < 100.0, figures
    assert jump_ms < 500, figures
