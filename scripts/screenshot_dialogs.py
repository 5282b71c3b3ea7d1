"""What is shown over a conversation for pictures: settings, keys, the largest text, and the panel of the cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from parley import ClusterMember, ClusterStatus, Device, NodeStatus
from parley.gui import events
from parley.gui.main_window import MainWindow
from parley.gui.shortcuts import show_settings, show_shortcuts


def settings(window: MainWindow) -> None:
    """Show the settings."""
    show_settings(window)
    window.account_dialogs.told(events.HiddenTold(hidden=False))


def large_text(window: MainWindow) -> None:
    """Show the largest text."""
    window.settings.change(lambda chosen: replace(chosen, text_percent=150))


def cluster(window: MainWindow) -> None:
    """Show the panel of the cluster to an administrator, while one node is updated."""
    names = ("n1", "n2", "n3")
    members = tuple(
        ClusterMember(
            name,
            at,
            f"10.0.4.1{at}:7600",
            f"10.0.4.1{at}:7700",
            True,
            name != "n3",
            min_level=2,
            max_level=4 - (at > 1),
        )
        for at, name in enumerate(names, start=1)
    )
    nodes = [
        NodeStatus(
            member.client_address,
            name=member.name,
            role="leader" if member.name == "n1" else "follower",
            term=7,
            leader="n1",
            commit_index=48211,
            applied_index=48211 - 2 * (member.name == "n2"),
            serving=True,
            version="0.10.0" if member.name == "n1" else "0.9.0",
            members=members,
            level=3,
            min_level=2,
            max_level=member.max_level,
        )
        for member in members[:2]
    ]
    silent = NodeStatus(members[2].client_address, error="The node at 10.0.4.13:7600 did not answer within 1.5 s")
    panel = window.account_dialogs.cluster
    state = window.app_state.client_state
    down = tuple(replace(node, up=node.name != "n3") for node in state.nodes)
    window.app_state.apply(events.StateChanged(replace(state, nodes=down)))
    panel.open()
    panel.told(events.RightsTold(administrator=True))
    panel.told(events.ClusterTold(ClusterStatus((*nodes, silent))))
    if panel.dialog is not None:
        panel.dialog.table.selectRow(1)


def transfer(window: MainWindow) -> None:
    """Show the question before leadership is transferred."""
    cluster(window)
    panel = window.account_dialogs.cluster
    if panel.dialog is not None:
        panel.dialog.transfer.click()


def cluster_for_people(window: MainWindow) -> None:
    """Show the panel of the cluster to somebody else."""
    window.account_dialogs.cluster.open()
    window.account_dialogs.cluster.told(events.RightsTold(administrator=False))


def display_name(window: MainWindow) -> None:
    """Show the display name."""
    window.account_dialogs.change_name()
    window.account_dialogs.told(events.NameTold("Ann Lee"))


def devices(window: MainWindow) -> None:
    """Show the devices of the account."""
    window.account_dialogs.show_devices()
    now_ms = time.time_ns() // 1_000_000
    window.account_dialogs.told(
        events.DevicesListed(
            (
                Device("aa" * 16, "ward-pc", now_ms - 3_600_000, True, True),
                Device("bb" * 16, "anns-laptop", now_ms - 3 * 86_400_000, True, False),
                Device("cc" * 16, "old-phone", now_ms - 90 * 86_400_000, False, False),
            )
        )
    )


def updated(window: MainWindow) -> None:
    """Show the window while nodes are updated."""
    window.app_state.apply(events.ClusterNoted("nodes are being updated"))


DIALOGS: tuple[tuple[str, Callable[[MainWindow], None]], ...] = (
    ("gui-settings", settings),
    ("gui-shortcuts", show_shortcuts),
    ("gui-large-text", large_text),
    ("gui-cluster", cluster),
    ("gui-transfer", transfer),
    ("gui-cluster-for-people", cluster_for_people),
    ("gui-updated", updated),
    ("gui-display-name", display_name),
    ("gui-devices", devices),
)
