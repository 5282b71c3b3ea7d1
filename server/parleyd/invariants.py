"""The check that survives `python -O`; every layer raises an error of its own with it."""

from __future__ import annotations


def check_invariant(condition: bool, message: str, error: type[Exception]) -> None:
    """Raise `error` with `message` unless `condition` holds."""
    if not condition:
        raise error(message)
