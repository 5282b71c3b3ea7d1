"""The outputs of `Chats`: what a front end has to draw again."""

from dataclasses import dataclass

from parley.chat.keys import ConversationKey
from parley.chat.rows import Edit
from parley.model import Message


@dataclass(frozen=True, slots=True)
class ListChanged:
    """The conversation list changed."""


@dataclass(frozen=True, slots=True)
class ThreadEdited:
    """Rows of an opened conversation changed."""

    key: ConversationKey
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class ThreadReplaced:
    """Two keys belong to one conversation. Its rows are to be drawn again, under `key`."""

    former: ConversationKey
    key: ConversationKey


@dataclass(frozen=True, slots=True)
class Noticed:
    """Messages of others arrived while nobody looked at the conversation."""

    key: ConversationKey
    messages: tuple[Message, ...]


Output = ListChanged | ThreadEdited | ThreadReplaced | Noticed
