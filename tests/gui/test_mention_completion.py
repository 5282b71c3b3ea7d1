"""The completion of `@` and a name in the field: where it appears, each of its keys, and what stays as it was."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QInputMethodEvent, QKeySequence, QTextCursor
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QApplication, QWidget
from pytestqt.qtbot import QtBot

from parley import Account, Conversation, ConversationKind, Member, MessageStatus, Target
from parley.gui import mention_completion
from parley.gui.candidates import MOST_SHOWN, Candidates
from parley.gui.direction import FROM_RIGHT
from parley.gui.mention_list import MentionList, row_height
from tests.gui.scripted import KNOWN, WARD
from tests.gui.test_channels import IN_WARD, channel_changes
from tests.gui.test_main_window import Desktop, Keep

HALL = Conversation(72, ConversationKind.CHANNEL, "Hall", (Member(1), Member(2)), 10_000)
IN_HALL = Target(conversation_id=HALL.id)


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep, monkeypatch: pytest.MonkeyPatch) -> Desktop:
    """A window that shows the ward, with ann, ben (Ben Ortiz) and dana, and has the focus in the field."""
    monkeypatch.setitem(KNOWN, HALL.id, HALL)
    desktop = Desktop(qtbot, closing).signed_in()
    desktop.sdk.arrive("dana", "hello ward", conversation=WARD)
    desktop.until(lambda: desktop.items)
    desktop.open(IN_WARD)
    desktop.window.chat.composer.editor.setFocus()
    desktop.until(desktop.window.chat.composer.editor.hasFocus)
    return desktop


def shown(desktop: Desktop) -> list[str]:
    """The names that the list offers, nothing while it is not there."""
    found = members(desktop)
    return [account.name for account in found.accounts] if found.isVisible() else []


def members(desktop: Desktop) -> MentionList:
    [found] = desktop.window.chat.findChildren(MentionList)
    return found


def write(desktop: Desktop, text: str) -> None:
    desktop.type(text, enter=False)


def put(desktop: Desktop, text: str) -> None:
    """Fill the field, with letters too that no key has."""
    editor = desktop.window.chat.composer.editor
    editor.setPlainText(text)
    editor.moveCursor(QTextCursor.MoveOperation.End)


def focused() -> QWidget:
    found = QApplication.focusWidget()
    assert found is not None
    return found


def press(desktop: Desktop, key: Qt.Key, modifier: Qt.KeyboardModifier = Qt.KeyboardModifier.NoModifier) -> None:
    """Press a key where the focus is."""
    QTest.keyClick(focused(), key, modifier)


def compose(desktop: Desktop, preedit: str, commit: str = "") -> None:
    """The input method shows what it composes, or commits it."""
    event = QInputMethodEvent(preedit, [])
    if commit:
        event.setCommitString(commit)
    QApplication.sendEvent(desktop.window.chat.composer.editor, event)


# ---- where it appears


@pytest.mark.parametrize("before", ["", "so ", "(", "[", "“", "\n", "👍 ", "你好", "say: "])
def test_an_at_sign_where_a_mention_can_begin_offers_the_members(desktop: Desktop, before: str) -> None:
    put(desktop, before)
    write(desktop, "@")
    assert shown(desktop) == ["ben", "dana"]
    write(desktop, "be")
    assert shown(desktop) == ["ben"]
    press(desktop, Qt.Key.Key_Return)
    assert desktop.field == f"{before}@ben "


@pytest.mark.parametrize("before", ["ann", "ann.", "7", "_", "https://x.example/", "@ben", "ä", "@x a"])
def test_an_at_sign_within_a_word_or_a_link_offers_nobody(desktop: Desktop, before: str) -> None:
    put(desktop, before)
    write(desktop, "@be")
    assert shown(desktop) == []


def test_a_direct_conversation_offers_nobody_and_enter_sends(desktop: Desktop) -> None:
    desktop.open("ben")
    write(desktop, "@be")
    assert shown(desktop) == []
    press(desktop, Qt.Key.Key_Return)
    desktop.until(lambda: desktop.shows(("@be", MessageStatus.WAITING)))


def test_neither_the_own_account_nor_a_deleted_one_is_offered(desktop: Desktop) -> None:
    write(desktop, "@")
    assert shown(desktop) == ["ben", "dana"]
    gone = Account(4, "dana", deleted=True)
    desktop.sdk.tell(lambda: desktop.sdk.publisher.changed(accounts=(gone,)))
    book = desktop.window.app_state.chats.book
    desktop.until(lambda: (known := book.get(4)) is not None and known.deleted)
    press(desktop, Qt.Key.Key_Escape)
    press(desktop, Qt.Key.Key_Backspace)
    write(desktop, "@")
    assert shown(desktop) == ["ben"]


def test_a_word_of_the_display_name_finds_a_member_and_its_case_does_not_count(desktop: Desktop) -> None:
    write(desktop, "@ORT")
    assert shown(desktop) == ["ben"]
    press(desktop, Qt.Key.Key_Tab)
    assert desktop.field == "@ben "


def test_no_more_than_eight_are_offered_and_the_best_come_first() -> None:
    people = [Account(10 + n, f"nina.{n}") for n in range(20)]
    by_word = [Account(2, "ben", "Nils Ortiz"), Account(3, "chief.nurse")]
    own, gone = Account(1, "nia"), Account(4, "nico", deleted=True)
    found = Candidates([*by_word, own, gone, *people[:3]], own.id)
    assert [one.name for one in found.matching("n")] == ["nina.0", "nina.1", "nina.2", "ben", "chief.nurse"]
    assert [one.name for one in found.matching("ni")] == ["nina.0", "nina.1", "nina.2", "ben"]
    assert [one.name for one in found.matching("ORTIZ")] == ["ben"]
    assert [one.name for one in found.matching("")] == ["ben", "chief.nurse", "nina.0", "nina.1", "nina.2"]
    assert found.matching("x") == []
    assert len(Candidates([*by_word, *people], 0).matching("n")) == MOST_SHOWN


def test_a_member_whose_both_names_match_is_offered_once() -> None:
    both = Account(2, "ben", "Ben Ben-Ortiz")
    assert Candidates([both], 0).matching("be") == [both]


# ---- keys


def test_up_and_down_choose_and_enter_takes_without_sending(desktop: Desktop) -> None:
    write(desktop, "ask @")
    press(desktop, Qt.Key.Key_Down)
    assert members(desktop).current.name == "dana"
    press(desktop, Qt.Key.Key_Down)
    assert members(desktop).current.name == "dana", "the last one stays chosen"
    press(desktop, Qt.Key.Key_Up)
    press(desktop, Qt.Key.Key_Up)
    assert members(desktop).current.name == "ben"
    press(desktop, Qt.Key.Key_Down)
    press(desktop, Qt.Key.Key_Return)
    assert desktop.field == "ask @dana "
    assert shown(desktop) == []
    assert desktop.sdk.outbox == {}
    press(desktop, Qt.Key.Key_Return)
    desktop.until(lambda: [one.body for one in desktop.sdk.outbox.values()] == ["ask @dana "])


@pytest.mark.parametrize("key", [Qt.Key.Key_Return, Qt.Key.Key_Enter, Qt.Key.Key_Tab])
def test_these_keys_take_the_chosen_member_and_the_focus_stays(desktop: Desktop, key: Qt.Key) -> None:
    write(desktop, "@d")
    keypad = Qt.KeyboardModifier.KeypadModifier if key == Qt.Key.Key_Enter else Qt.KeyboardModifier.NoModifier
    press(desktop, key, keypad)
    assert desktop.field == "@dana "
    assert desktop.window.chat.composer.editor.hasFocus()
    assert desktop.sdk.outbox == {}


def test_without_a_match_enter_sends_and_tab_goes_on(desktop: Desktop) -> None:
    write(desktop, "@nobody")
    assert shown(desktop) == []
    press(desktop, Qt.Key.Key_Return)
    desktop.until(lambda: [one.body for one in desktop.sdk.outbox.values()] == ["@nobody"])
    write(desktop, "@nobody")
    press(desktop, Qt.Key.Key_Tab)
    assert desktop.window.chat.composer.button.hasFocus()


def test_shift_enter_begins_a_line_as_ever(desktop: Desktop) -> None:
    write(desktop, "@be")
    press(desktop, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    assert (desktop.field, shown(desktop)) == ("@be\n", [])


def test_escape_closes_the_list_only_and_it_stays_closed_for_this_mention(desktop: Desktop) -> None:
    write(desktop, "@b")
    press(desktop, Qt.Key.Key_Escape)
    assert (desktop.field, shown(desktop)) == ("@b", [])
    write(desktop, "e")
    assert shown(desktop) == []
    write(desktop, " @d")
    assert shown(desktop) == ["dana"]
    press(desktop, Qt.Key.Key_Escape)
    press(desktop, Qt.Key.Key_Return)
    desktop.until(lambda: [one.body for one in desktop.sdk.outbox.values()] == ["@be @d"])


def test_a_list_that_was_closed_returns_with_the_next_message(desktop: Desktop) -> None:
    write(desktop, "@d")
    press(desktop, Qt.Key.Key_Escape)
    press(desktop, Qt.Key.Key_Return)
    desktop.until(lambda: [one.body for one in desktop.sdk.outbox.values()] == ["@d"])
    write(desktop, "@b")
    assert shown(desktop) == ["ben"]


def test_escape_does_not_end_a_change_of_a_waiting_message(desktop: Desktop) -> None:
    desktop.type("first")
    desktop.until(lambda: [body for body, _ in desktop.rows][-1:] == ["first"])
    press(desktop, Qt.Key.Key_Up)
    write(desktop, " @b")
    press(desktop, Qt.Key.Key_Escape)
    assert (desktop.field, shown(desktop)) == ("first @b", [])
    assert "You are editing" in desktop.note
    press(desktop, Qt.Key.Key_Escape)
    assert desktop.field == ""


def test_what_was_taken_can_be_undone_and_the_list_does_not_return_by_itself(desktop: Desktop) -> None:
    write(desktop, "so @b")
    press(desktop, Qt.Key.Key_Return)
    assert desktop.field == "so @ben "
    QTest.keySequence(focused(), QKeySequence(QKeySequence.StandardKey.Undo))
    assert (desktop.field, shown(desktop)) == ("so @b", [])
    QTest.keySequence(focused(), QKeySequence(QKeySequence.StandardKey.Redo))
    assert desktop.field == "so @ben "


def test_a_click_takes_a_member_and_the_focus_stays(desktop: Desktop) -> None:
    write(desktop, "@")
    found = members(desktop)
    row = found.visualRect(found.model().index(1, 0)).center()
    QTest.mouseClick(found.viewport(), Qt.MouseButton.LeftButton, pos=row)
    assert desktop.field == "@dana "
    assert desktop.window.chat.composer.editor.hasFocus()


def test_letters_typed_elsewhere_begin_a_mention_too(desktop: Desktop) -> None:
    desktop.window.chat.view.setFocus()
    QTest.keyClicks(desktop.window.chat.view, "@")
    assert shown(desktop) == ["ben", "dana"]


# ---- the text around it


def test_a_mention_in_the_middle_of_a_text_gets_no_second_space(desktop: Desktop) -> None:
    put(desktop, "👍 ask  please")
    for _ in " please":
        press(desktop, Qt.Key.Key_Left)
    write(desktop, "@d")
    press(desktop, Qt.Key.Key_Return)
    assert desktop.field == "👍 ask @dana please"
    write(desktop, "to ")
    assert desktop.field == "👍 ask @dana to please"


def test_a_mention_before_a_bracket_gets_no_space(desktop: Desktop) -> None:
    write(desktop, "(ask )")
    press(desktop, Qt.Key.Key_Left)
    write(desktop, "@d")
    press(desktop, Qt.Key.Key_Return)
    assert desktop.field == "(ask @dana)"


def test_an_at_sign_before_a_word_leaves_the_word_alone(desktop: Desktop) -> None:
    write(desktop, "later")
    press(desktop, Qt.Key.Key_Home)
    write(desktop, "@")
    assert shown(desktop) == []
    press(desktop, Qt.Key.Key_Return)
    desktop.until(lambda: [one.body for one in desktop.sdk.outbox.values()] == ["@later"])


def test_nobody_is_offered_right_before_another_mention(desktop: Desktop) -> None:
    put(desktop, "@dana")
    press(desktop, Qt.Key.Key_Home)
    write(desktop, "@b")
    assert shown(desktop) == [], "@ben@dana names nobody"


def test_erasing_offers_again_and_moving_away_closes(desktop: Desktop) -> None:
    write(desktop, "@dx")
    assert shown(desktop) == []
    press(desktop, Qt.Key.Key_Backspace)
    assert shown(desktop) == ["dana"]
    press(desktop, Qt.Key.Key_Backspace)
    assert shown(desktop) == ["ben", "dana"]
    press(desktop, Qt.Key.Key_Home)
    assert shown(desktop) == []
    press(desktop, Qt.Key.Key_End)
    assert shown(desktop) == [], "only writing begins a mention"


def test_a_space_ends_it(desktop: Desktop) -> None:
    write(desktop, "@d ")
    assert shown(desktop) == []


def test_it_closes_with_the_focus_with_the_conversation_and_when_nobody_can_write_any_more(desktop: Desktop) -> None:
    write(desktop, "@d")
    desktop.window.chat.view.setFocus()
    assert shown(desktop) == []
    write(desktop, "a")
    assert shown(desktop) == ["dana"]
    desktop.open("ben")
    assert shown(desktop) == []
    desktop.open(IN_WARD)
    assert shown(desktop) == []
    desktop.window.chat.composer.editor.selectAll()
    write(desktop, "@d")
    assert shown(desktop) == ["dana"]
    channel_changes(desktop, archived=True)
    desktop.until(lambda: not desktop.window.chat.composer.editor.isVisible())
    assert not members(desktop).isVisible()


def test_a_pasted_name_opens_nothing(desktop: Desktop) -> None:
    QApplication.clipboard().setText("@be")
    QTest.keySequence(focused(), QKeySequence(QKeySequence.StandardKey.Paste))
    assert (desktop.field, shown(desktop)) == ("@be", [])


# ---- input methods


def test_an_input_method_composes_undisturbed(desktop: Desktop) -> None:
    write(desktop, "@")
    compose(desktop, "d")
    assert shown(desktop) == []
    compose(desktop, "da")
    assert shown(desktop) == []
    assert desktop.window.chat.composer.editor.is_composing
    compose(desktop, "", "da")
    assert shown(desktop) == ["dana"]
    press(desktop, Qt.Key.Key_Return)
    assert desktop.field == "@dana "


def test_an_input_method_can_write_the_at_sign(desktop: Desktop) -> None:
    compose(desktop, "", "@b")
    assert shown(desktop) == ["ben"]


# ---- large channels


def fill_the_hall(desktop: Desktop, count: int) -> None:
    desktop.sdk.more = {id_: Account(id_, f"person{id_:05}", f"Nora Number{id_}") for id_ in range(100, 100 + count)}
    desktop.sdk.members[HALL.id] = (*HALL.members, *map(Member, desktop.sdk.more))
    desktop.sdk.arrive("ben", "hello hall", conversation=HALL)
    desktop.open(IN_HALL)


def settle(desktop: Desktop) -> None:
    """Wait until the window has what the SDK was asked for and told before."""
    desktop.window.commands.ask_presence(4)
    desktop.until(lambda: desktop.sdk.presence_asked)
    desktop.sdk.arrive("bella", "settled")
    desktop.until(lambda: any(title == "bella" for title, _, _ in desktop.items))


def asked(desktop: Desktop) -> int:
    return desktop.sdk.asked.count(("members", HALL.id, ()))


def test_a_channel_of_ten_thousand_asks_once_and_never_stalls(desktop: Desktop) -> None:
    fill_the_hall(desktop, 9_998)
    write(desktop, "@b")
    assert shown(desktop) == ["ben"]
    press(desktop, Qt.Key.Key_Backspace)
    desktop.until(lambda: len(shown(desktop)) == MOST_SHOWN)
    write(desktop, "person0")
    assert len(shown(desktop)) == MOST_SHOWN
    start = time.process_time()
    write(desktop, "9999")
    assert shown(desktop) == ["person09999"]
    assert time.process_time() - start < 0.5, "four keys; sorting all members takes longer than one of them"
    press(desktop, Qt.Key.Key_Return)
    write(desktop, "and @number10")
    assert len(shown(desktop)) == MOST_SHOWN
    assert asked(desktop) == 1


def test_members_that_no_node_told_are_asked_for_with_the_next_mention(desktop: Desktop) -> None:
    fill_the_hall(desktop, 100)
    desktop.sdk.unreachable = True
    write(desktop, "@person")
    desktop.bridge.ask_presence(2)
    assert shown(desktop) == []
    assert desktop.note == ""
    desktop.sdk.unreachable = False
    desktop.until(lambda: desktop.window.channel_actions.members._asked is None)
    write(desktop, " @person")
    desktop.until(lambda: len(shown(desktop)) == MOST_SHOWN)
    assert desktop.note == ""


def test_members_of_another_conversation_that_come_late_are_not_offered(desktop: Desktop) -> None:
    fill_the_hall(desktop, 100)
    write(desktop, "@person")
    desktop.window.open_conversation(IN_WARD)
    write(desktop, "@person")
    settle(desktop)
    assert asked(desktop) == 1
    assert shown(desktop) == []
    press(desktop, Qt.Key.Key_Backspace)
    assert shown(desktop) == []


def test_a_channel_beyond_the_bound_is_not_asked_for(desktop: Desktop) -> None:
    huge = replace(HALL, member_count=1_000_000)
    KNOWN[HALL.id] = huge
    fill_the_hall(desktop, 10)
    write(desktop, "@")
    settle(desktop)
    assert shown(desktop) == ["ben"]
    assert asked(desktop) == 0


def test_a_channel_that_is_opened_anew_is_asked_for_anew(desktop: Desktop) -> None:
    fill_the_hall(desktop, 100)
    write(desktop, "@")
    desktop.until(lambda: len(shown(desktop)) == MOST_SHOWN)
    desktop.window.open_conversation(IN_WARD)
    assert shown(desktop) == []
    desktop.open(IN_HALL)
    put(desktop, "")
    write(desktop, "@p")
    desktop.until(lambda: asked(desktop) == 2 and len(shown(desktop)) == MOST_SHOWN)


def test_a_channel_that_is_not_large_any_more_offers_those_who_are_left(desktop: Desktop) -> None:
    fill_the_hall(desktop, 9_998)
    write(desktop, "@person00")
    desktop.until(lambda: len(shown(desktop)) == MOST_SHOWN)
    left = replace(HALL, members=(*HALL.members, Member(4)), member_count=3)
    desktop.sdk.tell(lambda: desktop.sdk.publisher.changed(conversations=(left,)))
    settle(desktop)
    press(desktop, Qt.Key.Key_Backspace)
    assert shown(desktop) == [], "these have left"
    put(desktop, "")
    write(desktop, "@")
    assert len(shown(desktop)) == 2, "ben, and who joined since"


def test_a_member_of_a_large_channel_that_was_deleted_meanwhile_is_not_offered(desktop: Desktop) -> None:
    fill_the_hall(desktop, 100)
    write(desktop, "@")
    desktop.until(lambda: len(shown(desktop)) == MOST_SHOWN)
    gone = Account(100, "person00100", deleted=True)
    desktop.sdk.tell(lambda: desktop.sdk.publisher.changed(accounts=(gone,)))
    settle(desktop)
    write(desktop, "person0010")
    assert "person00101" in shown(desktop)
    assert "person00100" not in shown(desktop)


# ---- how it looks, and what a screen reader says


@pytest.mark.parametrize("from_right", [False, True])
@pytest.mark.parametrize("percent", [100, 150])
def test_the_list_stays_in_a_small_window(desktop: Desktop, as_before: None, percent: int, from_right: bool) -> None:
    desktop.window.settings.change(lambda settings: replace(settings, text_percent=percent))
    if from_right:
        desktop.window.setLayoutDirection(FROM_RIGHT)
        QApplication.setLayoutDirection(FROM_RIGHT)
    desktop.window.resize(desktop.window.minimumSize())
    people = tuple(Account(20 + n, f"{'x' * 60}{n}", "A very long display name " * 2) for n in range(20))
    desktop.sdk.tell(lambda: desktop.sdk.publisher.changed(accounts=people))
    channel_changes(desktop, members=(Member(1), *(Member(one.id) for one in people)), member_count=21)
    desktop.until(
        lambda: (
            desktop.window.app_state.chats.item(desktop.window.app_state.chats.key_of(IN_WARD)).about == "21 members"
        )
    )
    put(desktop, "a line\n" * 8)
    write(desktop, "@")
    found, chat = members(desktop), desktop.window.chat
    desktop.until(lambda: found.geometry().height() < MOST_SHOWN * row_height(found.font()))
    assert len(shown(desktop)) == MOST_SHOWN
    assert chat.rect().contains(found.geometry())
    top = chat.composer.field.mapTo(chat, QPoint(0, 0)).y()
    assert found.geometry().bottom() < top
    for _ in range(MOST_SHOWN):
        press(desktop, Qt.Key.Key_Down)
    assert found.viewport().rect().contains(found.visualRect(found.currentIndex()).center())


def test_a_screen_reader_hears_who_is_chosen(desktop: Desktop, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(mention_completion, "announce", lambda _, text: said.append(text))
    write(desktop, "@")
    press(desktop, Qt.Key.Key_Down)
    assert said == ["Ben Ortiz (ben), 1 of 2", "dana, 2 of 2"]
    assert members(desktop).accessibleName() == "Members to mention"


def test_a_resized_window_keeps_the_list_above_the_field(desktop: Desktop) -> None:
    write(desktop, "@")
    before = members(desktop).geometry()
    desktop.window.resize(desktop.window.width(), desktop.window.height() - 100)
    desktop.until(lambda: members(desktop).geometry().bottom() <= before.bottom() - 100)


def test_the_list_follows_the_field_that_grows_with_its_text(desktop: Desktop) -> None:
    field, chat = desktop.window.chat.composer.field, desktop.window.chat

    def gap() -> int:
        return field.mapTo(chat, QPoint(0, 0)).y() - members(desktop).geometry().bottom()

    write(desktop, "@")
    before = field.height(), gap()
    press(desktop, Qt.Key.Key_Escape)
    for _ in range(3):
        press(desktop, Qt.Key.Key_Return, Qt.KeyboardModifier.ShiftModifier)
    write(desktop, "@")
    desktop.until(lambda: field.height() > before[0])
    assert gap() == before[1]


@pytest.mark.parametrize("from_right", [False, True])
def test_the_list_begins_where_the_mention_does(desktop: Desktop, as_before: None, from_right: bool) -> None:
    if from_right:
        QApplication.setLayoutDirection(FROM_RIGHT)
    write(desktop, "some words before @")
    desktop.until(lambda: members(desktop).isVisible())
    QApplication.processEvents()
    editor, chat, found = desktop.window.chat.composer.editor, desktop.window.chat, members(desktop).geometry()
    at = editor.viewport().mapTo(chat, editor.cursorRect().center()).x()
    edge = found.right() if from_right else found.left()
    assert abs(edge - at) < 4 * editor.fontMetrics().averageCharWidth()


def test_a_name_of_letters_beyond_two_bytes_is_replaced_whole(desktop: Desktop) -> None:
    """Qt counts two for each of them."""
    gothic = Account(4, "dana", "\N{GOTHIC LETTER HWAIR}ana")
    desktop.sdk.tell(lambda: desktop.sdk.publisher.changed(accounts=(gothic,)))
    desktop.until(lambda: desktop.window.app_state.chats.book.get(4) == gothic)
    compose(desktop, "", "so @\N{GOTHIC LETTER HWAIR}a")
    assert shown(desktop) == ["dana"]
    press(desktop, Qt.Key.Key_Return)
    assert desktop.field == "so @dana "
