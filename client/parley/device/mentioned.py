"""Which received messages name the own account.

The mark is a column of the inbox, so it goes with its row: when a message is removed, lost by a restored cluster, or
pruned. A message that comes again keeps its mark. It is set in the transaction that stores the message, by the account
names that this device knows then. Messages that came to this device as history only have no row, and no mark. All
functions run on the store's thread.
"""

import json
from collections.abc import Iterable, Sequence

import apsw

from parley.mentions import names_account
from parley.model import Message, MessageKind

COLUMN = "mentions_me INTEGER NOT NULL DEFAULT 0"
INDEX = "CREATE INDEX inbox_mentions ON inbox (conversation_id, id) WHERE mentions_me = 1"


def mark(connection: apsw.Connection, messages: Sequence[Message]) -> None:
    """Mark those stored messages of others that name the own account. Most batches have no text with an `@`."""
    texts = [one for one in messages if "@" in one.body and not one.mine and one.kind is MessageKind.TEXT]
    if texts:
        _mark(connection, [((one.conversation_id, one.id), one.body) for one in texts])


def mark_stored(connection: apsw.Connection) -> None:
    """Mark the messages of an inbox that was written before there were marks."""
    name = _own_name(connection)
    if name:
        rows = connection.execute(
            "SELECT conversation_id, id, body FROM inbox WHERE NOT mine AND kind = ? AND body LIKE ?",
            (int(MessageKind.TEXT), f"%@{name}%"),  # _ in a name is any character here, and _mark looks again
        )
        _mark(connection, [((conversation_id, id_), str(body)) for conversation_id, id_, body in rows])


def _mark(connection: apsw.Connection, texts: Iterable[tuple[tuple[int, int], str]]) -> None:
    name, known = _own_name(connection), dict[str, bool]()

    def is_name(candidate: str) -> bool:
        if candidate not in known:
            known[candidate] = _is_account(connection, candidate)
        return known[candidate]

    found = [place for place, body in texts if names_account(body, name, is_name)]
    if found:
        connection.execute(
            """UPDATE inbox SET mentions_me = 1 WHERE (conversation_id, id) IN
               (SELECT value ->> 0, value ->> 1 FROM json_each(?))""",
            (json.dumps(found),),
        )


def _own_name(connection: apsw.Connection) -> str:
    """Return the name of the own account, empty while it is not known."""
    rows = connection.execute(
        "SELECT name FROM accounts WHERE id = (SELECT value FROM meta WHERE key = 'account_id')"
    ).fetchall()
    return str(rows[0][0]) if rows else ""


def _is_account(connection: apsw.Connection, name: str) -> bool:
    return bool(connection.execute("SELECT 1 FROM accounts WHERE name = ? AND NOT deleted", (name,)).fetchall())
