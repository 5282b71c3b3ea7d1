"""The durable inbox: every message is stored here before the cluster is told so, and is shown once.

`received_up_to` is the highest id stored; what comes with a lower or equal id is a redelivery and is dropped,
without any time window. `shown_up_to` is the highest id that a reader has finished with. A reader that dies between
showing a message and saying so is shown that one again: better twice than never. All functions run on the store's
thread.
"""

from collections.abc import Sequence
from typing import Any, cast

import apsw

from parley.device.outbox import next_revision
from parley.device.schema import fetch, get_meta, set_meta
from parley.model import Conversation, Message, Receipt

KEEP_MESSAGES = 100_000

_COLUMNS = "id, conversation_id, sender, peer, body, sent_at_ms, mine"
# What is known of conversations without asking the cluster: received messages, and own accepted ones of this device.
_KNOWN = f"""(SELECT {_COLUMNS} FROM inbox
    UNION ALL SELECT message_id, conversation_id, '', recipient, body, sent_at_ms, 1
    FROM outbox WHERE status = 3 AND message_id > 0)"""  # noqa: S608 - constants only
_ROWS_PER_STATEMENT = (256, 64, 16, 4, 1)  # few sizes, so that the statements stay prepared


def _message(row: Sequence[Any], account: str = "") -> Message:
    id_, conversation_id, sender, peer, body, sent_at_ms, mine = row
    return Message(id_, conversation_id, sender or account, peer, body, sent_at_ms, bool(mine))


def received_up_to(connection: apsw.Connection) -> int:
    """The device's durable cursor."""
    return int(get_meta(connection, "received_up_to") or 0)


def shown_up_to(connection: apsw.Connection) -> int:
    """The highest message id a reader has finished with."""
    return int(get_meta(connection, "shown_up_to") or 0)


def mark_shown(connection: apsw.Connection, up_to: int) -> None:
    """Moves the reader's mark forward, never back."""
    if up_to > shown_up_to(connection):
        set_meta(connection, "shown_up_to", up_to)


def insert(connection: apsw.Connection, messages: Sequence[Message], own_numbers: Sequence[int | None]) -> int:
    """Stores what is new of one batch and moves the cursor over all of it; returns how many were new.

    `own_numbers` holds this device's send number where a message is the echo of an own send: such a one is in the
    outbox already and only moves the cursor.
    """
    cursor = received_up_to(connection)
    highest = cursor
    fresh: list[Message] = []
    for message, number in zip(messages, own_numbers, strict=True):
        if message.id <= highest:
            continue
        highest = message.id
        if number is None or not _in_outbox(connection, number):
            fresh.append(message)
    _insert_all(connection, fresh)
    if highest > cursor:
        set_meta(connection, "received_up_to", highest)
    return len(fresh)


def _insert_all(connection: apsw.Connection, messages: list[Message]) -> None:
    start = 0
    for size in _ROWS_PER_STATEMENT:
        while len(messages) - start >= size:
            values: list[str | int] = []
            for m in messages[start : start + size]:
                values += (m.id, m.conversation_id, m.sender, m.peer, m.body, m.sent_at_ms, int(m.mine))
            places = ", ".join(["(?, ?, ?, ?, ?, ?, ?)"] * size)
            connection.execute(f"INSERT OR IGNORE INTO inbox ({_COLUMNS}) VALUES {places}", values)  # noqa: S608
            start += size


def _in_outbox(connection: apsw.Connection, number: int) -> bool:
    return bool(connection.execute("SELECT 1 FROM outbox WHERE number = ? AND number > 0", (number,)).fetchall())


def after(connection: apsw.Connection, message_id: int, limit: int, *, own: bool) -> list[Message]:
    """Received messages above an id, oldest first."""
    rest = "FROM inbox WHERE id > ? AND mine <= ? ORDER BY id LIMIT ?"
    return [_message(row) for row in fetch(connection, _COLUMNS, rest, (message_id, int(own), limit))]


def highest_id(connection: apsw.Connection) -> int:
    """The newest stored id, where a second reader begins."""
    rows = connection.execute("SELECT coalesce(max(id), 0) FROM inbox").fetchall()
    return int(cast(int, rows[0][0]))


