"""The durable outbox: messages survive a restart, are sent in order, and never get two numbers.

A message is WAITING until a session claims it. The claim gives it the device's next send number in the same commit and
makes it SENDING. The target is fixed when the message enters, number and body when it is claimed. It is sent again
until the cluster accepts it or refuses it for good. Only WAITING messages can be edited and cancelled, so the numbers
have no gap. While there is no majority, nothing is claimed, and what was claimed but never sent waits again (unclaim).
Numbers are claimed only after a Welcome with the highest number that the cluster has applied. So a file that was
restored from an old backup skips used numbers. All functions run on the store's thread inside its transaction.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, cast

import apsw

from parley.device import directory, removals
from parley.device.schema import check_row, fetch, get_meta, next_revision, set_meta
from parley.device.targets import target_columns, target_of
from parley.errors import BadInputError, OutboxFullError, StoreError, TooLateError
from parley.model import MessageStatus, Outgoing, Target

MAX_OPEN = 100_000
KEEP_SETTLED = 10_000
WHOLE_AFTER_MS = "whole_after_ms"
"""Key of meta: of messages that the cluster stored after this time, none is missing here. 0 at the beginning."""
ROWS_PER_INSERT = 256
FULL_TEXT = (
    f"The outbox is full ({MAX_OPEN} messages wait). This message was not stored. The messages in the outbox are kept "
    "and sent as soon as the cluster can be reached. Wait for that, then send again."
)

_COLUMNS = """local_id, target_kind, target, body, created_at_ms, status, number, message_id, conversation_id,
              sent_at_ms, detail, known_index, urgent"""
_KINDS = (int, int, str, str, int, int, int, int, int, int, str, int, int)


def _outgoing(row: Sequence[Any]) -> Outgoing:
    local_id, kind, target, body, created, status, *result, known, urgent = check_row(row, _KINDS)
    number, message_id, conversation, sent_at, detail = result
    return Outgoing(
        local_id,
        target_of(kind, target),
        body,
        created,
        MessageStatus(status),
        number,
        message_id,
        conversation,
        sent_at,
        detail,
        known,
        bool(urgent),
    )


@dataclass(frozen=True, slots=True)
class Addition:
    """(target, body) pairs that enter the outbox together, or not at all.

    `known_index` is the highest index that this device has seen.
    """

    items: Sequence[tuple[Target, str]]
    created_at_ms: int
    known_index: int = 1
    urgent: bool = False


def add(
    connection: apsw.Connection,
    items: Sequence[tuple[Target, str]],
    created_at_ms: int,
    known_index: int = 1,
    *,
    urgent: bool = False,
) -> list[Outgoing]:
    """Add (target, body) pairs at the end. Raises OutboxFullError before anything is stored."""
    return add_together(connection, [Addition(items, created_at_ms, known_index, urgent)])


def add_together(connection: apsw.Connection, additions: Sequence[Addition]) -> list[Outgoing]:
    """Add all of these at the end. Raises OutboxFullError before anything is stored."""
    if sum(len(addition.items) for addition in additions) > _room(connection):
        raise OutboxFullError(FULL_TEXT)
    return _insert(connection, additions)


def add_each(connection: apsw.Connection, additions: Sequence[Addition]) -> list[list[Outgoing] | OutboxFullError]:
    """Add these at the end, in few steps of SQLite. Each that does not fit is refused as a whole."""
    room = _room(connection)
    fits = []
    for addition in additions:
        fits.append(len(addition.items) <= room)
        room -= len(addition.items) if fits[-1] else 0
    added = iter(_insert(connection, [addition for addition, fit in zip(additions, fits, strict=True) if fit]))
    return [
        [next(added) for _ in addition.items] if fit else OutboxFullError(FULL_TEXT)
        for addition, fit in zip(additions, fits, strict=True)
    ]


def _insert(connection: apsw.Connection, additions: Sequence[Addition]) -> list[Outgoing]:
    revision = next_revision(connection)
    items = [(target, body, one) for one in additions for target, body in one.items]
    rows = [
        (*target_columns(target), body, one.created_at_ms, revision, one.known_index, one.urgent)
        for target, body, one in items
    ]
    for start in range(0, len(rows), ROWS_PER_INSERT):
        some = rows[start : start + ROWS_PER_INSERT]
        connection.execute(
            "INSERT INTO outbox (target_kind, target, body, created_at_ms, status, revision, known_index, urgent) "  # noqa: S608 - no values
            f"VALUES {', '.join(['(?, ?, ?, ?, 1, ?, ?, ?)'] * len(some))}",
            tuple(chain.from_iterable(some)),
        )
    first = connection.last_insert_rowid() - len(rows) + 1  # AUTOINCREMENT: each id is that of the row before, plus 1
    return [
        Outgoing(
            local_id,
            target,
            body,
            one.created_at_ms,
            MessageStatus.WAITING,
            known_index=one.known_index,
            urgent=one.urgent,
        )
        for local_id, (target, body, one) in enumerate(items, start=first)
    ]


def _room(connection: apsw.Connection) -> int:
    """Return how many more messages may wait."""
    return MAX_OPEN - open_span(connection)


def open_span(connection: apsw.Connection) -> int:
    """Return an upper bound of the number of unsettled messages, without counting them."""
    first, last = connection.execute(
        """SELECT min(coalesce((SELECT min(local_id) FROM outbox WHERE status = 1), 9223372036854775807),
                      coalesce((SELECT min(local_id) FROM outbox WHERE status = 2), 9223372036854775807)),
                  coalesce((SELECT max(local_id) FROM outbox), 0)"""
    ).fetchall()[0]
    return max(0, int(cast(int, last)) - int(cast(int, first)) + 1)


def count_open(connection: apsw.Connection) -> int:
    """Count the messages that are not settled."""
    counted = connection.execute(
        "SELECT (SELECT count(*) FROM outbox WHERE status = 1) + (SELECT count(*) FROM outbox WHERE status = 2)"
    ).fetchall()[0][0]
    return int(cast(int, counted))


def begin_session(connection: apsw.Connection, last_send_number: int) -> list[Outgoing]:
    """Record the highest number that the cluster applied.

    Return what must be sent again, in the order of the numbers. If the file is an old copy of itself, the cluster does
    not send again what the device has received since then.
    """
    if last_send_number >= next_number(connection):
        rows = connection.execute("SELECT sent_at_ms FROM inbox ORDER BY place DESC LIMIT 1").fetchall()
        _raise_whole_after(connection, rows)
        set_meta(connection, "next_number", last_send_number + 1)
    return unanswered(connection)


def unanswered(connection: apsw.Connection) -> list[Outgoing]:
    """Return all SENDING messages, in the order of the numbers."""
    return [_outgoing(row) for row in fetch(connection, _COLUMNS, "FROM outbox WHERE status = 2 ORDER BY number")]


def next_number(connection: apsw.Connection) -> int:
    """Return the number of the next claimed message."""
    return get_meta(connection, "next_number", 1)


def claim(connection: apsw.Connection, limit: int) -> list[Outgoing]:
    """Number up to `limit` waiting messages in the order in which they were typed."""
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


def unclaim(connection: apsw.Connection, messages: Sequence[Outgoing]) -> list[Outgoing]:
    """Make claimed messages wait again, in their places. For messages that no frame had, so that no node has them.

    They must be all messages from a number on. These numbers are given to the next messages that are claimed.
    """
    first = messages[0].number
    numbers = [message.number for message in unanswered(connection) if message.number >= first]
    if numbers != [message.number for message in messages] or next_number(connection) != first + len(numbers):
        raise StoreError(
            f"The messages from number {first} on cannot be taken back, because they are not the newest. Nothing was "
            "changed. They are sent."
        )
    connection.execute(
        "UPDATE outbox SET status = 1, number = 0, revision = ? WHERE number >= ? AND status = 2",
        (next_revision(connection), first),
    )
    set_meta(connection, "next_number", first)
    return [replace(message, status=MessageStatus.WAITING, number=0) for message in messages]


def settle(connection: apsw.Connection, settled: Sequence[Outgoing]) -> None:
    """Store final results by send number. A number that is settled already stays as it is."""
    results = [[m.number, int(m.status), m.message_id, m.conversation_id, m.sent_at_ms, m.detail] for m in settled]
    connection.execute(
        """UPDATE outbox SET status = r.value ->> 1, message_id = r.value ->> 2, conversation_id = r.value ->> 3,
               sent_at_ms = r.value ->> 4, detail = r.value ->> 5, revision = ?
           FROM json_each(?) AS r
           WHERE outbox.number = r.value ->> 0 AND outbox.number > 0 AND outbox.status = 2""",
        (next_revision(connection), json.dumps(results)),
    )


def get(connection: apsw.Connection, local_id: int) -> Outgoing | None:
    """Return one message, or None if it was cancelled or pruned."""
    return get_many(connection, [local_id]).get(local_id)


def get_many(connection: apsw.Connection, local_ids: Sequence[int]) -> dict[int, Outgoing]:
    """Return those of the given messages that still exist."""
    rows = fetch(
        connection,
        _COLUMNS,
        "FROM outbox WHERE local_id IN (SELECT value FROM json_each(?))",
        (json.dumps(list(local_ids)),),
    )
    return {row[0]: _outgoing(row) for row in rows}


def edit(connection: apsw.Connection, local_id: int, body: str) -> Outgoing:
    """Replace the text of a waiting message. Raise TooLateError if it was already sent to the cluster."""
    message = _must_wait(connection, local_id)
    connection.execute(
        "UPDATE outbox SET body = ?, revision = ? WHERE local_id = ?",
        (body, next_revision(connection), local_id),
    )
    return replace(message, body=body)


def cancel(connection: apsw.Connection, local_id: int) -> Outgoing:
    """Remove a message that waits, failed or has an unknown outcome.

    Raise TooLateError if it was already sent to the cluster.
    """
    message = get(connection, local_id)
    if message is None or not message.status.needs_person:
        message = _must_wait(connection, local_id)
    connection.execute("DELETE FROM outbox WHERE local_id = ?", (local_id,))
    return message


def retry(connection: apsw.Connection, local_id: int, created_at_ms: int, known_index: int = 1) -> Outgoing:
    """Add a message that failed or has an unknown outcome to the end of the outbox, as a new one with a new number."""
    message = get(connection, local_id)
    if message is None or not message.status.needs_person:
        raise TooLateError(
            "Only a message that failed, or whose outcome is unknown, can be sent again. Nothing was changed."
        )
    connection.execute("DELETE FROM outbox WHERE local_id = ?", (local_id,))
    again = [(message.target, message.body)]
    return add(connection, again, created_at_ms, known_index, urgent=message.urgent)[0]


def _must_wait(connection: apsw.Connection, local_id: int) -> Outgoing:
    message = get(connection, local_id)
    if message is None:
        raise BadInputError("There is no such message in the outbox. Nothing was changed.")
    if message.status is not MessageStatus.WAITING:
        raise TooLateError(
            "This message was already sent to the cluster and cannot be changed or withdrawn. Nothing was "
            "changed. To correct it, send another one."
        )
    return message


def listing(connection: apsw.Connection, limit: int, *, target: Target | None = None) -> list[Outgoing]:
    """Return the newest messages of the outbox, oldest first, settled ones included.

    With `target`, return those of its conversation, whichever name each message was sent to.
    """
    where, bindings = "", ()  # type: tuple[str, tuple[int | str, ...]]
    kept = f"(message_id = 0 OR message_id > {removals.REMOVED_UP_TO})"
    if target is not None:
        names = directory.names_of(connection, target)
        where = """AND CASE WHEN conversation_id > 0 THEN conversation_id = ? ELSE
                   (target_kind = 1 AND target = ? COLLATE NOCASE) OR (target_kind = 2 AND target = ?)
                   OR (target_kind = 3 AND target = ?) END"""
        bindings = (names.conversation_id, names.account, str(names.account_id), str(names.conversation_id))
    rest = f"FROM outbox WHERE {kept} {where} ORDER BY local_id DESC LIMIT ?"
    rows = fetch(connection, _COLUMNS, rest, (*bindings, limit))
    return [_outgoing(row) for row in reversed(rows)]


def open_messages(connection: apsw.Connection, limit: int) -> list[Outgoing]:
    """Return the oldest unsettled messages."""
    rows: list[list[Any]] = []
    for status in (2, 1):  # those handed over are older than those that wait
        rest = f"FROM outbox WHERE status = {status} ORDER BY local_id LIMIT ?"
        rows += fetch(connection, _COLUMNS, rest, (limit - len(rows),))
    return [_outgoing(row) for row in rows]


def untold(connection: apsw.Connection, limit: int) -> list[Outgoing]:
    """Return the oldest messages that failed or have an unknown outcome, of which no person was told."""
    rest = "FROM outbox WHERE status IN (4, 7) AND told = 0 ORDER BY local_id LIMIT ?"
    return [_outgoing(row) for row in fetch(connection, _COLUMNS, rest, (limit,))]


def mark_told(connection: apsw.Connection, local_ids: Sequence[int]) -> None:
    """Record that a person was told of the outcome of these messages."""
    connection.execute(
        "UPDATE outbox SET told = 1 WHERE local_id IN (SELECT value FROM json_each(?))", (json.dumps(list(local_ids)),)
    )


def changed_since(connection: apsw.Connection, revision: int, limit: int) -> tuple[list[Outgoing], int]:
    """Return about `limit` messages changed after `revision`, and the revision to pass next time."""
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


def prune(connection: apsw.Connection) -> None:
    """Remove the oldest settled messages beyond KEEP_SETTLED. The cluster's history holds them."""
    beyond = "(SELECT local_id FROM outbox ORDER BY local_id DESC LIMIT 1 OFFSET ?)"
    removed = f"FROM outbox WHERE status IN (3, 4, 7) AND local_id <= {beyond}"
    rows = connection.execute(f"SELECT coalesce(max(sent_at_ms), 0) {removed}", (KEEP_SETTLED,)).fetchall()
    _raise_whole_after(connection, rows)
    connection.execute(f"DELETE {removed}", (KEEP_SETTLED,))


def _raise_whole_after(connection: apsw.Connection, rows: Sequence[Sequence[Any]]) -> None:
    """Record the time of a message, if there is one, at which something is missing."""
    for row in rows:
        (sent_at_ms,) = check_row(row, (int,))
        if sent_at_ms > get_meta(connection, WHOLE_AFTER_MS, 0):
            set_meta(connection, WHOLE_AFTER_MS, sent_at_ms)
