"""The panel of the cluster: for everybody which node is connected, for administrators every node and who leads.

Nodes are asked only while the panel is open, and never again before they have answered.
"""

import time
from collections.abc import Callable

from PySide6.QtCore import QObject, QSize, Qt, QTimer, Signal
from PySide6.QtWidgets import (
    QAbstractItemView,
    QGridLayout,
    QHeaderView,
    QLabel,
    QMessageBox,
    QPushButton,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from parley import ClientState, ClusterStatus
from parley.chat import (
    COLUMNS,
    NodeRow,
    add_command,
    node_rows,
    panel_lines,
    reached_text,
    remove_command,
    safe_body,
    safe_name,
    status_line,
    transfer_text,
)
from parley.gui.command_line import CommandLine
from parley.gui.commands import Commands
from parley.gui.direction import Sentence, apart
from parley.gui.events import (
    ClusterAnswer,
    ClusterTold,
    InvitationMade,
    InvitationWithdrawn,
    LeaderTold,
    RightsTold,
    SuspensionTold,
)
from parley.gui.inviting import InvitationDialog, InviteRow
from parley.gui.plain_dialog import PlainDialog
from parley.gui.suspension_row import RELEASED_TEXT, SUSPENDED_TEXT, SuspensionRow
from parley.gui.theme import GRID
from parley.inviting import InvitationFile

TICK_MS = 1000
ASK_EVERY_TICKS = 2
ASK_RIGHTS_EVERY_TICKS = 5
SIZE = QSize(112 * GRID, 64 * GRID)
ROW_HEIGHT = 4 * GRID


class ClusterDialog(PlainDialog):
    """The panel. It begins with what everybody may see."""

    transfer_asked = Signal(str, str)

    def __init__(self, account: str, commands: Callable[[], Commands], parent: QWidget | None = None) -> None:
        super().__init__("Cluster", parent)
        self._account = account
        self._rows: tuple[NodeRow, ...] = ()
        self._leader = ""
        self._is_transferring = False
        self._keeps_note = False
        self.here, self.details, self.said = (self._text(name) for name in ("Connection", "Nodes", "The cluster"))
        self.table = self._make_table()
        self.column.addWidget(self.table, 1)
        self.column.addWidget(self.said)
        grid = QGridLayout()
        grid.setColumnStretch(1, 1)
        self.column.addLayout(grid)
        self.add, self.remove = (CommandLine(grid, row) for row in range(2))
        self.invite = InviteRow(commands, self.under_way)
        self.suspension = SuspensionRow(commands, self.under_way)
        self.column.addWidget(self.invite)
        self.column.addWidget(self.suspension)
        self.transfer = QPushButton("Transfer leadership")
        self.transfer.clicked.connect(self._ask_transfer)
        self.transfer.hide()
        self.leave = QPushButton("Close")
        self.leave.setDefault(True)
        self.leave.clicked.connect(self.accept)
        self.end_with(self.transfer, self.leave)
        self.table.itemSelectionChanged.connect(self._choose)
        for widget in (self.table, self.said, self.invite, self.suspension):
            widget.hide()
        self._choose()

    # ---- what is shown

    def show_state(self, state: ClientState) -> None:
        """Show what everybody may see."""
        self._tell_in(self.here, reached_text(state.node, state.nodes_up, state.nodes_total))
        self._tell_in(self.details, safe_body(status_line(state, None, 0.0).detail))

    def show_rights(self, *, administrator: bool) -> None:
        """Show the table to administrators."""
        for widget in (self.table, self.said, self.invite, self.suspension, self.transfer):
            widget.setVisible(administrator)
        self.details.setVisible(not administrator)
        self.note.setText("Asking the nodes…" if administrator else "")
        if administrator:
            self.resize(max(self.width(), SIZE.width()), max(self.height(), SIZE.height()))
            self.table.setFocus()
        self._choose()

    def show_status(self, status: ClusterStatus) -> None:
        """Show what the nodes tell. The chosen node stays chosen."""
        self._rows, self._leader = node_rows(status), status.leader
        chosen = self._chosen_key
        self.table.setRowCount(len(self._rows))
        for at, row in enumerate(self._rows):
            self._show_row(at, row)
            if chosen == (row.name, row.address) and self.table.currentRow() != at:
                self.table.selectRow(at)
        self._tell_in(self.said, "\n".join(panel_lines(status, time.time())))
        if not self._keeps_note:
            self.note.setText("")
        self._choose()

    def tell(self, text: str) -> None:
        """Say how something went. How a transfer went stays, anything else until the nodes answer."""
        self._keeps_note, self._is_transferring = self._is_transferring, False
        self.note.setText(text)
        self._choose()

    def handled(self, text: str) -> None:
        """Say what was done. It stays until something else is done."""
        self.tell(text)
        self._keeps_note = True

    def transferring(self, name: str) -> None:
        """Say that a request is under way."""
        self._is_transferring = True
        self.under_way(f"Transferring leadership to {name}…")

    def under_way(self, text: str) -> None:
        """Say what is being done, until it is told how that went."""
        self._keeps_note = True
        self.note.setText(text)
        self._choose()

    # ---- inside

    def _text(self, name: str) -> QLabel:
        label = Sentence()
        label.setAccessibleName(name)
        label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.column.addWidget(label)
        return label

    def _tell_in(self, label: QLabel, text: str) -> None:
        if label.text() != text:
            label.setText(text)
            label.setAccessibleDescription(text)

    def _make_table(self) -> QTableWidget:
        table = QTableWidget(0, len(COLUMNS))
        table.setHorizontalHeaderLabels(COLUMNS)
        table.setAccessibleName("Nodes of the cluster")
        table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        table.setTabKeyNavigation(False)
        table.setShowGrid(False)
        table.setWordWrap(False)
        table.verticalHeader().hide()
        header = table.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setDefaultAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter)
        header.setStretchLastSection(True)
        header.setHighlightSections(False)
        table.verticalHeader().setDefaultSectionSize(ROW_HEIGHT)
        table.setMinimumHeight(5 * ROW_HEIGHT)
        return table

    def _show_row(self, at: int, row: NodeRow) -> None:
        for column, cell in enumerate(row.cells):
            item = self.table.item(at, column)
            if item is None:
                item = QTableWidgetItem()
                self.table.setItem(at, column, item)
            if item.text() != (shown := apart(cell)):
                item.setText(shown)
            item.setData(Qt.ItemDataRole.AccessibleTextRole, row.spoken if column == 0 else cell)

    @property
    def _chosen(self) -> NodeRow | None:
        chosen = {index.row() for index in self.table.selectedIndexes()}
        return next((row for at, row in enumerate(self._rows) if at in chosen), None)

    @property
    def _chosen_key(self) -> tuple[str, str]:
        chosen = self._chosen
        return ("", "") if chosen is None else (chosen.name, chosen.address)

    def _choose(self) -> None:
        """Offer what can be done with the chosen node."""
        row = self._chosen
        self.transfer.setEnabled(row is not None and row.can_lead and not self._is_transferring)
        self.transfer.setText(f"Transfer leadership to {row.name}" if row and row.can_lead else "Transfer leadership")
        is_shown = not self.table.isHidden()
        self.add.show_command("Add a node", add_command(self._account) if is_shown else "")
        named = row.name if row is not None and is_shown else ""
        self.remove.show_command(f"Remove {named}", remove_command(named, self._account) if named else "")
        self._fit()

    def _fit(self) -> None:
        """Become as high as all parts need. Qt does not see to it for texts of several lines."""
        self.column.activate()
        self.resize(self.width(), max(self.height(), self.column.totalHeightForWidth(self.width())))

    def _ask_transfer(self) -> None:
        row = self._chosen
        if row is not None:
            self.transfer_asked.emit(row.name, self._leader)


