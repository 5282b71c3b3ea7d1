"""The window over the real SDK and an in-process node over the real state machine: channels, names and marks."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TypeVar

from PySide6.QtCore import Qt
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from parley import EVERYONE, ConnectionState, MessageStatus, ParleyClient, Target
from parley.chat import known_of
from parley.gui.app_window import connector
from parley.gui.bridge import Bridge
from parley.gui.commands import ClusterAddress
from parley.gui.lock import Lock
from parley.gui.main_window import MainWindow
from parley.gui.mention_list import MentionList
from parley.gui.theme import LIGHT
from tests.support.node import PASSWORD, InProcessCluster, running_cluster

T = TypeVar("T")
BUILD = Path(__file__).resolve().parents[2] / "build"


class NodeInThread:
    """One node, and the clients of other people, on a loop of their own."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._stack = AsyncExitStack()
        self.cluster: InProcessCluster = self.run(self._stack.enter_async_context(running_cluster()))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def do(self, doing: Callable[[], T]) -> T:
        """Does something on the node's loop."""

        async def do() -> T:
            return doing()

        return self.run(do())

    def person(self, name: str) -> ParleyClient:
        """Somebody else signs in and stays."""
        return self.run(self._person(name))

    async def _person(self, name: str) -> ParleyClient:
        hosts = [node.address for node in self.cluster.nodes]
        client = ParleyClient(hosts, insecure=True, state_dir=self._root / name)
        await self._stack.enter_async_context(client)
        await client.login(name, PASSWORD)
        await client.wait_until(ConnectionState.CONNECTED, timeout=10)
        return client

    def stop(self) -> None:
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    async def _end(self) -> None:
        """End what still runs as the process of a node does: the pause after the last marks, for example."""
        await self._stack.aclose()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)


def signed_in(qtbot: QtBot, closing: Callable[[Any], Any], cluster: InProcessCluster, tmp_path: Path) -> MainWindow:
    """A window in which ann signs in."""
    window = MainWindow(LIGHT)
    bridge: Bridge = closing(Bridge(connector(tmp_path / "ann"), window.app_state.apply))
    window.attach(bridge)
    qtbot.addWidget(window)
    bridge.start()
    window.show()
    window.sign_in.fill(ClusterAddress(cluster.nodes[0].address, insecure=True), "ann")
    window.sign_in.password.setText(PASSWORD)
    QTest.keyClick(window.sign_in.password, Qt.Key.Key_Return)
    return window


