"""The futures of a group's callers, by the tokens that the pure group uses for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class PendingAnswer(asyncio.Future[T]):
    """A future that reports its cancellation, which withdraws the request."""

    def __init__(self, token: int, withdraw: Callable[[int], None]) -> None:
        super().__init__()
        self.token = token
        self._withdraw = withdraw

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel and withdraw; False if there is an answer already."""
        cancelled = super().cancel(msg)
        if cancelled:
            self._withdraw(self.token)
        return cancelled


class PendingAnswers:
    """The futures of all callers of one group."""

    def __init__(self, on_withdrawn: Callable[[int], None]) -> None:
        """Start without callers; `on_withdrawn` receives the token of a cancelled caller."""
        self._on_withdrawn = on_withdrawn
        self._last_token = 0
        self._waiting: dict[int, PendingAnswer[Any]] = {}

    def expect(self) -> PendingAnswer[Any]:
        """Add a caller, under a token that was never used before."""
        self._last_token += 1
        answer: PendingAnswer[Any] = PendingAnswer(self._last_token, self._withdraw)
        self._waiting[answer.token] = answer
        return answer

    def succeed(self, token: int, result: object) -> None:
        """Give a caller its answer, unless it has left, or does not wait for it any more."""
        answer = self._waiting.pop(token, None)
        if answer is not None and not answer.done():
            answer.set_result(result)

    def fail(self, token: int, error: Exception) -> None:
        """Give a caller an error, unless it has left, or does not wait for it any more."""
        answer = self._waiting.pop(token, None)
        if answer is not None and not answer.done():
            answer.set_exception(error)

    def cancel_all(self) -> None:
        """Cancel all callers."""
        waiting, self._waiting = self._waiting, {}
        for answer in waiting.values():
            answer.cancel()

    def _withdraw(self, token: int) -> None:
        if self._waiting.pop(token, None) is not None:
            self._on_withdrawn(token)
