"""What the window says: times, days, previews, what a mark means, and the status bar's text about the cluster. Pure."""

import re
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from functools import lru_cache

from parley.gui.thread import Row
from parley.model import ClientState, ConnectionState, MessageStatus

PREVIEW_LENGTH = 160
HEARD_JUST_NOW_S = 2.5
WAITING_IS_NEWS_S = 1.0

_LINK = re.compile(r"https?://[^\s<>\"'\x00-\x20]+", re.IGNORECASE)
_LINK_TAIL = ".,;:!?'\""
_BRACKETS = {")": "(", "]": "[", "}": "{"}
_PICTOGRAPH = "\U0001f000-\U0001faff\u2600-\u27bf\u2b00-\u2bff\u2300-\u23ff"
_ONLY_EMOJI = re.compile(rf"(?:[{_PICTOGRAPH}](?:[\ufe0f\U0001f3fb-\U0001f3ff]|\u200d[{_PICTOGRAPH}])*\s?){{1,3}}")


# ---- times


def local_date(at_ms: int) -> date:
    """The day of a moment, where the person is."""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().date()


def clock_time(at_ms: int) -> str:
    """Hours and minutes."""
    return _clock_time(at_ms // 60_000 * 60_000)


@lru_cache(maxsize=1024)
def _clock_time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000).astimezone():%H:%M}"


def day_label(at_ms: int, today: date) -> str:
    """A day as people call it."""
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
    """The time beside a conversation: short, and never wrong about the day."""
    day = local_date(at_ms)
    match (today - day).days:
        case 0:
            return clock_time(at_ms)
        case 1:
            return "Yesterday"
        case days if 1 < days < 7:
            return f"{day:%a}"
    return f"{day.day} {day:%b}" if day.year == today.year else f"{day.day} {day:%b} {day.year}"


# ---- texts


def preview(body: str) -> str:
    """A message in one line."""
    return " ".join(body[: 4 * PREVIEW_LENGTH].split())[:PREVIEW_LENGTH]


@dataclass(frozen=True, slots=True)
class Link:
    """An address in a text, from `start` up to `end`."""

    start: int
    end: int
    url: str


def links(body: str) -> tuple[Link, ...]:
    """The web addresses in a text; only http and https, without the punctuation that ends a sentence."""
    found = []
    for match in _LINK.finditer(body):
        url = match.group().rstrip(_LINK_TAIL)
        while url and url[-1] in _BRACKETS and url.count(url[-1]) > url.count(_BRACKETS[url[-1]]):
            url = url[:-1].rstrip(_LINK_TAIL)
        if len(url) > len("https://"):
            found.append(Link(match.start(), match.start() + len(url), url))
    return tuple(found)


def is_big_emoji(body: str) -> bool:
    """Whether a text is nothing but one to three pictures."""
    return len(body) <= 32 and _ONLY_EMOJI.fullmatch(body) is not None


