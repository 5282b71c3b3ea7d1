"""Moments that an operator gives: a time, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

ALLOWED = "a time such as 2026-11-27T22:00 (UTC without another zone), or how long ago: 90s, 15m, 2h, 3d"

_AGO = re.compile(r"(\d{1,9})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}


def parse_since(text: str, now: datetime) -> int:
    """Return the moment as Unix time in milliseconds. Raises ValueError with a text for the operator."""
    ago = _AGO.fullmatch(text.strip())
    try:
        if ago is not None:
            moment = now - timedelta(seconds=int(ago[1]) * _SECONDS[ago[2]])
        else:
            moment = datetime.fromisoformat(text.strip())
            moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no moment. Give {ALLOWED}.") from None
