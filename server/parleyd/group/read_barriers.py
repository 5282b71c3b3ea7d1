"""Linearizable reads of this node: one question for a read index serves all readers that have gathered (thesis §6.4).

A question that the core drops (another leader, no room) and one without an answer for too long is asked again, for as
long as somebody waits; the shell bounds the wait and withdraws. Every question has a name that was never used before,
not even by an earlier life of this node: a late answer to an old question must not answer a new one.
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
    """Who waits for a read index."""

    def __init__(self, node: NodeId, life: int, retry_ms: float) -> None:
        """`life`: a number below 2**64 that no other life of this node has."""
        self._prefix = node.to_bytes(8, "big") + life.to_bytes(8, "big")
        self._retry_ms = retry_ms
        self._number = 0
        self._gathered: dict[int, None] = {}
        self._dropped: dict[int, None] = {}
        self._asked: dict[bytes, _Question] = {}
        self._question_of: dict[int, bytes] = {}

    @property
    def have_gathered(self) -> bool:
        """Whether somebody waits for a question to be asked."""
        return bool(self._gathered)

    def oldest_ms(self, now_ms: float) -> float:
        """How long the oldest question has been without an answer."""
        return now_ms - min((question.asked_ms for question in self._asked.values()), default=now_ms)

    def add(self, token: int) -> None:
        """Somebody wants to read."""
        self._gathered[token] = None

    def withdraw(self, token: int) -> None:
        """Somebody does not wait any more; a question that nobody waits for is forgotten."""
        self._gathered.pop(token, None)
        self._dropped.pop(token, None)
        context = self._question_of.pop(token, None)
        if context is not None:
            question = self._asked[context]
            del question.tokens[token]
            if not question.tokens:
                del self._asked[context]

    def next_question(self, now_ms: float) -> bytes:
        """The name of a new question, for all that have gathered."""
        self._number += 1
        context = self._prefix + self._number.to_bytes(8, "big")
        self._asked[context] = _Question(now_ms, self._gathered)
        self._question_of.update(dict.fromkeys(self._gathered, context))
        self._gathered = {}
        return context

    def answered(self, context: bytes) -> Collection[int]:
        """Those who waited for this question."""
        question = self._asked.pop(context, None)
        if question is None:
            return ()
        for token in question.tokens:
            del self._question_of[token]
        return question.tokens

    def dropped(self, context: bytes) -> None:
        """The core does not answer this question: it is to be asked again, but not at once."""
        self._dropped.update(dict.fromkeys(self.answered(context)))

    def ask_again(self, now_ms: float) -> None:
        """Gather anew what was dropped or has waited too long."""
        overdue = [context for context, asked in self._asked.items() if now_ms - asked.asked_ms > self._retry_ms]
        for context in overdue:
            self.dropped(context)
        self._gathered.update(self._dropped)
        self._dropped = {}
