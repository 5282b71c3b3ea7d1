"""Decides which notifications appear: do-not-disturb, and the times at which it ends. No Qt, no clock of its own."""

from datetime import datetime, time, timedelta

from parley.chat import line_time, local_date
from parley.gui.window_settings import UNTIL_SWITCHED_OFF, WindowSettings

HOUR_MS = 3_600_000
MORNING = time(8)
NIGHT_ENDS = time(5)


def is_quiet(settings: WindowSettings, now_ms: int) -> bool:
    """Return true while do-not-disturb is on."""
    return settings.quiet_until_ms == UNTIL_SWITCHED_OFF or settings.quiet_until_ms > now_ms


def lets_through(settings: WindowSettings, now_ms: int, *, urgent: bool) -> bool:
    """Return true if a message may be notified of now. One that mentions the person is like any other here."""
    if not settings.notify:
        return False
    return not is_quiet(settings, now_ms) or (urgent and settings.urgent_when_quiet)


def in_an_hour(now_ms: int) -> int:
    """Return the Unix time in milliseconds at which an hour from now ends."""
    return now_ms + HOUR_MS


def until_morning(now_ms: int) -> int:
    """Return the next morning at 8:00 local time. In the night, before 5:00, that is the same day."""
    now = datetime.fromtimestamp(now_ms / 1000)  # noqa: DTZ006 - the morning of this machine
    day = now.date() if now.time() < NIGHT_ENDS else now.date() + timedelta(days=1)
    return round(datetime.combine(day, MORNING).timestamp() * 1000)


def quiet_words(settings: WindowSettings, now_ms: int) -> str:
    """Return until when do-not-disturb is on, or an empty string."""
    if not is_quiet(settings, now_ms):
        return ""
    if settings.quiet_until_ms == UNTIL_SWITCHED_OFF:
        return "until you switch it off"
    return f"until {line_time(settings.quiet_until_ms, local_date(now_ms))}"
