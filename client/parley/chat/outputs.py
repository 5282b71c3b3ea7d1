"""The outputs of `Chats`: what a front end has to draw again."""

from collections.abc import Sequence
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


def to_draw(outputs: Sequence[Output]) -> list[Output]:
    """Return what has to be drawn after all changes behind `outputs` were made.

    The rows of a replaced thread are drawn as they are now. They contain its edits already, before and after.
    """
    replaced = {output.key for output in outputs if isinstance(output, ThreadReplaced)}
    return [output for output in outputs if not (isinstance(output, ThreadEdited) and output.key in replaced)]
