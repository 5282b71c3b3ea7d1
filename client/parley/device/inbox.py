"""The durable inbox: every message is stored here before it is acknowledged, and is shown once.

The stream cursor is stored in one transaction with the messages before it. A batch is stored only on top of the cursor
that it follows. So the cursor never passes a message that is not stored. A message that comes again, by conversation
and id, is dropped. So is one that the account has removed. `shown_place` is the place of the last message that a reader
has finished. If a reader dies between showing a message and recording it, it shows that message again. All functions
run on the store's thread.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

import apsw

from parley.device import directory, lost, mentioned, outbox, removals
from parley.device.schema import check_row, fetch, get_meta, set_meta
from parley.errors import StoreError
from parley.model import MAX_UNREAD_MENTIONS, Conversation, HistoryPage, HistoryStart, Message, MessageKind, Target

KEEP_MESSAGES = 100_000
MAX_UNREAD = 1_000_000
MAX_ID = 9223372036854775807

_COLUMNS = "conversation_id, id, kind, sender_id, body, sent_at_ms, mine, subjects, urgent"
_KINDS = (int, int, int, int, str, int, int, str, int)
_OWN = f"""SELECT conversation_id, message_id AS id, 1 AS kind, 0 AS sender_id, body, sent_at_ms, 1 AS mine,
           '[]' AS subjects, urgent FROM outbox
           WHERE message_id > 0 AND message_id > {removals.REMOVED_UP_TO} AND status = 3"""  # noqa: S608 - a constant
_SOURCES = ("inbox", f"({_OWN})")  # what is known without the cluster: received messages, and own accepted ones
_COUNTED = f"NOT mine AND kind = {int(MessageKind.TEXT)}"  # as the cluster counts unread messages
_ROWS_PER_STATEMENT = (256, 64, 16, 4, 1)  # few sizes, so that the statements stay prepared


def _message(row: Sequence[Any], own_id: int) -> Message:
    conversation_id, id_, kind, sender_id, body, sent_at_ms, mine, encoded, urgent = check_row(row, _KINDS)
    subjects = json.loads(encoded)
    return Message(
        conversation_id,
        id_,
        MessageKind(kind),
        sender_id or own_id,
        body,
        sent_at_ms,
        bool(mine),
        subjects=tuple(check_row(subjects, [int] * len(subjects))),
        urgent=bool(urgent),
    )


def load_cursor(connection: apsw.Connection) -> bytes:
    """Return the stream cursor of this device, empty before the first message."""
    return get_meta(connection, "cursor", b"")


def check_follows(connection: apsw.Connection, before: bytes) -> None:
    """Raise StoreError if the file is not at the cursor `before`, because an earlier batch was not stored."""
    if load_cursor(connection) != before:
        raise StoreError(
            "Messages before these were not stored on this device. Nothing was stored. The cluster sends all of them "
            "again."
        )


def insert(connection: apsw.Connection, messages: Sequence[Message], *, before: bytes, after: bytes) -> int:
    """Store the new messages of one batch and the cursor after it. Return how many messages were new.

    Raises StoreError if the file is not at the cursor `before`. A message that this device sent itself is in the outbox
    already and is not stored a second time. Texts that name the own account are marked (mentioned.py).
    """
    check_follows(connection, before)
    fresh = [message for message in messages if not (message.number and _in_outbox(connection, message.number))]
    kept = removals.kept(connection, fresh)
    stored = _insert_all(connection, kept)
    mentioned.mark(connection, kept)
    if after != before:
        set_meta(connection, "cursor", after)
    return stored


def _insert_all(connection: apsw.Connection, messages: list[Message]) -> int:
    start = stored = 0
    for size in _ROWS_PER_STATEMENT:
        while len(messages) - start >= size:
            values: list[str | int] = []
            for m in messages[start : start + size]:
                values += (m.conversation_id, m.id, m.kind, m.sender_id, m.body, m.sent_at_ms)
                subjects = json.dumps(m.subjects) if m.subjects else "[]"  # texts have none
                values += (int(m.mine), subjects, int(m.urgent))
            places = ", ".join(["(?, ?, ?, ?, ?, ?, ?, ?, ?)"] * size)
            connection.execute(f"INSERT OR IGNORE INTO inbox ({_COLUMNS}) VALUES {places}", values)  # noqa: S608
            stored += connection.changes()
            start += size
    return stored


def _in_outbox(connection: apsw.Connection, number: int) -> bool:
    return bool(connection.execute("SELECT 1 FROM outbox WHERE number = ? AND number > 0", (number,)).fetchall())


# ---- readers


def shown_place(connection: apsw.Connection) -> int:
    """Return the place of the last message that a reader has finished."""
    return get_meta(connection, "shown_place", 0)


def mark_shown(connection: apsw.Connection, place: int) -> None:
    """Move the reader's mark forward, never back."""
    if place > shown_place(connection):
        set_meta(connection, "shown_place", place)


