"""Texts about whether somebody is there."""

from datetime import date

from parley.chat.times import clock_time, day_label, local_date
from parley.presence_model import AccountPresence, PresenceState


def presence_text(presence: AccountPresence, today: date) -> str:
    """Return a text about an account, for the place beside its name; empty if nothing is known."""
    match presence.state:
        case PresenceState.ONLINE:
            return "online"
        case PresenceState.AWAY:
            return "away"
        case PresenceState.OFFLINE if presence.last_seen_ms:
            later = "" if presence.all_heard else " or later"
            return f"last seen {_moment(presence.last_seen_ms, today)}{later}"
        case PresenceState.OFFLINE if presence.all_heard:
            return "offline"
    return ""


def _moment(at_ms: int, today: date) -> str:
    clock = clock_time(at_ms)
    match (today - local_date(at_ms)).days:
        case 0:
            return f"at {clock}"
        case 1:
            return f"yesterday at {clock}"
    return f"on {day_label(at_ms, today)} at {clock}"
