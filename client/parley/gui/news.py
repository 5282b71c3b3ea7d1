"""Turns new messages into lines for notifications. One that mentions the person says so. No Qt."""

from collections.abc import Iterable
from dataclasses import dataclass

from parley import Message
from parley.chat import Chats, ConversationKey, marked, preview


@dataclass(frozen=True, slots=True)
class News:
    """A new message in one line. `mention`: it mentions the person, and the text says so."""

    text: str
    urgent: bool = False
    mention: bool = False


def news_of(chats: Chats, key: ConversationKey, messages: Iterable[Message]) -> list[News]:
    """Return the lines of new messages of a conversation."""
    mentions = set(chats.conversations.look(key).mentions)
    return [_line(chats, one, mention=one.id in mentions) for one in messages]


def _line(chats: Chats, message: Message, *, mention: bool) -> News:
    text = chats.notice(message)
    if mention:
        said = marked(message.body, urgent=message.urgent)
        text = preview(f"{chats.book.name(message.sender_id)} mentioned you: {said}")
    return News(text, message.urgent, mention)