def after(connection: apsw.Connection, place: int, limit: int, *, own: bool) -> list[tuple[int, Message]]:
    """Return received messages above a place with their places, in the order of arrival."""
    rest = "FROM inbox WHERE place > ? AND mine <= ? ORDER BY place LIMIT ?"
    own_id = directory.own_id(connection)
    rows = fetch(connection, f"{_COLUMNS}, place", rest, (place, int(own), limit))
    return [(row[-1], _message(row[:-1], own_id)) for row in rows]


def last_place(connection: apsw.Connection) -> int:
    """Return the place of the newest message, at which a second reader begins."""
    rows = connection.execute("SELECT coalesce(max(place), 0) FROM inbox").fetchall()
    return int(cast(int, rows[0][0]))


# ---- what is known without the cluster


def page(connection: apsw.Connection, target: Target, start: HistoryStart, limit: int) -> HistoryPage:
    """Return a page of what this device knows of a conversation, and whether it knows older and newer messages."""
    conversation_id = directory.names_of(connection, target).conversation_id
    conversation = _known(connection, conversation_id)
    read_up_to = 0 if conversation is None else conversation.read_up_to
    limit = min(limit, MAX_ID - 1)
    below = 0
    if start.after_id is not None:
        place, most_newer = min(start.after_id, MAX_ID - 1) + 1, limit
    elif start.around_id is not None or start.first_unread:
        place, most_newer = (read_up_to + 1 if start.around_id is None else start.around_id), limit - limit // 2
    else:
        place, most_newer = start.before_id or MAX_ID, 0
        below = place
    newer = _rows(connection, conversation_id, ">= ?2", "", place, limit if most_newer else 0)
    older = _rows(connection, conversation_id, "< ?2", "DESC", place, 0 if most_newer == limit else limit)
    most_newer = max(most_newer, limit - len(older)) if most_newer else 0
    most_older = limit - len(newer[:most_newer])
    own_id = directory.own_id(connection)
    messages = tuple(_message(row, own_id) for row in [*older[:most_older][::-1], *newer[:most_newer]])
    gapless_from, gapless_below = _gapless(connection, conversation_id, messages, below)
    found = HistoryPage(
        messages,
        len(older) > most_older,
        conversation,
        has_newer=len(newer) > most_newer,
        read_up_to=read_up_to,
        cached=True,
        gapless_from=gapless_from,
        gapless_below=gapless_below,
    )
    return replace(found, lost=lost.of_page(connection, target, found, limit))


def _gapless(
    connection: apsw.Connection, conversation_id: int, messages: Sequence[Message], below: int
) -> tuple[int, int]:
    """Return from which id on, and below which one, no message of a page is missing. `below`: where the page ends.

    The stream leaves nothing out, so the inbox has everything up to its newest message. It does not say what others
    wrote beside own messages after that. What was removed from inbox and outbox is older than what is left, and the
    cluster's time never goes back. So nothing is missing among newer messages. If there are none, both are the last id.
    """
    if not messages:
        return 0, 0
    last = messages[-1].id
    gone_ms = max(_gone_ms(connection), get_meta(connection, outbox.WHOLE_AFTER_MS, 0))
    whole = next((message.id for message in messages if message.sent_at_ms > gone_ms), 0)
    if not whole:
        return last, last
    [(newest,)] = connection.execute(
        "SELECT coalesce(max(id), 0) FROM inbox WHERE conversation_id = ?", (conversation_id,)
    ).fetchall()
    end = min(below or last + 1, int(cast(int, newest)) + 1)
    return (whole, end) if whole < end else (0, 0)


def _gone_ms(connection: apsw.Connection) -> int:
    """Return a time after which the inbox has everything. Places begin at 1, so it is 0 while none was removed."""
    rows = connection.execute("SELECT place, sent_at_ms FROM inbox ORDER BY place LIMIT 1").fetchall()
    place, sent_at_ms = cast(tuple[int, int], check_row(rows[0], (int, int))) if rows else (1, 0)
    return sent_at_ms - 1 if place > 1 else 0


