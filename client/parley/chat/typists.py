"""Who types in which conversation, until a moment ago."""

import time
from collections.abc import Callable, Iterable, Sequence

from parley.model import Message
from parley.presence_model import Typing

SHOWN_S = 6.0
"""Twice the time after which a client says it again."""
AFTER_MESSAGE_S = 0.3
"""Typing of who wrote so short ago was on its way before the message, which may have been faster."""


class Typists:
    """Remembers for SHOWN_S that somebody types, or until a message of that account comes."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until: dict[Typing, float] = {}
        self._wrote: dict[Typing, float] = {}

    def take(self, typing: Iterable[Typing]) -> None:
        """Note who types now."""
        now = self._clock()
        self._drop_old()
        self._until.update({one: now + SHOWN_S for one in typing if one not in self._wrote})

    def wrote(self, messages: Iterable[Message]) -> None:
        """Note messages: who sent one has finished."""
        for message in messages:
            writer = Typing(message.conversation_id, message.sender_id)
            self._until.pop(writer, None)
            self._wrote[writer] = self._clock()
        self._drop_old()

    def of(self, conversation_id: int) -> tuple[int, ...]:
        """Return the accounts that type in a conversation, who began first at the front."""
        self._drop_old()
        return tuple(one.account_id for one in self._until if one.conversation_id == conversation_id)

    def _drop_old(self) -> None:
        now = self._clock()
        self._until = {one: until for one, until in self._until.items() if until > now}
        self._wrote = {one: at for one, at in self._wrote.items() if at > now - AFTER_MESSAGE_S}


def typing_text(names: Sequence[str]) -> str:
    """Return a text about who types, empty for nobody."""
    match names:
        case []:
            return ""
        case [name]:
            return f"{name} is typing…"
        case [one, other]:
            return f"{one} and {other} are typing…"
    return f"{len(names)} people are typing…"
