"""Two windows on a real cluster of three nodes; the node one of them talks to is killed while both people type."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from PySide6.QtCore import Qt, QTimer
from PySide6.QtTest import QTest
from pytestqt.qtbot import QtBot

from parley import FINAL, ConnectionState, MessageStatus
from parley.gui.app_state import VisiblePage
from parley.gui.app_window import connector
from parley.gui.bridge import Bridge
from parley.gui.commands import ClusterAddress
from parley.gui.main_window import MainWindow
from parley.gui.theme import LIGHT
from scripts.cluster_local import LocalCluster

BUILD = Path(__file__).resolve().parents[2] / "build"
PASSWORD = "correct horse battery"
MESSAGES_EACH = 40
TYPE_EVERY_MS = 50
KILL_AFTER = 12

T = TypeVar("T")


class ClusterInThread:
    """LocalCluster on a loop of its own, so that Qt's can run meanwhile."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.cluster = self.run(self._enter())

    async def _enter(self) -> LocalCluster:
        cluster = LocalCluster(self._root, settings={"bcrypt_cost": 10})
        return await cluster.__aenter__()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def stop(self) -> None:
        self.run(self.cluster.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)


class Person:
    """Somebody at a window."""

    def __init__(
        self, qtbot: QtBot, name: str, peer: str, address: ClusterAddress, state_dir: Path, *, is_new: bool = True
    ) -> None:
        self.name, self.peer = name, peer
        self.window = MainWindow(LIGHT)
        self.bridge = Bridge(connector(state_dir), self.window.app_state.apply)
        self.window.attach(self.bridge)
        qtbot.addWidget(self.window)
        self.bridge.start()
        self.window.show()
        if is_new:
            page = self.window.sign_in
            page.fill(address, name)
            page.password.setText(PASSWORD)
            page.password.repeated.setText(PASSWORD)
            page.create_button.click()
        else:
            self.window.resume(address, name)
        self.typed: list[str] = []
        self.typed_at: dict[str, float] = {}
        self.accepted_at: dict[str, float] = {}
        self.statuses: list[str] = []

    def stop(self) -> None:
        self.bridge.stop()

    @property
    def connected(self) -> bool:
        return (
            self.window.app_state.page is VisiblePage.CHAT
            and self.window.app_state.client_state.connection is ConnectionState.CONNECTED
        )

    def type_one(self) -> None:
        """Typed key by key, like a person does, and sent by Enter."""
        text = f"{self.name} {len(self.typed)}"
        editor = self.window.chat.composer.editor
        QTest.keyClicks(editor, text)
        QTest.keyClick(editor, Qt.Key.Key_Return)
        self.typed.append(text)
        self.typed_at[text] = time.monotonic()

    def look(self) -> None:
        """Notes what the window shows at this moment."""
        now = time.monotonic()
        model = self.window.chat.rows
        for at in range(model.rowCount()):
            row = model.row(at)
            if row.mine and row.status in FINAL and row.body not in self.accepted_at:
                self.accepted_at[row.body] = now
        text = self.window.status.text
        if not self.statuses or self.statuses[-1] != text:
            self.statuses.append(text)

    def shown(self) -> list[str]:
        model = self.window.chat.rows
        return [model.row(at).body for at in range(model.rowCount())]

    def report(self) -> str:
        """How things stand, for the error text."""
        model = self.window.chat.rows
        rows = [model.row(at) for at in range(model.rowCount())]
        open_rows = [(row.body, row.status) for row in rows if row.mine and row.status not in FINAL]
        absent = sorted(set(self.typed) - {row.body for row in rows})
        return f"{self.name}: {self.window.app_state.client_state}, {len(rows)} rows, open {open_rows}, absent {absent}"

    def all_accepted(self) -> bool:
        model = self.window.chat.rows
        settled = (MessageStatus.ACCEPTED, MessageStatus.DELIVERED, MessageStatus.READ, None)
        return all(model.row(at).status in settled for at in range(model.rowCount()))


