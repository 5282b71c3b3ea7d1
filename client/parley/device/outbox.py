"""The durable outbox: what was typed survives a restart, goes out in order, and is never sent twice under two numbers.

A message is WAITING until a session claims it; then it gets the device's next send number in the same commit and is
SENDING. From then on number, recipient and body are fixed and are resent until the cluster says ACCEPTED or refuses
it for good. Editing and cancelling are possible only while WAITING, so they never leave a hole in the numbers.
Numbers are claimed only after a Welcome told the highest one the cluster has applied, so a file restored from an old
backup skips ahead instead of using a number again. All functions run on the store's thread inside its transaction.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import apsw

from parley.device.schema import fetch, get_meta, set_meta
from parley.errors import BadInputError, OutboxFullError, TooLateError
from parley.model import MessageStatus, Outgoing

MAX_OPEN = 100_000
KEEP_SETTLED = 10_000

_COLUMNS = "local_id, recipient, body, created_at_ms, status, number, message_id, conversation_id, sent_at_ms, detail"


@dataclass(frozen=True, slots=True)
class Settlement:
    """The final word of the cluster about one send number."""

    number: int
    accepted: bool
    detail: str = ""
    message_id: int = 0
    conversation_id: int = 0
    sent_at_ms: int = 0


def _outgoing(row: Sequence[Any]) -> Outgoing:
    local_id, recipient, body, created, status, number, message_id, conversation, sent_at, detail = row
    return Outgoing(
        local_id, recipient, body, created, MessageStatus(status), number, message_id, conversation, sent_at, detail
    )


def next_revision(connection: apsw.Connection) -> int:
    """A number above all revisions so far; the transaction excludes other writers."""
    highest = connection.execute(
        "SELECT max(coalesce((SELECT max(revision) FROM outbox), 0), coalesce((SELECT max(revision) FROM marks), 0))"
    ).fetchall()[0][0]
    return int(cast(int, highest)) + 1


def add(connection: apsw.Connection, items: Sequence[tuple[str, str]], created_at_ms: int) -> list[Outgoing]:
    """Puts (recipient, body) pairs at the end. Raises OutboxFullError before anything is stored."""
    if open_span(connection) + len(items) > MAX_OPEN:
        raise OutboxFullError(
            f"The outbox is full ({MAX_OPEN} messages wait). This message was not taken; those in the outbox are "
            "kept and go out as soon as the cluster can be reached. Wait for that, then send again."
        )
    revision = next_revision(connection)
    added = []
    for recipient, body in items:
        connection.execute(
            "INSERT INTO outbox (recipient, body, created_at_ms, status, revision) VALUES (?, ?, ?, 1, ?)",
            (recipient, body, created_at_ms, revision),
        )
        added.append(Outgoing(connection.last_insert_rowid(), recipient, body, created_at_ms, MessageStatus.WAITING))
    return added


def open_span(connection: apsw.Connection) -> int:
    """An upper bound of the unsettled messages, found without counting them."""
    first, last = connection.execute(
        """SELECT min(coalesce((SELECT min(local_id) FROM outbox WHERE status = 1), 9223372036854775807),
                      coalesce((SELECT min(local_id) FROM outbox WHERE status = 2), 9223372036854775807)),
                  coalesce((SELECT max(local_id) FROM outbox), 0)"""
    ).fetchall()[0]
    return max(0, int(cast(int, last)) - int(cast(int, first)) + 1)


def count_open(connection: apsw.Connection) -> int:
    """How many messages are not settled."""
    counted = connection.execute(
        "SELECT (SELECT count(*) FROM outbox WHERE status = 1) + (SELECT count(*) FROM outbox WHERE status = 2)"
    ).fetchall()[0][0]
    return int(cast(int, counted))


def begin_session(connection: apsw.Connection, last_send_number: int) -> list[Outgoing]:
    """Takes in the highest number the cluster applied; returns what must be resent, in the order of the numbers."""
    if last_send_number >= next_number(connection):
        set_meta(connection, "next_number", last_send_number + 1)
    return unanswered(connection)


def unanswered(connection: apsw.Connection) -> list[Outgoing]:
    """Everything that was handed to the cluster and has no known outcome, in the order of the numbers."""
    return [_outgoing(row) for row in fetch(connection, _COLUMNS, "FROM outbox WHERE status = 2 ORDER BY number")]


def next_number(connection: apsw.Connection) -> int:
    """The number the next claimed message gets."""
    return int(get_meta(connection, "next_number") or 1)


def claim(connection: apsw.Connection, limit: int) -> list[Outgoing]:
    """Numbers up to `limit` waiting messages in the order they were typed."""
    if not connection.execute("SELECT 1 FROM outbox WHERE status = 1 LIMIT 1").fetchall():
        return []
    first = next_number(connection)
    connection.execute(
        """UPDATE outbox SET status = 2, number = ? + waiting.place, revision = ?
           FROM (SELECT local_id, row_number() OVER (ORDER BY local_id) - 1 AS place
                 FROM outbox WHERE status = 1 ORDER BY local_id LIMIT ?) AS waiting
           WHERE outbox.local_id = waiting.local_id""",
        (first, next_revision(connection), limit),
    )
    set_meta(connection, "next_number", first + connection.changes())
    rows = fetch(connection, _COLUMNS, "FROM outbox WHERE number >= ? AND number > 0 ORDER BY number", (first,))
    return [_outgoing(row) for row in rows]


def settle(connection: apsw.Connection, settlements: Sequence[Settlement]) -> None:
    """Writes down final results; a result for a number that is settled already changes nothing."""
    results = [
        [
            s.number,
            int(MessageStatus.ACCEPTED if s.accepted else MessageStatus.FAILED),
            s.message_id,
            s.conversation_id,
            s.sent_at_ms,
            s.detail,
        ]
        for s in settlements
    ]
    connection.execute(
        """UPDATE outbox SET status = r.value ->> 1, message_id = r.value ->> 2, conversation_id = r.value ->> 3,
               sent_at_ms = r.value ->> 4, detail = r.value ->> 5, revision = ?
           FROM json_each(?) AS r
           WHERE outbox.number = r.value ->> 0 AND outbox.number > 0 AND outbox.status = 2""",
        (next_revision(connection), json.dumps(results)),
    )


def get(connection: apsw.Connection, local_id: int) -> Outgoing | None:
    """One message, or None where it was cancelled or has been pruned."""
    return get_many(connection, [local_id]).get(local_id)


def get_many(connection: apsw.Connection, local_ids: Sequence[int]) -> dict[int, Outgoing]:
    """Those of the given messages that still exist."""
    rows = fetch(
        connection,
        _COLUMNS,
        "FROM outbox WHERE local_id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(local_ids)),),
    )
    return {row[0]: _outgoing(row) for row in rows}


def edit(connection: apsw.Connection, local_id: int, body: str) -> Outgoing:
    """Replaces the text of a waiting message; raises TooLateError once it was handed over."""
    message = _must_wait(connection, local_id)
    connection.execute(
        "UPDATE outbox SET body = ?, revision = ? WHERE local_id = ?",
        (body, next_revision(connection), local_id),
    )
    return replace(message, body=body)


def cancel(connection: apsw.Connection, local_id: int) -> Outgoing:
    """Withdraws a waiting or failed message for good; raises TooLateError once it was handed over."""
    message = get(connection, local_id)
    if message is None or message.status is not MessageStatus.FAILED:
        message = _must_wait(connection, local_id)
    connection.execute("DELETE FROM outbox WHERE local_id = ?", (local_id,))
    return message


def retry(connection: apsw.Connection, local_id: int, created_at_ms: int) -> Outgoing:
    """Puts a failed message at the end of the outbox again, as a new message with a new number."""
    message = get(connection, local_id)
    if message is None or message.status is not MessageStatus.FAILED:
        raise TooLateError("Only a message that failed can be sent again. Nothing was changed.")
    connection.execute("DELETE FROM outbox WHERE local_id = ?", (local_id,))
    return add(connection, [(message.recipient, message.body)], created_at_ms)[0]


def _must_wait(connection: apsw.Connection, local_id: int) -> Outgoing:
    message = get(connection, local_id)
    if message is None:
        raise BadInputError("There is no such message in the outbox. Nothing was changed.")
    if message.status is not MessageStatus.WAITING:
        raise TooLateError(
            "This message has been handed to the cluster already and cannot be changed or withdrawn. Nothing was "
            "changed. Send another one to correct it."
        )
    return message


def listing(connection: apsw.Connection, limit: int, *, recipient: str | None = None) -> list[Outgoing]:
    """The newest messages of the outbox, oldest first, settled ones included."""
    where, bindings = ("WHERE recipient = ? COLLATE NOCASE", (recipient,)) if recipient is not None else ("", ())
    rows = fetch(connection, _COLUMNS, f"FROM outbox {where} ORDER BY local_id DESC LIMIT ?", (*bindings, limit))
    return [_outgoing(row) for row in reversed(rows)]


def open_messages(connection: apsw.Connection, limit: int) -> list[Outgoing]:
    """The oldest unsettled messages."""
    rows: list[list[Any]] = []
    for status in (2, 1):  # those handed over are older than those that wait
        rest = f"FROM outbox WHERE status = {status} ORDER BY local_id LIMIT ?"
        rows += fetch(connection, _COLUMNS, rest, (limit - len(rows),))
    return [_outgoing(row) for row in rows]


def changed_since(connection: apsw.Connection, revision: int, limit: int) -> tuple[list[Outgoing], int]:
    """About `limit` messages changed after `revision`, and the revision to ask from next time."""
    latest = connection.execute(
        "SELECT max(revision) FROM (SELECT revision FROM outbox WHERE revision > ? ORDER BY revision LIMIT ?)",
        (revision, limit),
    ).fetchall()[0][0]
    if latest is None:
        return [], revision
    rows = fetch(
        connection,
        _COLUMNS,
        "FROM outbox WHERE revision > ? AND revision <= ? ORDER BY local_id",
        (revision, latest),
    )
    return [_outgoing(row) for row in rows], int(cast(int, latest))


def save_draft(connection: apsw.Connection, peer: str, body: str) -> None:
    """Keeps what is half typed to somebody; empty text removes it."""
    if body:
        connection.execute("INSERT OR REPLACE INTO drafts (peer, body) VALUES (?, ?)", (peer, body))
    else:
        connection.execute("DELETE FROM drafts WHERE peer = ?", (peer,))


def draft(connection: apsw.Connection, peer: str) -> str:
    """What is half typed to somebody, or nothing."""
    rows = connection.execute("SELECT body FROM drafts WHERE peer = ?", (peer,)).fetchall()
    return str(rows[0][0]) if rows else ""


def prune(connection: apsw.Connection) -> None:
    """Forgets the oldest settled messages beyond KEEP_SETTLED; the cluster's history has them."""
    connection.execute(
        """DELETE FROM outbox WHERE status IN (3, 4) AND local_id <=
           (SELECT local_id FROM outbox ORDER BY local_id DESC LIMIT 1 OFFSET ?)""",
        (KEEP_SETTLED,),
    )
