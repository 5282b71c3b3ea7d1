"""Formats messages, conversations and settings as lines or JSON, without the escape sequences of other people."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import datetime
from typing import Any

from parley import (
    EVERYONE,
    Account,
    HistoryPage,
    ListedChannel,
    LostMessage,
    Message,
    MessageKind,
    MessageStatus,
    NodeStatus,
    Outgoing,
    Setting,
)
from parley.chat import (
    NOT_IN_CLUSTER,
    Chats,
    ConversationItem,
    conversation_key,
    counts_text,
    in_order,
    line_time,
    lost_parties,
    marked,
    plural,
    preview,
    row_text,
    safe_body,
    safe_name,
)

LINE_PREVIEW = 60
SENT_LATER = "The next parley send, listen, fetch or chat sends what waits, once, or: parley outbox --send."

MARKS = {
    MessageStatus.WAITING: "…",
    MessageStatus.SENDING: "…",
    MessageStatus.ACCEPTED: "✓",
    MessageStatus.DELIVERED: "✓✓",
    MessageStatus.READ: "✓✓ read",
    MessageStatus.FAILED: "✗",
    MessageStatus.UNKNOWN: "?",
}


def waiting(count: int) -> str:
    """Return how many messages wait."""
    return f"{plural(count, 'message')} wait{'s' if count == 1 else ''}"


def clock(at_ms: int) -> str:
    """Return the time of day, with the date unless it is today."""
    return line_time(at_ms, datetime.now().astimezone().date())


def chat_line(message: Message, chats: Chats) -> str:
    """Return a message as a chat in lines shows it. It has no colours, so words say that it mentions the person."""
    named = chats.conversations.look(conversation_key(message.conversation_id)).names_me(message, chats.book)
    return message_line(message, chats) + ("   (mentions you)" if named else "")


def message_line(message: Message, chats: Chats) -> str:
    """Return a message as text. Later lines are indented. Where more than two receive it, the title is named, too."""
    at, title = clock(message.sent_at_ms), chats.title(conversation_key(message.conversation_id))
    if message.kind is not MessageKind.TEXT:
        return f"{at} {title}: {safe_body(row_text(message, chats.book))}"
    body = marked(indented(message.body), urgent=message.urgent)
    if message.mine:
        return f"{at} you → {title}: {body}"
    sender = chats.book.label(message.sender_id)
    is_everyone = message.conversation_id == EVERYONE.conversation_id
    named = is_everyone or chats.item(conversation_key(message.conversation_id)).channel
    who = f"{sender} in {title}" if named else sender
    return f"{at} {who}: {body}"


def page_lines(
    page: HistoryPage, chats: Chats, line: Callable[[Message, Chats], str] = message_line
) -> Iterator[tuple[int, str]]:
    """Yield the lines of a page, each with its message id, and 0 for what the cluster does not have any more."""
    for one in in_order(page):
        yield (0, lost_line(one)) if isinstance(one, LostMessage) else (one.id, line(one, chats))


def lost_line(one: LostMessage) -> str:
    """Return a message that a restored cluster does not have any more."""
    body = marked(indented(one.body), urgent=one.urgent)
    return f"{clock(one.sent_at_ms)} {lost_parties(one)}: {body} ({NOT_IN_CLUSTER})"


def indented(body: str) -> str:
    """Return a body with its later lines indented."""
    return safe_body(body).replace("\n", "\n    ")


def own_line(view: Outgoing, chats: Chats) -> str:
    """Return an own message with its status. In a channel, add how many members have it."""
    at = clock(view.sent_at_ms or view.created_at_ms)
    known = f" ({safe_body(view.detail)})" if view.status.needs_person and view.detail else ""
    counts = chats.counts(view)
    if counts.others and not view.status.needs_person:
        known = f" {counts_text(counts.delivered, counts.read, counts.others)}"
    title = chats.title(chats.conversations.key_of_own(view))
    mark = MARKS[MessageStatus.DELIVERED] if counts.others and view.status is MessageStatus.READ else MARKS[view.status]
    return f"{at} you → {title}: {marked(indented(view.body), urgent=view.urgent)} {mark}{known}"


def interrupted(view: Outgoing, later: str) -> str:
    """Return what a person has to know of a message whose command was interrupted. `later` says when it is sent."""
    if view.status in (MessageStatus.WAITING, MessageStatus.SENDING):
        return (
            f"Interrupted. The message is kept in the outbox. {later} Until it is sent to a node, parley outbox "
            f"--cancel {view.local_id} withdraws it."
        )
    if view.status is MessageStatus.FAILED:
        return f"Interrupted. The message was refused and not sent. {safe_body(view.detail)}".rstrip()
    if view.status is MessageStatus.UNKNOWN:
        return f"Interrupted. {safe_body(view.detail) or 'It is not known whether the message was sent.'}"
    return f"Interrupted. The message was accepted (message {view.message_id})."


def conversation_line(item: ConversationItem) -> str:
    """Return one line of the conversation list: unread messages, mentions, title, time and a preview."""
    new = f"{item.unread} new" if item.unread else ""
    if item.mentions:
        new += f" @{item.mentions}"
    title = item.title + (" (account deleted)" if item.deleted else "")
    if item.channel:
        title += f" (#{item.key.conversation_id}, {item.about})"
    if item.muted:
        title += " (muted)"
    if item.put_away:
        title += " (put away)"
    if not item.at_ms:
        return f"{new:>8}  {title}"
    you = "you: " if item.status is not None else ""
    return f"{new:>8}  {title:<16}  {clock(item.at_ms)}  {you}{preview(item.preview, LINE_PREVIEW)}"


def channel_record(listed: ListedChannel) -> dict[str, Any]:
    """Return one line of the list of channels as a record for programs."""
    channel = listed.channel
    return {
        "id": channel.id,
        "title": channel.title,
        "topic": channel.topic,
        "member_count": channel.member_count,
        "public": channel.public,
        "archived": channel.archived,
        "open_history": channel.open_history,
        "joined": listed.joined,
    }


def safe_lines(lines: Iterable[str]) -> list[str]:
    """Return lines with texts of a node or a file, so that each stays one line and sends no commands to a terminal."""
    return [" " * (len(line) - len(line.lstrip(" "))) + safe_name(line) for line in lines]


def setting_lines(settings: tuple[Setting, ...]) -> list[str]:
    """Return one line per setting: name, value, bounds and help."""
    lines = []
    for setting in settings:
        default = "" if setting.value == setting.default else f", default {setting.default}"
        bounds = f"{setting.minimum} to {setting.maximum}{default}"
        lines.append(f"{setting.name} = {setting.value}  ({bounds})  {setting.help}")
    return safe_lines(lines)


def message_record(message: Message, chats: Chats) -> dict[str, Any]:
    """Return a message as a record for programs, with the names of its sender and its conversation.

    `peer` is the account name of the other member of a direct conversation, `title` the title of a channel.
    `mentions_me` says that somebody else names the own account in a channel, or to everyone.
    """
    line = chats.conversations.look(conversation_key(message.conversation_id))
    partner = None if line.channel else line.partner(chats.book)
    title = line.conversation.title if line.channel and line.conversation is not None else ""
    sender = chats.book.get(message.sender_id)
    return {
        **asdict(message),
        "kind": message.kind.name.lower(),
        "sender": "" if sender is None else sender.name,
        "peer": "" if partner is None else partner.name,
        "title": title,
        "mentions_me": line.names_me(message, chats.book),
    }


def message_json(message: Message, chats: Chats) -> str:
    """Return a message as one line of JSON."""
    return json.dumps(message_record(message, chats), ensure_ascii=False)


def own_record(view: Outgoing) -> dict[str, Any]:
    """Return an own message as a record for programs."""
    return {**asdict(view), "status": view.status.name.lower()}


def conversation_record(item: ConversationItem) -> dict[str, Any]:
    """Return one line of the conversation list as a record for programs."""
    return {
        "id": item.key.conversation_id,
        "kind": "channel" if item.channel else "direct",
        "title": item.title,
        "peer": "" if item.channel else item.initials_of,
        "peer_deleted": item.deleted,
        "member_count": item.member_count,
        "topic": item.topic,
        "standing": item.standing.value,
        "muted": item.muted,
        "put_away": item.put_away,
        "unread": item.unread,
        "last_at_ms": item.at_ms,
        "last": item.preview,
        "mentions": item.mentions,
    }


def time_text(at_ms: int) -> str:
    """Return date and time of day."""
    return f"{datetime.fromtimestamp(at_ms / 1000).astimezone():%Y-%m-%d %H:%M}"


def suspension_text(account: Account) -> str:
    """Return what administrators see behind the name of a suspended account, empty for others."""
    why = account.suspended
    if why is None:
        return ""
    reason = f": {safe_name(why.reason)}" if why.reason else ""
    return f"  suspended since {time_text(why.since_ms)} by {safe_name(why.suspended_by)}{reason}"


def as_json(value: Any) -> str:
    """Return records as indented JSON."""
    return json.dumps(value, ensure_ascii=False, indent=2)


def node_json(node: NodeStatus) -> dict[str, Any]:
    """Return the status of one node as a record for programs."""
    return asdict(node)


def from_this_device(page: HistoryPage) -> str:
    """Return the line below messages that come from this device, with the reason, and with what may be missing."""
    line = f"(from this device: {page.cached_because or 'no node was asked'})"
    whole = next((one for one in page.messages if one.id >= page.gapless_from > page.messages[0].id), None)
    if whole is not None:
        line += f" Some messages before {time_text(whole.sent_at_ms)} are not on this device."
    return line if page.has_older or not page.messages else f"{line} It has no older ones of this conversation."


def no_messages(page: HistoryPage, where: str) -> str:
    """Return the line in place of a page without messages. `where`: with whom, or in which conversation."""
    return f"This device has no messages {where}." if page.cached else f"There are no messages {where}."
