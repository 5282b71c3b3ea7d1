"""Words and lines for a terminal. What others wrote is made harmless first: no escape sequence of a message reaches
it."""

import json
import re
from dataclasses import asdict
from datetime import datetime
from typing import Any

from parley.model import ClusterStatus, Conversation, Message, MessageStatus, NodeStatus, Outgoing

# Control characters (C0 without newline and tab, DEL, C1), and the marks that turn the direction of writing.
_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")

MARKS = {
    MessageStatus.WAITING: "…",
    MessageStatus.SENDING: "…",
    MessageStatus.ACCEPTED: "✓",
    MessageStatus.DELIVERED: "✓✓",
    MessageStatus.READ: "✓✓ read",
    MessageStatus.FAILED: "✗",
}


def harmless(text: str) -> str:
    """The text without what could command a terminal."""
    return _HARMFUL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def clock(at_ms: int) -> str:
    """Time of day, or the date and time where it was another day."""
    at = datetime.fromtimestamp(at_ms / 1000).astimezone()
    today = datetime.now().astimezone().date()
    return at.strftime("%H:%M") if at.date() == today else at.strftime("%Y-%m-%d %H:%M")


def message_line(message: Message) -> str:
    """One message for people; further lines of it are indented."""
    who = f"you → {message.peer}" if message.mine else message.sender
    return f"{clock(message.sent_at_ms)} {harmless(who)}: {indented(message.body)}"


def indented(body: str) -> str:
    """A body on one or more lines, the later ones set in."""
    return harmless(body).replace("\n", "\n    ")


def own_line(view: Outgoing) -> str:
    """An own message with what is known of it."""
    at = clock(view.sent_at_ms or view.created_at_ms)
    reason = f" ({harmless(view.detail)})" if view.status is MessageStatus.FAILED and view.detail else ""
    return f"{at} you → {harmless(view.recipient)}: {indented(view.body)} {MARKS[view.status]}{reason}"


def conversation_line(conversation: Conversation) -> str:
    """One line of the conversation list: what is new, with whom, when, the last words."""
    new = f"{conversation.unread} new" if conversation.unread else ""
    peer = harmless(conversation.peer) + (" (account deleted)" if conversation.peer_deleted else "")
    if conversation.last is None:
        return f"{new:>8}  {peer}"
    body = harmless(conversation.last.body).replace("\n", " ")
    body = body if len(body) <= 60 else body[:59] + "…"
    you = "you: " if conversation.last.mine else ""
    return f"{new:>8}  {peer:<16}  {clock(conversation.last.sent_at_ms)}  {you}{body}"


def cluster_lines(status: ClusterStatus) -> list[str]:
    """A table of the nodes, and one sentence about the whole."""
    rows: list[tuple[str, ...]] = [
        ("NODE", "ADDRESS", "ROLE", "TERM", "COMMIT", "APPLIED", "CLIENTS", "MSG/S", "SERVING")
    ]
    for node in status.nodes:
        if node.error:
            rows.append(("?", node.address, "down", "", "", "", "", "", f"no: {node.error}"))
        else:
            numbers = (node.term, node.commit_index, node.applied_index, node.connected_clients)
            serving = "yes" if node.serving else "no"
            rows.append(
                (node.name, node.address, _role(node), *map(str, numbers), f"{node.messages_per_second:.0f}", serving)
            )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]]) for row in rows]
    return [*lines, "", verdict(status)]


def _role(node: NodeStatus) -> str:
    """A learner follows, but has no vote, and who was removed is nothing; that is what people want to know."""
    own = next((member for member in node.members if member.name == node.name), None)
    if own is None:
        return "no member" if node.members else node.role
    return node.role if own.voter else "learner"


def verdict(status: ClusterStatus) -> str:
    """How the cluster fares, in one sentence."""
    up = sum(1 for node in status.nodes if not node.error)
    known = len(status.nodes)
    if status.serving:
        return f"The cluster serves: {up} of {known} known nodes answer, {status.leader or 'nobody'} leads."
    if up:
        return f"No majority: {up} of {known} known nodes answer. Nothing can be sent until more of them are up."
    return "No node answers. Check the addresses, and whether the nodes run."


def message_json(message: Message) -> str:
    """One message as one line of JSON."""
    return json.dumps(asdict(message), ensure_ascii=False)


def as_json(value: Any) -> str:
    """Records as indented JSON."""
    return json.dumps(value, ensure_ascii=False, indent=2)


def node_json(node: NodeStatus) -> dict[str, Any]:
    """One node's status for programs."""
    return asdict(node)
