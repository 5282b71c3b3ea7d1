"""The whole window over a scripted SDK, its thread and queued signals included: every state people can meet."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QDesktopServices, QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from parley.errors import OutboxFullError, UnreachableError
from parley.gui.bridge import Bridge
from parley.gui.commands import Place
from parley.gui.desk import Screen, key_of
from parley.gui.theme import DARK, LIGHT
from parley.gui.window import Window
from parley.model import Phase, Status
from tests.gui.scripted import NODES, PASSWORD, ScriptedSdk

Keep = Callable[[Any], Any]
HERE = Place("127.0.0.2:7600")


class Desktop:
    """A window in front of a person, and the scripted SDK behind it."""

    def __init__(self, qtbot: QtBot, closing: Keep, sdk: ScriptedSdk | None = None) -> None:
        self.qtbot = qtbot
        self.sdk = sdk or ScriptedSdk()
        self.window = Window(LIGHT)
        self.bridge = Bridge(self.sdk.connect, self.window.desk.fold)
        self.window.attach(self.bridge)
        qtbot.addWidget(self.window)
        closing(self.bridge)
        self.bridge.start()
        self.window.show()
        self.window.activateWindow()
        self.until(self.window.isActiveWindow)

    def until(self, condition: Callable[[], object], timeout_ms: int = 60_000) -> None:
        """Waits while Qt's loop runs."""
        self.qtbot.waitUntil(lambda: bool(condition()), timeout=timeout_ms)

    def sign_in(self, account: str = "ann", password: str = PASSWORD) -> None:
        page = self.window.sign_in
        page.hosts.setText(HERE.hosts)
        page.account.setText(account)
        page.password.setText(password)
        QTest.keyClick(page.password, Qt.Key.Key_Return)

    def signed_in(self) -> Desktop:
        self.sign_in()
        self.until(lambda: self.window.desk.screen is Screen.CHAT)
        self.sdk.connected()
        self.until(lambda: self.status.startswith("Connected to n2"))
        return self

    def open(self, peer: str = "ben") -> Desktop:
        self.window.open_conversation(peer)
        self.until(lambda: self.verified(peer))
        return self

    def verified(self, peer: str) -> bool:
        thread = self.window.desk.thread(key_of(peer))
        return thread is not None and thread.verified_from is not None

    def type(self, text: str, *, enter: bool = True) -> None:
        editor = self.window.chat.composer.editor
        editor.setFocus()
        QTest.keyClicks(editor, text)
        if enter:
            QTest.keyClick(editor, Qt.Key.Key_Return)

    def shows(self, *rows: tuple[str, Status | None]) -> bool:
        return self.rows == list(rows)

    def has_rows(self, count: int) -> bool:
        return len(self.rows) == count

    @property
    def status(self) -> str:
        return self.window.status.text

    @property
    def note(self) -> str:
        note = self.window.chat.composer.note
        return note.text() if note.isVisible() else ""

    @property
    def field(self) -> str:
        return self.window.chat.composer.editor.toPlainText()

    @property
    def rows(self) -> list[tuple[str, Status | None]]:
        model = self.window.chat.rows
        return [(model.row(at).body, model.row(at).status) for at in range(model.rowCount())]

    @property
    def lines(self) -> list[tuple[str, str, int]]:
        model = self.window.chat.lines
        found = [model.line(at) for at in range(model.rowCount())]
        return [(line.peer, line.preview, line.unread) for line in found]


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep) -> Desktop:
    return Desktop(qtbot, closing)


# ---- signing in


def test_sign_in_says_in_words_what_is_wrong_and_then_lets_in(desktop: Desktop) -> None:
    page = desktop.window.sign_in
    desktop.sign_in(password="wrong horse")
    desktop.until(page.problem.isVisible)
    assert "does not know this name with this password" in page.problem.text()
    assert page.submit.isEnabled()
    desktop.sign_in()
    desktop.until(lambda: desktop.window.desk.screen is Screen.CHAT)
    assert desktop.window.chat.isVisible()
    assert page.password.text() == "", "no password stays in a field"


