"""The menu below the name of the account."""

from typing import TYPE_CHECKING

from PySide6.QtCore import QPoint

from parley.gui.lock import Lock
from parley.gui.row_actions import new_menu, offer
from parley.gui.shortcuts import show_settings, show_shortcuts

if TYPE_CHECKING:
    from parley.gui.main_window import MainWindow


def pop_up(window: "MainWindow") -> None:
    """Show the menu."""
    menu = new_menu(window)
    offer(menu, "New conversation\tCtrl+N", window.conversation_finder.begin_conversation)
    offer(menu, "Go to a conversation\tCtrl+K", window.conversation_finder.switch_conversation)
    window.channel_actions.add_to(menu)
    menu.addSeparator()
    offer(menu, "Settings\tCtrl+,", lambda: show_settings(window))
    offer(menu, "Shortcuts\tF1", lambda: show_shortcuts(window))
    window.colours.add_to(menu)
    offer(menu, "Display name", window.account_dialogs.change_name)
    offer(menu, "Change the password", window.account_dialogs.change_password)
    offer(menu, "Devices", window.account_dialogs.show_devices)
    offer(menu, "Cluster", window.account_dialogs.cluster.open)
    menu.addSeparator()
    lock = window.findChild(Lock)
    if isinstance(lock, Lock):
        lock.add_to(menu)
    offer(menu, "Sign out", window.commands.sign_out)
    if isinstance(lock, Lock):
        offer(menu, "Sign out and leave nothing", lock.leave_nothing)
    me = window.chat.me
    menu.popup(me.mapToGlobal(QPoint(0, me.height())))