def _rows(
    connection: apsw.Connection, conversation_id: int, where: str, order: str, place: int, most: int
) -> list[Any]:
    """Return the first rows on one side of a place, and one more if there is one."""
    rest = f"FROM ({_first('?1', f'id {where}', order, '?3')}) ORDER BY id {order} LIMIT ?3"
    return list(fetch(connection, _COLUMNS, rest, (conversation_id, place, most + 1)))


def _first(conversation_id: str, where: str, order: str, most: str) -> str:
    """Return a query for the first rows of each source, all arguments as SQL.

    Each source is limited by itself. SQLite would otherwise fetch and sort the whole conversation for every page.
    """
    found = f"WHERE conversation_id = {conversation_id} AND {where} ORDER BY id {order} LIMIT {most}"
    parts = (f"SELECT * FROM (SELECT {_COLUMNS} FROM {source} {found})" for source in _SOURCES)  # noqa: S608
    return " UNION ALL ".join(parts)


def _known(connection: apsw.Connection, conversation_id: int) -> Conversation | None:
    found = conversations(connection, 1, only=conversation_id)
    return found[0] if found else None


def conversations(connection: apsw.Connection, limit: int, *, only: int = 0) -> list[Conversation]:
    """Return the conversations that this device knows, the latest first. With `only`, return that one.

    Unread counts the stored messages of others above the read position, which is the higher one of this device's and
    the cluster's. `mentions` are those of them that name the own account. What was removed is left out while nothing
    newer is known.
    """
    own_id = directory.own_id(connection)
    last = f"""(SELECT json_array({_COLUMNS}) FROM ({_first("c.id", "id > 0", "DESC", "1")}) AS k
                ORDER BY k.id DESC LIMIT 1)"""  # noqa: S608 - constants only
    unread = f"""(SELECT count(*) FROM inbox WHERE conversation_id = found.id AND inbox.id > found.read_up_to
                  AND {_COUNTED})"""  # noqa: S608 - constants only
    marked = """max(coalesce((SELECT up_to FROM reads WHERE conversation_id = c.id), 0),
                    coalesce((SELECT read_up_to FROM members WHERE conversation_id = c.id AND account_id = ?1), 0))"""
    rows = fetch(
        connection,
        f"id, json(last), read_up_to, {unread}",
        f"""FROM (SELECT c.id, {last} AS last, {marked} AS read_up_to, c.removed_up_to FROM conversations AS c
                  WHERE ?2 IN (0, c.id)) AS found
            WHERE last IS NOT NULL OR removed_up_to = 0 OR ?2 > 0
            ORDER BY coalesce(last ->> 5, 0) DESC, id DESC LIMIT ?3""",  # noqa: S608 - constants only
        (own_id, only, limit),
    )
    known = {c.id: c for c in directory.conversations_by_id(connection, [row[0] for row in rows])}
    mentions = unread_mentions(connection, {row[0]: row[2] for row in rows if known[row[0]].is_shared})
    return [
        replace(
            known[id_],
            last=None if newest is None else _message(newest, own_id),
            unread=unread,
            read_up_to=read_up_to,
            mentions=mentions.get(id_, ()),
        )
        for id_, newest, read_up_to, unread in rows
        if check_row((id_, read_up_to, unread), (int, int, int))
    ]


def unread_mentions(connection: apsw.Connection, read_up_to: Mapping[int, int]) -> dict[int, tuple[int, ...]]:
    """Return the ids of unread messages that name the own account, in order, by conversation.

    The read position is the higher one of the given one and this device's. Of one conversation the newest
    MAX_UNREAD_MENTIONS are returned. Conversations without any are left out.
    """
    found = """json((SELECT json_group_array(id) FROM (
                 SELECT id FROM inbox WHERE conversation_id = p.key AND mentions_me = 1
                 AND id > max(p.value, coalesce((SELECT up_to FROM reads WHERE conversation_id = p.key), 0))
                 ORDER BY id DESC LIMIT ?2)))"""
    rest = "FROM (SELECT CAST(key AS INTEGER) AS key, value FROM json_each(?1)) AS p"
    rows = fetch(connection, f"p.key, {found}", rest, (json.dumps(read_up_to), MAX_UNREAD_MENTIONS))
    return {id_: tuple(sorted(check_row(ids, [int] * len(ids)))) for id_, ids in rows if ids}


# ---- how far the person here has read


