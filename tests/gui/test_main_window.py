"""The whole window over a scripted SDK, its thread and queued signals included: every state people can meet."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QColor, QDesktopServices, QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QWidget
from pytestqt.qtbot import QtBot

from parley import (
    ConnectionState,
    HistoryPage,
    MessageKind,
    MessageStatus,
    OutboxFullError,
    StoreError,
    Target,
    UnreachableError,
    WrongPasswordError,
)
from parley.chat import known_of
from parley.gui.app_state import VisiblePage
from parley.gui.bridge import Bridge
from parley.gui.commands import ClusterAddress
from parley.gui.main_window import MainWindow
from parley.gui.notifier import Gathered, summaries
from parley.gui.theme import DARK, LIGHT
from tests.gui.scripted import NODES, PASSWORD, WARD, ScriptedSdk, direct

Keep = Callable[[Any], Any]
HERE = ClusterAddress("127.0.0.2:7600")


class Desktop:
    """A window in front of a person, and the scripted SDK behind it."""

    def __init__(self, qtbot: QtBot, closing: Keep, sdk: ScriptedSdk | None = None) -> None:
        self.qtbot = qtbot
        self.sdk = sdk or ScriptedSdk()
        self.window = MainWindow(LIGHT)
        self.bridge = Bridge(self.sdk.connect, self.window.app_state.apply)
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

    def announced(self) -> list[tuple[str, str]]:
        """The person works in another window; the list is filled with what is announced from now on."""
        elsewhere = QWidget()
        self.qtbot.addWidget(elsewhere)
        elsewhere.show()
        elsewhere.activateWindow()
        self.until(lambda: not self.window.isActiveWindow())
        shown: list[tuple[str, str]] = []
        self.window.notifier.shown.connect(lambda title, text: shown.append((title, text)))
        return shown

    def sign_in(self, account: str = "ann", password: str = PASSWORD) -> None:
        page = self.window.sign_in
        page.hosts.setText(HERE.hosts)
        page.account.setText(account)
        page.password.setText(password)
        QTest.keyClick(page.password, Qt.Key.Key_Return)

    def signed_in(self) -> Desktop:
        self.sign_in()
        self.until(lambda: self.window.app_state.page is VisiblePage.CHAT)
        self.sdk.connected()
        self.until(lambda: self.status.startswith("Connected to n2"))
        return self

    def open(self, target: str | Target = "ben") -> Desktop:
        self.window.open_conversation(target)
        self.until(lambda: self.verified(target))
        return self

    def verified(self, target: str | Target) -> bool:
        chats = self.window.app_state.chats
        thread = chats.thread(chats.key_of(target))
        return thread is not None and thread.verified_from is not None

    @property
    def open_title(self) -> str:
        key = self.window.app_state.open_key
        return "" if key is None else self.window.app_state.chats.title(key)

    def type(self, text: str, *, enter: bool = True) -> None:
        editor = self.window.chat.composer.editor
        editor.setFocus()
        QTest.keyClicks(editor, text)
        if enter:
            QTest.keyClick(editor, Qt.Key.Key_Return)

    def shows(self, *rows: tuple[str, MessageStatus | None]) -> bool:
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
    def rows(self) -> list[tuple[str, MessageStatus | None]]:
        model = self.window.chat.rows
        return [(model.row(at).body, model.row(at).status) for at in range(model.rowCount())]

    @property
    def items(self) -> list[tuple[str, str, int]]:
        model = self.window.chat.items
        found = [model.item(at) for at in range(model.rowCount())]
        return [(item.title, item.preview, item.unread) for item in found]


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep) -> Desktop:
    return Desktop(qtbot, closing)


# ---- signing in


@pytest.mark.parametrize(
    ("address", "checked"),
    [
        (ClusterAddress("localhost:7600", insecure=True), True),
        (ClusterAddress("localhost:7600,10.0.0.2:7600", insecure=True), False),
        (ClusterAddress("10.0.0.2:7600", insecure=True, insecure_network=True), True),
        (ClusterAddress("no address", insecure=True), False),
    ],
)
def test_a_remembered_log_in_without_encryption_is_offered_again_for_this_machine_only(
    desktop: Desktop, address: ClusterAddress, checked: bool
) -> None:
    form = desktop.window.sign_in
    form.fill(address, "ann")
    assert not form.insecure.isHidden()
    assert form.insecure.isChecked() is checked


def test_sign_in_says_in_words_what_is_wrong_and_then_lets_in(desktop: Desktop) -> None:
    page = desktop.window.sign_in
    desktop.sdk.refuse_login = WrongPasswordError("The cluster does not know this name with this password.")
    desktop.sign_in(password="wrong horse")
    desktop.until(page.problem.isVisible)
    assert "does not know this name with this password" in page.problem.text()
    assert page.submit.isEnabled()
    desktop.sdk.refuse_login = None
    desktop.sign_in()
    desktop.until(lambda: desktop.window.app_state.page is VisiblePage.CHAT)
    assert desktop.window.chat.isVisible()
    assert page.password.text() == "", "no password stays in a field"


@pytest.mark.parametrize(
    ("hosts", "account", "password", "said"),
    [
        ("", "ann", "x", "Name a node"),
        ("localhost", "ann", "x", "has no port"),
        ("localhost:9-1", "ann", "x", "reverse order"),
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


@pytest.mark.parametrize("ca", ["~nobody-has-this-name/ca.pem", "x" * 5_000])
def test_a_ca_that_is_no_file_is_said_before_anybody_is_asked(desktop: Desktop, ca: str) -> None:
    page = desktop.window.sign_in
    page.hosts.setText(HERE.hosts)
    page.ca.setText(ca)
    page.submit.click()
    assert "There is no file" in page.problem.text()
    assert desktop.sdk.entered == 0


def test_a_new_account_is_created_and_signed_in_at_once(desktop: Desktop) -> None:
    page = desktop.window.sign_in
    page.hosts.setText(HERE.hosts)
    page.account.setText("zoe")
    page.password.setText("short")
    page.create_button.click()
    assert "at least 8" in page.problem.text()
    page.password.setText("long enough")
    page.password.repeated.setText("long enough")
    page.create_button.click()
    desktop.until(lambda: desktop.window.app_state.account == "zoe")
    assert desktop.sdk.registered == [("zoe", "long enough", "")]
    assert desktop.sdk.logged_in == [("zoe", "long enough")]


def test_a_remembered_session_goes_on_without_a_password(qtbot: QtBot, closing: Keep) -> None:
    sdk = ScriptedSdk()
    sdk.session_of = "ann"
    desktop = Desktop(qtbot, closing, sdk)
    desktop.window.resume(HERE, "ann")
    desktop.until(lambda: desktop.window.app_state.account == "ann")


def test_without_a_session_the_first_page_waits_with_what_is_remembered(desktop: Desktop) -> None:
    desktop.window.resume(ClusterAddress("h:1, h:2-3", Path("ca.pem")), "ann")
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
    desktop.until(lambda: desktop.window.app_state.page is VisiblePage.CHAT)


def test_signing_out_and_a_session_that_ends_lead_back_to_the_first_page(desktop: Desktop) -> None:
    desktop.signed_in()
    desktop.window.commands.sign_out()
    desktop.until(lambda: desktop.window.app_state.page is VisiblePage.SIGN_IN)
    desktop.signed_in()
    desktop.sdk.state(connection=ConnectionState.SIGNED_OUT)
    desktop.until(desktop.window.sign_in.problem.isVisible)
    assert "session has ended" in desktop.window.sign_in.problem.text()


def test_nothing_of_an_account_is_shown_or_told_after_its_session_has_ended(desktop: Desktop) -> None:
    """The finder stayed open over the sign-in page, and messages that came later were told in notifications."""
    desktop.signed_in()
    desktop.sdk.arrive("ben", "hello")
    desktop.until(lambda: len(desktop.window.app_state.items()) == 1)
    desktop.window.conversation_finder.switch_conversation()
    desktop.window.row_actions.removal.ask(desktop.window.app_state.items()[0])

    def open_dialogs() -> tuple[bool, bool]:
        question, finder = desktop.window.row_actions.removal.question, desktop.window.conversation_finder.finder
        return question is not None, finder is not None

    assert open_dialogs() == (True, True)
    told = desktop.announced()
    desktop.sdk.state(connection=ConnectionState.SIGNED_OUT)
    desktop.until(lambda: "session has ended" in desktop.window.sign_in.problem.text())
    assert open_dialogs() == (False, False)
    desktop.sdk.state(connection=ConnectionState.CONNECTED)  # another process has signed in
    desktop.sdk.arrive("ben", "for ann only")
    desktop.sdk.refuse_login = UnreachableError("No node answers.")
    desktop.sign_in()
    desktop.until(lambda: "No node answers" in desktop.window.sign_in.problem.text())
    assert told == []


def test_signing_out_while_nobody_can_be_reached_is_refused_in_words_and_changes_nothing(desktop: Desktop) -> None:
    desktop.signed_in().open()
    desktop.type("still mine", enter=False)
    desktop.sdk.unreachable = True
    desktop.window.commands.sign_out()
    desktop.until(lambda: "could be reached" in desktop.note)
    assert desktop.window.app_state.page is VisiblePage.CHAT
    assert desktop.field == "still mine"


# ---- messages


def test_an_own_message_shows_every_step_it_takes(desktop: Desktop) -> None:
    desktop.signed_in().open()
    desktop.type("hello")
    desktop.until(lambda: desktop.rows == [("hello", MessageStatus.WAITING)])
    assert desktop.field == ""
    for status in (MessageStatus.SENDING, MessageStatus.ACCEPTED):
        desktop.sdk.settle(1, status)
        desktop.until(partial(desktop.shows, ("hello", status)))
    desktop.sdk.receipt("ben", 1, 0)
    desktop.until(lambda: desktop.rows == [("hello", MessageStatus.DELIVERED)])
    desktop.sdk.receipt("ben", 1, 1)
    desktop.until(lambda: desktop.rows == [("hello", MessageStatus.READ)])
    desktop.until(lambda: desktop.items == [("Ben Ortiz (ben)", "hello", 0)])


def test_a_refused_message_says_why_and_can_be_sent_again_or_removed(desktop: Desktop) -> None:
    desktop.signed_in().open()
    desktop.type("one")
    desktop.type("two")
    desktop.until(lambda: len(desktop.rows) == 2)
    for local_id in (1, 2):
        desktop.sdk.settle(local_id, MessageStatus.FAILED, "there is no such account")
    desktop.until(lambda: [status for _, status in desktop.rows] == [MessageStatus.FAILED, MessageStatus.FAILED])
    view = desktop.window.chat.view
    view.setFocus()
    view.setCurrentIndex(desktop.window.chat.rows.index(0))
    QTest.keyClick(view, Qt.Key.Key_Delete)
    desktop.until(lambda: desktop.rows == [("two", MessageStatus.FAILED)])
    QTest.keyClick(desktop.window, Qt.Key.Key_R, Qt.KeyboardModifier.ControlModifier)
    desktop.until(lambda: desktop.rows == [("two", MessageStatus.WAITING)])


def test_a_waiting_message_can_be_edited_by_keyboard_alone_while_the_draft_stands_aside(desktop: Desktop) -> None:
    desktop.signed_in().open()
    desktop.type("frist")
    desktop.until(lambda: desktop.rows == [("frist", MessageStatus.WAITING)])
    editor = desktop.window.chat.composer.editor
    QTest.keyClick(editor, Qt.Key.Key_Up)
    assert desktop.field == "frist"
    assert "You are editing" in desktop.note
    QTest.keyClick(editor, Qt.Key.Key_Escape)
    assert (desktop.field, desktop.note) == ("", "")
    QTest.keyClick(editor, Qt.Key.Key_Up)
    editor.selectAll()
    desktop.type("first")
    desktop.until(lambda: desktop.rows == [("first", MessageStatus.WAITING)])
    assert desktop.field == ""


def test_a_message_that_goes_out_while_it_is_edited_loses_no_text(desktop: Desktop) -> None:
    desktop.signed_in().open()
    desktop.type("before")
    desktop.until(lambda: desktop.rows == [("before", MessageStatus.WAITING)])
    QTest.keyClick(desktop.window.chat.composer.editor, Qt.Key.Key_Up)
    desktop.type(" and after", enter=False)
    desktop.sdk.settle(1, MessageStatus.SENDING)
    desktop.until(lambda: "sent before your change" in desktop.note)
    assert desktop.field == "before and after"
    assert desktop.window.chat.composer.editing is None


def test_a_waiting_message_can_be_cancelled_from_its_menu(desktop: Desktop) -> None:
    desktop.signed_in().open()
    desktop.type("oops https://example.org/x")
    desktop.until(lambda: len(desktop.rows) == 1)
    menu = desktop.window.row_actions.menu(desktop.window.chat.rows.row(0))
    texts = [action.text().split("\t")[0] for action in menu.actions()]
    assert texts == ["Copy", "Open https://example.org/x", "Edit", "Do not send"]
    menu.actions()[0].trigger()
    assert QGuiApplication.clipboard().text() == "oops https://example.org/x"
    menu.actions()[-1].trigger()
    desktop.until(lambda: desktop.rows == [])


def test_a_message_that_is_stored_does_not_come_back_because_its_draft_stays(desktop: Desktop) -> None:
    """It was given back as not sent while it waited, and Enter sent it twice."""
    desktop.signed_in().open()
    desktop.type("hello", enter=False)
    desktop.sdk.refuse_drafts = StoreError("The disk is full.")
    desktop.type("", enter=True)
    desktop.until(lambda: "disk is full" in desktop.note)
    desktop.until(lambda: desktop.rows == [("hello", MessageStatus.WAITING)])
    assert desktop.field == ""


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
    desktop.until(lambda: desktop.rows == [("a\nb", MessageStatus.WAITING)])


def test_a_text_too_long_is_not_sent_and_stays(desktop: Desktop) -> None:
    desktop.signed_in()
    desktop.sdk.state(max_message_bytes=100)
    desktop.until(lambda: desktop.window.app_state.client_state.max_message_bytes == 100)
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
    desktop.until(lambda: desktop.items == [("Ben Ortiz (ben)", "two", 2)])
    assert desktop.window.windowTitle().startswith("(2)")
    desktop.open()
    desktop.until(lambda: desktop.items == [("Ben Ortiz (ben)", "two", 0)])
    desktop.until(lambda: desktop.sdk.read and desktop.sdk.read[-1][1] == 2)
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
    assert desktop.sdk.drafts == {Target(account="ben"): "to ben", Target(account="dana"): "to dana"}
    again = Desktop(qtbot, closing, desktop.sdk).signed_in().open("dana")
    again.until(lambda: again.field == "to dana")


def test_waiting_messages_survive_a_restart_of_the_window(desktop: Desktop, qtbot: QtBot, closing: Keep) -> None:
    desktop.signed_in().open()
    desktop.type("still here")
    desktop.until(lambda: desktop.rows == [("still here", MessageStatus.WAITING)])
    desktop.window.close()
    desktop.bridge.stop()
    again = Desktop(qtbot, closing, desktop.sdk).signed_in().open()
    again.until(lambda: again.rows == [("still here", MessageStatus.WAITING)])


def test_a_new_conversation_completes_names_the_cluster_knows(desktop: Desktop) -> None:
    desktop.signed_in()
    QTest.keyClick(desktop.window, Qt.Key.Key_N, Qt.KeyboardModifier.ControlModifier)
    finder = desktop.window.conversation_finder.finder
    assert finder is not None
    QTest.keyClicks(finder.field, "be")
    desktop.until(lambda: finder.names.stringList() == ["Ben Ortiz (ben)", "bella"])
    QTest.keyClick(finder.field, Qt.Key.Key_Down)
    QTest.keyClick(finder.field, Qt.Key.Key_Up)
    QTest.keyClick(finder.field, Qt.Key.Key_Return)
    desktop.until(lambda: desktop.open_title == "Ben Ortiz (ben)")
    assert desktop.window.focusWidget() is desktop.window.chat.composer.editor


def test_a_new_conversation_can_be_with_everyone(desktop: Desktop) -> None:
    desktop.signed_in()
    QTest.keyClick(desktop.window, Qt.Key.Key_N, Qt.KeyboardModifier.ControlModifier)
    finder = desktop.window.conversation_finder.finder
    assert finder is not None
    QTest.keyClicks(finder.field, "every")
    desktop.until(lambda: "Everyone" in finder.names.stringList())
    QTest.keyClick(finder.field, Qt.Key.Key_Return)
    desktop.until(lambda: desktop.open_title == "Everyone")
    desktop.type("fire drill at ten")
    desktop.until(lambda: [body for body, _ in desktop.rows] == ["fire drill at ten"])


def test_conversations_are_switched_by_keyboard(desktop: Desktop) -> None:
    desktop.signed_in()
    desktop.sdk.arrive("ben", "b")
    desktop.sdk.arrive("dana", "d")
    desktop.until(lambda: [title for title, _, _ in desktop.items] == ["dana", "Ben Ortiz (ben)"])
    window, alt = desktop.window, Qt.KeyboardModifier.AltModifier
    QTest.keyClick(window, Qt.Key.Key_Down, alt)
    assert desktop.open_title == "dana"
    QTest.keyClick(window, Qt.Key.Key_Down, alt)
    assert desktop.open_title == "Ben Ortiz (ben)"
    QTest.keyClick(window, Qt.Key.Key_Up, alt)
    assert desktop.open_title == "dana"
    QTest.keyClick(window, Qt.Key.Key_K, Qt.KeyboardModifier.ControlModifier)
    assert window.conversation_finder.finder is not None
    QTest.keyClicks(window.conversation_finder.finder.field, "be")
    QTest.keyClick(window.conversation_finder.finder.field, Qt.Key.Key_Return)
    assert desktop.open_title == "Ben Ortiz (ben)"
    QTest.keyClick(window, Qt.Key.Key_L, Qt.KeyboardModifier.ControlModifier)
    assert window.chat.list.hasFocus()


def test_whoever_clicks_a_conversation_can_write_at_once(desktop: Desktop) -> None:
    desktop.signed_in()
    desktop.sdk.arrive("ben", "b")
    desktop.until(lambda: desktop.items)
    item = desktop.window.chat.list.visualRect(desktop.window.chat.items.index(0))
    QTest.mouseClick(desktop.window.chat.list.viewport(), Qt.MouseButton.LeftButton, pos=item.center())
    assert desktop.open_title == "Ben Ortiz (ben)"
    assert desktop.window.focusWidget() is desktop.window.chat.composer.editor


def test_history_loads_upwards_until_its_beginning_without_jumping(desktop: Desktop) -> None:
    said = tuple(desktop.sdk.message("ben", f"message {number}") for number in range(1, 251))
    for before_id, page, more in ((0, said[150:], True), (151, said[50:150], True), (51, said[:50], False)):
        desktop.sdk.pages[Target(account="ben"), before_id] = HistoryPage(page, more, direct("ben"))
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


# ---- channels

IN_WARD = Target(conversation_id=WARD.id)


def test_a_channel_is_listed_with_its_title_and_says_who_wrote_what(desktop: Desktop) -> None:
    desktop.signed_in()
    desktop.sdk.arrive("dana", "hello ward", conversation=WARD)
    desktop.until(lambda: desktop.items == [("Ward 4", "dana: hello ward", 1)])
    spoken = desktop.window.chat.items.data(desktop.window.chat.items.index(0), Qt.ItemDataRole.AccessibleTextRole)
    assert spoken == "Ward 4, channel, 3 members, 1 unread message. dana: hello ward"
    desktop.open(IN_WARD)
    assert (desktop.window.chat.title.text(), desktop.window.chat.members.text()) == ("Ward 4", "3 members")
    desktop.until(lambda: desktop.items == [("Ward 4", "dana: hello ward", 0)])
    assert desktop.sdk.read == [(WARD.id, 1)]
    row = desktop.window.chat.rows.row(0)
    assert (row.sender, row.shows_sender) == ("dana", True)


def test_an_own_message_in_a_channel_says_how_many_have_it(desktop: Desktop) -> None:
    desktop.signed_in()
    desktop.sdk.arrive("ben", "who is on duty?", conversation=WARD)
    desktop.until(lambda: desktop.items)
    desktop.open(IN_WARD)
    desktop.type("I am")
    desktop.until(lambda: desktop.rows[1:] == [("I am", MessageStatus.WAITING)])
    assert desktop.sdk.outbox[1].target == IN_WARD
    desktop.sdk.settle(1, MessageStatus.ACCEPTED)
    desktop.sdk.receipt("ben", 2, 2, conversation=WARD)
    desktop.until(lambda: known_of(desktop.window.chat.rows.row(1)) == "delivered to 1 of 2, read by 1")
    assert desktop.rows[1:] == [("I am", MessageStatus.ACCEPTED)]
    desktop.sdk.receipt("dana", 2, 2, conversation=WARD)
    desktop.until(lambda: desktop.rows[1:] == [("I am", MessageStatus.READ)])
    desktop.window.chat.view.grab()


def test_what_happens_in_a_channel_is_drawn_as_a_line_without_a_bubble(desktop: Desktop) -> None:
    desktop.signed_in()
    joined = desktop.sdk.message("ben", "", conversation=WARD)
    desktop.sdk.deliver([replace(joined, kind=MessageKind.MEMBERS_JOINED, subjects=(4,))])
    desktop.until(lambda: desktop.items == [("Ward 4", "Ben Ortiz (ben) added dana.", 0)])
    desktop.open(IN_WARD)
    assert desktop.rows == [("Ben Ortiz (ben) added dana.", None)]
    desktop.window.chat.view.grab()


def test_messages_of_a_channel_are_announced_with_their_sender(desktop: Desktop) -> None:
    desktop.signed_in()
    shown = desktop.announced()
    desktop.sdk.arrive("ben", "all well?", conversation=WARD)
    desktop.until(lambda: shown == [("Ward 4", "ben: all well?")])


# ---- the cluster


def test_a_lost_node_is_told_and_the_line_clears_by_itself(desktop: Desktop) -> None:
    desktop.signed_in().open()
    desktop.sdk.state(connection=ConnectionState.SEARCHING, node="", lost="n2", trying="n3")
    desktop.type("one")
    desktop.type("two")
    desktop.until(lambda: desktop.status.startswith("n2 lost, trying n3, 2 messages waiting"))
    assert desktop.rows == [("one", MessageStatus.WAITING), ("two", MessageStatus.WAITING)]
    desktop.sdk.connected("n3")
    for local_id in (1, 2):
        desktop.sdk.settle(local_id, MessageStatus.ACCEPTED)
    desktop.until(lambda: desktop.status.startswith("Connected to n3") and "waiting" not in desktop.status)
    assert desktop.rows == [("one", MessageStatus.ACCEPTED), ("two", MessageStatus.ACCEPTED)]


def test_without_a_majority_people_write_on_and_read(desktop: Desktop) -> None:
    older = desktop.sdk.message("ben", "older")
    desktop.sdk.pages[Target(account="ben"), 0] = HistoryPage((older,), False, direct("ben"))
    desktop.signed_in().open()
    alone = tuple(replace(node, up=node.name == "n2") for node in NODES)
    desktop.sdk.state(connection=ConnectionState.NO_MAJORITY, has_majority=False, nodes=alone)
    desktop.until(lambda: desktop.status.startswith("No majority of nodes"))
    desktop.type("kept")
    desktop.until(lambda: desktop.rows == [("older", None), ("kept", MessageStatus.WAITING)])
    desktop.until(lambda: "1 message waiting" in desktop.status)
    assert desktop.window.chat.composer.editor.isEnabled()


def test_a_conversation_opened_while_nobody_can_be_reached_is_filled_after_the_reconnect(desktop: Desktop) -> None:
    before = desktop.sdk.message("ben", "from before")
    desktop.sdk.pages[Target(account="ben"), 0] = HistoryPage((before,), False, direct("ben"))
    desktop.signed_in()
    desktop.sdk.unreachable = True
    desktop.sdk.state(connection=ConnectionState.SEARCHING, trying="n1")
    desktop.window.open_conversation("ben")
    desktop.until(lambda: ("ben", 0) in desktop.sdk.history_asked)
    assert desktop.rows == []
    desktop.sdk.unreachable = False
    desktop.sdk.connected("n1")
    desktop.until(lambda: desktop.rows == [("from before", None)])


# ---- the desktop around it


def test_messages_in_the_background_are_announced_and_stay_unread(desktop: Desktop) -> None:
    desktop.signed_in().open()
    shown = desktop.announced()
    desktop.sdk.arrive("ben", "are you there?")
    desktop.until(lambda: shown == [("Ben Ortiz (ben)", "are you there?")])
    assert desktop.items == [("Ben Ortiz (ben)", "are you there?", 1)]
    assert desktop.window.chat.rows.row(0).unread_above
    desktop.window.activateWindow()
    desktop.until(lambda: desktop.items == [("Ben Ortiz (ben)", "are you there?", 0)])


def test_urgent_messages_come_first_and_are_sent_once_as_urgent(desktop: Desktop) -> None:
    calm = [Gathered(f"calm {number}", ("hello",)) for number in range(5)]
    fire = Gathered("ward", ("Urgent: fire", "smoke"), urgent=True)
    assert summaries([*calm, fire]) == [
        ("ward", "Urgent: 2 new messages"),
        ("Parley", "5 new messages in 5 conversations"),
    ]
    assert summaries([calm[0], Gathered("ward", ("Urgent: fire",), urgent=True)])[0] == ("ward", "Urgent: fire")
    desktop.signed_in().open()
    desktop.window.chat.composer.urgent.click()
    desktop.type("fire")
    desktop.type("all clear")
    desktop.until(lambda: [one.urgent for one in desktop.sdk.outbox.values()] == [True, False])
    rows = desktop.window.chat.rows
    desktop.until(lambda: [rows.row(at).urgent for at in range(rows.rowCount())] == [True, False])
    desktop.window.chat.view.grab()


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


def test_the_handle_of_a_scroll_bar_can_be_told_from_its_ground(desktop: Desktop) -> None:
    """As WCAG 1.4.11 asks it of what is used."""
    desktop.signed_in()
    desktop.sdk.arrive("ben", *(f"message {number}" for number in range(60)))
    desktop.open()
    desktop.until(lambda: desktop.has_rows(60))
    for theme in (LIGHT, DARK):
        desktop.window.restyle(theme)
        desktop.window.chat.view.to_bottom()
        bar, drawn = desktop.window.chat.view.verticalScrollBar(), desktop.window.grab().toImage()
        middle = bar.mapTo(desktop.window, bar.rect().center()).x()
        above, below = (bar.mapTo(desktop.window, QPoint(0, y)).y() for y in (10, bar.height() - 10))
        assert drawn.pixelColor(middle, above) == theme.color("window")
        assert contrast(drawn.pixelColor(middle, below), theme.color("window")) >= 3, theme.dark


def contrast(one: QColor, other: QColor) -> float:
    """As WCAG counts it."""

    def luminance(color: QColor) -> float:
        shares: list[float] = [color.redF(), color.greenF(), color.blueF()]
        parts = [c / 12.92 if c <= 0.03928 else math.pow((c + 0.055) / 1.055, 2.4) for c in shares]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)
