"""What is shown over a conversation for pictures: dialogs, menus, the largest text, and the panel of the cluster."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from PySide6.QtWidgets import QMenu

from parley import (
    Account,
    ClusterMember,
    ClusterStatus,
    Conversation,
    ConversationKind,
    Device,
    ListedChannel,
    LostMessage,
    LostOrigin,
    MemberReceipt,
    MessageReceipts,
    NodeStatus,
    Target,
)
from parley.gui import account_menu, events
from parley.gui.lock import Lock
from parley.gui.main_window import MainWindow
from parley.gui.shortcuts import show_settings, show_shortcuts
from parley.inviting import InvitationFile

# Of nobody: its key was thrown away.
_CA = """-----BEGIN CERTIFICATE-----
MIIBdDCCARugAwIBAgIUKlVnP0VUgSjHBHvjsA+w3D598SMwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEd2FyZDAgFw0yNjExMjgwOTQyMzRaGA8yMTI2MTEwNDA5NDIz
NFowDzENMAsGA1UEAwwEd2FyZDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABLf4
qECMJvj++ejcoTJXOLLjn7slNoM0kwZJGC3X8njo8MUIy3aYAujaBsxhVFdSeVH8
HAQ5wdIb0E4ehXt1uVmjUzBRMB0GA1UdDgQWBBT92ML6B+le1uxfcJe5EnzTcmPQ
rjAfBgNVHSMEGDAWgBT92ML6B+le1uxfcJe5EnzTcmPQrjAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0cAMEQCIATNEatGH1zk33wGYA61EgVJOIewUYHct8RB
5BX1xzUFAiAeI4r01ucvw3izFUKxnaDq4gr/mkB2TyD70yKmnIkxvA==
-----END CERTIFICATE-----
"""


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


def invitation(window: MainWindow) -> None:
    """Show the invitation that an administrator has just made."""
    cluster(window)
    made = InvitationFile("ward", ("10.0.4.11:7600",), _CA, "kim", "abcde-fghjk-mnpqr", 1_900_000_000_000)
    window.account_dialogs.cluster.told(events.InvitationMade(made))


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


def password(window: MainWindow) -> None:
    """Show the dialog that changes the password."""
    window.account_dialogs.change_password()


def account(window: MainWindow) -> None:
    """Show the menu of the account."""
    account_menu.pop_up(window)


def message_menu(window: MainWindow) -> None:
    """Show the menu of a message with a link."""
    rows = window.chat.rows
    row = next(row for row in rows.rows if "https://" in row.body)
    window.row_actions.menu(row).popup(window.chat.view.mapToGlobal(window.chat.view.rect().center()))


def choose(window: MainWindow, words: str) -> None:
    """Choose an entry of the menu of the account."""
    menu = QMenu(window)
    window.channel_actions.add_to(menu)
    next(action for action in menu.actions() if action.text() == words).trigger()


def find(window: MainWindow) -> None:
    """Show the dialog that begins a conversation."""
    window.conversation_finder.begin_conversation()


def find_nobody(window: MainWindow) -> None:
    """Show it with a name that nobody has."""
    find(window)
    if window.conversation_finder.finder is not None:
        window.conversation_finder.finder.field.setText("nobody")


def join(window: MainWindow) -> None:
    """Show the channels that can be joined."""
    names = ("Kitchen", "Night shift of the surgical wards and of the emergency room, all houses", "Pumps")
    channels = tuple(
        ListedChannel(Conversation(at, ConversationKind.CHANNEL, title, member_count=3 * at, public=True), joined=False)
        for at, title in enumerate(names, start=41)
    )
    window.channel_actions.told(events.ChannelsListed(channels))


def add_somebody(window: MainWindow) -> None:
    """Show the dialog that adds somebody to a channel."""
    window.open_conversation(Target(conversation_id=8))
    choose(window, "Add somebody to this channel")


def receipts(window: MainWindow) -> None:
    """Show who has an own message, and which nodes."""
    window.open_conversation(Target(conversation_id=8))
    people = (Account(2, "ben", "Ben Ortiz"), Account(4, "dana", "Dana Wolf"), Account(7, "ruth"))
    members = tuple(MemberReceipt(one, one.id != 7, one.id == 2) for one in people)
    told = MessageReceipts(8, 1020, 3, 2, 1, members, True, ("n1", "n2"), ("n3",), 7, 48211)
    window.app_state.apply(events.ReceiptsTold(told))


def remove_conversation(window: MainWindow) -> None:
    """Show the question before a channel is removed from the list."""
    window.open_conversation(Target(conversation_id=8))
    window.row_actions.removal.ask_open()


def leave_nothing(window: MainWindow) -> None:
    """Show the question before everything of the account is removed."""
    lock = window.findChild(Lock)
    if isinstance(lock, Lock):
        lock.leave_nothing()


def lost_listed(window: MainWindow) -> None:
    """Tell that a restored cluster does not have three messages any more."""
    state, sent_ms = window.app_state.client_state, time.time_ns() // 1_000_000 - 7_200_000
    window.app_state.apply(events.StateChanged(replace(state, lost_sent=2)))
    bodies = (
        (
            LostOrigin.THIS_DEVICE,
            "ann",
            "The spare key is in the drawer below the monitor, and the small one beside it.",
        ),
        (LostOrigin.THIS_DEVICE, "ann", "Lunch?"),
        (LostOrigin.OTHERS, "Ben Ortiz (ben)", "Half past twelve it is."),
    )
    window.app_state.apply(
        events.LostListed(
            tuple(
                LostMessage(
                    at, origin, "Ben Ortiz (ben)", sender, body, sent_ms + 60_000 * at, 7, 0, Target(account="ben")
                )
                for at, (origin, sender, body) in enumerate(bodies, start=1)
            )
        )
    )


def lost_dialog(window: MainWindow) -> None:
    """Show the lost messages, all of them chosen."""
    lost_listed(window)
    window.lost.open()
    if window.lost.dialog is not None:
        window.lost.dialog.all.click()


DIALOGS: tuple[tuple[str, Callable[[MainWindow], None]], ...] = (
    ("gui-settings", settings),
    ("gui-shortcuts", show_shortcuts),
    ("gui-large-text", large_text),
    ("gui-cluster", cluster),
    ("gui-transfer", transfer),
    ("gui-invitation", invitation),
    ("gui-cluster-for-people", cluster_for_people),
    ("gui-updated", updated),
    ("gui-display-name", display_name),
    ("gui-devices", devices),
    ("gui-password", password),
    ("gui-account-menu", account),
    ("gui-message-menu", message_menu),
    ("gui-find", find),
    ("gui-find-nobody", find_nobody),
    ("gui-join", join),
    ("gui-add-somebody", add_somebody),
    ("gui-receipts", receipts),
    ("gui-leave-nothing", leave_nothing),
    ("gui-remove-conversation", remove_conversation),
    ("gui-lost-messages", lost_dialog),
)
