"""Messages that the cluster lost when it was restored from a backup, among those that it has, and as text."""

from collections.abc import Iterator

from parley.chat.safe_text import safe_name
from parley.chat.status_text import NOT_IN_CLUSTER, plural
from parley.model import HistoryPage, LostMessage, LostOrigin, Message


def lost_notice(sent: int) -> str:
    """Return that sent messages are lost, for a person who decides what becomes of them."""
    are = "is" if sent == 1 else "are"
    return f"{plural(sent, 'message')} that you sent {are} {NOT_IN_CLUSTER}. Nothing is sent again by itself."


def lost_parties(one: LostMessage) -> str:
    """Return who wrote a lost message, and where."""
    name = safe_name(one.conversation)
    if one.origin is not LostOrigin.OTHERS:
        return f"you → {name}"
    return name if one.sender == one.conversation else f"{safe_name(one.sender)} in {name}"


def in_order(page: HistoryPage) -> Iterator[Message | LostMessage]:
    """Yield the messages of a page with the lost ones between them, where they stood."""
    lost = sorted(page.lost, key=lambda one: (one.after_id, one.sent_at_ms, one.id))
    for message in page.messages:
        while lost and lost[0].after_id < message.id:
            yield lost.pop(0)
        yield message
    yield from lost
