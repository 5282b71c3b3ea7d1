"""What the account has removed, as this device keeps it: a bound for each conversation, and no messages up to it.

The bound and the deletion are one transaction (directory.py). A bound only rises within one life of the cluster. What
comes late below it is not stored. Own messages that wait, or need the person, are no history: they stay. All functions
run on the store's thread.
"""

import json
from collections.abc import Iterable, Sequence
from typing import cast

import apsw

from parley.device.schema import fetch
from parley.device.targets import target_columns
from parley.model import Message, Target

REMOVED_UP_TO = "coalesce((SELECT c.removed_up_to FROM conversations AS c WHERE c.id = outbox.conversation_id), 0)"
"""SQL for the bound of the conversation of a row of the outbox, 0 for none."""


def known_bounds(connection: apsw.Connection, conversation_ids: Iterable[int]) -> dict[int, int]:
    """Return by conversation up to which message it is removed. Conversations that are not known are left out."""
    rest = "FROM conversations WHERE id IN (SELECT value FROM json_each(?))"
    rows = fetch(connection, "id, removed_up_to", rest, (json.dumps(list(conversation_ids)),))
    return dict(cast(list[tuple[int, int]], rows))


def kept(connection: apsw.Connection, messages: Sequence[Message]) -> list[Message]:
    """Return those of the messages that are not removed."""
    if not messages:
        return []
    bounds = known_bounds(connection, {message.conversation_id for message in messages})
    return [message for message in messages if message.id > bounds.get(message.conversation_id, 0)]


def delete_copies(connection: apsw.Connection, conversation_id: int, up_to: int) -> None:
    """Delete what this device holds of a conversation up to a message, also what a restored cluster lost of others."""
    place = (conversation_id, up_to)
    connection.execute("DELETE FROM inbox WHERE conversation_id = ? AND id <= ?", place)
    connection.execute(
        "DELETE FROM outbox WHERE conversation_id = ? AND message_id > 0 AND message_id <= ? AND status = 3", place
    )
    connection.execute("DELETE FROM lost WHERE conversation_id = ? AND after_id <= ? AND origin <> 1", place)


def delete_drafts(connection: apsw.Connection, targets: Iterable[Target]) -> None:
    """Delete the drafts of a conversation, by all its names."""
    for target in targets:
        connection.execute("DELETE FROM drafts WHERE target_kind = ? AND target = ?", target_columns(target))
