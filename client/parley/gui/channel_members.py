"""Who can be mentioned in the open conversation.

A conversation names its first 64 members. The others of a larger channel are asked for when a mention begins, once
for each time the channel is opened and for each number of members.
"""

from collections.abc import Callable

from PySide6.QtCore import QObject, Signal

from parley import EVERYONE, Account, Conversation, ConversationKind
from parley.gui.app_state import ChatAppState
from parley.gui.candidates import Candidates
from parley.gui.commands import Commands
from parley.gui.events import MembersTold

MOST_ASKED = 20_000
"""Of a channel with more members, those are found that this device knows."""

SILENT_EVERYONE = Conversation(EVERYONE.conversation_id, ConversationKind.EVERYONE, member_count=1)
"""The conversation of everyone before its first message. Nobody has told its members."""


class ChannelMembers(QObject):
    """The members of the open channel, and the search among them."""

    came = Signal()
    """Members came that were asked for."""

    def __init__(
        self, app_state: ChatAppState, commands: Callable[[], Commands], parent: QObject | None = None
    ) -> None:
        """`commands` returns the object that carries out the commands."""
        super().__init__(parent)
        self._app_state = app_state
        self._commands = commands
        self._asked: tuple[int, int] | None = None  # conversation id and number of members
        self._listed: tuple[int, Candidates] | None = None  # conversation id and all its members

    def begin(self) -> None:
        """Ask for the members that are not known here, because somebody begins a mention."""
        channel = self._open_channel()
        if channel is not None and len(channel.members) < channel.member_count <= MOST_ASKED:
            wanted = (channel.id, channel.member_count)
            if self._asked != wanted:
                self._asked = wanted
                self._commands().list_members(channel.id)

    def matching(self, typed: str) -> list[Account]:
        """Return the members whose names begin with what was typed, the best first. Nobody in a direct conversation."""
        channel, book = self._open_channel(), self._app_state.chats.book
        if channel is None:
            return []
        is_known_here = len(channel.members) >= channel.member_count
        if self._listed is not None and self._listed[0] == channel.id and not is_known_here:
            known = self._listed[1]
        else:
            accounts = (book.get(member.account_id) for member in channel.members)
            known = Candidates((one for one in accounts if one is not None), book.own_id)
        now = (book.get(one.id) or one for one in known.matching(typed))
        return [one for one in now if not one.deleted]

    def take(self, answer: MembersTold) -> None:
        """Record all members of a channel."""
        channel, book = self._open_channel(), self._app_state.chats.book
        if channel is None or channel.id != answer.conversation_id:
            return
        if len(answer.accounts) < channel.member_count:
            self._asked = None  # no node answered: the next mention asks again
        if len(answer.accounts) > len(channel.members):
            self._listed = (channel.id, Candidates(answer.accounts, book.own_id))
            self.came.emit()

    def forget(self) -> None:
        """Forget what was listed, because a conversation is opened."""
        self._asked = self._listed = None

    def _open_channel(self) -> Conversation | None:
        key, chats = self._app_state.open_key, self._app_state.chats
        if key is None:
            return None
        found = chats.conversations.look(key).conversation
        if found is None and key.conversation_id == EVERYONE.conversation_id:
            return SILENT_EVERYONE
        return found if found is not None and found.is_shared else None
