"""One line of the conversation list, as a front end draws it."""

from dataclasses import dataclass

from parley.chat.keys import ConversationKey
from parley.chat.standing import Standing
from parley.chat.status_text import plural
from parley.model import MessageStatus


@dataclass(frozen=True, slots=True)
class ConversationItem:
    """One line of the conversation list. `member_count` is 0 for direct conversations.

    `mentions` counts the unread messages that name the own account. `initials_of` is the name from which the picture of
    the conversation is made. What is `put_away` stands at the end of the list, and a front end may leave it out.
    """

    key: ConversationKey
    title: str
    preview: str
    at_ms: int
    unread: int
    status: MessageStatus | None
    draft: bool
    deleted: bool
    channel: bool = False
    member_count: int = 0
    initials_of: str = ""
    topic: str = ""
    standing: Standing = Standing.OPEN
    muted: bool = False
    put_away: bool = False
    urgent: bool = False
    mentions: int = 0

    @property
    def is_quiet(self) -> bool:
        """Return true if new messages here are not to draw the eye."""
        return self.muted or self.put_away

    @property
    def about(self) -> str:
        """Return what is shown beside the title of a channel, empty for direct conversations."""
        if not self.channel:
            return ""
        if self.standing is Standing.LEFT:
            return "left"
        return plural(self.member_count, "member") + (", archived" if self.standing is Standing.ARCHIVED else "")
