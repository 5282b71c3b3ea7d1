"""What a person does to go to a conversation by its name, or to begin one."""

from collections.abc import Callable

from PySide6.QtWidgets import QWidget

from parley import Account, Target
from parley.chat import ConversationKey, account_label
from parley.gui.app_state import ChatAppState, VisiblePage
from parley.gui.commands import Commands
from parley.gui.finder import Choice, Finder


class ConversationFinder:
    """The dialog that finds a conversation. One is open at a time."""

    def __init__(
        self,
        window: QWidget,
        app_state: ChatAppState,
        commands: Callable[[], Commands],
        opens: Callable[[ConversationKey | Target], None],
    ) -> None:
        """`commands` returns the object that carries out the commands, `opens` shows what was chosen."""
        self._window = window
        self._app_state = app_state
        self._commands = commands
        self._opens = opens
        self.finder: Finder | None = None

    def begin_conversation(self) -> None:
        """Ask for an account or a conversation to open."""
        self._find("New conversation", anybody=True)

    def switch_conversation(self) -> None:
        """Ask for a conversation to open."""
        self._find("Go to a conversation", anybody=False)

    def accounts_found(self, prefix: str, accounts: tuple[Account, ...]) -> None:
        """Show the accounts found that have no conversation. The others are in the list already."""
        if self.finder is None:
            return
        listed = {item.key for item in self._app_state.items()}
        targets = [(account, Target(account=account.name)) for account in accounts]
        self.finder.found(
            prefix,
            [
                Choice(account_label(account), target)
                for account, target in targets
                if self._app_state.chats.key_of(target) not in listed
            ],
        )

    def _find(self, title: str, *, anybody: bool) -> None:
        if self._app_state.page is not VisiblePage.CHAT or self.finder is not None:
            return
        known = [Choice(item.title, item.key) for item in self._app_state.items()]
        finder = Finder(title, known, anybody=anybody, parent=self._window)
        self.finder = finder
        finder.asked.connect(self._commands().find_accounts)
        finder.chosen.connect(self._opens)
        finder.finished.connect(self._closed)
        finder.open()

    def close(self) -> None:
        """Close the dialog, because nobody is signed in any more."""
        if self.finder is not None:
            self.finder.reject()

    def _closed(self) -> None:
        finder, self.finder = self.finder, None
        if finder is not None:
            finder.deleteLater()