def plural(count: int, noun: str) -> str:
    """A number with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


# ---- marks

_MEANING = {
    MessageStatus.WAITING: "waiting here",
    MessageStatus.SENDING: "being sent, not yet confirmed",
    MessageStatus.ACCEPTED: "on a majority's disks",
    MessageStatus.DELIVERED: "delivered",
    MessageStatus.READ: "read",
    MessageStatus.FAILED: "not sent",
}


def meaning(status: MessageStatus) -> str:
    """What a mark says, in words."""
    return _MEANING[status]


def failure_lines(row: Row) -> tuple[str, ...]:
    """Why a message was not sent, and what can be done."""
    if row.status is not MessageStatus.FAILED:
        return ()
    return (
        row.detail[:1].upper() + row.detail[1:] or "The cluster refused this message.",
        "Ctrl+R tries again. To remove it, select it and press Delete.",
    )


def spoken(row: Row) -> str:
    """A row for people who listen: who, when, what, and what is known of it."""
    who = "You" if row.mine else row.sender
    known = f", {meaning(row.status)}" if row.status is not None else ""
    reason = f". {' '.join(failure_lines(row))}" if row.status is MessageStatus.FAILED else ""
    return f"{who}, {clock_time(row.at_ms)}{known}: {row.body}{reason}"


def tip(row: Row) -> str:
    """When exactly, and what the mark means."""
    moment = f"{datetime.fromtimestamp(row.at_ms / 1000).astimezone():%A, %d %B %Y, %H:%M:%S}"
    return moment if row.status is None else f"{moment}\n{meaning(row.status).capitalize()}"


# ---- the status bar


class StatusLevel(StrEnum):
    """How the status bar looks."""

    GOOD = "good"
    BUSY = "busy"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class StatusLine:
    """What the status bar says; `detail` is for whoever wants to know more."""

    level: StatusLevel
    text: str
    detail: str = ""


def status_line(state: ClientState, heard_at: float | None, now: float, waiting_s: float = 0.0) -> StatusLine:
    """The status bar's text, from the state alone, so that it clears by itself.

    While connected, a message that waits is no news before it has done so for WAITING_IS_NEWS_S.
    """
    waiting = f"{plural(state.waiting, 'message')} waiting" if state.waiting else ""
    up = f"{state.nodes_up} of {plural(state.nodes_total, 'node')} up" if state.nodes else ""
    match state.connection:
        case ConnectionState.CONNECTED:
            leader = f"{state.leader} leads" if state.leader else "no leader yet"
            late = waiting if waiting_s >= WAITING_IS_NEWS_S else ""
            parts = [f"Connected to {state.node}", leader, up, heard(heard_at, now), late]
            return StatusLine(StatusLevel.GOOD, _joined(parts), _detail(state))
        case ConnectionState.NO_MAJORITY:
            if 2 * state.nodes_up > state.nodes_total:  # an election, or news that lags: never say more than is known
                text = ", ".join(part for part in (f"{state.node} knows no leader right now ({up})", waiting) if part)
                return StatusLine(StatusLevel.BUSY, _joined([text, heard(heard_at, now)]), _detail(state))
            text = f"No majority of nodes ({up})" if up else "No majority of nodes"
            kept = waiting or "what you write is kept here"
            parts = [f"{text}: nothing can be sent now, {kept}", f"connected to {state.node}" if state.node else ""]
            return StatusLine(StatusLevel.BAD, _joined([*parts, heard(heard_at, now)]), _detail(state))
        case ConnectionState.CONNECTING | ConnectionState.SEARCHING:
            lost = f"{state.lost} lost" if state.lost else ""
            trying = f"trying {state.trying}" if state.trying else "looking for a node"
            text = ", ".join(part for part in (lost, trying, waiting) if part)
            return StatusLine(
                StatusLevel.BUSY,
                _joined([text[:1].upper() + text[1:] if not lost else text, heard(heard_at, now)]),
                _detail(state),
            )
        case ConnectionState.SHARED:
            parts = ["Another Parley on this computer is connected", waiting]
            return StatusLine(StatusLevel.GOOD, _joined(parts))
        case ConnectionState.SIGNED_OUT | ConnectionState.CLOSED:
            return StatusLine(StatusLevel.BAD, _joined(["Signed out", waiting]))


def heard(heard_at: float | None, now: float) -> str:
    """When a node last said something."""
    if heard_at is None:
        return ""
    ago_s = max(0.0, now - heard_at)
    if ago_s < HEARD_JUST_NOW_S:
        return "heard just now"
    if ago_s < 120:
        return f"last heard {ago_s:.0f} s ago"
    return f"last heard {ago_s / 60:.0f} min ago"


def _joined(parts: list[str]) -> str:
    return "  ·  ".join(part for part in parts if part)


def _detail(state: ClientState) -> str:
    nodes = [f"{node.name}  {node.address}  {'up' if node.up else 'down'}" for node in state.nodes]
    return "\n".join([*nodes, *([state.problem] if state.problem else [])])
