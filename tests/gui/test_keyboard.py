"""Everything can be reached with Tab, has a name for screen readers, and shows that it has the focus."""

from __future__ import annotations

from itertools import pairwise

import pytest
from PySide6.QtCore import QSize, Qt
from PySide6.QtGui import QAccessible, QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QAbstractItemView, QApplication, QLineEdit, QPlainTextEdit, QSplitterHandle, QWidget

from parley.gui.theme import LIGHT
from scripts.screenshots import shown
from tests.gui.test_pictures import EVERY

PAGES = ("sign-in", "new-account", "invited", "uninvited", "no-device", "locked")
CHATS = ("list", "chat-light", "channel", "unread", "left-channel", "lost", "first-day")
DIALOGS = (
    "settings",
    "shortcuts",
    "cluster",
    "cluster-for-people",
    "transfer",
    "display-name",
    "devices",
    "password",
    "find",
    "join",
    "add-somebody",
    "leave-nothing",
    "lost-messages",
)
MOST_STEPS = 40
AROUND, AROUND_FIELD = 3, 20  # the edge of the field in which messages are written belongs to its frame


def takes_keys(part: QWidget, front: QWidget) -> bool:
    """Whether a person must be able to reach it with Tab."""
    by_tab = bool(part.focusPolicy() & Qt.FocusPolicy.TabFocus) and part.focusProxy() is None
    is_there = part.isVisible() and part.isEnabled() and part.window() is front
    return by_tab and is_there and not isinstance(part, QSplitterHandle)


def way(front: QWidget) -> list[QWidget]:
    """What Tab leads through, until it is where it began."""
    begin = QApplication.focusWidget()
    assert begin is not None
    met = [begin]
    for _ in range(MOST_STEPS):
        QTest.keyClick(met[-1], Qt.Key.Key_Tab)
        now = QApplication.focusWidget()
        assert now is not None
        if now is begin:
            return met
        met.append(now)
    raise AssertionError(f"Tab does not come back: {met}")


def spoken(part: QWidget) -> str:
    interface = QAccessible.queryAccessibleInterface(part)
    return interface.text(QAccessible.Text.Name) if interface is not None else ""


def picture(front: QWidget) -> QImage:
    for field in front.findChildren(QLineEdit):
        field.deselect()
    return front.grab().toImage()


def unseen(met: list[QWidget], front: QWidget) -> list[str]:
    """What looks the same with the focus and without it. A list without anything in it may."""
    found = []
    for before, after in pairwise([*met, met[0]]):
        before.setFocus(Qt.FocusReason.TabFocusReason)
        first = picture(front)
        after.setFocus(Qt.FocusReason.TabFocusReason)
        around = AROUND_FIELD if isinstance(after, QPlainTextEdit) else AROUND
        place = after.rect().translated(after.mapTo(front, after.rect().topLeft()))
        place = place.adjusted(-around, -around, around, around)
        is_empty = isinstance(after, QAbstractItemView) and not after.model().rowCount()
        if len(met) > 1 and not is_empty and first.copy(place) == picture(front).copy(place):
            found.append(spoken(after))
    return found


@pytest.mark.parametrize("name", [*PAGES, *CHATS, *DIALOGS])
def test_tab_leads_to_everything_which_has_a_name_and_shows_its_focus(
    name: str, qapp: QApplication, as_before: None
) -> None:
    with shown(qapp, LIGHT, QSize(1120, 720), EVERY[f"gui-{name}"]) as front:
        met = way(front)
        wanted = [part for part in front.findChildren(QWidget) if takes_keys(part, front)]
        assert [part for part in wanted if part not in met] == []
        assert [part for part in met if part.visibleRegion().isEmpty()] == []
        names = [spoken(part) for part in met]
        assert "" not in names
        assert len(set(names)) == len(names), "two parts with one name"
        assert unseen(met, front) == []
