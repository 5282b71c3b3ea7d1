"""The passwords that are guessed first, from a list that ships with this package. Read at the first question."""

from __future__ import annotations

from functools import cache
from importlib import resources


def is_common(password: str) -> bool:
    """Return whether the password is on the list, whatever its letter case."""
    return password.lower() in _listed()


@cache
def _listed() -> frozenset[str]:
    text = resources.files(__package__).joinpath("common_passwords.txt").read_text(encoding="utf-8")
    return frozenset(line for line in text.splitlines() if not line.startswith("# "))
