"""Two windows on one profile, over the real SDK: both show what is unread, and what one reads is read in the other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from parley import ConnectionState, Target
from parley.gui.app_state import VisiblePage
from parley.gui.app_window import connector
from parley.gui.bridge import Bridge
from parley.gui.commands import ClusterAddress
from parley.gui.main_window import MainWindow
from parley.gui.theme import LIGHT
from tests.gui.test_in_process_node import NodeInThread, signed_in


def resumed(qtbot: QtBot, closing: Callable[[Any], Any], address: ClusterAddress, state_dir: Path) -> MainWindow:
    """Another window of ann."""
    window = MainWindow(LIGHT)
    bridge: Bridge = closing(Bridge(connector(state_dir), window.app_state.apply))
    window.attach(bridge)
    qtbot.addWidget(window)
    bridge.start()
    window.show()
    window.resume(address, "ann")
    return window


def unread(window: MainWindow) -> list[int]:
    model = window.chat.items
    return [model.item(at).unread for at in range(model.rowCount())]


def test_a_second_window_on_one_profile_shows_what_is_unread_and_what_the_first_one_has_read(
    qtbot: QtBot, closing: Callable[[Any], Any], tmp_path: Path
) -> None:
    node: NodeInThread = closing(NodeInThread(tmp_path))
    cluster = node.cluster
    ann, ben = node.do(lambda: [cluster.add_account(name) for name in ("ann", "ben")])
    channel = node.do(lambda: cluster.create_channel(ben, "Ward 4", [ann]))
    node.do(lambda: cluster.store(ben, channel, "from before the first log-in"))
    first = signed_in(qtbot, closing, cluster, tmp_path)
    qtbot.waitUntil(lambda: unread(first) == [1], timeout=60_000)
    second = resumed(qtbot, closing, ClusterAddress(cluster.nodes[0].address, insecure=True), tmp_path / "ann")
    qtbot.waitUntil(lambda: second.app_state.page is VisiblePage.CHAT, timeout=60_000)
    qtbot.waitUntil(lambda: second.app_state.client_state.connection is ConnectionState.SHARED, timeout=60_000)
    qtbot.waitUntil(lambda: unread(second) == [1], timeout=20_000)
    node.do(lambda: cluster.store(ben, channel, "another"))
    qtbot.waitUntil(lambda: (unread(first), unread(second)) == ([2], [2]), timeout=20_000)
    first.activateWindow()
    qtbot.waitUntil(first.isActiveWindow, timeout=20_000)
    item = first.chat.list.visualRect(first.chat.items.index(0))
    QTest.mouseClick(first.chat.list.viewport(), Qt.MouseButton.LeftButton, pos=item.center())
    qtbot.waitUntil(lambda: unread(first) == [0], timeout=20_000)
    qtbot.waitUntil(lambda: unread(second) == [0], timeout=20_000)


def test_what_the_second_window_reads_writes_and_leaves_in_the_field_is_in_the_first_one(
    qtbot: QtBot, closing: Callable[[Any], Any], tmp_path: Path
) -> None:
    node: NodeInThread = closing(NodeInThread(tmp_path))
    cluster = node.cluster
    ann, ben = node.do(lambda: [cluster.add_account(name) for name in ("ann", "ben")])
    channel = node.do(lambda: cluster.create_channel(ben, "Ward 4", [ann]))
    node.do(lambda: cluster.store(ben, channel, "who is on duty?"))
    first = signed_in(qtbot, closing, cluster, tmp_path)
    qtbot.waitUntil(lambda: unread(first) == [1], timeout=60_000)
    second = resumed(qtbot, closing, ClusterAddress(cluster.nodes[0].address, insecure=True), tmp_path / "ann")
    qtbot.waitUntil(
        lambda: second.app_state.client_state.connection is ConnectionState.SHARED and unread(second) == [1],
        timeout=60_000,
    )
    second.activateWindow()
    qtbot.waitUntil(second.isActiveWindow, timeout=20_000)
    item = second.chat.list.visualRect(second.chat.items.index(0))
    QTest.mouseClick(second.chat.list.viewport(), Qt.MouseButton.LeftButton, pos=item.center())
    qtbot.waitUntil(lambda: unread(second) == [0], timeout=20_000)
    qtbot.waitUntil(lambda: unread(first) == [0], timeout=20_000)
    editor = second.chat.composer.editor
    QTest.keyClicks(editor, "I am")
    QTest.keyClick(editor, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: previews(first) == ["I am"], timeout=20_000)
    QTest.keyClicks(editor, "not finished")
    second.activateWindow()
    qtbot.waitUntil(second.isActiveWindow, timeout=20_000)
    second.open_conversation("ben")
    first.activateWindow()
    first.open_conversation(Target(conversation_id=channel))
    qtbot.waitUntil(lambda: first.chat.composer.editor.toPlainText() == "not finished", timeout=20_000)


def test_a_draft_that_another_window_stores_after_this_one_came_to_the_front_is_shown_unless_something_was_typed(
    qtbot: QtBot, closing: Callable[[Any], Any], tmp_path: Path
) -> None:
    """Who changes the window is faster than the disk."""
    node: NodeInThread = closing(NodeInThread(tmp_path))
    cluster = node.cluster
    ann, ben = node.do(lambda: [cluster.add_account(name) for name in ("ann", "ben")])
    channel = Target(conversation_id=node.do(lambda: cluster.create_channel(ben, "Ward 4", [ann])))
    first = signed_in(qtbot, closing, cluster, tmp_path)
    connected, shared = ConnectionState.CONNECTED, ConnectionState.SHARED
    qtbot.waitUntil(lambda: first.app_state.client_state.connection is connected, timeout=60_000)
    second = resumed(qtbot, closing, ClusterAddress(cluster.nodes[0].address, insecure=True), tmp_path / "ann")
    qtbot.waitUntil(lambda: second.app_state.client_state.connection is shared, timeout=60_000)
    mine, other = first.chat.composer.editor, second.chat.composer.editor
    second.open_conversation(channel)
    first.open_conversation(channel)
    qtbot.waitUntil(lambda: min(one.chat.rows.rowCount() for one in (first, second)) > 0, timeout=20_000)
    QTest.keyClicks(other, "not finished")
    second.save_draft()
    qtbot.waitUntil(lambda: mine.toPlainText() == "not finished", timeout=20_000)
    QTest.keyClicks(mine, "!")
    QTest.keyClicks(other, " yet")
    second.save_draft()
    second.open_conversation("ben")
    QTest.keyClicks(other, "hello")
    QTest.keyClick(other, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: "hello" in previews(first), timeout=20_000)
    assert mine.toPlainText().endswith("!"), "what was typed here since is newer"


def previews(window: MainWindow) -> list[str]:
    model = window.chat.items
    return [model.item(at).preview for at in range(model.rowCount())]