@pytest.mark.parametrize(
    ("hosts", "account", "password", "said"),
    [
        ("", "ann", "x", "Say where a node listens"),
        ("localhost", "ann", "x", "has no port"),
        ("localhost:9-1", "ann", "x", "runs backwards"),
        ("localhost:7600-7602", "a b", "x", "cannot be an account name"),
        ("localhost:7600-7602", "ann", "", "password is missing"),
    ],
)
def test_what_cannot_be_meant_is_said_before_anybody_is_asked(
    desktop: Desktop, hosts: str, account: str, password: str, said: str
) -> None:
    page = desktop.window.sign_in
    page.hosts.setText(hosts)
    page.account.setText(account)
    page.password.setText(password)
    page.submit.click()
    assert said in page.problem.text()
    assert page.problem.isVisible()
    assert desktop.sdk.entered == 0


def test_a_new_account_is_created_and_signed_in_at_once(desktop: Desktop) -> None:
    page = desktop.window.sign_in
    page.hosts.setText(HERE.hosts)
    page.account.setText("zoe")
    page.password.setText("short")
    page.create_button.click()
    assert "at least 8" in page.problem.text()
    page.password.setText("long enough")
    page.create_button.click()
    desktop.until(lambda: desktop.window.desk.account == "zoe")
    assert desktop.sdk.accounts["zoe"] == "long enough"


def test_a_remembered_session_goes_on_without_a_password(qtbot: QtBot, closing: Keep) -> None:
    sdk = ScriptedSdk()
    sdk.session_of = "ann"
    desktop = Desktop(qtbot, closing, sdk)
    desktop.window.resume(HERE, "ann")
    desktop.until(lambda: desktop.window.desk.account == "ann")


def test_without_a_session_the_first_page_waits_with_what_is_remembered(desktop: Desktop) -> None:
    desktop.window.resume(Place("h:1, h:2-3", Path("ca.pem")), "ann")
    page = desktop.window.sign_in
    desktop.until(page.submit.isEnabled)
    assert (page.hosts.text(), page.ca.text(), page.account.text()) == ("h:1, h:2-3", "ca.pem", "ann")
    assert page.password.hasFocus()


def test_a_client_that_cannot_even_begin_is_told_in_words_and_can_be_tried_again(qtbot: QtBot, closing: Keep) -> None:
    sdk = ScriptedSdk()
    sdk.refuse_entry = UnreachableError("The CA file cannot be read.")
    desktop = Desktop(qtbot, closing, sdk)
    desktop.sign_in()
    desktop.until(desktop.window.sign_in.problem.isVisible)
    assert "CA file" in desktop.window.sign_in.problem.text()
    sdk.refuse_entry = None
    desktop.sign_in()
    desktop.until(lambda: desktop.window.desk.screen is Screen.CHAT)


def test_signing_out_and_a_session_that_ends_lead_back_to_the_first_page(desktop: Desktop) -> None:
    desktop.signed_in()
    desktop.window.commands.sign_out()
    desktop.until(lambda: desktop.window.desk.screen is Screen.SIGN_IN)
    desktop.signed_in()
    desktop.sdk.state(phase=Phase.SIGNED_OUT)
    desktop.until(desktop.window.sign_in.problem.isVisible)
    assert "session has ended" in desktop.window.sign_in.problem.text()


def test_signing_out_while_nobody_can_be_reached_is_refused_in_words_and_changes_nothing(desktop: Desktop) -> None:
    desktop.signed_in().open()
    desktop.type("still mine", enter=False)
    desktop.sdk.unreachable = True
    desktop.window.commands.sign_out()
    desktop.until(lambda: "could be reached" in desktop.note)
    assert desktop.window.desk.screen is Screen.CHAT
    assert desktop.field == "still mine"


# ---- messages


