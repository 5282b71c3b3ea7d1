"""A channel in a list of channels, as one line."""

from parley.chat.safe_text import safe_name
from parley.chat.status_text import plural
from parley.model import ListedChannel


def channel_line(listed: ListedChannel) -> str:
    """Return one line of the list of channels: number, title, what it is, and its topic."""
    channel = listed.channel
    parts = [
        plural(channel.member_count, "member"),
        "public" if channel.public else "private",
        "archived" if channel.archived else "",
        "joined" if listed.joined else "",
    ]
    topic = f"  {safe_name(channel.topic)}" if channel.topic else ""
    return f"{f'#{channel.id}':>8}  {safe_name(channel.title)} ({', '.join(filter(None, parts))}){topic}"
