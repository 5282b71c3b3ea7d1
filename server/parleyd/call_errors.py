"""The error that ends a call, made so that the call does not refer to itself.

gRPC keeps an error in its call, and a task group keeps errors in its frames. With a traceback, an error refers to the
frames of the call. So the call refers to itself, and only the garbage collector can free it. After some thousand calls
that takes a tenth of a second of processor time, at once, and meanwhile the event loop stands still. A node that stops
ends all its streams with an error.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator
from typing import TypeVar

Result = TypeVar("Result")


def without_history(error: BaseException) -> BaseException:
    """Return the error without what led to it: its traceback, its cause and its context."""
    error.__context__ = error.__cause__ = None
    return error.with_traceback(None)


async def ungrouped(work: Awaitable[Result]) -> Result:
    """Return what `work` returns. If a task group in it fails, raise its first error, which the others came after."""
    try:
        return await work
    except BaseExceptionGroup as group:
        error = next(_errors_of(group))
    # Not inside `except`: there the group becomes the context of the error, and the group refers to the error.
    try:
        raise error
    finally:
        del error  # its traceback refers to this frame


def _errors_of(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """Yield the errors of a group, and of groups in it. A task group's frame refers to its group: cut that, too."""
    without_history(group)
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _errors_of(error)
        else:
            yield error