def test_an_own_message_shows_every_step_it_takes(desktop: Desktop) -> None:
    desktop.signed_in().open()
    desktop.type("hello")
    desktop.until(lambda: desktop.rows == [("hello", Status.WAITING)])
    assert desktop.field == ""
    for status in (Status.SENDING, Status.ACCEPTED):
        desktop.sdk.settle(1, status)
        desktop.until(partial(desktop.shows, ("hello", status)))
    desktop.sdk.mark("ben", 1, 0)
    desktop.until(lambda: desktop.rows == [("hello", Status.DELIVERED)])
    desktop.sdk.mark("ben", 1, 1)
    desktop.until(lambda: desktop.rows == [("hello", Status.READ)])
    desktop.until(lambda: desktop.lines == [("ben", "hello", 0)])


def test_a_refused_message_says_why_and_can_be_sent_again_or_removed(desktop: Desktop) -> None:
    desktop.signed_in().open()
    desktop.type("one")
    desktop.type("two")
    desktop.until(lambda: len(desktop.rows) == 2)
    for local_id in (1, 2):
        desktop.sdk.settle(local_id, Status.FAILED, "there is no such account")
    desktop.until(lambda: [status for _, status in desktop.rows] == [Status.FAILED, Status.FAILED])
    view = desktop.window.chat.view
    view.setFocus()
    view.setCurrentIndex(desktop.window.chat.rows.index(0))
    QTest.keyClick(view, Qt.Key.Key_Delete)
    desktop.until(lambda: desktop.rows == [("two", Status.FAILED)])
    QTest.keyClick(desktop.window, Qt.Key.Key_R, Qt.KeyboardModifier.ControlModifier)
    desktop.until(lambda: desktop.rows == [("two", Status.WAITING)])


def test_a_waiting_message_can_be_edited_by_keyboard_alone_while_the_draft_stands_aside(desktop: Desktop) -> None:
    desktop.signed_in().open()
    desktop.type("frist")
    desktop.until(lambda: desktop.rows == [("frist", Status.WAITING)])
    editor = desktop.window.chat.composer.editor
    QTest.keyClick(editor, Qt.Key.Key_Up)
    assert desktop.field == "frist"
    assert "Editing" in desktop.note
    QTest.keyClick(editor, Qt.Key.Key_Escape)
    assert (desktop.field, desktop.note) == ("", "")
    QTest.keyClick(editor, Qt.Key.Key_Up)
    editor.selectAll()
    desktop.type("first")
    desktop.until(lambda: desktop.rows == [("first", Status.WAITING)])
    assert desktop.field == ""


def test_a_message_that_goes_out_while_it_is_edited_loses_no_text(desktop: Desktop) -> None:
    desktop.signed_in().open()
    desktop.type("before")
    desktop.until(lambda: desktop.rows == [("before", Status.WAITING)])
    QTest.keyClick(desktop.window.chat.composer.editor, Qt.Key.Key_Up)
    desktop.type(" and after", enter=False)
    desktop.sdk.settle(1, Status.SENDING)
    desktop.until(lambda: "handed to the cluster" in desktop.note)
    assert desktop.field == "before and after"
    assert desktop.window.chat.composer.editing is None


def test_a_waiting_message_can_be_cancelled_from_its_menu(desktop: Desktop) -> None:
    desktop.signed_in().open()
    desktop.type("oops https://example.org/x")
    desktop.until(lambda: len(desktop.rows) == 1)
    menu = desktop.window.row_menu(desktop.window.chat.rows.row(0))
    texts = [action.text().split("\t")[0] for action in menu.actions()]
    assert texts == ["Copy", "Open https://example.org/x", "Edit", "Do not send"]
    menu.actions()[0].trigger()
    assert QGuiApplication.clipboard().text() == "oops https://example.org/x"
    menu.actions()[-1].trigger()
    desktop.until(lambda: desktop.rows == [])


def test_a_message_the_outbox_does_not_take_comes_back_with_the_reason(desktop: Desktop) -> None:
    desktop.signed_in().open()
    desktop.sdk.refuse_sends = OutboxFullError("The outbox is full.")
    desktop.type("precious")
    desktop.until(lambda: "outbox is full" in desktop.note)
    assert desktop.field == "precious"


