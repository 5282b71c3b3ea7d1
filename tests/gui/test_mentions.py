"""Mentions in the window: how they are drawn and read out, the mark in the list, and notifications of them."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from PySide6.QtCore import QRect, Qt
from PySide6.QtGui import QColor, QFont, QImage, QPainter
from PySide6.QtWidgets import QApplication, QStyleOptionViewItem, QWidget
from pytestqt.qtbot import QtBot

from parley import Account, MessageStatus, Target
from parley.chat import ConversationItem, ConversationKey, Mention, Row
from parley.gui.bubble import BubbleDelegate
from parley.gui.conversations import spoken_item
from parley.gui.direction import FROM_RIGHT
from parley.gui.news import News
from parley.gui.notifier import MOST_MENTIONING, Gathered, summaries, tray_text
from parley.gui.paragraphs import Paragraphs
from parley.gui.spans import link_ranges, mention_formats, mention_ranges
from parley.gui.theme import DARK, LIGHT, Theme
from parley.gui.thread_model import ThreadModel
from parley.gui.window_settings import UNTIL_SWITCHED_OFF, Preview
from parley.mentions import MAX_MENTIONS
from tests.gui.scripted import WARD
from tests.gui.test_channels import IN_WARD, channel_changes
from tests.gui.test_main_window import Desktop, Keep, contrast

WIDTH = 600
LARGEST = 65_536


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep) -> Desktop:
    return Desktop(qtbot, closing).signed_in()


def pixels(image: QImage, color: QColor) -> set[tuple[int, int]]:
    """The places of an image that have exactly this colour."""
    plain = image.convertToFormat(QImage.Format.Format_RGB32)  # the view below is of its memory
    values, wanted = memoryview(plain.constBits()).cast("I"), color.rgb()
    return {(at % plain.width(), at // plain.width()) for at, value in enumerate(values) if value == wanted}


def drawn(widget: QWidget) -> QImage:
    return widget.grab().toImage()


# ---- in the thread


@pytest.mark.parametrize("theme", [LIGHT, DARK])
@pytest.mark.parametrize("urgent", [False, True])
def test_the_own_name_has_a_ground_and_the_names_of_others_have_none(
    desktop: Desktop, as_before: None, theme: Theme, urgent: bool
) -> None:
    desktop.window.restyle(theme)
    desktop.open(IN_WARD)
    view, accent = desktop.window.chat.view.viewport(), theme.color("accent")
    said = desktop.sdk.message("dana", "@ben come", conversation=WARD)
    desktop.sdk.deliver([replace(said, urgent=urgent)])
    desktop.until(lambda: desktop.has_rows(1))
    assert [one.name for one in desktop.window.chat.rows.row(0).mentions] == ["ben"]
    assert len(pixels(drawn(view), accent)) == 0
    said = desktop.sdk.message("dana", "@ann come", conversation=WARD)
    desktop.sdk.deliver([replace(said, urgent=urgent)])
    desktop.until(lambda: desktop.has_rows(2))
    height = desktop.window.chat.bubbles._body_metrics.height()
    assert len(pixels(drawn(view), accent)) > height * height, "more than the letters of a name"


@pytest.mark.parametrize(("theme", "mine"), [(LIGHT, False), (LIGHT, True), (DARK, False), (DARK, True)])
def test_a_mention_is_bold_in_the_colour_of_links(theme: Theme, mine: bool) -> None:
    found = mention_ranges("@ben @ann", [Mention(0, 4, "ben"), Mention(5, 9, "ann", me=True)])
    other, own = mention_formats(found, theme, mine=mine)
    assert (other.start, other.length, own.start, own.length) == (0, 4, 5, 4)
    assert {one.format.fontWeight() for one in (other, own)} == {QFont.Weight.DemiBold}
    assert other.format.foreground().color() == theme.color("own_link" if mine else "link")
    assert own.format.foreground().color() == theme.color("on_accent")


@pytest.mark.parametrize("mine", [False, True])
def test_a_bubble_shows_the_colour_of_mentions(mine: bool, qtbot: QtBot) -> None:
    model, font = ThreadModel(), QFont(QApplication.font())
    font.setPointSizeF(24)
    delegate = BubbleDelegate(LIGHT, font)
    color = LIGHT.color("own_link" if mine else "link")
    for mentions, has_color in (((), False), ((Mention(0, 4, "ben"),), True)):
        status = MessageStatus.ACCEPTED if mine else None
        model.show([Row(1, 0, "ben", "@ben", 1_760_000_000_000, status, mentions=mentions)])
        option = QStyleOptionViewItem()
        option.rect = QRect(0, 0, WIDTH, delegate.height(model.row(0), WIDTH))
        image = QImage(option.rect.size(), QImage.Format.Format_RGB32)
        image.fill(LIGHT.color("window"))
        painter = QPainter(image)
        delegate.paint(painter, option, model.index(0))
        painter.end()
        assert bool(pixels(image, color)) is has_color


def test_the_colours_of_mentions_can_be_read_on_every_ground() -> None:
    pairs = [("link", "other"), ("on_accent", "accent"), *(("own_link", one) for one in ("own", "window", "bad_soft"))]
    for theme in (LIGHT, DARK):
        assert [pair for pair in pairs if contrast(theme.color(pair[0]), theme.color(pair[1])) < 4.5] == [], theme.dark


def test_a_mention_keeps_its_place_behind_emoji_and_links() -> None:
    body = "👍 https://x.example/@ben @ann"
    at = body.index("@ann")
    [link] = link_ranges(body)
    [found] = mention_ranges(body, [Mention(at, at + 4, "ann", me=True)])
    assert (link.start, link.end) == (3, 3 + len("https://x.example/@ben"))
    assert (found.start, found.end, found.me) == (at + 1, at + 5, True)


@pytest.mark.parametrize("body", ["hello @ann, x", "شكرا @ann، السرير 12", "x\nשלום @ann"])
def test_the_ground_covers_the_whole_name_in_both_directions(body: str, qtbot: QtBot) -> None:
    font = QApplication.font()
    text = Paragraphs(body, font, 400)
    start = body.index("@")
    [box] = text.boxes(start, start + 4)
    [alone] = Paragraphs("@ann", font, 400).boxes(0, 4)
    assert box.width() == pytest.approx(alone.width(), abs=1)
    assert box.height() == alone.height()
    assert box.top() == (0 if "\n" not in body else pytest.approx(text.height / 2))


def test_a_name_on_two_lines_has_two_grounds(qtbot: QtBot) -> None:
    text = Paragraphs("@" + "x" * 60, QApplication.font(), 200)
    boxes = text.boxes(0, 61)
    assert len(boxes) == text.line_count > 1
    assert all(box.right() <= 201 for box in boxes)


def test_many_mentions_in_a_text_of_very_many_lines_are_laid_out_at_once(qtbot: QtBot) -> None:
    """Each mention once looked at each line. One message of a member held the window up for half a minute."""
    body = ("@ann\n" * MAX_MENTIONS + "\n" * LARGEST)[:LARGEST]
    named = tuple(Mention(at, at + 4, "ann", me=True) for at in range(0, 5 * MAX_MENTIONS, 5))
    row = Row(1, 0, "ben", body, 1_790_000_000_000, mentions=named)
    bubbles = BubbleDelegate(LIGHT, QFont())
    start = time.process_time()
    bubbles.height(replace(row, mentions=()), WIDTH)
    plain = time.process_time()
    layout = bubbles._layout(row, WIDTH)
    assert len(layout.grounds) == MAX_MENTIONS
    assert time.process_time() - plain < 2 * (plain - start) + 1.0, "little more than without mentions"


def test_a_name_that_becomes_known_later_is_drawn_as_a_mention(desktop: Desktop) -> None:
    desktop.sdk.arrive("dana", "@zoe and I", conversation=WARD)
    desktop.open(IN_WARD)
    desktop.until(lambda: desktop.has_rows(1))
    view = desktop.window.chat.view.viewport()
    before = drawn(view)
    assert desktop.window.chat.rows.row(0).mentions == ()
    desktop.sdk.tell(lambda: desktop.sdk.publisher.changed(accounts=(Account(9, "zoe"),)))
    desktop.until(lambda: desktop.window.chat.rows.row(0).mentions)
    assert drawn(view) != before


def test_a_screen_reader_hears_that_a_message_mentions_the_person(desktop: Desktop) -> None:
    desktop.sdk.arrive("dana", "@ann come", "@ben stay", conversation=WARD)
    desktop.open(IN_WARD)
    desktop.type("@ann remember")
    desktop.until(lambda: desktop.has_rows(3))
    rows = desktop.window.chat.rows
    heard = [str(rows.data(rows.index(at), Qt.ItemDataRole.AccessibleTextRole)) for at in range(3)]
    assert ["mentions you" in text.lower() for text in heard] == [True, False, False]


def test_a_direct_conversation_has_no_mentions(desktop: Desktop) -> None:
    shown = desktop.announced()
    desktop.sdk.arrive("ben", "@ann come")
    desktop.until(lambda: shown)
    assert shown == [("Ben Ortiz (ben)", "@ann come")]
    desktop.open("ben")
    desktop.until(lambda: desktop.has_rows(1))
    assert desktop.window.chat.rows.row(0).mentions == ()


# ---- in the list


def item(desktop: Desktop) -> ConversationItem:
    return desktop.window.chat.items.item(0)


@pytest.mark.parametrize("muted", [False, True])
def test_the_list_marks_and_counts_mentions_also_in_a_muted_conversation(desktop: Desktop, muted: bool) -> None:
    channel_changes(desktop, muted=muted)
    desktop.announced()
    desktop.sdk.arrive("dana", "hello", conversation=WARD)
    desktop.until(lambda: desktop.items and item(desktop).unread == 1 and item(desktop).muted is muted)
    place, accent = desktop.window.chat.list.viewport(), LIGHT.color("accent")
    before = len(pixels(drawn(place), accent))
    assert bool(before) is not muted
    desktop.sdk.arrive("dana", "@ann one", "and @Ann, two", "@ben three", conversation=WARD)
    desktop.until(lambda: item(desktop).unread == 4)
    assert item(desktop).mentions == 2
    marked = pixels(drawn(place), accent)
    assert len(marked) > before + 100
    row = desktop.window.chat.list.visualRect(desktop.window.chat.list.model().index(0, 0))
    assert any(y < row.center().y() - 4 for _, y in marked), "the time stands out, too"
    assert ("muted, " if muted else "") + "4 unread messages, 2 mentions. " in spoken_item(item(desktop))


def test_the_mark_goes_when_the_message_was_read(desktop: Desktop) -> None:
    desktop.sdk.arrive("dana", "@ann come", conversation=WARD)
    desktop.until(lambda: desktop.items and item(desktop).mentions == 1)
    desktop.open(IN_WARD)
    desktop.until(lambda: item(desktop).mentions == 0)
    assert "mention" not in spoken_item(item(desktop))


def test_the_mark_stands_at_the_other_side_in_a_window_from_the_right(desktop: Desktop, as_before: None) -> None:
    desktop.announced()
    desktop.sdk.arrive("dana", "@ann come", conversation=WARD)
    desktop.until(lambda: desktop.items and item(desktop).mentions == 1)
    place, accent = desktop.window.chat.list.viewport(), LIGHT.color("accent")
    middle = place.width() / 2
    assert all(x > middle for x, _ in pixels(drawn(place), accent))
    QApplication.setLayoutDirection(FROM_RIGHT)
    desktop.until(lambda: all(x < middle for x, _ in pixels(drawn(place), accent)))


def test_a_preview_ends_before_the_marks(desktop: Desktop) -> None:
    """Many mentions and unread messages take most of a narrow list."""
    desktop.announced()
    desktop.window.chat.set_list_width(1)
    desktop.sdk.arrive("dana", "@ann " + "w" * 100, conversation=WARD)
    desktop.until(lambda: desktop.items)
    many = replace(item(desktop), unread=5000, mentions=5000)
    desktop.window.chat.items.show([many])
    place = desktop.window.chat.list
    rect = place.visualRect(place.model().index(0, 0))
    image = drawn(place.viewport()).copy(rect)
    badges = pixels(image, LIGHT.color("accent"))
    left, middle = min(x for x, _ in badges), 3 * image.height() // 4
    assert all(
        image.pixelColor(left - gap, y) == LIGHT.color("side") for gap in (2, 3) for y in range(middle - 6, middle)
    )


def test_the_icon_of_the_tray_counts_mentions_and_a_locked_window_none(desktop: Desktop) -> None:
    assert tray_text(0, 0) == "Parley"
    assert tray_text(3, 0) == "Parley – 3 unread messages"
    assert tray_text(3, 1) == "Parley – 3 unread messages, 1 mention"
    desktop.announced()
    desktop.sdk.arrive("dana", "@ann come", "hello", conversation=WARD)
    notifier = desktop.window.notifier
    desktop.until(lambda: (notifier.unread, notifier.mentions) == (2, 1))
    desktop.window.chat.hide()
    desktop.window.conversations_changed()
    desktop.until(lambda: (notifier.unread, notifier.mentions) == (0, 0))


# ---- notifications


def test_a_notification_says_that_somebody_mentioned_the_person(desktop: Desktop) -> None:
    shown = desktop.announced()
    desktop.sdk.arrive("dana", "@ann come\nto bed 9", conversation=WARD)
    desktop.until(lambda: shown == [("Ward 4", "dana mentioned you: @ann come to bed 9")])


@pytest.mark.parametrize(
    ("preview", "expected"), [(Preview.NAMES, ("Ward 4", "1 new message")), (Preview.NONE, ("Parley", "1 new message"))]
)
def test_previews_that_show_no_text_do_not_tell_of_mentions(
    desktop: Desktop, preview: Preview, expected: tuple[str, str]
) -> None:
    desktop.window.settings.change(lambda settings: replace(settings, preview=preview))
    shown = desktop.announced()
    desktop.sdk.arrive("dana", "@ann come", conversation=WARD)
    desktop.until(lambda: shown)
    assert shown == [expected]


def test_a_muted_conversation_notifies_of_mentions_only(desktop: Desktop) -> None:
    channel_changes(desktop, muted=True)
    shown = desktop.announced()
    desktop.sdk.arrive("dana", "calm", "@ann come", "calm again", conversation=WARD)
    desktop.until(lambda: shown)
    assert shown == [("Ward 4", "dana mentioned you: @ann come")]


def test_do_not_disturb_holds_back_a_mention_unless_it_is_urgent(desktop: Desktop) -> None:
    desktop.window.settings.change(lambda settings: replace(settings, quiet_until_ms=UNTIL_SWITCHED_OFF))
    shown = desktop.announced()
    calm = desktop.sdk.message("dana", "@ann when you have time", conversation=WARD)
    fire = replace(desktop.sdk.message("dana", "@ann fire", conversation=WARD), urgent=True)
    desktop.sdk.deliver([calm, fire])
    desktop.until(lambda: shown)
    assert shown == [("Ward 4", "dana mentioned you: Urgent: @ann fire")]
    desktop.window.settings.change(lambda settings: replace(settings, urgent_when_quiet=False))
    desktop.sdk.deliver([replace(desktop.sdk.message("dana", "@ann fire again", conversation=WARD), urgent=True)])
    desktop.until(lambda: item(desktop).mentions == 3)
    desktop.window.settings.change(lambda settings: replace(settings, quiet_until_ms=0))
    desktop.sdk.arrive("dana", "all clear", conversation=WARD)
    desktop.until(lambda: shown[1:] == [("Ward 4", "dana: all clear")])


def test_without_notifications_there_is_none_of_a_mention(desktop: Desktop) -> None:
    desktop.window.settings.change(lambda settings: replace(settings, notify=False))
    shown = desktop.announced()
    desktop.sdk.arrive("dana", "@ann come", conversation=WARD)
    desktop.until(lambda: item_mentions(desktop) == 1)
    desktop.window.settings.change(lambda settings: replace(settings, notify=True))
    desktop.sdk.arrive("dana", "calm", conversation=WARD)
    desktop.until(lambda: shown)
    assert shown == [("Ward 4", "dana: calm")]


def item_mentions(desktop: Desktop) -> int:
    return item(desktop).mentions if desktop.items else 0


def test_mentions_come_after_urgent_messages_and_before_the_others() -> None:
    calm = [Gathered(str(number), (f"hello {number}",)) for number in range(4)]
    fire = Gathered("ward", ("Urgent: fire",), urgent=True)
    named = Gathered("hall").with_news([News("ann: hi"), News("ben mentioned you: @ann", mention=True), News("x")])
    assert summaries([*calm, named, fire]) == [
        ("ward", "Urgent: fire"),
        ("hall", "ben mentioned you: @ann (3 new messages)"),
        ("Parley", "4 new messages in 4 conversations"),
    ]
    assert summaries([calm[0], named], Preview.NAMES) == [("hall", "3 new messages"), ("0", "1 new message")]
    assert summaries([calm[0], named], Preview.NONE) == [("Parley", "4 new messages")]
    twice = named.with_news([News("cem mentioned you: @ann", mention=True)])
    assert twice.text == "cem mentioned you: @ann (4 new messages, 2 mentions)"
    later = [News("dan mentioned you: @ann", mention=True), News("calm")]
    assert twice.with_news(later).text == "dan mentioned you: @ann (6 new messages, 3 mentions)"
    assert twice.with_news([News("calm")]).text == "cem mentioned you: @ann (5 new messages, 2 mentions)"
    many = [replace(named, title=str(number)) for number in range(MOST_MENTIONING + 5)]
    assert len(summaries(many)) == MOST_MENTIONING + 1


def test_a_click_opens_the_latest_mention_before_later_messages(desktop: Desktop) -> None:
    shown = desktop.announced()
    desktop.sdk.arrive("dana", "@ann come", conversation=WARD)
    desktop.sdk.arrive("ben", "look here")
    desktop.until(lambda: len(shown) == 2)
    desktop.window.notifier.clicked()
    desktop.until(lambda: desktop.open_title == "Ward 4")


def test_a_click_opens_an_urgent_message_before_a_later_mention(desktop: Desktop) -> None:
    shown = desktop.announced()
    notifier = desktop.window.notifier
    keys = [desktop.window.app_state.chats.key_of(Target(account=name)) for name in ("ben", "dana", "bella")]
    news = (News("fire", urgent=True), News("@ann", mention=True), News("calm"))
    opened: list[ConversationKey] = []
    notifier.opened.connect(opened.append)
    for key, one in zip(keys, news, strict=True):
        notifier.notice(key, "title", [one])
    desktop.until(lambda: len(shown) == 3)
    notifier.clicked()
    assert opened == [keys[0]]
    shown = desktop.announced()
    notifier.notice(keys[1], "title", [news[1]])
    notifier.notice(keys[2], "title", [news[2]])
    desktop.until(lambda: len(shown) == 2)
    notifier.clicked()
    assert opened == [keys[0], keys[1]]
