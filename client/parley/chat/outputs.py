"""What the folding tells a front end: what has to be drawn anew."""

from dataclasses import dataclass

from parley.chat.keys import ConversationKey
from parley.chat.rows import Edit
from parley.model import Message


@dataclass(frozen=True, slots=True)
class ListChanged:
    """The list of conversations looks different now."""


@dataclass(frozen=True, slots=True)
class ThreadEdited:
    """Rows of an opened conversation have changed."""

    key: ConversationKey
    edits: tuple[Edit, ...]


@dataclass(frozen=True, slots=True)
class ThreadReplaced:
    """Two keys turned out to be one conversation. Its rows are to be drawn anew, under the key `key`."""

    former: ConversationKey
    key: ConversationKey


@dataclass(frozen=True, slots=True)
class Noticed:
    """Messages of others came while nobody looked at the conversation."""

    key: ConversationKey
    messages: tuple[Message, ...]


Output = ListChanged | ThreadEdited | ThreadReplaced | Noticed