def test_shift_enter_begins_a_line_and_nothing_empty_is_sent(desktop: Desktop) -> None:
    desktop.signed_in().open()
    editor = desktop.window.chat.composer.editor
    height = editor.height()
    desktop.type("   ")
    desktop.type("", enter=False)
    editor.clear()
    desktop.type("a", enter=False)
    QTest.keyClick(editor, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    desktop.type("b", enter=False)
    assert editor.height() > height
    desktop.type("")
    desktop.until(lambda: desktop.rows == [("a\nb", Status.WAITING)])


def test_a_text_too_long_is_not_sent_and_stays(desktop: Desktop) -> None:
    desktop.signed_in()
    desktop.sdk.state(max_message_bytes=100)
    desktop.until(lambda: desktop.window.desk.state.max_message_bytes == 100)
    desktop.open()
    desktop.window.chat.composer.editor.setPlainText("ä" * 60)
    assert desktop.note == "20 bytes too long to send."
    desktop.type("")
    assert desktop.field == "ä" * 60
    assert desktop.sdk.outbox == {}


def test_links_open_in_the_browser_by_keyboard_too(desktop: Desktop, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr(QDesktopServices, "openUrl", lambda url: opened.append(url.toString()))
    desktop.signed_in().open()
    desktop.sdk.arrive("ben", "look https://example.org/page now")
    desktop.until(lambda: len(desktop.rows) == 1)
    view = desktop.window.chat.view
    view.setFocus()
    view.setCurrentIndex(desktop.window.chat.rows.index(0))
    QTest.keyClick(view, Qt.Key.Key_Return)
    assert opened == ["https://example.org/page"]


# ---- conversations


def test_messages_of_others_count_until_they_are_seen(desktop: Desktop) -> None:
    desktop.signed_in()
    desktop.sdk.arrive("ben", "one", "two")
    desktop.until(lambda: desktop.lines == [("ben", "two", 2)])
    assert desktop.window.windowTitle().startswith("(2)")
    desktop.open()
    desktop.until(lambda: desktop.lines == [("ben", "two", 0)])
    assert desktop.sdk.read[-1][1] == 2
    assert desktop.window.chat.rows.row(0).unread_above


def test_drafts_are_kept_for_each_conversation_and_over_a_restart(
    desktop: Desktop, qtbot: QtBot, closing: Keep
) -> None:
    desktop.signed_in().open()
    desktop.type("to ben", enter=False)
    desktop.open("dana")
    assert desktop.field == ""
    desktop.type("to dana", enter=False)
    desktop.window.open_conversation("ben")
    assert desktop.field == "to ben"
    desktop.window.close()
    desktop.bridge.stop()
    assert desktop.sdk.drafts == {"ben": "to ben", "dana": "to dana"}
    again = Desktop(qtbot, closing, desktop.sdk).signed_in().open("dana")
    again.until(lambda: again.field == "to dana")


def test_waiting_messages_survive_a_restart_of_the_window(desktop: Desktop, qtbot: QtBot, closing: Keep) -> None:
    desktop.signed_in().open()
    desktop.type("still here")
    desktop.until(lambda: desktop.rows == [("still here", Status.WAITING)])
    desktop.window.close()
    desktop.bridge.stop()
    again = Desktop(qtbot, closing, desktop.sdk).signed_in().open()
    again.until(lambda: again.rows == [("still here", Status.WAITING)])


def test_a_new_conversation_completes_names_the_cluster_knows(desktop: Desktop) -> None:
    desktop.signed_in()
    QTest.keyClick(desktop.window, Qt.Key.Key_N, Qt.KeyboardModifier.ControlModifier)
    finder = desktop.window.finder
    assert finder is not None
    QTest.keyClicks(finder.field, "be")
    desktop.until(lambda: finder.names.stringList() == ["bella", "ben"])
    QTest.keyClick(finder.field, Qt.Key.Key_Down)
    QTest.keyClick(finder.field, Qt.Key.Key_Return)
    desktop.until(lambda: desktop.window.desk.open_key == key_of("ben"))
    assert desktop.window.focusWidget() is desktop.window.chat.composer.editor


def test_conversations_are_switched_by_keyboard(desktop: Desktop) -> None:
    desktop.signed_in()
    desktop.sdk.arrive("ben", "b")
    desktop.sdk.arrive("dana", "d")
    desktop.until(lambda: [peer for peer, _, _ in desktop.lines] == ["dana", "ben"])
    window, alt = desktop.window, Qt.KeyboardModifier.AltModifier
    QTest.keyClick(window, Qt.Key.Key_Down, alt)
    assert window.desk.open_key == key_of("dana")
    QTest.keyClick(window, Qt.Key.Key_Down, alt)
    assert window.desk.open_key == key_of("ben")
    QTest.keyClick(window, Qt.Key.Key_Up, alt)
    assert window.desk.open_key == key_of("dana")
    QTest.keyClick(window, Qt.Key.Key_K, Qt.KeyboardModifier.ControlModifier)
    assert window.finder is not None
    QTest.keyClicks(window.finder.field, "be")
    QTest.keyClick(window.finder.field, Qt.Key.Key_Return)
    assert window.desk.open_key == key_of("ben")
    QTest.keyClick(window, Qt.Key.Key_L, Qt.KeyboardModifier.ControlModifier)
    assert window.chat.list.hasFocus()


def test_whoever_clicks_a_conversation_can_write_at_once(desktop: Desktop) -> None:
    desktop.signed_in()
    desktop.sdk.arrive("ben", "b")
    desktop.until(lambda: desktop.lines)
    line = desktop.window.chat.list.visualRect(desktop.window.chat.lines.index(0))
    QTest.mouseClick(desktop.window.chat.list.viewport(), Qt.MouseButton.LeftButton, pos=line.center())
    assert desktop.window.desk.open_key == key_of("ben")
    assert desktop.window.focusWidget() is desktop.window.chat.composer.editor


def test_history_loads_upwards_until_its_beginning_without_jumping(desktop: Desktop) -> None:
    for number in range(1, 251):
        desktop.sdk.stored("ben", f"message {number}")
    desktop.signed_in().open()
    desktop.until(lambda: len(desktop.rows) == 100)
    view = desktop.window.chat.view
    assert view.is_at_bottom()
    for wanted in (200, 250):
        view.verticalScrollBar().setValue(0)
        desktop.until(partial(desktop.has_rows, wanted))
    assert [body for body, _ in desktop.rows] == [f"message {number}" for number in range(1, 251)]
    assert desktop.sdk.history_asked == [("ben", 0), ("ben", 151), ("ben", 51)]
    assert view.first_visible() > 0, "what was in sight stayed in sight"


# ---- the cluster


def test_a_lost_node_is_told_and_the_line_clears_by_itself(desktop: Desktop) -> None:
    desktop.signed_in().open()
    desktop.sdk.state(phase=Phase.SEARCHING, node="", lost="n2", trying="n3")
    desktop.type("one")
    desktop.type("two")
    desktop.until(lambda: desktop.status.startswith("n2 lost, trying n3, 2 messages waiting"))
    assert desktop.rows == [("one", Status.WAITING), ("two", Status.WAITING)]
    desktop.sdk.connected("n3")
    for local_id in (1, 2):
        desktop.sdk.settle(local_id, Status.ACCEPTED)
    desktop.until(lambda: desktop.status.startswith("Connected to n3") and "waiting" not in desktop.status)
    assert desktop.rows == [("one", Status.ACCEPTED), ("two", Status.ACCEPTED)]


def test_without_a_majority_people_write_on_and_read(desktop: Desktop) -> None:
    desktop.sdk.stored("ben", "older")
    desktop.signed_in().open()
    alone = tuple(replace(node, up=node.name == "n2") for node in NODES)
    desktop.sdk.state(phase=Phase.NO_MAJORITY, has_majority=False, nodes=alone)
    desktop.until(lambda: desktop.status.startswith("No majority of nodes"))
    desktop.type("kept")
    desktop.until(lambda: desktop.rows == [("older", None), ("kept", Status.WAITING)])
    desktop.until(lambda: "1 message waiting" in desktop.status)
    assert desktop.window.chat.composer.editor.isEnabled()


def test_a_conversation_opened_while_nobody_can_be_reached_is_filled_after_the_reconnect(desktop: Desktop) -> None:
    desktop.sdk.stored("ben", "from before")
    desktop.signed_in()
    desktop.sdk.unreachable = True
    desktop.sdk.state(phase=Phase.SEARCHING, trying="n1")
    desktop.window.open_conversation("ben")
    desktop.until(lambda: ("ben", 0) in desktop.sdk.history_asked)
    assert desktop.rows == []
    desktop.sdk.unreachable = False
    desktop.sdk.connected("n1")
    desktop.until(lambda: desktop.rows == [("from before", None)])


# ---- the desktop around it


def test_messages_in_the_background_are_announced_and_stay_unread(desktop: Desktop, qtbot: QtBot) -> None:
    desktop.signed_in().open()
    elsewhere = QWidget()
    qtbot.addWidget(elsewhere)
    elsewhere.show()
    elsewhere.activateWindow()
    desktop.until(lambda: not desktop.window.isActiveWindow())
    shown: list[tuple[str, str]] = []
    desktop.window.notifier.shown.connect(lambda title, text: shown.append((title, text)))
    desktop.sdk.arrive("ben", "are you there?")
    desktop.until(lambda: shown == [("ben", "are you there?")])
    assert desktop.lines == [("ben", "are you there?", 1)]
    assert desktop.window.chat.rows.row(0).unread_above
    desktop.window.activateWindow()
    desktop.until(lambda: desktop.lines == [("ben", "are you there?", 0)])


def test_everything_a_person_can_reach_has_a_name(desktop: Desktop) -> None:
    desktop.signed_in().open()
    for page in (desktop.window.sign_in, desktop.window.chat):
        reachable = [
            widget
            for widget in page.findChildren(QWidget)
            if widget.focusPolicy() & Qt.FocusPolicy.TabFocus and type(widget).__name__ != "QSplitterHandle"
        ]
        assert len(reachable) >= 6
        nameless = [w for w in reachable if not (w.accessibleName() or getattr(w, "text", lambda: "")())]
        assert nameless == []


def test_colours_follow_the_system_and_texts_can_be_read(desktop: Desktop) -> None:
    desktop.signed_in()
    desktop.window.restyle(DARK)
    assert desktop.window.chat.view.grab().toImage().pixelColor(5, 5).lightness() < 60
    desktop.window.restyle(LIGHT)
    assert desktop.window.chat.view.grab().toImage().pixelColor(5, 5).lightness() > 230
    pairs = (
        ("text", "window"), ("text", "side"), ("quiet", "side"), ("quiet", "window"), ("own_text", "own"),
        ("own_quiet", "own"), ("own_link", "own"), ("other_text", "other"), ("other_quiet", "other"), ("link", "other"),
        ("warn_text", "warn_soft"), ("bad_text", "bad_soft"), ("on_accent", "accent"), ("own_quiet", "window"),
        ("warn_text", "window"), ("quiet", "accent_soft"),
    )  # fmt: skip
    for theme in (LIGHT, DARK):
        faint = [(a, b) for a, b in pairs if contrast(theme.color(a), theme.color(b)) < 4.5]
        assert faint == [], theme.dark


def contrast(one: QColor, other: QColor) -> float:
    """As WCAG counts it."""

    def luminance(color: QColor) -> float:
        shares: list[float] = [color.redF(), color.greenF(), color.blueF()]
        parts = [c / 12.92 if c <= 0.03928 else math.pow((c + 0.055) / 1.055, 2.4) for c in shares]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