class ClusterPanel(QObject):
    """Opens the panel, keeps it up to date while it is open, and passes on what it asks for."""

    def __init__(
        self, window: QWidget, commands: Callable[[], Commands], read_state: Callable[[], ClientState]
    ) -> None:
        """`commands` returns the object that carries out the commands, `read_state` the state of the client."""
        super().__init__(window)
        self._window = window
        self._commands = commands
        self._read_state = read_state
        self._administrator: bool | None = None
        self._is_asking = False
        self._ticks = 0
        self._timer = QTimer(self)
        self._timer.setInterval(TICK_MS)
        self._timer.timeout.connect(self.tick)
        self.dialog: ClusterDialog | None = None
        self.question: QMessageBox | None = None
        self.invitation: InvitationDialog | None = None

    def open(self) -> None:
        """Show the panel, and ask."""
        if self.dialog is None:
            dialog = self.dialog = ClusterDialog(self._read_state().account, self._commands, self._window)
            dialog.transfer_asked.connect(self._confirm_transfer)
            dialog.finished.connect(self._closed)
            dialog.show_state(self._read_state())
            if self._administrator is not None:
                dialog.show_rights(administrator=self._administrator)
            dialog.open()
            self._ticks = 0
            self._timer.start()
            self._ask()

    def tick(self) -> None:
        """Draw the state again, and ask again when it is time to."""
        if self.dialog is None or self._window.isMinimized():
            return
        self.dialog.show_state(self._read_state())
        self._ticks += 1
        every = ASK_RIGHTS_EVERY_TICKS if self._administrator is None else ASK_EVERY_TICKS
        if self._ticks >= every:
            self._ask()

    def told(self, answer: ClusterAnswer) -> None:
        """Show an answer."""
        self._ticks = 0
        match answer:
            case RightsTold(administrator):
                self._is_asking = False
                self._administrator = administrator
                if self.dialog is not None:
                    self.dialog.show_rights(administrator=administrator)
                    self._ask()
            case ClusterTold(status):
                self._is_asking = False
                if self.dialog is not None:
                    self.dialog.show_status(status)
            case LeaderTold(leader):
                if self.dialog is not None:
                    self.dialog.tell(f"{leader} leads now.")
                    self._ask()
            case SuspensionTold(name, suspended):
                if self.dialog is not None:
                    said = SUSPENDED_TEXT if suspended else RELEASED_TEXT
                    self.dialog.handled(said.format(name=safe_name(name)))
            case InvitationMade(invitation):
                if self.dialog is not None:
                    self.dialog.handled(f"{safe_name(invitation.account)} is invited.")
                self._show_invitation(invitation)
            case InvitationWithdrawn():
                if self.invitation is not None:
                    self.invitation.withdrawn()

    def refused(self, text: str) -> bool:
        """Show why something was not done. Return false if the panel is closed and nobody waits for it."""
        self._is_asking = False
        self._ticks = 0
        if self.invitation is not None and self.invitation.is_withdrawing:
            self.invitation.tell(text)
        elif self.dialog is not None:
            self.dialog.tell(text)
        return True

    def close(self) -> None:
        """Close the panel and forget the rights, because nobody is signed in any more."""
        self._administrator = None
        self._is_asking = False
        self._close_invitation()
        if self.dialog is not None:
            self.dialog.reject()

    def _ask(self) -> None:
        if self._is_asking or self._administrator is False:
            return
        self._is_asking = True
        if self._administrator is None:
            self._commands().ask_rights()
        else:
            self._commands().ask_cluster()

    def _show_invitation(self, invitation: InvitationFile) -> None:
        """Show what was made, also if the panel was closed meanwhile: there is no other way to its code."""
        self._close_invitation()

        def take_back() -> None:
            self._commands().withdraw_invitation(invitation.id, invitation.account)

        dialog = self.invitation = InvitationDialog(invitation, take_back, self.dialog or self._window)
        dialog.finished.connect(self._close_invitation)
        dialog.open()

    def _close_invitation(self) -> None:
        dialog, self.invitation = self.invitation, None
        if dialog is not None:
            dialog.reject()
            dialog.deleteLater()

    def _confirm_transfer(self, name: str, leader: str) -> None:
        if self.question is not None:
            return
        box = self.question = QMessageBox(
            QMessageBox.Icon.Question, "Transfer leadership", transfer_text(name, leader), parent=self.dialog
        )
        box.setTextFormat(Qt.TextFormat.PlainText)
        yes = box.addButton(f"Transfer to {name}", QMessageBox.ButtonRole.AcceptRole)
        no = box.addButton(QMessageBox.StandardButton.Cancel)
        box.setDefaultButton(no)
        box.setEscapeButton(no)
        box.finished.connect(lambda: self._answered(name, is_yes=box.clickedButton() is yes))
        box.open()

    def _answered(self, name: str, *, is_yes: bool) -> None:
        box, self.question = self.question, None
        if box is not None:
            box.deleteLater()
        if is_yes and self.dialog is not None:
            self.dialog.transferring(name)
            self._commands().transfer_leadership(name)

    def _closed(self) -> None:
        self._timer.stop()
        dialog, self.dialog = self.dialog, None
        self._close_invitation()
        if self.question is not None:
            self.question.reject()
        if dialog is not None:
            dialog.deleteLater()