def page(
    connection: apsw.Connection, account: str, peer: str, before_id: int, limit: int
) -> tuple[list[Message], bool]:
    """A page of what this device knows of a conversation, oldest first, and whether it knows older ones."""
    rest = f"FROM {_KNOWN} WHERE peer = ? COLLATE NOCASE AND id < ? ORDER BY id DESC LIMIT ?"
    rows = fetch(connection, _COLUMNS, rest, (peer, before_id or 9223372036854775807, limit + 1))
    return [_message(row, account) for row in reversed(rows[:limit])], len(rows) > limit


def conversations(connection: apsw.Connection, account: str, limit: int) -> list[Conversation]:
    """What this device knows of its conversations, the latest first. Unread counts what no reader has finished."""
    shown = shown_up_to(connection)
    grouped = (
        f"FROM (SELECT {_COLUMNS}, max(id) AS latest, sum(mine = 0 AND id > ?) AS unread FROM {_KNOWN} "  # noqa: S608
        "GROUP BY peer COLLATE NOCASE) ORDER BY latest DESC LIMIT ?"
    )
    rows = fetch(connection, f"{_COLUMNS}, unread", grouped, (shown, limit))
    known_receipts = {receipt.conversation_id: receipt for receipt in receipts(connection)}
    found = []
    for row in rows:
        last = _message(row[:7], account)
        receipt = known_receipts.get(last.conversation_id, Receipt(last.conversation_id, 0, 0))
        unread = int(row[7])
        found.append(
            Conversation(
                last.conversation_id, last.peer, False, last, unread, 0, receipt.delivered_up_to, receipt.read_up_to
            )
        )
    return found


def set_receipts(connection: apsw.Connection, receipts: Sequence[tuple[int, int, int, int]]) -> None:
    """Takes in (conversation, account, delivered_up_to, read_up_to); receipts only move forward."""
    revision = next_revision(connection)
    connection.executemany(
        """INSERT INTO marks (conversation_id, account_id, delivered_up_to, read_up_to, revision) VALUES (?, ?, ?, ?, ?)
           ON CONFLICT (conversation_id, account_id) DO UPDATE SET
             delivered_up_to = max(delivered_up_to, excluded.delivered_up_to),
             read_up_to = max(read_up_to, excluded.read_up_to), revision = excluded.revision""",
        [(*receipt, revision) for receipt in receipts],
    )


def receipts(connection: apsw.Connection, since_revision: int = 0) -> list[Receipt]:
    """The other party's receipts per conversation, of those that changed after a revision."""
    rows = connection.execute(
        """SELECT conversation_id, max(delivered_up_to), max(read_up_to) FROM marks
           WHERE conversation_id IN (SELECT conversation_id FROM marks WHERE revision > ?) GROUP BY conversation_id""",
        (since_revision,),
    )
    return [Receipt(*cast(tuple[int, int, int], row)) for row in rows]


def set_read(connection: apsw.Connection, conversation_id: int, up_to: int) -> None:
    """The person here has read a conversation up to a message; the next free moment of a session tells the cluster."""
    connection.execute(
        """INSERT INTO reads (conversation_id, up_to, sent_up_to) VALUES (?, ?, 0)
           ON CONFLICT (conversation_id) DO UPDATE SET up_to = max(up_to, excluded.up_to)""",
        (conversation_id, up_to),
    )


def unsent_reads(connection: apsw.Connection, limit: int = 256) -> list[tuple[int, int]]:
    """Read positions the cluster has not been told."""
    rows = connection.execute("SELECT conversation_id, up_to FROM reads WHERE up_to > sent_up_to LIMIT ?", (limit,))
    return [cast(tuple[int, int], row) for row in rows]


def reads_sent(connection: apsw.Connection, told: Sequence[tuple[int, int]]) -> None:
    """These read positions were written to a stream."""
    connection.executemany(
        "UPDATE reads SET sent_up_to = max(sent_up_to, ?2) WHERE conversation_id = ?1",
        list(told),
    )


def reads_lost(connection: apsw.Connection, told: Sequence[int]) -> None:
    """The stream broke after these read positions were written: they may not have arrived, so tell them again."""
    connection.executemany("UPDATE reads SET sent_up_to = 0 WHERE conversation_id = ?", [(c,) for c in told])


def prune(connection: apsw.Connection) -> None:
    """Forgets the oldest messages beyond KEEP_MESSAGES, read or not; the cluster's history has them."""
    connection.execute(
        "DELETE FROM inbox WHERE id <= (SELECT id FROM inbox ORDER BY id DESC LIMIT 1 OFFSET ?)", (KEEP_MESSAGES,)
    )
