"""What a cancelled request leaves unknown."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from parley.errors import OutcomeUnknownError

CHECK_TEXT = "Check the result before you try again."
REPEAT_TEXT = "Repeating it is safe."


@contextmanager
def unknown_if_cancelled(then: str = CHECK_TEXT, *, changes: bool = True) -> Iterator[None]:
    """If the block is cancelled, give the CancelledError an OutcomeUnknownError as its cause.

    `then` is what a person should do. With `changes` false, do nothing.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        if not changes or error.__cause__ is not None:
            raise
        raise error from OutcomeUnknownError(f"The request may or may not have been carried out. {then}")
