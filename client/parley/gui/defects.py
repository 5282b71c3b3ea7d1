"""Turns any error of a request into one for people. Without Qt."""

import logging
from collections.abc import Iterator

from parley import ParleyError

LONGEST_REASON = 200


def as_parley_error(error: Exception) -> ParleyError:
    """Return the error for a person. A defect is logged and told by its kind, so that nobody waits for an answer."""
    if isinstance(error, ParleyError):
        return error
    logging.getLogger("parley.gui").error("window_request_failed error=%r", error)
    said = str(error)
    is_short = "\n" not in said and len(said) <= LONGEST_REASON  # gRPC's errors print a record of several lines
    described = f"{type(error).__name__}: {said}" if is_short else type(error).__name__
    return ParleyError(
        f"Parley failed in a way that it does not know ({described}). Messages in the outbox are "
        "kept. Try again, or start Parley again. Please report it."
    )


def leaves(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    """Yield the errors of a group and of the groups in it."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from leaves(error)
        else:
            yield error