def test_a_channel_a_direct_conversation_and_notes_on_a_real_node(
    qtbot: QtBot, closing: Callable[[Any], Any], tmp_path: Path
) -> None:
    node: NodeInThread = closing(NodeInThread(tmp_path))
    cluster = node.cluster
    ann, ben, dana = node.do(lambda: [cluster.add_account(name) for name in ("ann", "ben", "dana")])
    channel = node.do(lambda: cluster.create_channel(ben, "Ward 4", [ann, dana]))
    node.do(lambda: cluster.store(ben, channel, "who is on duty?"))
    window = signed_in(qtbot, closing, cluster, tmp_path)

    def until(condition: Callable[[], object]) -> None:
        qtbot.waitUntil(lambda: bool(condition()), timeout=20_000)

    def items() -> list[tuple[str, str, int]]:
        model = window.chat.items
        found = [model.item(at) for at in range(model.rowCount())]
        return [(item.title, item.preview, item.unread) for item in found]

    def rows() -> list[tuple[str, MessageStatus | None]]:
        model = window.chat.rows
        return [(model.row(at).body, model.row(at).status) for at in range(model.rowCount())]

    until(lambda: items() == [("Ward 4", "ben: who is on duty?", 1)])
    window.open_conversation(Target(conversation_id=channel))
    until(lambda: rows() == [("ben created the channel “Ward 4”.", None), ("who is on duty?", None)])
    QTest.keyClicks(window.chat.composer.editor, "I am")
    QTest.keyClick(window.chat.composer.editor, Qt.Key.Key_Return)
    until(lambda: rows()[2:] == [("I am", MessageStatus.ACCEPTED)])
    assert known_of(window.chat.rows.row(2)) == "delivered to 0 of 2"
    with_ben = node.person("ben")
    until(lambda: known_of(window.chat.rows.row(2)) == "delivered to 1 of 2")
    node.run(with_ben.mark_read(channel, window.chat.rows.row(2).message_id))
    until(lambda: known_of(window.chat.rows.row(2)) == "delivered to 1 of 2, read by 1")
    assert rows()[2:] == [("I am", MessageStatus.ACCEPTED)]
    with_dana = node.person("dana")
    until(lambda: rows()[2:] == [("I am", MessageStatus.DELIVERED)])
    node.run(with_dana.mark_read(channel, window.chat.rows.row(2).message_id))
    until(lambda: rows()[2:] == [("I am", MessageStatus.READ)])
    BUILD.mkdir(exist_ok=True)
    window.grab().save(str(BUILD / "gui-channel-real.png"))

    window.open_conversation("ben")
    QTest.keyClicks(window.chat.composer.editor, "in private")
    QTest.keyClick(window.chat.composer.editor, Qt.Key.Key_Return)
    until(lambda: rows() == [("in private", MessageStatus.DELIVERED)])
    node.run(with_ben.send("ann", "and back"))
    until(lambda: rows() == [("in private", MessageStatus.DELIVERED), ("and back", None)])
    window.open_conversation("ann")
    QTest.keyClicks(window.chat.composer.editor, "milk")
    QTest.keyClick(window.chat.composer.editor, Qt.Key.Key_Return)
    until(lambda: rows() == [("milk", MessageStatus.ACCEPTED)])
    until(lambda: [title for title, _, _ in items()] == ["Notes to yourself", "ben", "Ward 4"])
    assert window.chat.title.text() == "Notes to yourself"


def test_a_public_channel_is_found_joined_and_left_and_who_is_added_again_writes_again(
    qtbot: QtBot, closing: Callable[[Any], Any], tmp_path: Path
) -> None:
    node: NodeInThread = closing(NodeInThread(tmp_path))
    node.do(lambda: [node.cluster.add_account(name) for name in ("ann", "ben")])
    with_ben = node.person("ben")
    channel = node.run(with_ben.create_channel("Ward 4"))
    node.run(with_ben.change_channel(channel, public=True, topic="Nights"))
    window = signed_in(qtbot, closing, node.cluster, tmp_path)

    def until(condition: Callable[[], object]) -> None:
        qtbot.waitUntil(lambda: bool(condition()), timeout=20_000)

    def bodies() -> list[str]:
        return [window.chat.rows.row(at).body for at in range(window.chat.rows.rowCount())]

    actions = window.channel_actions
    until(lambda: window.app_state.account == "ann")
    window.commands.list_channels()
    until(lambda: actions.finder is not None)
    assert actions.finder is not None
    assert actions.finder.names.stringList() == [f"Ward 4 (#{channel}, 1 member)"]
    QTest.keyClick(actions.finder.field, Qt.Key.Key_Return)
    until(lambda: bodies() == ["You joined."])
    until(lambda: (window.chat.title.text(), window.chat.topic.text()) == ("Ward 4", "Nights"))
    QTest.keyClicks(window.chat.composer.editor, "hello")
    QTest.keyClick(window.chat.composer.editor, Qt.Key.Key_Return)
    until(lambda: bodies() == ["You joined.", "hello"])
    window.commands.leave_channel(channel)
    until(lambda: not window.chat.composer.editor.isVisible())
    until(lambda: bodies() == ["You joined.", "hello", "You left."])
    assert window.chat.composer.standing.text().startswith("You are no longer in this channel.")
    node.run(with_ben.add_members(channel, ["ann"]))
    until(window.chat.composer.editor.isVisible)
    until(lambda: bodies()[3:] == ["ben added you."])


