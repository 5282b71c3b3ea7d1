"""Connects settings, bridge and application. Imported only when Qt can be loaded."""

import os
import signal
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from PySide6.QtCore import Qt, QTimer
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QApplication

from parley import ParleyClient, StateDirectory, TextFilter, TokenStore
from parley.gui import colours, geometry
from parley.gui.bridge import Bridge
from parley.gui.commands import ClusterAddress, Invited
from parley.gui.direction import follow_system
from parley.gui.invitation import show_invitation
from parley.gui.last_place import LastPlace
from parley.gui.lock import Lock
from parley.gui.main_window import MainWindow
from parley.gui.port import Client, Connect

SIGNAL_CHECK_MS = 200


def connector(state_dir: Path | None, text_filter: TextFilter | None = None) -> Connect:
    """Return a function that makes real clients. They store their tokens in the system's keyring, if there is one."""
    token_store = TokenStore(use_keyring=True)

    def connect(address: ClusterAddress, account: str | None) -> AbstractAsyncContextManager[Client]:
        return ParleyClient(
            address.hosts,
            account=account,
            ca=address.ca,
            insecure=address.insecure,
            insecure_network=address.insecure_network,
            state_dir=state_dir,
            token_store=token_store,
            text_filter=text_filter,
        )

    return connect


@dataclass(frozen=True, slots=True)
class Beginning:
    """What the sign-in page begins with instead of the last session: an invitation, or why one cannot be used."""

    invited: Invited | None = None
    problem: str = ""

    def show(self, window: MainWindow, lock: Lock, address: ClusterAddress, account: str) -> None:
        """Begin. A session that was locked when its window was closed is resumed behind the lock."""
        if self.invited is not None:
            show_invitation(window, address, self.invited)
        elif self.problem:
            window.sign_in.fill(address, account)
            window.sign_in.show_problem(self.problem)
        else:
            lock.begin_again(account)
            window.resume(address, account)


def main(
    address: ClusterAddress,
    account: str,
    state_dir: Path | None,
    text_filter: TextFilter | None,
    beginning: Beginning,
) -> int:
    """Run until the window is closed."""
    QGuiApplication.setHighDpiScaleFactorRoundingPolicy(Qt.HighDpiScaleFactorRoundingPolicy.PassThrough)
    app = QApplication(["parley"])
    app.setStyle("Fusion")
    follow_system(app)
    app.setApplicationName("parley")
    app.setApplicationDisplayName("Parley")
    app.setDesktopFileName("parley")
    directory = StateDirectory(state_dir)
    last = directory.last()
    if not address.hosts:
        address = ClusterAddress(", ".join(last.hosts), Path(last.ca) if last.ca else None, last.insecure)
    window = MainWindow(root=directory.root)
    window.colours.choose(colours.load(directory.root))
    window.colours.chosen.connect(lambda choice: colours.save(directory.root, choice))
    window.restyle(window.colours.theme)
    bridge = Bridge(connector(state_dir, text_filter), window.app_state.apply)
    window.attach(bridge)
    lock = Lock(window, directory.root)
    bridge.start()
    geometry.place(window, geometry.load(directory.root))
    place = LastPlace(window, directory.root)
    window.show()
    window.settings.tell_problem(window)
    window.sign_in.password.setText(os.environ.pop("PARLEY_PASSWORD", ""))
    beginning.show(window, lock, address, account or last.account)
    _end_on_signals(app)
    app.aboutToQuit.connect(place.store)
    code = app.exec()
    geometry.save(directory.root, bytes(window.saveGeometry().data()))
    bridge.stop()
    return code


def _end_on_signals(app: QApplication) -> None:
    """Close the window on Ctrl-C, on SIGTERM, and when its terminal is closed.

    A timer runs, because Python handles signals only between its own steps.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: app.quit())
    timer = QTimer(app)
    timer.timeout.connect(lambda: None)
    timer.start(SIGNAL_CHECK_MS)
