"""The window: draws the changes of ChatAppState and turns actions of the person into commands.

The window holds no state of its own. Redraws of list and status are collected into the next turn of Qt's loop, so many
events cost one redraw. Rows of the open conversation are applied one by one, because their positions matter.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from PySide6.QtCore import QEvent, QModelIndex, QTimer
from PySide6.QtGui import QCloseEvent
from PySide6.QtWidgets import QApplication, QMainWindow, QStackedWidget, QVBoxLayout, QWidget

from parley import Account, LostMessage, Message, Target
from parley.chat import ConversationKey, Edit, forget_zone
from parley.gui import account_menu, events
from parley.gui.account_dialogs import AccountDialogs
from parley.gui.app_state import ChatAppState, VisiblePage
from parley.gui.channel_actions import ChannelActions
from parley.gui.chat import ChatPage
from parley.gui.colours import Colours
from parley.gui.commands import ClusterAddress, Commands
from parley.gui.conversation_finder import ConversationFinder
from parley.gui.events import Action
from parley.gui.icons import app_icon
from parley.gui.lost_panel import LostPanel
from parley.gui.mention_completion import MentionCompletion
from parley.gui.news import news_of
from parley.gui.notifier import Notifier
from parley.gui.one_column import OneColumn
from parley.gui.presence_line import PresenceLine
from parley.gui.reading import Reading
from parley.gui.row_actions import RowActions
from parley.gui.settings_keeper import SettingsKeeper
from parley.gui.shortcuts import make_shortcuts
from parley.gui.sign_in import SignInPage
from parley.gui.sleep_watch import SleepWatch
from parley.gui.status_bar import StatusBar
from parley.gui.theme import GRID, Theme, apply_theme
from parley.gui.time_zone import TimeZoneWatch
from parley.gui.typing_anywhere import TypingAnywhere

DRAFT_AFTER_MS = 400


class MainWindow(QMainWindow):
    """The main window. It implements app_state.Listener."""

    def __init__(self, theme: Theme | None = None, root: Path | None = None) -> None:
        """Follow the system's colours unless a theme is given. Call attach() before showing the window.

        `root` is the directory of the settings. Without one they are forgotten.
        """
        super().__init__()
        self.settings = SettingsKeeper(root, self)
        self._commands: Commands | None = None
        self.untouched = False  # nobody is there: what opened by itself was not read
        self.colours = Colours(theme, self)
        self.app_state = ChatAppState(self)
        self.setWindowTitle("Parley")
        self.setWindowIcon(app_icon())
        self.setMinimumSize(60 * GRID, 52 * GRID)
        self.resize(136 * GRID, 90 * GRID)
        theme = self.colours.theme
        self.sign_in = SignInPage(theme)
        self.chat = ChatPage(theme)
        self.status = StatusBar(theme)
        self.pages = QStackedWidget()
        self.pages.addWidget(self.sign_in)
        self.pages.addWidget(self.chat)
        whole = QWidget()
        column = QVBoxLayout(whole)
        column.setContentsMargins(0, 0, 0, 0)
        column.setSpacing(0)
        column.addWidget(self.pages, 1)
        self.lost = LostPanel(self, theme, lambda: self.commands)
        column.addWidget(self.lost.bar)
        column.addWidget(self.status)
        self.setCentralWidget(whole)
        self.row_actions = RowActions(self.chat, self.app_state, lambda: self.commands)
        self.account_dialogs = AccountDialogs(self, lambda: self.commands, lambda: self.app_state.client_state)
        self.channel_actions = ChannelActions(self, self.app_state, lambda: self.commands, self.open_conversation)
        self.conversation_finder = ConversationFinder(self, self.app_state, lambda: self.commands, self._found)
        self.presence_line = PresenceLine(self.chat, self.app_state, lambda: self.commands)
        self._reading = Reading(self.chat, self.app_state, lambda: self.commands)
        TypingAnywhere(self.chat)
        MentionCompletion(self.chat, self.channel_actions.members)
        OneColumn(self.chat, self.close_conversation)
        TimeZoneWatch(self, self._draw_times)
        SleepWatch(self, lambda: self.commands.connect_now())  # noqa: PLW0108 - attached later
        self.notifier = Notifier(self, app_icon(), lambda: self.settings.value)
        self._items_timer = self._timer(0, self._draw_items)
        self._draft_timer = self._timer(DRAFT_AFTER_MS, self.save_draft)
        self.status.follow(lambda: self.app_state.client_state, lambda: self.app_state.cluster_note)
        self._wire()
        make_shortcuts(self, self._step)
        self.page_changed()

    def attach(self, commands: Commands) -> None:
        """Set the object that carries out the commands."""
        self._commands = commands

    @property
    def commands(self) -> Commands:
        """Return the object set by attach()."""
        if self._commands is None:
            raise RuntimeError("The window was not attached to anything that carries out commands.")
        return self._commands

    def _timer(self, interval_ms: int, then: Callable[[], None]) -> QTimer:
        timer = QTimer(self, singleShot=True, interval=interval_ms)
        timer.timeout.connect(then)
        return timer

    def _wire(self) -> None:
        chat = self.chat
        self.sign_in.asked.connect(lambda form: self.commands.sign_in(form))  # noqa: PLW0108 - attached later
        for chosen in (chat.list.clicked, chat.list.activated):
            chosen.connect(self._item_chosen)
        self.sign_in.cancelled.connect(lambda: self.commands.cancel_sign_in())  # noqa: PLW0108 - attached later
        chat.new_button.clicked.connect(self.conversation_finder.begin_conversation)
        chat.me.clicked.connect(lambda: account_menu.pop_up(self))
        chat.latest.clicked.connect(chat.view.to_bottom)
        chat.composer.send_asked.connect(self._send)
        chat.composer.typed.connect(self._typed)
        self.notifier.opened.connect(self.open_conversation)
        self.row_actions.put_away.left.connect(self.close_conversation)
        self.row_actions.put_away.toggled.connect(self.conversations_changed)
        self.colours.changed.connect(self.restyle)
        self.status.asked.connect(self.account_dialogs.cluster.open)
        self.settings.changed.connect(lambda: self.restyle(self.colours.theme))

    # ---- Listener

    def page_changed(self) -> None:
        """Show the sign-in page or the chat page."""
        chatting = self.app_state.page is VisiblePage.CHAT
        self.notifier.forget()
        self.pages.setCurrentWidget(self.chat if chatting else self.sign_in)
        self.status.setVisible(chatting)
        self.chat.rows.show([])
        self.chat.items.show([])
        self.chat.show_nothing()
        self.chat.me.setText(self.app_state.account)
        if chatting:
            self.sign_in.set_busy(False)
            self.sign_in.forget_secrets()
            self.chat.list.setFocus()
        else:
            removal = self.row_actions.removal
            for part in (self.account_dialogs, self.channel_actions, self.lost, self.conversation_finder, removal):
                part.close()
            self.sign_in.show_problem(self.app_state.reason)
            self.sign_in.focus_first()
        self.pay_attention()
        self.conversations_changed()

    def conversations_changed(self) -> None:
        """Redraw the conversation list at the next turn. What is unread may have changed."""
        self._items_timer.start()
        self._reading.look_soon()

    def thread_edited(self, key: ConversationKey, edits: Iterable[Edit]) -> None:
        """Apply edits to the open conversation. Other conversations are read when they are opened."""
        if key != self.app_state.open_key:
            return
        self.chat.rows.apply(edits)
        self._rows_drawn()

    def _rows_drawn(self) -> None:
        self._reading.settle()
        self.row_actions.check_edited()
        self._reading.look_soon()

    def thread_replaced(self, key: ConversationKey) -> None:
        """Show the rows again, because the open conversation now has an id and another key."""
        thread = self.app_state.open_thread()
        if key != self.app_state.open_key or thread is None:
            return
        if thread.rows != self.chat.rows.rows:
            self.chat.rows.show(thread.rows)
        self._rows_drawn()

    def begins_anew(self) -> None:
        """Store the draft."""
        self.save_draft()

    def reopen(self, target: Target) -> None:
        """Open a conversation again."""
        self.open_conversation(target)

    def lost_changed(self, messages: tuple[LostMessage, ...]) -> None:
        """Show what the cluster does not have any more."""
        self.lost.show_messages(messages)

    def status_changed(self) -> None:
        """Redraw the status bar, and the bar about lost messages."""
        self.status.draw()
        self.lost.show_count(self.app_state.client_state.lost_sent)

    def reconnected(self) -> None:
        """Request again what could not be fetched."""
        key, thread = self.app_state.open_key, self.app_state.open_thread()
        if key is not None and thread is not None and thread.verified_from is None:
            self.commands.load_history(self.app_state.chats.target(key), 0)
        self._reading.look_soon()

    def draft_arrived(self, key: ConversationKey, body: str) -> None:
        """Show a loaded draft unless something was typed since."""
        if key == self.app_state.open_key:
            self.chat.composer.show_draft(body)

    def accounts_found(self, prefix: str, accounts: tuple[Account, ...]) -> None:
        """Show the accounts found."""
        self.conversation_finder.accounts_found(prefix, accounts)

    def channels_told(self, answer: events.ChannelsTold) -> None:
        """Show the answer to a request about channels."""
        if text := self.channel_actions.told(answer):
            self.chat.tell(text)

    def presence_changed(self) -> None:
        """Show who types, or whether the other person is there."""
        self.presence_line.draw()

    def account_told(self, answer: events.AccountTold) -> None:
        """Show the answer to a request about the account."""
        if text := self.account_dialogs.told(answer):
            self.chat.tell(text)

    def refused(self, refusal: events.Refused) -> None:
        """Show why something was not done, where it was requested. Return the typed text."""
        match refusal.action:
            case Action.SIGN_IN | Action.REGISTER:
                self.sign_in.show_problem(refusal.text)
            case Action.SIGN_IN_ANYWAY:
                self.sign_in.offer_to_end_oldest(refusal.text)
            case Action.REGISTER_INVITED:
                self.sign_in.ask_for_invitation(refusal.text)
            case Action.LOST if self.lost.refused(refusal.text):
                pass
            case _ if self.account_dialogs.refused(refusal):
                pass
            case Action.SEND | Action.EDIT if refusal.body:
                self._give_back(refusal)
            case _:
                self.chat.tell(refusal.text)

    def noticed(self, key: ConversationKey, messages: tuple[Message, ...]) -> None:
        """Notify the person of messages that arrived unseen."""
        self.notifier.notice(key, self.app_state.chats.title(key), news_of(self.app_state.chats, key, messages))

    # ---- what people do

    def resume(self, address: ClusterAddress, account: str) -> None:
        """Fill in the last sign-in and resume its session, if there is one."""
        self.sign_in.fill(address, account)
        if address.hosts and account:
            self.sign_in.set_busy(True)
            self.commands.resume(address, account)

    def open_conversation(self, target: str | Target | ConversationKey) -> None:
        """Show a conversation."""
        self.save_draft()
        key, fetch = self.app_state.open(target)
        thread, chats = self.app_state.open_thread(), self.app_state.chats
        if thread is None:
            return
        self.chat.rows.show(thread.rows)
        self.chat.show_title(chats.item(key))
        self.chat.composer.begin(chats.title(key), chats.draft(key), self.app_state.client_state.max_message_bytes)
        self._reading.begin()
        if fetch:
            self.commands.open_conversation(chats.ask_draft(key))
        else:
            self._load_draft()
        self._draw_items()
        self.presence_line.ask()
        if not self.chat.list.hasFocus():
            self.chat.composer.editor.setFocus()

    def close_conversation(self) -> None:
        """Go back to the list."""
        self.save_draft()
        self.app_state.leave()
        self.chat.rows.show([])
        self.chat.show_nothing()
        self.chat.list.setFocus()

    def _load_draft(self) -> None:
        """Load the draft of the open conversation, which another window on this account may have changed."""
        key = self.app_state.open_key
        if key is not None:
            self.commands.load_draft(self.app_state.chats.ask_draft(key))

    def save_draft(self) -> None:
        """Store the draft of the open conversation, if it changed."""
        self._draft_timer.stop()
        key, chats = self.app_state.open_key, self.app_state.chats
        if key is not None and chats.take_unsaved_draft(key):
            self.commands.save_draft(chats.target(key), chats.draft(key))

    def _found(self, chosen: ConversationKey | Target) -> None:
        self.open_conversation(chosen)
        self.chat.composer.editor.setFocus()

    def _step(self, by: int) -> None:
        at = self.chat.items.index_of(self.app_state.open_key)
        row = at.row() + by if at.isValid() else 0
        if 0 <= row < self.chat.items.rowCount():
            self.open_conversation(self.chat.items.item(row).key)

    def _item_chosen(self, chosen: QModelIndex) -> None:
        key = self.chat.items.item(chosen.row()).key
        if key != self.app_state.open_key:
            self.open_conversation(key)
        self.chat.composer.editor.setFocus()  # who has chosen wants to write

    def _typed(self, text: str) -> None:
        key = self.app_state.open_key
        if key is not None and self.app_state.chats.keep_draft(key, text):
            self._draft_timer.start()
            self.presence_line.typed(text)

    def _send(self, body: str, urgent: bool) -> None:
        key = self.app_state.open_key
        if key is None:
            return
        self._draft_timer.stop()
        self.app_state.draft_sent(key)
        self.commands.send(self.app_state.chats.target(key), body, urgent=urgent)
        self.chat.view.to_bottom()

    # ---- drawing

    def _draw_items(self) -> None:
        chat = self.chat
        chat.items.show(self.row_actions.put_away.listed(self.app_state.items()))
        chat.list.mark_open(chat.items.index_of(self.app_state.open_key))
        chats, key, title = self.app_state.chats, self.app_state.open_key, "Parley"
        if key is not None:
            item = chats.item(key)
            chat.show_title(item)
            self.presence_line.draw()
            title = f"{item.title} – Parley"
        unread, mentions = chats.unread, chats.mentions
        if not chat.isVisible():  # the window may be locked
            unread, mentions, title = 0, 0, "Parley"
        self.setWindowTitle(f"({unread}) {title}" if unread else title)
        self.notifier.count(unread, mentions)

    def _give_back(self, refusal: events.Refused) -> None:
        chats, key = self.app_state.chats, self.app_state.open_key
        target = refusal.target
        if target is None or chats.key_of(target) == key:
            self.chat.composer.give_back(refusal.body, refusal.text)
            return
        kept = self.app_state.return_to_draft(target, refusal.body)
        self.commands.save_draft(target, kept)
        to = chats.title(chats.key_of(target))
        self.chat.composer.tell(f"A message to {to} was not sent and is kept as a draft. {refusal.text}")

    def pay_attention(self) -> None:
        self.app_state.attentive = self.isActiveWindow() and self.chat.isVisible() and not self.untouched
        if self.app_state.attentive:
            self._reading.look_soon()
            self.presence_line.ask()
            self._load_draft()
        elif self._commands is not None:
            self.save_draft()

    def restyle(self, theme: Theme) -> None:
        """Draw everything in these colours."""
        app = QApplication.instance()
        if isinstance(app, QApplication):
            apply_theme(app, theme)
        for part in (self.sign_in, self.chat, self.lost.bar, self.status):
            part.restyle(theme)

    def _draw_times(self) -> None:
        """Draw all times and days again, because the time zone changed."""
        forget_zone()
        self.app_state.redraw()
        self.restyle(self.colours.theme)
        self.conversations_changed()

    # ---- Qt

    def changeEvent(self, event: QEvent) -> None:  # noqa: N802
        """Record whether the window is in front."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.ActivationChange:
            self.pay_attention()

    def closeEvent(self, event: QCloseEvent) -> None:  # noqa: N802
        """Store the draft."""
        if self._commands is not None:
            self.save_draft()
        super().closeEvent(event)
