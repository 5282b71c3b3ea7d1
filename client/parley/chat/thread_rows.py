"""Makes the row of an entry of a thread, from its neighbours and from what the conversation is."""

from parley.chat.accounts import AccountBook
from parley.chat.rows import Row
from parley.chat.safe_text import safe_body
from parley.chat.thread_entries import Entry, are_one_run, day
from parley.chat.titles import row_text
from parley.mentions import Mention, mentions
from parley.model import Conversation, ConversationKind, MessageStatus
from parley.receipts import Progress, progress

NOBODY = Progress()
BETWEEN_TEXT = "Some messages above are not loaded"
EARLIER_TEXT = "Earlier messages are not loaded"


def row_of(
    entry: Entry,
    before: Entry | None,
    after: Entry | None,
    *,
    book: AccountBook,
    conversation: Conversation | None,
    divided: bool,
    gap: str,
    ends: bool,
) -> Row:
    """Return a row.

    `divided`: it has the unread divider. `gap`: what is missing above it. `ends`: the next row has one of both.
    """
    today = day(entry.at_ms)
    new_day = before is None or day(before.at_ms) != today
    first = before is None or new_day or divided or bool(gap) or not are_one_run(before, entry)
    channel = conversation is not None and conversation.kind is ConversationKind.CHANNEL
    status, counts = _known(entry, book, conversation)
    if not channel:
        counts = NOBODY
    body = row_text(entry.message, book) if entry.message is not None else entry.body
    return Row(
        entry.message_id,
        entry.local_id,
        _sender(entry, book),
        body,
        entry.at_ms,
        status,
        entry.own.detail if entry.own is not None and not entry.message_id else "",
        new_day,
        divided,
        first,
        last=after is None or ends or not are_one_run(entry, after) or today != day(after.at_ms),
        shows_sender=channel and first and not entry.mine and not entry.event,
        event=entry.event,
        delivered=counts.delivered,
        read=counts.read,
        others=counts.others,
        urgent=entry.urgent,
        lost=entry.lost is not None,
        gap_above=gap,
        mentions=_named(body, entry, book, conversation) if "@" in body else (),
    )


def _named(body: str, entry: Entry, book: AccountBook, conversation: Conversation | None) -> tuple[Mention, ...]:
    """Return where a text as it is shown names accounts."""
    if entry.event or conversation is None or not conversation.is_shared:
        return ()
    return mentions(safe_body(body), lambda name: book.find(name) is not None, own_name=book.own_name)


def _sender(entry: Entry, book: AccountBook) -> str:
    if entry.lost is not None and not entry.mine:
        return book.label_of_name(entry.lost.sender)
    return book.label(entry.sender_id) if entry.sender_id else book.label_of_name(book.own_name)


def _known(entry: Entry, book: AccountBook, conversation: Conversation | None) -> tuple[MessageStatus | None, Progress]:
    """Return the status of an own message, or no status for other rows."""
    if not entry.mine or entry.event:
        return None, NOBODY
    if entry.lost is not None:
        return MessageStatus.FAILED, NOBODY
    if not entry.message_id:
        return entry.own.status if entry.own is not None else MessageStatus.SENDING, NOBODY
    if conversation is None:
        return MessageStatus.ACCEPTED, NOBODY
    counts = progress(entry.message_id, conversation, book.own_id)
    return counts.status, counts