def test_a_conversation_that_the_window_removes_is_gone_with_its_draft_and_comes_back_with_what_is_newer(
    qtbot: QtBot, closing: Callable[[Any], Any], tmp_path: Path
) -> None:
    node: NodeInThread = closing(NodeInThread(tmp_path))
    cluster = node.cluster
    ann, ben = node.do(lambda: [cluster.add_account(name) for name in ("ann", "ben")])
    node.do(lambda: cluster.store(ben, ann, "all well?"))
    window = signed_in(qtbot, closing, cluster, tmp_path)

    def until(condition: Callable[[], object]) -> None:
        qtbot.waitUntil(lambda: bool(condition()), timeout=20_000)

    def bodies() -> list[str]:
        return [window.chat.rows.row(at).body for at in range(window.chat.rows.rowCount())]

    def remove() -> None:
        removal = window.row_actions.removal
        removal.ask_open()
        assert removal.question is not None
        next(one for one in removal.question.buttons() if one.text().replace("&", "") == "Remove").click()
        until(lambda: window.chat.items.rowCount() == 0)

    until(lambda: window.chat.items.rowCount() == 1)
    window.open_conversation(Target(account="ben"))
    until(lambda: bodies() == ["all well?"])
    QTest.keyClicks(window.chat.composer.editor, "half a thought")
    remove()
    window.open_conversation(Target(account="ben"))
    until(lambda: window.chat.title.text() == "ben")
    assert (bodies(), window.chat.composer.editor.toPlainText()) == ([], "")
    QTest.keyClicks(window.chat.composer.editor, "yes")
    QTest.keyClick(window.chat.composer.editor, Qt.Key.Key_Return)
    until(lambda: bodies() == ["yes"] and window.chat.rows.row(0).message_id)
    window.close_conversation()
    until(lambda: window.chat.items.rowCount() == 1)
    with_ben = node.person("ben")
    assert [one.body for one in node.run(with_ben.history("ann")).messages] == ["all well?", "yes"]
    window.open_conversation(Target(account="ben"))
    until(lambda: bodies() == ["yes"])
    remove()


def test_what_is_written_without_a_majority_is_changed_with_up_and_withdrawn_with_delete(
    qtbot: QtBot, closing: Callable[[Any], Any], tmp_path: Path
) -> None:
    node: NodeInThread = closing(NodeInThread(tmp_path))
    cluster = node.cluster
    node.do(lambda: [cluster.add_account(name) for name in ("ann", "ben")])
    window = signed_in(qtbot, closing, cluster, tmp_path)
    composer, rows = window.chat.composer, window.chat.rows

    def until(condition: Callable[[], object]) -> None:
        qtbot.waitUntil(lambda: bool(condition()), timeout=20_000)

    def shown() -> list[tuple[str, MessageStatus | None]]:
        return [(rows.row(at).body, rows.row(at).status) for at in range(rows.rowCount())]

    def write(text: str) -> None:
        QTest.keyClicks(composer.editor, text)
        QTest.keyClick(composer.editor, Qt.Key.Key_Return)

    def has_majority(present: bool) -> None:
        cluster.nodes[0].faults.no_majority = not present
        cluster.announce()

    until(lambda: window.app_state.client_state.connection is ConnectionState.CONNECTED)
    window.open_conversation("ben")
    node.do(lambda: has_majority(False))
    until(lambda: window.app_state.client_state.connection is ConnectionState.NO_MAJORITY)
    write("one")
    until(lambda: shown() == [("one", MessageStatus.WAITING)])
    QTest.keyClick(composer.editor, Qt.Key.Key_Up)
    assert composer.editor.toPlainText() == "one"
    write(" and more")
    until(lambda: shown() == [("one and more", MessageStatus.WAITING)])
    write("two")
    until(lambda: shown()[1:] == [("two", MessageStatus.WAITING)])
    window.chat.view.setFocus()
    window.chat.view.setCurrentIndex(rows.index(1))
    QTest.keyClick(window.chat.view, Qt.Key.Key_Delete)
    until(lambda: shown() == [("one and more", MessageStatus.WAITING)])
    node.do(lambda: has_majority(True))
    until(lambda: shown() == [("one and more", MessageStatus.ACCEPTED)])
    assert node.do(lambda: cluster.bodies_for("ben")) == ["one and more"]