def set_read(connection: apsw.Connection, conversation_id: int, up_to: int) -> None:
    """Store the read position of a conversation. The stream tells the cluster when it can."""
    connection.execute(
        """INSERT INTO reads (conversation_id, up_to, sent_up_to) VALUES (?, ?, 0)
           ON CONFLICT (conversation_id) DO UPDATE SET up_to = max(up_to, excluded.up_to)""",
        (conversation_id, up_to),
    )


def read_positions(connection: apsw.Connection) -> list[tuple[int, int]]:
    """Return (conversation, message id) of all read positions of this device."""
    rows = connection.execute("SELECT conversation_id, up_to FROM reads WHERE conversation_id > 0")
    return [cast(tuple[int, int], check_row(row, (int, int))) for row in rows]


MAX_READS_FETCHED = 256


class ReadHere(NamedTuple):
    """A read position of this device above the cluster's. `is_sent`: it was written to a stream.

    `between` are the stored messages of others between both positions. `above` are those from it to the last message.
    """

    conversation_id: int
    up_to: int
    is_sent: int
    between: int
    above: int


def read_above(connection: apsw.Connection, listed: Sequence[tuple[int, int, int]]) -> list[ReadHere]:
    """Return the read positions of this device above the cluster's: (conversation, position, last message)."""
    count = f"SELECT count(*) FROM inbox WHERE conversation_id = p.id AND {_COUNTED}"  # noqa: S608 - a constant
    columns = f"""p.id, up_to, sent_up_to >= up_to, ({count} AND id > p.read_up_to AND id <= up_to),
                  ({count} AND id > up_to AND id <= p.last_id)"""
    rest = """FROM (SELECT value ->> 0 AS id, value ->> 1 AS read_up_to, value ->> 2 AS last_id FROM json_each(?)) AS p
              JOIN reads ON reads.conversation_id = p.id AND up_to > p.read_up_to"""
    rows = fetch(connection, columns, rest, (json.dumps(listed),))
    return [ReadHere(*check_row(row, (int,) * len(ReadHere._fields))) for row in rows]


def read_up_to(connection: apsw.Connection, conversation_id: int) -> int:
    """Return this device's read position of a conversation, or 0."""
    rows = connection.execute("SELECT up_to FROM reads WHERE conversation_id = ?", (conversation_id,)).fetchall()
    return int(cast(int, rows[0][0])) if rows else 0


def unsent_reads(connection: apsw.Connection, limit: int = MAX_READS_FETCHED) -> list[tuple[int, int]]:
    """Return (conversation, message id) of read positions that the cluster does not have yet."""
    rows = connection.execute(
        "SELECT conversation_id, up_to FROM reads WHERE up_to > sent_up_to AND conversation_id > 0 LIMIT ?", (limit,)
    )
    return [cast(tuple[int, int], check_row(row, (int, int))) for row in rows]


def reads_sent(connection: apsw.Connection, told: Sequence[tuple[int, int]]) -> None:
    """Record that these read positions were written to a stream."""
    connection.executemany(
        "UPDATE reads SET sent_up_to = max(sent_up_to, ?2) WHERE conversation_id = ?1",
        list(told),
    )


def reads_lost(connection: apsw.Connection, told: Sequence[int]) -> None:
    """Undo reads_sent() after the stream broke, because the positions may be lost. They are sent again."""
    connection.executemany("UPDATE reads SET sent_up_to = 0 WHERE conversation_id = ?", [(c,) for c in told])


def prune(connection: apsw.Connection) -> None:
    """Remove the oldest messages beyond KEEP_MESSAGES that a reader has finished. The cluster's history holds them.

    Messages that no reader was handed yet stay, up to MAX_UNREAD. If there are more, the oldest are removed, too, and
    the next reader says so.
    """
    shown = shown_place(connection)
    beyond = "SELECT coalesce((SELECT place FROM inbox ORDER BY place DESC LIMIT 1 OFFSET ?), 0)"
    finished = min(shown, int(cast(int, connection.execute(beyond, (KEEP_MESSAGES,)).fetchall()[0][0])))
    too_many = last_place(connection) - MAX_UNREAD
    connection.execute("DELETE FROM inbox WHERE place <= ?", (max(finished, too_many),))
    if too_many > shown:
        set_meta(connection, "pruned_place", max(too_many, pruned_place(connection)))


def pruned_place(connection: apsw.Connection) -> int:
    """Return the place up to which messages were removed that no reader had finished."""
    return get_meta(connection, "pruned_place", 0)
