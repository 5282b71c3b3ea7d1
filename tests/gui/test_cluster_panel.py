"""The panel of the cluster: what everybody sees, what administrators see and do, and when the nodes are asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QAccessible, QGuiApplication
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QMenu, QMessageBox, QPushButton
from pytestqt.qtbot import QtBot

from parley import ClusterStatus, ConnectionState, NodeStatus, RefusedError, UnreachableError
from parley.chat import StatusLevel
from parley.gui import cluster_requests
from parley.gui.app_state import VisiblePage
from parley.gui.cluster_panel import ClusterDialog
from parley.gui.events import ClusterNoted
from tests.gui.scripted import CLUSTER, NODES, ScriptedClient, ScriptedSdk
from tests.gui.test_main_window import Desktop, Keep


@pytest.fixture
def desktop(qtbot: QtBot, closing: Keep) -> Iterator[Desktop]:
    """A window that is signed in."""
    desktop = Desktop(qtbot, closing).signed_in()
    yield desktop
    desktop.window.account_dialogs.close()


def opened(desktop: Desktop) -> ClusterDialog:
    panel = desktop.window.account_dialogs.cluster
    desktop.until(lambda: panel.dialog is not None and panel.dialog.isVisible())
    assert panel.dialog is not None
    return panel.dialog


def administered(desktop: Desktop) -> ClusterDialog:
    """The panel of an administrator, filled."""
    desktop.sdk.administrator = True
    QTest.mouseClick(desktop.window.status, Qt.MouseButton.LeftButton)
    dialog = opened(desktop)
    desktop.until(lambda: dialog.table.rowCount() == 3)
    return dialog


def choose(dialog: ClusterDialog, row: int) -> None:
    """Chooses a node by keys."""
    dialog.table.setFocus()
    dialog.table.setCurrentCell(0, 0)
    for _ in range(row):
        QTest.keyClick(dialog.table, Qt.Key.Key_Down)


def cells(dialog: ClusterDialog, row: int) -> list[str]:
    found = [dialog.table.item(row, column) for column in range(dialog.table.columnCount())]
    return [item.text() for item in found if item is not None]


def question(desktop: Desktop) -> QMessageBox | None:
    """What is asked before a transfer."""
    return desktop.window.account_dialogs.cluster.question


def test_whoever_is_no_administrator_sees_one_line_and_the_nodes_and_asks_nothing_more(desktop: Desktop) -> None:
    desktop.window.chat.me.click()
    [menu] = [found for found in desktop.window.findChildren(QMenu) if found.isVisible()]
    next(action for action in menu.actions() if action.text() == "Cluster").trigger()
    menu.close()
    dialog = opened(desktop)
    panel = desktop.window.account_dialogs.cluster
    assert dialog.here.text() == "Connected to n2; 3 of 3 nodes reachable from there"
    assert "n1  127.0.0.2:7600  up, leads" in dialog.details.text()
    desktop.until(lambda: panel._administrator is False)
    desktop.sdk.state(nodes=(*NODES[:2], replace(NODES[2], up=False)))
    desktop.until(lambda: desktop.window.app_state.client_state.nodes_up == 2)
    for _ in range(10):
        panel.tick()
    assert "2 of 3 nodes reachable" in dialog.here.text()
    assert desktop.sdk.cluster_asked == 0
    assert [dialog.table.isVisible(), dialog.transfer.isVisible(), dialog.add.field.isVisible()] == [False] * 3
    QTest.keyClick(dialog, Qt.Key.Key_Escape)
    assert panel.dialog is None


def test_an_administrator_sees_every_node_and_what_the_cluster_says(desktop: Desktop) -> None:
    silent = NodeStatus(NODES[2].address, error="The node did not answer within 1.5 s")
    desktop.sdk.cluster = ClusterStatus((*CLUSTER.nodes[:2], silent))
    dialog = administered(desktop)
    assert cells(dialog, 0) == ["n1", "leader", "127.0.0.2:7600", "0", "7", "all others", "0.9.0", "2-3"]
    assert cells(dialog, 2)[1] == "does not answer"
    assert dialog.said.text().startswith("The cluster serves: 2 of 3 known nodes answer, n1 leads.")
    assert "n3 does not answer: The node did not answer" in dialog.said.text()
    assert not dialog.details.isVisible()
    assert dialog.add.field.text() == "parley cluster invite-node --account ann"


def test_the_nodes_are_asked_again_only_while_the_panel_is_open_and_only_after_their_answer(desktop: Desktop) -> None:
    dialog = administered(desktop)
    panel = desktop.window.account_dialogs.cluster
    choose(dialog, 1)
    before = desktop.sdk.cluster_asked
    for _ in range(20):
        panel.tick()
    desktop.sdk.cluster = ClusterStatus(tuple(replace(node, term=8) for node in CLUSTER.nodes))
    desktop.until(lambda: cells(dialog, 0)[4] == "7" or cells(dialog, 0)[4] == "8")
    assert desktop.sdk.cluster_asked <= before + 1, "one request at a time"
    desktop.until(lambda: cells(dialog, 0)[4] == "8")
    assert dialog.table.currentRow() == 1, "what was chosen stays chosen"
    QTest.keyClick(dialog, Qt.Key.Key_Escape)
    assert not panel._timer.isActive()
    asked = desktop.sdk.cluster_asked
    for _ in range(20):
        panel.tick()
    desktop.sdk.state(notice="")  # what was asked before is answered before
    assert desktop.sdk.cluster_asked == asked


def test_leadership_is_transferred_by_keys_after_a_text_that_says_what_happens(desktop: Desktop) -> None:
    dialog = administered(desktop)
    choose(dialog, 0)
    assert not dialog.transfer.isEnabled(), "it leads already"
    choose(dialog, 1)
    assert dialog.transfer.text() == "Transfer leadership to n2"
    dialog.transfer.setFocus()
    QTest.keyClick(dialog.transfer, Qt.Key.Key_Space)
    box = question(desktop)
    assert box is not None
    assert "n2 becomes the leader, instead of n1." in box.text()
    QTest.keyClick(box, Qt.Key.Key_Return)
    assert question(desktop) is None
    assert desktop.sdk.transferred == [], "Enter alone changes nothing"
    QTest.keyClick(dialog.transfer, Qt.Key.Key_Space)
    box = question(desktop)
    assert box is not None
    yes = next(button for button in box.findChildren(QPushButton) if button.text() == "Transfer to n2")
    yes.setFocus()
    QTest.keyClick(yes, Qt.Key.Key_Space)
    desktop.until(lambda: dialog.note.text() == "n2 leads now.")
    desktop.until(lambda: cells(dialog, 1)[1] == "leader")
    assert desktop.sdk.transferred == ["n2"]
    assert dialog.note.text() == "n2 leads now.", "the next answer does not remove it"


def test_a_refused_transfer_is_told_and_stays_told(desktop: Desktop) -> None:
    desktop.sdk.refuse_transfer = RefusedError("n2 has not caught up. n1 goes on leading.")
    dialog = administered(desktop)
    choose(dialog, 1)
    dialog.transfer.click()
    box = question(desktop)
    assert box is not None
    next(button for button in box.findChildren(QPushButton) if button.text() == "Transfer to n2").click()
    desktop.until(lambda: "goes on leading" in dialog.note.text())
    asked = desktop.sdk.cluster_asked
    desktop.until(lambda: desktop.sdk.cluster_asked > asked)
    assert "goes on leading" in dialog.note.text()
    assert dialog.transfer.isEnabled()


def test_the_command_that_removes_the_chosen_node_is_shown_and_copied(desktop: Desktop) -> None:
    dialog = administered(desktop)
    dialog.table.clearSelection()
    assert not dialog.remove.field.isVisible()
    choose(dialog, 2)
    assert dialog.remove.field.text() == "parley cluster remove n3 --account ann"
    dialog.remove.copy.setFocus()
    QTest.keyClick(dialog.remove.copy, Qt.Key.Key_Space)
    assert QGuiApplication.clipboard().text() == "parley cluster remove n3 --account ann"


def test_no_part_of_the_panel_covers_another_one_whatever_is_told(desktop: Desktop) -> None:
    long = "the disk is nearly full, so the node takes no more messages " * 4
    desktop.sdk.cluster = ClusterStatus(tuple(replace(node, disk=long, clock=long) for node in CLUSTER.nodes))
    dialog = administered(desktop)
    choose(dialog, 2)
    parts = [dialog.here, dialog.table, dialog.said, dialog.add.field, dialog.remove.field, dialog.note, dialog.leave]

    def is_in_order() -> bool:
        return all(upper.geometry().bottom() < lower.geometry().top() for upper, lower in pairwise(parts))

    desktop.until(is_in_order)
    assert dialog.said.height() >= dialog.said.heightForWidth(dialog.said.width()), "the whole text is in sight"


def test_that_nobody_answers_is_told_until_somebody_does(desktop: Desktop) -> None:
    dialog = administered(desktop)
    desktop.sdk.unreachable = True
    desktop.until(lambda: "could be reached" in dialog.note.text())
    assert dialog.table.rowCount() == 3, "what was told last stays"
    desktop.sdk.unreachable = False
    desktop.until(lambda: dialog.note.text() == "")


def test_tab_leads_through_the_panel_and_every_part_has_a_name(desktop: Desktop) -> None:
    dialog = administered(desktop)
    choose(dialog, 1)
    parts = [
        dialog.table,
        dialog.add.field,
        dialog.add.copy,
        dialog.remove.field,
        dialog.remove.copy,
        dialog.invite.name,
        dialog.suspension.name,
        dialog.suspension.reason,
        dialog.transfer,
    ]
    dialog.table.setFocus()
    met = []
    for _ in range(len(parts)):
        focus = dialog.focusWidget()
        assert focus is not None
        met.append(focus)
        QTest.keyClick(focus, Qt.Key.Key_Tab)
    assert met == parts
    for widget in (*parts, dialog.here, dialog.said, dialog.note):
        interface = QAccessible.queryAccessibleInterface(widget)
        assert interface is not None
        assert interface.text(QAccessible.Text.Name), widget
    item = dialog.table.item(1, 0)
    assert item is not None
    spoken = item.data(Qt.ItemDataRole.AccessibleTextRole)
    assert spoken.startswith("n2 follower, Address 127.0.0.3:7600, Behind 0")


def test_the_panel_closes_with_the_session_and_forgets_the_rights(desktop: Desktop) -> None:
    administered(desktop)
    desktop.window.commands.sign_out()
    desktop.until(lambda: desktop.window.app_state.page is VisiblePage.SIGN_IN)
    panel = desktop.window.account_dialogs.cluster
    assert panel.dialog is None
    assert panel._administrator is None


def test_an_update_of_the_nodes_makes_the_dot_amber_and_is_told_in_the_line(desktop: Desktop) -> None:
    bar = desktop.window.status
    desktop.window.app_state.apply(ClusterNoted("nodes are being updated"))
    desktop.until(lambda: "nodes are being updated" in desktop.status)
    assert bar.shape.level is StatusLevel.BUSY
    desktop.window.app_state.apply(ClusterNoted(""))
    desktop.until(lambda: bar.shape.level is StatusLevel.GOOD)
    assert "updated" not in desktop.status


def test_a_node_that_cannot_be_asked_ends_no_session_and_takes_no_note_back() -> None:
    async def ask_twice(sdk: ScriptedSdk) -> None:
        client = ScriptedClient(sdk)
        sdk.cluster = ClusterStatus(tuple(replace(node, divergence="differs") for node in CLUSTER.nodes))
        sdk.publisher.update(connection=ConnectionState.CONNECTED, address=NODES[1].address, nodes=NODES)
        assert await cluster_requests.ask_note(client) == "a node is being repaired, or needs it"
        for failure in (UnreachableError("Nobody is there."), RuntimeError("a defect")):
            sdk.node_fails = failure
            assert await cluster_requests.ask_note(client) is None

    asyncio.run(ask_twice(ScriptedSdk()))


def test_the_window_asks_the_connected_node_by_itself_and_tells_of_a_repair(qtbot: QtBot, closing: Keep) -> None:
    desktop = Desktop(qtbot, closing)
    differs = "the state of n3 differs from that of a majority of the voters at entry 9; it serves no clients."
    desktop.sdk.cluster = ClusterStatus(tuple(replace(node, divergence=differs) for node in CLUSTER.nodes))
    desktop.sign_in()
    desktop.until(lambda: desktop.window.app_state.page is VisiblePage.CHAT)
    desktop.sdk.connected()
    desktop.sdk.state(address=NODES[1].address)
    desktop.until(lambda: "a node is being repaired, or needs it" in desktop.status)
    assert desktop.window.status.shape.level is StatusLevel.BUSY