def test_a_lock_is_opened_by_the_real_password_alone_and_messages_go_on(
    qtbot: QtBot, closing: Callable[[Any], Any], tmp_path: Path
) -> None:
    node: NodeInThread = closing(NodeInThread(tmp_path))
    node.do(lambda: [node.cluster.add_account(name, PASSWORD) for name in ("ann", "ben")])
    ben = node.person("ben")
    window = signed_in(qtbot, closing, node.cluster, tmp_path)
    lock = Lock(window, tmp_path / "ann")
    qtbot.waitUntil(lambda: window.app_state.client_state.connection is ConnectionState.CONNECTED, timeout=20_000)

    def enter(password: str) -> None:
        lock.page.password.setText(password)
        QTest.keyClick(lock.page.password, Qt.Key.Key_Return)

    lock.begin()
    enter("not the password")
    qtbot.waitUntil(lock.page.problem.isVisible, timeout=20_000)
    assert lock.is_locked
    node.run(ben.send("ann", "while it is locked"))
    qtbot.waitUntil(lambda: len(window.app_state.items()) == 1, timeout=20_000)
    enter(PASSWORD)
    qtbot.waitUntil(lambda: not lock.is_locked, timeout=20_000)
    node.run(ben.send("ann", "and after it"))
    qtbot.waitUntil(lambda: window.app_state.items()[0].unread == 2, timeout=20_000)
    window.commands.send(Target(account="ben"), "from ann")
    qtbot.waitUntil(lambda: "from ann" in {one.body for one in node.cluster.messages}, timeout=20_000)
    lock.change_account()
    qtbot.waitUntil(window.sign_in.isVisible, timeout=20_000)
    database = next((tmp_path / "ann").rglob("client.sqlite"))
    window.sign_in.account.setText("ann")
    enter_again = window.sign_in.password
    enter_again.setText(PASSWORD)
    QTest.keyClick(enter_again, Qt.Key.Key_Return)
    qtbot.waitUntil(lambda: window.app_state.account == "ann", timeout=20_000)
    window.commands.leave_nothing()
    qtbot.waitUntil(window.sign_in.isVisible, timeout=20_000)
    assert window.sign_in.problem.text() == ""
    assert not database.exists()


def test_members_beyond_those_that_a_conversation_names_are_completed_and_a_mention_is_counted(
    qtbot: QtBot, closing: Callable[[Any], Any], tmp_path: Path
) -> None:
    node: NodeInThread = closing(NodeInThread(tmp_path))
    cluster = node.cluster
    names = ["ann", "ben", *(f"nurse{number:02}" for number in range(70)), "zoe"]
    ann, ben, *others = node.do(lambda: [cluster.add_account(name) for name in names])
    channel = node.do(lambda: cluster.create_channel(ben, "Hall", [ann, *others]))
    node.do(lambda: cluster.store(ben, channel, "hello @ann"))
    window = signed_in(qtbot, closing, cluster, tmp_path)
    [found] = window.chat.findChildren(MentionList)

    def until(condition: Callable[[], object]) -> None:
        qtbot.waitUntil(lambda: bool(condition()), timeout=20_000)

    model = window.chat.items
    until(lambda: model.rowCount() and (model.item(0).unread, model.item(0).mentions) == (1, 1))
    with_ben = node.person("ben")
    for target in (Target(conversation_id=channel), EVERYONE, EVERYONE):
        window.open_conversation(target)
        until(lambda: (thread := window.app_state.open_thread()) is not None and thread.verified_from is not None)
        window.activateWindow()
        window.chat.composer.editor.setFocus()
        QTest.keyClicks(window.chat.composer.editor, "@zo")
        until(found.isVisible)
        assert [one.name for one in found.accounts] == ["zoe"]
        QTest.keyClick(window.chat.composer.editor, Qt.Key.Key_Return)
        assert window.chat.composer.editor.toPlainText() == "@zoe "
        window.chat.composer.editor.clear()
        node.run(with_ben.send(EVERYONE, "hello @ann"))
        until(lambda: model.rowCount() == 2)
    until(lambda: all(model.item(at).mentions == 0 for at in range(model.rowCount())))
