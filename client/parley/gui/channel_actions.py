"""What a person does with channels in the window: find and join one, add somebody, leave. And who has a message."""

from collections.abc import Callable, Sequence

from PySide6.QtCore import QObject
from PySide6.QtWidgets import QInputDialog, QMenu, QWidget

from parley import Conversation, Target
from parley.chat import Standing, missing_lines, plural, receipt_line, safe_name
from parley.gui.app_state import ChatAppState
from parley.gui.channel_members import ChannelMembers
from parley.gui.commands import Commands
from parley.gui.events import ChannelJoined, ChannelsListed, ChannelsTold, MembersTold, ReceiptsTold
from parley.gui.finder import Choice, Finder
from parley.gui.row_actions import offer


class ChannelActions(QObject):
    """The entries of the menu about channels, and their dialogs. One of each is open at a time."""

    def __init__(
        self,
        window: QWidget,
        app_state: ChatAppState,
        commands: Callable[[], Commands],
        open_conversation: Callable[[Target], None],
    ) -> None:
        """`commands` returns the object that carries out the commands."""
        super().__init__(window)
        self._window = window
        self._app_state = app_state
        self._commands = commands
        self._open_conversation = open_conversation
        self.members = ChannelMembers(app_state, commands, self)
        self.finder: Finder | None = None
        self.invitation: QInputDialog | None = None

    def add_to(self, menu: QMenu) -> None:
        """Offer what can be done now."""
        offer(menu, "Join a channel", self._commands().list_channels)
        channel = self._open_channel()
        if channel is None:
            return
        conversation_id, standing = channel
        if standing is Standing.LEFT:
            offer(menu, "Join this channel again", lambda: self._commands().join_channel(conversation_id))
            return
        if standing is not Standing.ARCHIVED:
            offer(menu, "Add somebody to this channel", lambda: self._invite(conversation_id))
        offer(menu, "Leave this channel", lambda: self._commands().leave_channel(conversation_id))

    def told(self, answer: ChannelsTold) -> str:
        """Show the channels that can be joined, or the one that was joined. Return what to say in the window."""
        match answer:
            case ChannelsListed(channels):
                listed = {item.key.conversation_id for item in self._app_state.items()}
                open_ = [one for one in channels if not one.channel.archived]
                # A channel that was removed and not left is in no list. It is opened here.
                free = [one.channel for one in open_ if not (one.joined and one.channel.id in listed)]
                if not free:
                    return "There is no channel that you could join. You are in all public ones."
                self._choose(free)
            case ChannelJoined(conversation_id):
                self._open_conversation(Target(conversation_id=conversation_id))
            case MembersTold():
                self.members.take(answer)
            case ReceiptsTold(receipts):
                return " ".join((f"Your message is {receipt_line(receipts)}.", *missing_lines(receipts)))
        return ""

    def close(self) -> None:
        """Close what is open, because nobody is signed in any more."""
        for dialog in (self.finder, self.invitation):
            if dialog is not None:
                dialog.reject()

    def _open_channel(self) -> tuple[int, Standing] | None:
        key = self._app_state.open_key
        if key is None:
            return None
        item = self._app_state.chats.item(key)
        return (item.key.conversation_id, item.standing) if item.channel else None

    def _choose(self, channels: Sequence[Conversation]) -> None:
        if self.finder is not None:
            return
        choices = [
            Choice(
                f"{safe_name(channel.title)} (#{channel.id}, {plural(channel.member_count, 'member')})",
                Target(conversation_id=channel.id),
            )
            for channel in channels
        ]
        self.finder = Finder("Join a channel", choices, anybody=False, parent=self._window)
        self.finder.chosen.connect(lambda target: self._commands().join_channel(target.conversation_id))
        self.finder.finished.connect(self._finder_closed)
        self.finder.open()

    def _finder_closed(self) -> None:
        finder, self.finder = self.finder, None
        if finder is not None:
            finder.deleteLater()

    def _invite(self, conversation_id: int) -> None:
        if self.invitation is not None:
            return
        dialog = self.invitation = QInputDialog(self._window)
        dialog.setWindowTitle("Add somebody to this channel")
        dialog.setLabelText("Name of the account")
        dialog.textValueSelected.connect(lambda name: self._add(conversation_id, name.strip()))
        dialog.finished.connect(self._invitation_closed)
        dialog.open()

    def _add(self, conversation_id: int, name: str) -> None:
        if name:
            self._commands().add_member(conversation_id, name)

    def _invitation_closed(self) -> None:
        dialog, self.invitation = self.invitation, None
        if dialog is not None:
            dialog.deleteLater()
