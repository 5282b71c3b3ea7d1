"""What waits for a device: messages of all its account's conversations, in order, from its cursor on. Queries only."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parleyd.machine.features import removals
from parleyd.machine.features.memberships import CHANNELS_LEVEL, REMOVED_UP_TO, of_account
from parleyd.machine.features.messages import PAGE_BYTES, SELECT, MessageRecord, Row, encoded_bytes, record, row_bytes
from parleyd.machine.limits import MAX_ID

if TYPE_CHECKING:
    from parleyd.machine.reader import StateReader

_RUN_LENGTH = 64
_RUN_BYTES = 64 << 10
SCANNED = 2_048
"""Rows that one page passes over at most. A device that asks for few messages gets past its own sends as fast."""


@dataclass(frozen=True, slots=True)
class QueuedPage:
    """Queued messages in order. Up to `up_to` there are no others for the device, apart from its own sends.

    `removed`: conversation and message, up to which the account has removed it since the page's beginning.
    """

    messages: tuple[MessageRecord, ...]
    up_to: int
    more: bool
    removed: tuple[tuple[int, int], ...] = ()


def queued_page(
    reader: StateReader,
    account_id: int,
    after_id: int,
    limit: int,
    exclude_device_id: bytes,
    max_bytes: int = PAGE_BYTES,
) -> QueuedPage:
    """Return the next messages of all the account's conversations in order of id, without the device's own sends.

    Bytes and skipped own sends are bounded too: a page may be short or empty although more messages follow.
    """
    with reader.consistent():
        newest = reader.rows("SELECT last_message_id FROM meta")[0][0]
        removed = removals.since(reader, account_id, after_id)
        found: list[MessageRecord] = []
        size = 0
        up_to = after_id
        for scanned, message in enumerate(_merge(reader, account_id, min(after_id, MAX_ID)), start=1):
            if message.device_id != exclude_device_id or not exclude_device_id:
                size += encoded_bytes(message)
                if found and size > max_bytes:
                    return QueuedPage(tuple(found), up_to, True, removed)
                found.append(message)
            up_to = message.id
            if len(found) >= limit or scanned >= SCANNED:
                return QueuedPage(tuple(found), up_to, True, removed)
        return QueuedPage(tuple(found), max(after_id, newest), False, removed)


def _merge(reader: StateReader, account_id: int, after_id: int) -> Iterator[MessageRecord]:
    """Return messages of many conversations in order of id; each is read in short runs, as far as needed."""
    heap = _heads(reader, account_id, after_id)
    heapq.heapify(heap)
    runs: dict[tuple[int, int], deque[Row]] = {}
    while heap:
        message_id, conversation_id, last_id = heap[0]
        run = runs.get((conversation_id, last_id))
        if not run:
            query = f"{SELECT} AND id >= ? AND id <= ? ORDER BY id LIMIT ?"
            bindings = (conversation_id, message_id, last_id, _RUN_LENGTH)
            run = deque(reader.rows_within(query, bindings, _RUN_BYTES, row_bytes))
            runs[(conversation_id, last_id)] = run
        row = run.popleft()
        following = run[0][1] if run else _id_after(reader, conversation_id, message_id, last_id)
        if following is None:
            heapq.heappop(heap)
            del runs[(conversation_id, last_id)]
        else:
            heapq.heapreplace(heap, (following, conversation_id, last_id))
        yield record(row)


def _heads(reader: StateReader, account_id: int, after_id: int) -> list[tuple[int, int, int]]:
    """Return the first message after an id, the conversation and the last message, of each membership that has some.

    Memberships that ended are among them: a device that was offline gets what was sent while the account was a member.
    """
    level = reader.level()
    first = "SELECT g.id FROM messages g WHERE g.conversation_id = {0} AND g.id > max(?2, {1} - 1)"
    found: list[tuple[int, int, int]] = reader.rows(
        f"SELECT ({first.format('c.id', 'm.first_message_id')} ORDER BY g.id LIMIT 1), c.id, {MAX_ID} "  # noqa: S608
        f"FROM ({of_account(level)}) m JOIN conversations c ON c.id = m.conversation_id "
        "WHERE c.last_message_id > ?2",
        (account_id, after_id),
    )
    if level >= CHANNELS_LEVEL:
        past = f"max(p.first_message_id, {REMOVED_UP_TO.format('p.conversation_id')} + 1)"
        found += reader.rows(
            f"SELECT ({first.format('p.conversation_id', past)} "  # noqa: S608 - constants only
            "AND g.id <= p.last_message_id ORDER BY g.id LIMIT 1), p.conversation_id, p.last_message_id "
            "FROM past_memberships p WHERE p.account_id = ?1 AND p.last_message_id > ?2",
            (account_id, after_id),
        )
    return [head for head in found if head[0] is not None]  # None: retention removed them


def _id_after(reader: StateReader, conversation_id: int, message_id: int, last_id: int) -> int | None:
    query = "SELECT id FROM messages WHERE conversation_id = ? AND id > ? AND id <= ? ORDER BY id LIMIT 1"
    rows = reader.rows(query, (conversation_id, message_id, last_id))
    return rows[0][0] if rows else None
