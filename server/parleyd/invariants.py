"""The check that `python -O` keeps; every layer raises its own error with it."""

from __future__ import annotations


def check_invariant(condition: bool, message: str, error: type[Exception]) -> None:
    """Raise `error` with `message` unless `condition` holds."""
    if not condition:
        raise error(message)
