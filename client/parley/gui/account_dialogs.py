"""The dialogs of the account menu: display name, password, devices, settings, and the panel of the cluster."""

import time
from collections.abc import Callable, Sequence

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtWidgets import (
    QDialog,
    QLineEdit,
    QListWidget,
    QListWidgetItem,
    QPushButton,
    QWidget,
)

from parley import ClientState, Device
from parley.chat import line_time, local_date, safe_name
from parley.gui.cluster_panel import ClusterPanel
from parley.gui.colours import Colours
from parley.gui.commands import Commands
from parley.gui.direction import Sentence
from parley.gui.events import (
    AccountTold,
    Action,
    DevicesListed,
    HiddenTold,
    NameTold,
    PasswordChanged,
    Refused,
    Unlocked,
)
from parley.gui.name_dialog import NameDialog
from parley.gui.plain_dialog import PlainDialog
from parley.gui.settings_dialog import SettingsDialog
from parley.gui.settings_keeper import SettingsKeeper
from parley.gui.theme import GRID

MIN_PASSWORD = 8


class PasswordDialog(PlainDialog):
    """The old password once, the new one twice."""

    asked = Signal(str, str)

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Change the password", parent)
        self.old, self.new, self.again = (self._field(n) for n in ("Old password", "New password", "Once more"))
        self.submit = QPushButton("Change")
        self.submit.setDefault(True)
        self.submit.clicked.connect(self._ask)
        self.note.setText("Your other devices will be signed out.")
        self.end_with(self.submit)

    def tell(self, text: str) -> None:
        """Say why the password was not changed, and let the person try again."""
        self.note.setText(text)
        self.submit.setEnabled(True)
        self.old.setFocus()

    def _field(self, name: str) -> QLineEdit:
        label, field = Sentence(name, wraps=False), QLineEdit()
        field.setEchoMode(QLineEdit.EchoMode.Password)
        field.setAccessibleName(name)
        label.setBuddy(field)
        self.column.addWidget(label)
        self.column.addWidget(field)
        return field

    def _ask(self) -> None:
        old, new = self.old.text(), self.new.text()
        if len(new) < MIN_PASSWORD:
            self.tell(f"A password needs at least {MIN_PASSWORD} characters.")
        elif new != self.again.text():
            self.tell("The two new passwords differ. Nothing was changed.")
        else:
            self.submit.setEnabled(False)
            self.note.setText("Changing…")
            self.asked.emit(old, new)


class DevicesDialog(PlainDialog):
    """The devices of the account. One can be signed out, or all others."""

    sign_out_asked = Signal(str)
    sign_out_others_asked = Signal()

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Devices", parent)
        self.list = QListWidget()
        self.list.setAccessibleName("Your devices")
        self.list.setFrameShape(QListWidget.Shape.NoFrame)
        self.list.setWordWrap(True)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumWidth(64 * GRID)
        self.column.addWidget(self.list)
        self.sign_out = QPushButton("Sign out")
        self.sign_out_others = QPushButton("Sign out all others")
        self.sign_out.clicked.connect(self._ask)
        self.sign_out_others.clicked.connect(self.sign_out_others_asked)
        self.list.currentRowChanged.connect(lambda _row: self._choose())
        self.note.setText("Asking the cluster…")
        self.end_with(self.sign_out_others, self.sign_out)
        self._choose()

    def show_devices(self, devices: Sequence[Device]) -> None:
        """Show the devices as they are now."""
        self.list.clear()
        for device in devices:
            item = QListWidgetItem(_line(device))
            item.setData(Qt.ItemDataRole.UserRole, device)
            self.list.addItem(item)
        self.sign_out_others.setEnabled(any(device.signed_in and not device.current for device in devices))
        self.note.setText("A device that is signed out can sign in again with the password.")
        self._choose()

    def tell(self, text: str) -> None:
        """Say why something was not done."""
        self.note.setText(text)

    def _chosen(self) -> Device | None:
        item = self.list.currentItem()
        device = None if item is None else item.data(Qt.ItemDataRole.UserRole)
        return device if isinstance(device, Device) else None

    def _choose(self) -> None:
        device = self._chosen()
        self.sign_out.setEnabled(device is not None and device.signed_in and not device.current)

    def _ask(self) -> None:
        device = self._chosen()
        if device is not None:
            self.sign_out_asked.emit(device.id)


