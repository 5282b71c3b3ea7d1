"""Linearizable reads of this node: one read-index question serves all readers that have gathered (thesis §6.4).

A question is repeated if the core drops it (another leader, no space) or if its answer takes too long, while a reader
waits. The shell limits the wait and withdraws. Every question has a name that was never used before, not even by an
earlier process of this node. A late answer to an old question can therefore not answer a new one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from parleyd.raft.types import NodeId


@dataclass(frozen=True, slots=True)
class _Question:
    asked_ms: float
    tokens: dict[int, None]  # in the order they came


class ReadBarriers:
    """The readers that wait for a read index."""

    def __init__(self, node: NodeId, life: int, retry_ms: float) -> None:
        """Start without readers; `life` is a number below 2**64 that no other process of this node uses."""
        self._prefix = node.to_bytes(8, "big") + life.to_bytes(8, "big")
        self._retry_ms = retry_ms
        self._number = 0
        self._gathered: dict[int, None] = {}
        self._dropped: dict[int, None] = {}
        self._asked: dict[bytes, _Question] = {}
        self._question_of: dict[int, bytes] = {}

    @property
    def have_gathered(self) -> bool:
        """Return whether a reader waits for a question to be asked."""
        return bool(self._gathered)

    def oldest_ms(self, now_ms: float) -> float:
        """Return how long the oldest question has been without an answer."""
        return now_ms - min((question.asked_ms for question in self._asked.values()), default=now_ms)

    def add(self, token: int) -> None:
        """Add a reader."""
        self._gathered[token] = None

    def withdraw(self, token: int) -> None:
        """Remove a reader; a question without readers is forgotten."""
        self._gathered.pop(token, None)
        self._dropped.pop(token, None)
        context = self._question_of.pop(token, None)
        if context is not None:
            question = self._asked[context]
            del question.tokens[token]
            if not question.tokens:
                del self._asked[context]

    def next_question(self, now_ms: float) -> bytes:
        """Return the name of a new question, for all readers that have gathered."""
        self._number += 1
        context = self._prefix + self._number.to_bytes(8, "big")
        self._asked[context] = _Question(now_ms, self._gathered)
        self._question_of.update(dict.fromkeys(self._gathered, context))
        self._gathered = {}
        return context

    def answered(self, context: bytes) -> Collection[int]:
        """Return the readers of this question."""
        question = self._asked.pop(context, None)
        if question is None:
            return ()
        for token in question.tokens:
            del self._question_of[token]
        return question.tokens

    def dropped(self, context: bytes) -> None:
        """Keep the readers of a question that the core dropped; they ask again, but not at once."""
        self._dropped.update(dict.fromkeys(self.answered(context)))

    def ask_again(self, now_ms: float) -> None:
        """Gather the readers of questions that were dropped or have waited too long."""
        overdue = [context for context, asked in self._asked.items() if now_ms - asked.asked_ms > self._retry_ms]
        for context in overdue:
            self.dropped(context)
        self._gathered.update(self._dropped)
        self._dropped = {}
