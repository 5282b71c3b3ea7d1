"""The panel of the cluster over three real nodes: a transfer of leadership, and a node that is killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PySide6.QtWidgets import QPushButton
from pytestqt.qtbot import QtBot

from parley import ParleyClient
from parley.chat import COLUMNS
from parley.gui.cluster_panel import ClusterDialog
from parley.gui.commands import ClusterAddress
from tests.gui.test_real_cluster import PASSWORD, ClusterInThread, Person


def column(dialog: ClusterDialog, name: str) -> list[str]:
    items = [dialog.table.item(row, COLUMNS.index(name)) for row in range(dialog.table.rowCount())]
    return [item.text() for item in items if item is not None]


@pytest.mark.campaign
def test_leadership_moves_to_the_chosen_node_and_a_killed_one_is_told(
    qtbot: QtBot, closing: Callable[[Any], Any], tmp_path: Path
) -> None:
    nodes: ClusterInThread = closing(ClusterInThread(tmp_path / "cluster"))
    address = ClusterAddress(", ".join(nodes.cluster.hosts), nodes.cluster.ca_file)
    ann: Person = closing(Person(qtbot, "ann", "ben", address, tmp_path / "ann"))

    def until(condition: Callable[[], object]) -> None:
        qtbot.waitUntil(lambda: bool(condition()), timeout=60_000)

    async def claim() -> None:
        code = await nodes.cluster.administrator_code()
        hosts, ca = nodes.cluster.hosts, nodes.cluster.ca_file
        async with ParleyClient(hosts, ca=ca, state_dir=tmp_path / "other") as client:
            await client.login("ann", PASSWORD)
            await (await client.own_account()).claim_administrator(code)

    until(lambda: ann.connected)
    nodes.run(claim())
    panel = ann.window.account_dialogs.cluster
    panel.open()
    dialog = panel.dialog
    assert dialog is not None
    until(lambda: "leader" in column(dialog, "Role"))
    assert column(dialog, "Node") == ["n1", "n2", "n3"]
    chosen = column(dialog, "Role").index("follower")
    dialog.table.selectRow(chosen)
    dialog.transfer.click()
    assert panel.question is not None
    next(one for one in panel.question.findChildren(QPushButton) if one.text().startswith("Transfer to")).click()
    until(lambda: dialog.note.text() == f"n{chosen + 1} leads now.")
    until(lambda: column(dialog, "Role")[chosen] == "leader")
    victim = next(at for at in range(3) if column(dialog, "Role")[at] == "follower")
    nodes.cluster.kill(f"n{victim + 1}")
    until(lambda: column(dialog, "Role")[victim] == "does not answer")
    until(lambda: column(dialog, "Reaches")[victim] == "reached by no node")
    assert f"n{victim + 1} does not answer" in dialog.said.text()
    assert dialog.said.text().startswith("The cluster serves: 2 of 3")
