"""The settings of the window: what a person changes in the dialog counts at once and after a restart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QCheckBox, QComboBox, QMessageBox, QWidget
from pytestqt.qtbot import QtBot

from parley import Target
from parley.chat import ConversationKey
from parley.gui import events
from parley.gui.icons import app_icon, counted_icon
from parley.gui.main_window import MainWindow
from parley.gui.news import News
from parley.gui.notifier import GATHER_AT_MOST_MS, Gathered, summaries
from parley.gui.settings_dialog import SettingsDialog
from parley.gui.settings_keeper import SettingsKeeper
from parley.gui.shortcuts import ELSEWHERE, IN_WINDOW, ShortcutsDialog
from parley.gui.theme import DARK, LIGHT
from parley.gui.window_settings import FILE_NAME, UNTIL_SWITCHED_OFF, Preview, WindowSettings, load
from tests.gui.scripted import WARD
from tests.gui.test_main_window import Desktop, Keep


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep, as_before: None) -> Desktop:
    return Desktop(qtbot, closing).signed_in()


def opened(desktop: Desktop) -> SettingsDialog:
    """The person opens the settings by key."""
    desktop.window.activateWindow()
    desktop.until(desktop.window.isActiveWindow)
    QTest.keyClick(desktop.window, Qt.Key.Key_Comma, Qt.KeyboardModifier.ControlModifier)
    desktop.until(lambda: desktop.window.account_dialogs.settings is not None)
    dialog = desktop.window.account_dialogs.settings
    assert dialog is not None
    desktop.until(dialog.isVisible)
    return dialog


def step(box: QComboBox, by: int) -> None:
    """The person chooses another line with the arrow keys."""
    for _ in range(abs(by)):
        QTest.keyClick(box, Qt.Key.Key_Down if by > 0 else Qt.Key.Key_Up)


def click(box: QCheckBox) -> None:
    QTest.keyClick(box, Qt.Key.Key_Space)


def test_colours_and_size_of_the_text_change_at_once(desktop: Desktop) -> None:
    desktop.sdk.arrive("ben", "a message of a few words")
    desktop.until(lambda: desktop.items)
    desktop.open()
    desktop.until(lambda: desktop.rows)
    view = desktop.window.chat.view
    before, size = view.visualRect(view.model().index(0, 0)).height(), desktop.window.chat.title.font().pointSizeF()
    dialog = opened(desktop)
    step(dialog.colours, 2)
    desktop.until(lambda: desktop.window.colours.theme is DARK)
    step(dialog.text_size, 3)
    desktop.until(lambda: desktop.window.settings.value.text_percent == 150)
    desktop.until(lambda: view.visualRect(view.model().index(0, 0)).height() > before)
    assert desktop.window.chat.title.font().pointSizeF() == pytest.approx(1.5 * size)
    step(dialog.text_size, -3)
    desktop.until(lambda: view.visualRect(view.model().index(0, 0)).height() == before)


def test_what_a_person_chose_is_there_after_a_restart(qtbot: QtBot, as_before: None, tmp_path: Path) -> None:
    first = SettingsKeeper(tmp_path)
    first.change(lambda settings: replace(settings, text_percent=115, preview=Preview.NAMES))
    usual = QApplication.font().pointSizeF() / 1.15
    QApplication.setFont(first._font)
    window = MainWindow(LIGHT, tmp_path)
    qtbot.addWidget(window)
    assert window.settings.value == WindowSettings(text_percent=115, preview=Preview.NAMES)
    assert window.chat.font().pointSizeF() == pytest.approx(1.15 * usual)


def test_a_broken_file_of_settings_is_told_of_and_the_window_works(
    qtbot: QtBot, as_before: None, tmp_path: Path
) -> None:
    (tmp_path / FILE_NAME).write_text('{"text_percent": "huge"}')
    window = MainWindow(LIGHT, tmp_path)
    qtbot.addWidget(window)
    window.show()
    window.settings.tell_problem(window)
    box = window.findChild(QMessageBox)
    assert box is not None
    assert "text_percent is 'huge'" in box.text()
    box.accept()
    window.settings.change(lambda settings: replace(settings, sound=True))
    assert load(tmp_path) == (WindowSettings(sound=True), "")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"preview": "loud"}', "preview is 'loud', which is not one of all, names, none."),
        (b'{"preview": []}', "preview is [], which is not one of all, names, none."),
        (b'{"sound": 1}', "sound is 1, which is not true or false."),
        (b'{"text_percent": "' + b"9" * 3000 + b'"}', "…, which is not a whole number."),
        (b'{"text_percent": 9' + b"9" * 200 + b"}", "…, not one of 90, 100, 115, 130, 150."),
        (b'{"quiet_until_ms": -7}', "quiet_until_ms is no time that can be meant."),
        (b"\xff\xfe", "it is not in UTF-8."),
        (b"[]", "it holds no settings."),
        (b" " * 5000, "it is larger than 4096 bytes."),
    ],
)
def test_why_a_file_of_settings_is_refused_is_said_in_words(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    settings, told = load(tmp_path)
    assert settings == WindowSettings()
    assert f"{reason} The window uses the usual settings." in told
    assert len(told) < len(str(tmp_path)) + 300


def test_a_choice_in_one_window_keeps_what_was_chosen_in_another_one(as_before: None, tmp_path: Path) -> None:
    one, other = SettingsKeeper(tmp_path), SettingsKeeper(tmp_path)
    one.change(lambda settings: replace(settings, sound=True))
    other.change(lambda settings: replace(settings, preview=Preview.NONE))
    assert load(tmp_path) == (WindowSettings(sound=True, preview=Preview.NONE), "")
    assert other.value.sound


def test_a_change_that_cannot_be_stored_is_said_in_the_dialog(qtbot: QtBot, tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    window = MainWindow(LIGHT, tmp_path)
    qtbot.addWidget(window)
    dialog = SettingsDialog(window.settings, window.colours, window)
    assert "cannot be read" in dialog.note.text()
    click(dialog.sound)
    assert "could not be stored" in dialog.note.text()
    assert window.settings.value.sound


# ---- notifications


def test_without_previews_no_word_of_a_message_is_shown(desktop: Desktop) -> None:
    dialog = opened(desktop)
    step(dialog.preview, 1)
    assert desktop.window.settings.value.preview is Preview.NAMES
    dialog.close()
    shown = desktop.announced()
    desktop.sdk.arrive("ben", "the secret", conversation=WARD)
    desktop.until(lambda: shown == [("Ward 4", "1 new message")])
    desktop.window.settings.change(lambda settings: replace(settings, preview=Preview.NONE))
    desktop.sdk.arrive("ben", "another secret", conversation=WARD)
    desktop.until(lambda: shown[1:] == [("Parley", "1 new message")])


def test_do_not_disturb_lets_only_urgent_messages_through(desktop: Desktop) -> None:
    dialog = opened(desktop)
    step(dialog.quiet, 1)
    assert desktop.window.settings.value.quiet_until_ms == UNTIL_SWITCHED_OFF
    dialog.close()
    shown = desktop.announced()
    calm = desktop.sdk.message("ben", "calm", conversation=WARD)
    fire = replace(desktop.sdk.message("ben", "fire", conversation=WARD), urgent=True)
    desktop.sdk.deliver([calm, fire])
    desktop.until(lambda: shown)
    assert shown == [("Ward 4", "ben: Urgent: fire")]
    desktop.window.settings.change(lambda settings: replace(settings, urgent_when_quiet=False))
    desktop.sdk.deliver([replace(desktop.sdk.message("ben", "fire again", conversation=WARD), urgent=True)])
    desktop.until(lambda: desktop.items[0][2] == 3)
    desktop.window.settings.change(lambda settings: replace(settings, quiet_until_ms=0))
    desktop.sdk.arrive("ben", "all clear", conversation=WARD)
    desktop.until(lambda: shown[1:] == [("Ward 4", "ben: all clear")])


def test_do_not_disturb_for_an_hour_ends_by_itself(qtbot: QtBot) -> None:
    now = [1_775_000_000_000]
    window = MainWindow(LIGHT)
    qtbot.addWidget(window)
    dialog = SettingsDialog(window.settings, window.colours, window, lambda: now[0])
    step(dialog.quiet, 2)
    assert window.settings.value.quiet_until_ms == now[0] + 3_600_000
    assert dialog.quiet.currentText().startswith("On until ")
    dialog._look()
    assert dialog.quiet.currentText().startswith("On until ")
    now[0] += 3_600_000
    dialog._look()
    assert dialog.quiet.currentText() == "Off"


def test_twenty_messages_at_a_reconnect_give_one_notification(desktop: Desktop) -> None:
    shown = desktop.announced()
    direct = [desktop.sdk.message("ben", f"direct {number}") for number in range(10)]
    ward = [desktop.sdk.message("ben", f"ward {number}", conversation=WARD) for number in range(10)]
    desktop.sdk.deliver(direct)
    desktop.sdk.deliver(ward)
    desktop.until(lambda: shown)
    assert shown == [("Parley", "20 new messages in 2 conversations")]
    few = [Gathered("a", ("x",) * 10), Gathered("b", ("y",) * 9)]
    assert summaries(few) == [("a", "10 new messages"), ("b", "9 new messages")]
    assert summaries([Gathered("a", ("x",) * 30)]) == [("a", "30 new messages")]


def test_messages_beyond_the_kept_previews_are_counted(desktop: Desktop) -> None:
    shown = desktop.announced()
    notifier, key = desktop.window.notifier, desktop.window.app_state.chats.key_of(Target(account="ben"))
    for _ in range(5):
        notifier.notice(key, "Ben", [News("message")] * 100)
    desktop.until(lambda: shown)
    assert shown == [("Ben", "500 new messages")]


def test_after_the_end_of_a_session_nothing_of_it_is_notified_and_a_click_opens_nothing(desktop: Desktop) -> None:
    shown = desktop.announced()
    notifier, key = desktop.window.notifier, desktop.window.app_state.chats.key_of(Target(account="ben"))
    opened: list[ConversationKey] = []
    notifier.opened.connect(opened.append)
    notifier.notice(key, "Ben", [News("of the person before")])
    desktop.window.app_state.apply(events.SignedOut("The session ended."))
    notifier.notice(key, "Ben", [News("of the next person")])
    desktop.until(lambda: shown)
    assert shown == [("Ben", "of the next person")]
    desktop.window.app_state.apply(events.SignedOut("The session ended."))
    notifier.clicked()
    assert opened == []


def test_messages_that_never_pause_are_notified_of_all_the_same(desktop: Desktop) -> None:
    shown = desktop.announced()
    notifier = desktop.window.notifier
    said = 0

    def more() -> bool:
        nonlocal said
        said += 1
        notifier.notice(desktop.window.app_state.chats.key_of(Target(account="ben")), "Ben", [News(f"message {said}")])
        return bool(shown)

    desktop.until(more, timeout_ms=20 * GATHER_AT_MOST_MS)
    assert shown[0][0] == "Ben"


def test_a_click_on_a_notification_opens_its_conversation(desktop: Desktop) -> None:
    desktop.open("dana")
    shown = desktop.announced()
    desktop.sdk.arrive("ben", "look here")
    desktop.until(lambda: shown)
    desktop.window.notifier.clicked()
    desktop.until(lambda: desktop.open_title.startswith("Ben Ortiz"))


def test_the_count_of_unread_messages_is_on_the_icon_and_in_the_title(desktop: Desktop) -> None:
    desktop.announced()
    desktop.sdk.arrive("ben", "one")
    desktop.sdk.arrive("ben", "two")
    desktop.until(lambda: desktop.window.windowTitle().startswith("(2) "))
    assert desktop.window.notifier.unread == 2
    icon = app_icon()
    pictures = [counted_icon(icon, count).pixmap(32, 32).toImage() for count in (0, 2, 3, 500)]
    assert pictures[0] == icon.pixmap(32, 32).toImage()
    assert all(pictures[a] != pictures[b] for a in range(4) for b in range(a))


def test_no_notifications_means_none_and_the_sound_is_by_choice(
    desktop: Desktop, monkeypatch: pytest.MonkeyPatch
) -> None:
    beeps: list[int] = []
    monkeypatch.setattr(QApplication, "beep", lambda: beeps.append(1))
    dialog = opened(desktop)
    click(dialog.sound)
    click(dialog.notify)
    assert not dialog.sound.isEnabled()
    dialog.close()
    shown = desktop.announced()
    desktop.sdk.deliver([replace(desktop.sdk.message("ben", "fire", conversation=WARD), urgent=True)])
    desktop.until(lambda: [unread for _, _, unread in desktop.items] == [1])
    desktop.window.settings.change(lambda settings: replace(settings, notify=True))
    desktop.sdk.arrive("ben", "calm", conversation=WARD)
    desktop.until(lambda: shown)
    assert shown == [("Ward 4", "ben: calm")]
    assert beeps == [1]


# ---- presence


def test_a_person_hides_from_others_and_the_switch_shows_what_the_cluster_has(desktop: Desktop) -> None:
    dialog = opened(desktop)
    desktop.until(dialog.hidden.isEnabled)
    assert not dialog.hidden.isChecked()
    click(dialog.hidden)
    desktop.until(lambda: desktop.sdk.hidden)
    desktop.until(lambda: dialog.hidden.isChecked() and dialog.hidden.isEnabled())
    dialog.close()
    again = opened(desktop)
    desktop.until(again.hidden.isChecked)


def test_while_no_node_answers_the_settings_say_so_and_nothing_seems_changed(desktop: Desktop) -> None:
    desktop.sdk.unreachable = True
    dialog = opened(desktop)
    desktop.until(lambda: "No node" in dialog.note.text())
    click(dialog.hidden)
    desktop.until(lambda: "No node" in dialog.note.text())
    assert not dialog.hidden.isChecked()
    assert not desktop.sdk.hidden


# ---- keys


def test_f1_lists_every_key_of_the_window(desktop: Desktop) -> None:
    QTest.keyClick(desktop.window, Qt.Key.Key_F1)
    desktop.until(lambda: desktop.window.findChild(ShortcutsDialog) is not None)
    dialog = desktop.window.findChild(ShortcutsDialog)
    assert dialog is not None
    texts = {getattr(one, "text", str)() for one in dialog.findChildren(QWidget)}
    assert {keys for keys, _ in (*IN_WINDOW, *ELSEWHERE)} <= texts
    QTest.keyClick(dialog, Qt.Key.Key_Escape)
    desktop.until(lambda: desktop.window.findChild(ShortcutsDialog) is None)
