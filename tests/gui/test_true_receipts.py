"""What a sender is told of a reader at a window, over the real SDK and an in-process node: read is what was seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QPushButton
from pytestqt.qtbot import QtBot

from tests.gui.test_in_process_node import NodeInThread, signed_in

COUNT = 250


def test_the_sender_of_many_messages_is_told_which_ones_were_on_the_readers_screen(
    qtbot: QtBot, closing: Callable[[Any], Any], tmp_path: Path
) -> None:
    node: NodeInThread = closing(NodeInThread(tmp_path))
    cluster = node.cluster
    ann, ben = node.do(lambda: [cluster.add_account(name) for name in ("ann", "ben")])
    channel = node.do(lambda: cluster.create_channel(ben, "Ward 4", [ann]))
    node.do(lambda: [cluster.store(ben, channel, f"message {number}") for number in range(COUNT)])
    with_ben = node.person("ben")
    window = signed_in(qtbot, closing, cluster, tmp_path)
    chat = window.chat

    def until(condition: Callable[[], object]) -> None:
        qtbot.waitUntil(lambda: bool(condition()), timeout=20_000)

    def unread() -> int:
        return chat.items.item(0).unread if chat.items.rowCount() else -1

    def is_read(message_id: int) -> bool:
        return node.run(with_ben.receipts(channel, message_id)).read == 1

    def click(name: str) -> None:
        found = chat.findChild(QPushButton, name)
        assert isinstance(found, QPushButton)
        until(found.isVisible)
        QTest.mouseClick(found, Qt.MouseButton.LeftButton)

    until(lambda: unread() == COUNT)
    window.activateWindow()
    until(window.isActiveWindow)
    place = chat.list.visualRect(chat.items.index(0)).center()
    QTest.mouseClick(chat.list.viewport(), Qt.MouseButton.LeftButton, pos=place)
    until(lambda: chat.rows.rowCount() == COUNT + 1)  # and the line that says who made the channel
    until(lambda: 0 < unread() < COUNT)
    seen = COUNT - unread()
    ids = [row.message_id for row in chat.rows.rows[1:]]
    until(lambda: is_read(ids[seen - 1]))
    assert not is_read(ids[seen])
    click("to_latest")
    until(chat.view.is_at_bottom)
    until(lambda: chat.view.last_visible() == COUNT)
    assert unread() == COUNT - seen
    assert not is_read(ids[-1])
    click("first_unread")
    until(lambda: unread() < COUNT - seen)
    click("all_read")
    until(lambda: unread() == 0)
    until(lambda: is_read(ids[-1]))
