"""Moments that a person gives: a time, or how long ago."""

import re
from datetime import datetime, timedelta

from parley import BadInputError

ALLOWED = "a time such as 2026-11-27T22:00 (of this machine's zone if it names none), or how long ago: 90s, 15m, 2h, 3d"

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment_ms(text: str, now: datetime) -> int:
    """Return the moment as Unix time in milliseconds. `now` has a zone."""
    ago = re.fullmatch(r"(\d{1,9})([smhd])", text.strip())
    try:
        if ago is not None:
            return int((now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})).timestamp() * 1000)
        given = datetime.fromisoformat(text.strip())
        return int(given.astimezone(given.tzinfo or now.tzinfo).timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise BadInputError(f"{text!r} is no moment. Nothing was asked. Give {ALLOWED}.") from None
