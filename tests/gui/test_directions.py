"""The window begins where the language of the system does, and every text keeps its own direction."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PySide6.QtCore import QLocale, QPoint, QRect, Qt
from PySide6.QtWidgets import QApplication, QPushButton
from pytestqt.qtbot import QtBot

from parley.gui import direction
from parley.gui.composer import Composer
from parley.gui.conversations import AVATAR
from parley.gui.direction import FROM_LEFT, FROM_RIGHT, Sentence, apart, follow_system, isolated, own_direction
from parley.gui.paragraphs import MOST_LAYOUTS, Paragraphs, directed
from parley.gui.theme import GRID, LIGHT
from tests.gui.test_main_window import Desktop, Keep
from tests.gui.test_thread_view import Shown
from tests.gui.test_thread_view import message as said

ARABIC, HEBREW = "صباح الخير", "בוקר טוב"
STARTED = """
import sys
from pathlib import Path
from parley.gui import app_window
from parley.gui.commands import ClusterAddress

class Application(app_window.QApplication):
    def exec(self):
        print(self.layoutDirection().name)
        return 0

app_window.QApplication = Application
app_window.main(ClusterAddress("", None), "", Path(sys.argv[1]), None, app_window.Beginning())
"""


@pytest.fixture
def from_right(qapp: QApplication) -> Iterator[None]:
    """The language of the system is written from the right."""
    qapp.setLayoutDirection(FROM_RIGHT)
    yield
    qapp.setLayoutDirection(FROM_LEFT)


# ---- the window


def test_the_window_begins_where_the_language_of_the_system_does(tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if name not in ("LC_ALL", "LANGUAGE")}
    chosen = kept | {"LANG": "en_GB.UTF-8", "LC_MESSAGES": "he_IL.UTF-8"}
    command = [sys.executable, "-c", STARTED, str(tmp_path)]
    run = subprocess.run(command, env=chosen, capture_output=True, text=True, check=True, timeout=60)
    assert run.stdout.strip() == FROM_RIGHT.name


@pytest.mark.parametrize(
    ("language", "expected"),
    [("ar_EG", FROM_RIGHT), ("fa_IR", FROM_RIGHT), ("ur_PK", FROM_RIGHT), ("de_DE", FROM_LEFT), ("C", FROM_LEFT)],
)
def test_other_languages_are_known(
    language: str,
    expected: Qt.LayoutDirection,
    qapp: QApplication,
    monkeypatch: pytest.MonkeyPatch,
    from_right: None,
) -> None:
    class System:
        @staticmethod
        def system() -> QLocale:
            return QLocale(language)

    monkeypatch.setattr(direction, "QLocale", System)
    follow_system(qapp)
    assert qapp.layoutDirection() == expected


def test_in_a_window_from_the_right_everything_stands_at_the_other_side(
    from_right: None, qtbot: QtBot, closing: Keep
) -> None:
    desktop = Desktop(qtbot, closing).signed_in().open()
    desktop.sdk.arrive("ben", "hello")
    desktop.type("hello to you")
    desktop.until(lambda: len(desktop.rows) == 2)
    chat = desktop.window.chat
    assert chat.list.mapTo(chat, QPoint()).x() > chat.view.mapTo(chat, QPoint()).x()
    assert chat.view.verticalScrollBar().mapTo(chat.view, QPoint()).x() == 0
    assert chat.composer.button.x() < chat.composer.field.x()
    middle = chat.view.viewport().width() / 2
    rects = [chat.bubbles.bubble_rect(chat.rows.row(at), chat.view.visualRect(chat.rows.index(at))) for at in (0, 1)]
    theirs, mine = rects if not chat.rows.row(0).mine else rects[::-1]
    assert theirs.left() > middle > mine.right()
    field = chat.composer.field
    assert (
        field.mapTo(chat, field.rect().topRight()).x()
        == chat.view.mapTo(chat, QPoint()).x() + chat.view.width() - 24 - 1
    )
    back = chat.findChild(QPushButton, "back")
    assert isinstance(back, QPushButton)
    assert back.text() == "→"


def test_the_list_has_its_discs_where_the_window_begins(qapp: QApplication, qtbot: QtBot, closing: Keep) -> None:
    desktop = Desktop(qtbot, closing).signed_in()
    desktop.sdk.arrive("ben", "hello")
    desktop.until(lambda: desktop.items)
    chats = desktop.window.chat.list
    disc = 2 * GRID + AVATAR // 2
    ground = chats.palette().base().color()
    for side in (FROM_LEFT, FROM_RIGHT):
        qapp.setLayoutDirection(side)
        try:
            picture = chats.viewport().grab().toImage()
        finally:
            qapp.setLayoutDirection(FROM_LEFT)
        y = chats.visualRect(chats.model().index(0, 0)).center().y() - AVATAR // 3
        at = {FROM_LEFT: disc, FROM_RIGHT: picture.width() - disc}
        other = FROM_RIGHT if side == FROM_LEFT else FROM_LEFT
        assert picture.pixelColor(at[side], y) != picture.pixelColor(at[other], y), ground.name()
        assert picture.pixelColor(at[side], y).hslSaturation() > picture.pixelColor(at[other], y).hslSaturation()


def test_the_way_to_the_latest_message_covers_neither_bubbles_nor_the_scroll_bar(
    from_right: None, qtbot: QtBot, closing: Keep
) -> None:
    desktop = Desktop(qtbot, closing).signed_in().open()
    chat = desktop.window.chat
    chat.show_latest_button(3)
    chat.latest.show()
    chat._place_overlays()
    area = chat.view.viewport().geometry()
    assert area.contains(chat.latest.geometry())
    assert chat.latest.geometry().left() == area.left() + 2 * GRID
    assert "3 new messages" in chat.latest.text()
    assert chat.latest.text() == apart("↓  3 new messages") != "↓  3 new messages"


# ---- messages


def test_each_paragraph_has_the_direction_of_its_first_letter() -> None:
    body = f"1. one\n{ARABIC} (two)\n12:30\n- {HEBREW}\nthree"
    assert directed(body) == [
        ("1. one", FROM_LEFT),
        (f"{ARABIC} (two)\n12:30\n- {HEBREW}", FROM_RIGHT),
        ("three", FROM_LEFT),
    ]
    assert directed(f"12:30\n{ARABIC}") == [(f"12:30\n{ARABIC}", FROM_RIGHT)]
    assert directed("12:30\n👍") == [("12:30\n👍", FROM_LEFT)]


def test_a_body_of_letters_in_turn_stays_quick_and_whole(qapp: QApplication) -> None:
    body = f"a\n{HEBREW[0]}\n" * 13_000
    parts = directed(body)
    assert len(parts) == MOST_LAYOUTS
    assert "\n".join(text for text, _ in parts) == body
    begin = time.process_time()
    assert Paragraphs(body, qapp.font(), 300).text == body
    assert time.process_time() - begin < 10, "the same as a body of as many lines in one direction"


def test_lines_from_the_right_end_where_their_bubble_does(qtbot: QtBot) -> None:
    text = Paragraphs(f"a long line of latin letters\n{ARABIC}", QApplication.font(), 400)
    width, line_direction = text.last_line
    assert line_direction == FROM_RIGHT
    assert width < text.width
    right = text._parts[1].layout.lineAt(0).naturalTextRect()
    assert right.right() == pytest.approx(text.width, abs=1)
    assert right.left() > 1
    left = text._parts[0].layout.lineAt(0).naturalTextRect()
    assert left.left() == pytest.approx(0, abs=1)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("body", [ARABIC, "Good morning", f"{ARABIC} " * 30, "Good morning to you. " * 30, "🎉"])
def test_the_time_never_covers_the_text(qtbot: QtBot, qapp: QApplication, body: str, turned: bool) -> None:
    qapp.setLayoutDirection(FROM_RIGHT if turned else FROM_LEFT)
    try:
        one = Shown(qtbot, range(1, 2))
        one.model.apply(one.thread.arrive([said(2, body)]))
        row = one.model.row(1)
        width = one.view.viewport().width()
        layout = one.delegate._layout(row, width)
        inner = QRect(0, 0, round(layout.size[0]), round(layout.size[1]))
        assert inner.contains(layout.footer.toAlignedRect())
        for part in layout.text._parts:
            for number in range(part.layout.lineCount()):
                line = part.layout.lineAt(number).naturalTextRect().translated(12, 8 + part.top)
                shared = line.intersected(layout.footer.adjusted(0, 3, 0, 0))
                assert shared.width() <= 1 or shared.height() <= 1, (line, layout.footer)
                assert line.left() >= 11
                assert line.right() <= layout.size[0] - 11
    finally:
        qapp.setLayoutDirection(FROM_LEFT)


def test_a_link_in_a_later_paragraph_from_the_right_can_be_clicked(qtbot: QtBot) -> None:
    one = Shown(qtbot, range(1, 2))
    url = "https://ward.example/7"
    one.model.apply(one.thread.arrive([said(2, f"see 🎉\n{ARABIC} {url} {ARABIC}\nand https://ward.example/8")]))
    row, rect = one.model.row(1), one.view.visualRect(one.model.index(1))
    bubble = one.delegate.bubble_rect(row, rect)
    found = {
        one.delegate.link_at(row, rect, QPoint(x, y))
        for x in range(round(bubble.left()), round(bubble.right()), 3)
        for y in range(round(bubble.top()), round(bubble.bottom()), 6)
    }
    assert found == {None, url, "https://ward.example/8"}


# ---- names and the texts of the window


def test_a_name_cannot_turn_what_stands_beside_it(qtbot: QtBot, closing: Keep) -> None:
    desktop = Desktop(qtbot, closing).signed_in().open()
    desktop.sdk.arrive("ben", "pay \u202e100\u202c now\u2067")
    desktop.until(lambda: desktop.rows)
    row = desktop.window.chat.rows.row(0)
    drawn = desktop.window.chat.bubbles.laid_out_text(row, 600)
    assert not set(drawn) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")
    assert own_direction(drawn) == FROM_LEFT


def test_what_was_said_keeps_its_direction_behind_a_name() -> None:
    assert isolated(f"dana: {ARABIC}.") == f"dana: \u2068{ARABIC}.\u2069"
    assert isolated("dana: hello.") == "dana: hello."
    assert isolated(f"{HEBREW}: hello.") == f"{HEBREW}: \u2068hello.\u2069"


def test_a_sentence_stands_where_the_window_begins(from_right: None, qtbot: QtBot) -> None:
    sentence = Sentence("Nobody else is here.")
    qtbot.addWidget(sentence)
    sentence.resize(600, 40)
    sentence.show()
    assert ink(sentence)[0] > 300
    sentence.setText(HEBREW)
    assert ink(sentence)[0] > 300
    QApplication.setLayoutDirection(FROM_LEFT)
    assert ink(sentence)[1] < 300
    sentence.setText("Nobody else is here.")
    assert ink(sentence)[1] < 300


def ink(sentence: Sentence) -> tuple[int, int]:
    """The first and the last column of a label that something is drawn in."""
    picture = sentence.grab().toImage()
    ground = picture.pixel(300, 1)
    rows, columns = range(0, picture.height(), 2), range(picture.width())
    drawn = [x for x in columns if any(picture.pixel(x, y) != ground for y in rows)]
    return drawn[0], drawn[-1]


def test_the_field_begins_where_its_first_letter_does(qtbot: QtBot) -> None:
    composer = Composer(LIGHT)
    qtbot.addWidget(composer)
    composer.resize(600, 80)
    composer.show()
    editor = composer.editor
    middle = editor.viewport().width() / 2
    for text, is_left in (("Good morning", True), (ARABIC, False), ("12:30", True), (f"12 {HEBREW}\nhello", False)):
        editor.setPlainText(text)
        assert (editor.cursorRect().x() < middle) is is_left, text
