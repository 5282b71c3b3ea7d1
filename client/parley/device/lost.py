"""The messages that this device holds and that the cluster lost when it was restored from a backup.

They are in a table of their own, by name, because the ids of the former life of the cluster come again with other
messages. Nothing is sent again by itself. A person sends one again or discards it: either is one transaction, so a
message that is sent again leaves the list exactly when it enters the outbox. All functions run on the store's thread.
"""

import json
from collections.abc import Sequence
from typing import Any, cast

import apsw

from parley.device import directory, outbox
from parley.device.schema import check_row, fetch
from parley.device.targets import target_of
from parley.errors import BadInputError
from parley.model import HistoryPage, LostMessage, LostOrigin, Outgoing, Target

MAX_SENT = 100_000
MAX_RECEIVED = 100_000
"""More than these, the oldest are forgotten. A restore adds at most what the outbox and the inbox hold."""
ANYWHERE = (0, 2**63 - 1)

_COLUMNS = """id, origin, conversation, sender, body, sent_at_ms, conversation_id, after_id, target_kind, target,
              urgent"""
_KINDS = (int, int, str, str, str, int, int, int, int, str, int)
_IDS = "IN (SELECT value FROM json_each(?))"


def _lost(row: Sequence[Any]) -> LostMessage:
    id_, origin, conversation, sender, body, sent_at, conversation_id, after_id, kind, target, urgent = check_row(
        row, _KINDS
    )
    return LostMessage(
        id_,
        LostOrigin(origin),
        conversation,
        sender,
        body,
        sent_at,
        conversation_id,
        after_id,
        target_of(kind, target) if kind else None,
        bool(urgent),
    )


def listing(
    connection: apsw.Connection, limit: int, *, target: Target | None = None, stood: tuple[int, int] = ANYWHERE
) -> list[LostMessage]:
    """Return the newest lost messages, oldest first. With `target`, return those of its conversation.

    `stood` bounds the message after which they stood.
    """
    of_target, bindings = "TRUE", ()  # type: tuple[str, tuple[int | str, ...]]
    if target is not None:
        names = directory.names_of(connection, target)
        of_target = """((conversation_id > 0 AND conversation_id = ?)
                        OR (target_kind = 1 AND target = ? COLLATE NOCASE))"""
        bindings = (names.conversation_id, names.account)
    rest = f"FROM lost WHERE {of_target} AND after_id BETWEEN ? AND ? ORDER BY sent_at_ms DESC, id DESC LIMIT ?"
    return [_lost(row) for row in reversed(fetch(connection, _COLUMNS, rest, (*bindings, *stood, limit)))]


def of_page(connection: apsw.Connection, target: Target, page: HistoryPage, limit: int) -> tuple[LostMessage, ...]:
    """Return what belongs to a page of the conversation, the newest `limit` of it."""
    first, last = ANYWHERE
    if page.has_older:
        first = page.messages[0].id if page.messages else last
    if page.has_newer:
        last = page.messages[-1].id if page.messages else -1
    return tuple(listing(connection, limit, target=target, stood=(first, last)))


def count_sent(connection: apsw.Connection) -> int:
    """Count the lost messages that this device sent."""
    [(count,)] = connection.execute("SELECT count(*) FROM lost WHERE origin = 1").fetchall()
    return int(cast(int, count))


def resend(connection: apsw.Connection, ids: Sequence[int], created_at_ms: int, known_index: int = 1) -> list[Outgoing]:
    """Move lost messages of this device to the end of the outbox, as new ones, in the order in which they were sent.

    Raises BadInputError or OutboxFullError before anything is changed.
    """
    rows = fetch(connection, _COLUMNS, f"FROM lost WHERE id {_IDS} ORDER BY sent_at_ms, id", (json.dumps(list(ids)),))
    found = [_lost(row) for row in rows]
    for missing in set(ids) - {one.id for one in found}:
        raise BadInputError(
            f"There is no lost message {missing}. It was sent again or discarded before. Nothing was sent now."
        )
    ready: list[tuple[LostMessage, Target]] = []
    for one in found:
        if one.origin is not LostOrigin.THIS_DEVICE:
            raise BadInputError(
                f"This device did not send the message {one.id}. Nothing was sent. Only the device that sent a message "
                "sends it again."
            )
        if one.target is None:
            raise BadInputError(
                f"The cluster does not have {one.conversation} any more, so message {one.id} has no recipient. Nothing "
                "was sent. Its text is kept here: send it as a new message, then discard this one."
            )
        ready.append((one, one.target))
    additions = [outbox.Addition([(target, one.body)], created_at_ms, known_index, one.urgent) for one, target in ready]
    added = outbox.add_together(connection, additions)
    discard(connection, ids)
    return added


def discard(connection: apsw.Connection, ids: Sequence[int]) -> int:
    """Remove lost messages from this device. Return how many there were."""
    connection.execute(f"DELETE FROM lost WHERE id {_IDS}", (json.dumps(list(ids)),))  # noqa: S608 - a constant
    return connection.changes()


def prune(connection: apsw.Connection) -> None:
    """Remove the oldest lost messages beyond the bounds."""
    for kinds, keep in (("= 1", MAX_SENT), ("<> 1", MAX_RECEIVED)):
        connection.execute(
            f"""DELETE FROM lost WHERE origin {kinds} AND id <=
                (SELECT id FROM lost WHERE origin {kinds} ORDER BY id DESC LIMIT 1 OFFSET ?)""",  # noqa: S608
            (keep,),
        )
