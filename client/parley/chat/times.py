"""Texts for times and days, in the local time zone."""

from datetime import date, datetime
from functools import lru_cache


def local_date(at_ms: int) -> date:
    """Return the local date of a time."""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().date()


def clock_time(at_ms: int) -> str:
    """Return hours and minutes."""
    return _clock_time(at_ms // 60_000 * 60_000)


@lru_cache(maxsize=1024)
def _clock_time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000).astimezone():%H:%M}"


def forget_zone() -> None:
    """Compute all times again, because the time zone changed."""
    _clock_time.cache_clear()


def day_label(at_ms: int, today: date) -> str:
    """Return a day as text: "Today", "Yesterday", a weekday or a date."""
    day = local_date(at_ms)
    match (today - day).days:
        case 0:
            return "Today"
        case 1:
            return "Yesterday"
        case days if 1 < days < 7:
            return f"{day:%A}"
    year = "" if day.year == today.year else f" {day.year}"
    return f"{day:%A}, {day.day} {day:%B}{year}"


def list_time(at_ms: int, today: date) -> str:
    """Return the time beside a conversation: the time of day, or a day if it is not today."""
    day = local_date(at_ms)
    match (today - day).days:
        case 0:
            return clock_time(at_ms)
        case 1:
            return "Yesterday"
        case days if 1 < days < 7:
            return f"{day:%a}"
    return f"{day.day} {day:%b}" if day.year == today.year else f"{day.day} {day:%b} {day.year}"


def line_time(at_ms: int, today: date) -> str:
    """Return the time at the beginning of a line: hours and minutes, with the date unless it is today."""
    at = datetime.fromtimestamp(at_ms / 1000).astimezone()
    return f"{at:%H:%M}" if at.date() == today else f"{at:%Y-%m-%d %H:%M}"
