"""The drafts: one text per conversation, found by every name of the conversation. Runs on the store's thread."""

import apsw

from parley.device import directory
from parley.device.targets import target_columns
from parley.model import Target


def save(connection: apsw.Connection, target: Target, body: str) -> None:
    """Store a draft. An empty text removes it."""
    for same in directory.names_of(connection, target).targets():
        connection.execute("DELETE FROM drafts WHERE target_kind = ? AND target = ?", target_columns(same))
    if body:
        connection.execute(
            "INSERT INTO drafts (target_kind, target, body) VALUES (?, ?, ?)", (*target_columns(target), body)
        )


def load(connection: apsw.Connection, target: Target) -> str:
    """Return the draft for a target, or an empty string."""
    for same in directory.names_of(connection, target).targets():
        rows = connection.execute(
            "SELECT body FROM drafts WHERE target_kind = ? AND target = ?", target_columns(same)
        ).fetchall()
        if rows:
            return str(rows[0][0])
    return ""