@pytest.mark.timeout(300)
def test_kill_9_loses_and_doubles_nothing_on_either_screen_and_a_lost_majority_clears_by_itself(
    qtbot: QtBot, closing: Callable[[Any], Any], tmp_path: Path
) -> None:
    running: ClusterInThread = closing(ClusterInThread(tmp_path / "cluster"))
    cluster = running.cluster
    address = ClusterAddress(", ".join(cluster.hosts), cluster.ca_file)
    ann: Person = closing(Person(qtbot, "ann", "ben", address, tmp_path / "ann"))
    ben: Person = closing(Person(qtbot, "ben", "ann", address, tmp_path / "ben"))
    people = (ann, ben)

    def until(condition: Callable[[], bool], timeout_s: float) -> None:
        def looked() -> bool:
            for person in people:
                person.look()
            return condition()

        try:
            qtbot.waitUntil(looked, timeout=round(timeout_s * 1000))
        except qtbot.TimeoutError:
            raise AssertionError("\n".join(person.report() for person in people)) from None

    until(lambda: ann.connected and ben.connected, 60)
    for person in people:
        person.window.open_conversation(person.peer)
    killed_at = 0.0
    node = ""

    def type_on() -> None:
        nonlocal killed_at, node
        for person in people:
            if len(person.typed) < MESSAGES_EACH:
                person.type_one()
        if len(ann.typed) == KILL_AFTER:
            node = ann.window.app_state.client_state.node
            cluster.kill(node)
            killed_at = time.monotonic()

    timer = QTimer()
    timer.timeout.connect(type_on)
    timer.start(TYPE_EVERY_MS)
    every = sorted(f"{person.name} {number}" for person in people for number in range(MESSAGES_EACH))
    try:
        until(lambda: all(len(person.typed) == MESSAGES_EACH for person in people), 90)
        until(lambda: all(sorted(person.shown()) == every and person.all_accepted() for person in people), 90)
    finally:
        timer.stop()

    assert ann.shown() == ben.shown(), "both see one order"
    for person in people:
        own = [body for body in ann.shown() if body.startswith(person.name)]
        assert own == person.typed, "a sender's messages keep their order"
    assert node
    until(lambda: all(person.connected and person.window.app_state.client_state.node != node for person in people), 60)
    until(lambda: all("lost" not in person.window.status.text for person in people), 60)

    def pause_s(person: Person) -> float:
        later = [text for text in person.typed if person.typed_at[text] > killed_at]
        return min(person.accepted_at[text] for text in later) - killed_at

    def longest_wait_s(person: Person) -> float:
        return max(person.accepted_at[text] - person.typed_at[text] for text in person.typed)

    figures = {
        "nodes": 3,
        "messages": 2 * MESSAGES_EACH,
        "lost": 0,
        "doubled": 0,
        "killed": node,
        "until_sending_again_s": {person.name: round(pause_s(person), 3) for person in people},
        "longest_wait_of_a_message_s": {person.name: round(longest_wait_s(person), 3) for person in people},
        "other_side_was_connected_to": ben.window.app_state.client_state.node,
        "what_the_line_said": list(dict.fromkeys(ann.statuses)),
    }
    BUILD.mkdir(exist_ok=True)
    (BUILD / "gui-failover.json").write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
    assert pause_s(ann) < 15

    # A second node dies: no majority. People write on; when a node is back it clears and goes out by itself.
    other = next(name for name in cluster.names if name not in (node, ann.window.app_state.client_state.node))
    cluster.kill(other)
    until(lambda: all(person.window.status.text.startswith("No majority") for person in people), 60)
    for person in people:
        person.type_one()
    until(lambda: all("1 message waiting" in person.window.status.text for person in people), 60)
    cluster.start(other)
    until(lambda: all(person.window.status.text.startswith("Connected to") for person in people), 60)
    until(lambda: all(len(person.shown()) == len(every) + 2 and person.all_accepted() for person in people), 60)
    assert ann.shown() == ben.shown()
