"""Whom `/reply` answers: who wrote to this account alone last. Pure: the time is an argument.

Somebody else may write while the answer is typed, and it would go to that one. So for REPLY_SETTLES_S after the writer
has changed, an answer is refused once.
"""

from parley.model import Conversation, ConversationKind, Message, MessageKind, Target

REPLY_SETTLES_S = 3.0
CHANGED_TEXT = (
    "Somebody else has just written to you alone, and /reply would go there now. Nothing was sent. Say /reply again if "
    "you mean that one, or /dm NAME TEXT."
)


class LastWriter:
    """Remembers who wrote last."""

    def __init__(self) -> None:
        self._target: Target | None = None
        self._changed_s: float | None = None

    def came(self, message: Message, conversation: Conversation | None, now_s: float) -> None:
        """Record a message. `conversation` is the one that it belongs to, if it is known."""
        if message.mine or message.kind is not MessageKind.TEXT or conversation is None:
            return
        if conversation.kind is not ConversationKind.DIRECT:
            return
        target = Target(conversation_id=message.conversation_id)
        if self._target not in (None, target):
            self._changed_s = now_s
        self._target = target

    def forget(self) -> None:
        """Forget who wrote, because ids of conversations may mean others now."""
        self._target = self._changed_s = None

    @property
    def target(self) -> Target | None:
        """Return the conversation with who wrote last; None if nobody did."""
        return self._target

    def has_just_changed(self, now_s: float) -> bool:
        """Return whether the person may mean the one before. It is said once for each change."""
        changed_s, self._changed_s = self._changed_s, None
        return changed_s is not None and now_s - changed_s < REPLY_SETTLES_S
