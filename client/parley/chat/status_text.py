"""The status of a message and of the cluster as text. Window and terminal show the same texts."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from parley.chat.rows import Row
from parley.chat.safe_text import safe_body
from parley.chat.times import clock_time
from parley.client_state import ClientState, ConnectionState
from parley.model import MessageStatus

HEARD_JUST_NOW_S = 2.5
WAITING_IS_NEWS_S = 1.0


def plural(count: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


# ---- messages

NOT_IN_CLUSTER = "not in the cluster any more"
_MEANING = {
    MessageStatus.WAITING: "waiting here",
    MessageStatus.SENDING: "being sent, not yet confirmed",
    MessageStatus.ACCEPTED: "on a majority's disks",
    MessageStatus.DELIVERED: "delivered",
    MessageStatus.READ: "read",
    MessageStatus.FAILED: "not sent",
    MessageStatus.UNKNOWN: "outcome unknown",
}


def meaning(status: MessageStatus) -> str:
    """Return the meaning of a mark."""
    return _MEANING[status]


def counts_text(delivered: int, read: int, others: int) -> str:
    """Return how many other members of a channel have a message: "delivered to 1 of 2". Empty without other members."""
    if not others:
        return ""
    if read >= others:
        return f"read by all {others}" if others > 1 else "read"
    if delivered >= others:
        reached = f"delivered to all {others}" if others > 1 else "delivered"
    else:
        reached = f"delivered to {delivered} of {others}"
    return f"{reached}, read by {read}" if read else reached


def known_of(row: Row) -> str:
    """Return the status of an own message or a lost one as text, empty for other rows."""
    if row.lost:
        return NOT_IN_CLUSTER
    if row.status is None:
        return ""
    return counts_text(row.delivered, row.read, row.others) if row.others else meaning(row.status)


def failure_lines(row: Row) -> tuple[str, ...]:
    """Return why a message was not sent, or may not have been, and what the person can do."""
    if not row.retriable:
        return ()
    if row.status is MessageStatus.UNKNOWN:
        reason, again = (
            "It is not known whether the cluster stored this message.",
            "Look before you send it again: Ctrl+R.",
        )
    else:
        reason, again = "The cluster refused this message.", "Ctrl+R tries again."
    return (
        safe_body(row.detail[:1].upper() + row.detail[1:]) or reason,
        f"{again} To remove it, select it and press Delete.",
    )


def why_fixed(row: Row) -> str:
    """Return why an own message cannot be changed or withdrawn, empty if it can be."""
    if row.status is None or row.cancellable:
        return ""
    if row.lost:
        return f"This message is {NOT_IN_CLUSTER}. The list of lost messages has what can be done with it."
    if row.status is MessageStatus.SENDING:
        return (
            "This message is under way to the cluster. It cannot be changed or withdrawn now, because the cluster may "
            "have stored it. Parley goes on sending it until the cluster answers. It is stored once."
        )
    return "The cluster has stored this message. It cannot be changed or withdrawn any more."


def spoken(row: Row) -> str:
    """Return a row for screen readers: sender, time, text and status, behind what is missing above it."""
    missing = f"{row.gap_above}. " if row.gap_above else ""
    if row.event:
        return f"{missing}{clock_time(row.at_ms)}: {row.shown}"
    who = "You" if row.mine else row.sender
    known = f", {known_of(row)}" if row.mine or row.lost else ""
    reason = f". {' '.join(failure_lines(row))}" if row.retriable else ""
    return f"{missing}{who}, {clock_time(row.at_ms)}{known}: {row.shown}{reason}"


def tip(row: Row) -> str:
    """Return the exact time and the meaning of the mark."""
    moment = f"{datetime.fromtimestamp(row.at_ms / 1000).astimezone():%A, %d %B %Y, %H:%M:%S}"
    known = known_of(row)
    return f"{moment}\n{known[:1].upper()}{known[1:]}" if known else moment


# ---- the cluster


class StatusLevel(StrEnum):
    """The state of the status bar."""

    GOOD = "good"
    BUSY = "busy"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class StatusLine:
    """The text of the status bar. `detail` holds more information."""

    level: StatusLevel
    text: str
    detail: str = ""


def status_line(
    state: ClientState,
    heard_at: float | None,
    now: float,
    waiting_s: float = 0.0,
    *,
    names_leader: bool = False,
    note: str = "",
) -> StatusLine:
    """Return the status line. It depends on the arguments only, so it clears by itself.

    While connected, a waiting message is shown only after WAITING_IS_NEWS_S seconds. The leader is a detail, unless
    `names_leader` is set. `note` is what people should know of the cluster, such as an update of its nodes.
    """
    waiting = f"{plural(state.waiting, 'message')} waiting" if state.waiting else ""
    up = f"{state.nodes_up} of {plural(state.nodes_total, 'node')} up" if state.nodes else ""
    match state.connection:
        case ConnectionState.CONNECTED if state.superseded or state.problem:
            parts = [f"Connected to {state.node}", waiting, state.problem]
            return StatusLine(StatusLevel.BAD, _joined(parts), _detail(state))
        case ConnectionState.CONNECTED:
            leader = "" if not names_leader else f"{state.leader} leads" if state.leader else "no leader yet"
            late = waiting if waiting_s >= WAITING_IS_NEWS_S else ""
            parts = [f"Connected to {state.node}", leader, up, note, heard(heard_at, now), late, *_news(state)]
            return StatusLine(StatusLevel.BUSY if note else _level(state), _joined(parts), _detail(state))
        case ConnectionState.NO_MAJORITY:
            if 2 * state.nodes_up > state.nodes_total:  # an election, or news that lags: never say more than is known
                text = ", ".join(part for part in (f"{state.node} knows no leader right now ({up})", waiting) if part)
                return StatusLine(StatusLevel.BUSY, _joined([text, heard(heard_at, now)]), _detail(state))
            text = f"No majority of nodes ({up})" if up else "No majority of nodes"
            kept = waiting or "your messages are kept here"
            parts = [f"{text}: nothing can be sent now, {kept}", f"connected to {state.node}" if state.node else ""]
            return StatusLine(StatusLevel.BAD, _joined([*parts, heard(heard_at, now)]), _detail(state))
        case ConnectionState.CONNECTING | ConnectionState.SEARCHING:
            lost = f"{state.lost} lost" if state.lost else ""
            trying = f"trying {state.trying}" if state.trying else "looking for a node"
            text = ", ".join(part for part in (lost, trying, waiting) if part)
            text = text if lost else text[:1].upper() + text[1:]
            trouble = state.problem if state.tls_trouble else ""  # waiting does not help
            level = StatusLevel.BAD if trouble else StatusLevel.BUSY
            return StatusLine(level, _joined([text, heard(heard_at, now), trouble]), _detail(state))
        case ConnectionState.SHARED:
            via = f"Connected to {state.node} through another Parley on this computer"
            parts = [via if state.node else "Another Parley on this computer is connected", up, waiting, *_news(state)]
            return StatusLine(_level(state), _joined(parts), _detail(state))
        case ConnectionState.SIGNED_OUT | ConnectionState.CLOSED:
            return StatusLine(StatusLevel.BAD, _joined(["Signed out", waiting, state.problem]))


def heard(heard_at: float | None, now: float) -> str:
    """Return when a node last sent something."""
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


def _level(state: ClientState) -> StatusLevel:
    """Return GOOD only while every node is up: with one node less, the next fault may stop the cluster."""
    return StatusLevel.GOOD if state.nodes_up == state.nodes_total else StatusLevel.BUSY


def _news(state: ClientState) -> tuple[str, str]:
    return state.notice, state.kept_elsewhere


def _detail(state: ClientState) -> str:
    nodes = [
        f"{node.name}  {node.address}  {'up' if node.up else 'down'}{', leads' if node.name == state.leader else ''}"
        for node in state.nodes
    ]
    return "\n".join([*nodes, *([state.problem] if state.problem else [])])