def _line(device: Device) -> str:
    standing = "this device" if device.current else "signed in" if device.signed_in else "signed out"
    name = safe_name(device.label) or "Unnamed device"
    if not device.logged_in_at_ms:
        return f"{name} – {standing}"
    today = local_date(time.time_ns() // 1_000_000)
    return f"{name} – {standing}, last sign-in {line_time(device.logged_in_at_ms, today)}"


class AccountDialogs(QObject):
    """Opens the dialogs and passes on what they ask for. One of each is open at a time."""

    unlock_answered = Signal(str)  # why the window stays locked, or nothing

    def __init__(
        self, parent: QWidget, commands: Callable[[], Commands], read_state: Callable[[], ClientState]
    ) -> None:
        """`commands` returns the object that carries out the commands, `read_state` the state of the client."""
        super().__init__(parent)
        self._window = parent
        self._commands = commands
        self.cluster = ClusterPanel(parent, commands, read_state)
        self._read_state = read_state
        self.name: NameDialog | None = None
        self.password: PasswordDialog | None = None
        self.devices: DevicesDialog | None = None
        self.settings: SettingsDialog | None = None

    def change_name(self) -> None:
        """Show the display name, to be changed."""
        if self.name is None:
            dialog = self.name = NameDialog(self._read_state().account, self._window)
            dialog.asked.connect(self._commands().set_display_name)
            dialog.finished.connect(lambda: self._closed(dialog))
            dialog.open()
            self._commands().ask_display_name()

    def change_password(self) -> None:
        """Ask for the old and the new password."""
        if self.password is None:
            dialog = self.password = PasswordDialog(self._window)
            dialog.asked.connect(self._commands().change_password)
            dialog.finished.connect(lambda: self._closed(dialog))
            dialog.open()

    def show_devices(self) -> None:
        """Show the devices of the account."""
        if self.devices is None:
            dialog = self.devices = DevicesDialog(self._window)
            dialog.sign_out_asked.connect(self._commands().sign_out_device)
            dialog.sign_out_others_asked.connect(self._commands().sign_out_other_devices)
            dialog.finished.connect(lambda: self._closed(dialog))
            dialog.open()
            self._commands().list_devices()

    def show_settings(self, keeper: SettingsKeeper, colours: Colours) -> None:
        """Show the settings of the window, and whether the account is hidden."""
        if self.settings is None:
            dialog = self.settings = SettingsDialog(keeper, colours, self._window)
            dialog.hide_asked.connect(self._commands().set_hidden)
            dialog.finished.connect(lambda: self._closed(dialog))
            dialog.open()
            self._commands().ask_hidden()

    def told(self, answer: AccountTold) -> str:
        """Show an answer of the cluster. Return what to say in the window, or an empty string."""
        match answer:
            case PasswordChanged():
                if self.password is not None:
                    self.password.accept()
                return "The password is changed. Your other devices are signed out."
            case DevicesListed(devices):
                if self.devices is not None:
                    self.devices.show_devices(devices)
            case HiddenTold(hidden):
                if self.settings is not None:
                    self.settings.show_hidden(hidden)
            case NameTold(name, changed=changed):
                return self._name_told(name, changed=changed)
            case Unlocked(problem):
                self.unlock_answered.emit(problem)
            case _:
                self.cluster.told(answer)
        return ""

    def _name_told(self, name: str, *, changed: bool) -> str:
        if self.name is not None and changed:
            self.name.accept()
        elif self.name is not None:
            self.name.show_name(name)
        if not changed:
            return ""
        return f"Others see you as {safe_name(name)} now." if name else "You have no display name any more."

    def refused(self, refusal: Refused) -> bool:
        """Show why something was not done. Return false if no dialog of it is open."""
        match refusal.action:
            case Action.CHANGE_PASSWORD if self.password is not None:
                self.password.tell(refusal.text)
            case Action.NAME if self.name is not None:
                self.name.tell(refusal.text)
            case Action.CLUSTER:
                return self.cluster.refused(refusal.text)
            case Action.DEVICES if self.devices is not None:
                self.devices.tell(refusal.text)
            case Action.PRESENCE if self.settings is not None:
                self.settings.tell(refusal.text)
            case _:
                return False
        return True

    def close(self) -> None:
        """Close what is open, because nobody is signed in any more."""
        self.cluster.close()
        for dialog in (self.name, self.password, self.devices, self.settings):
            if dialog is not None:
                dialog.reject()

    def _closed(self, dialog: QDialog) -> None:
        if dialog is self.name:
            self.name = None
        if dialog is self.password:
            self.password = None
        if dialog is self.devices:
            self.devices = None
        if dialog is self.settings:
            self.settings = None
        dialog.deleteLater()
