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

MAX_QUESTIONS = 1000
"""How many names of one batch are looked up one by one."""


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
    name, is_name = _own_name(connection), _Names(connection)
    found = [place for place, body in texts if names_account(body, name, is_name)]
    if found:
        connection.execute(
            """UPDATE inbox SET mentions_me = 1 WHERE (conversation_id, id) IN
               (SELECT value ->> 0, value ->> 1 FROM json_each(?))""",
            (json.dumps(found),),
        )


class _Names:
    """Whether a candidate is the name of an account. A batch may have a great many candidates, as a text full of @ has.

    Most batches ask a few times. After MAX_QUESTIONS all names are read at once.
    """

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._known: dict[str, bool] = {}
        self._all: set[str] | None = None

    def __call__(self, candidate: str) -> bool:
        candidate = candidate.casefold()
        if self._all is None and candidate not in self._known:
            if len(self._known) < MAX_QUESTIONS:
                self._known[candidate] = _is_account(self._connection, candidate)
            else:
                self._all = _all_names(self._connection)
        return candidate in self._all if self._all is not None else self._known[candidate]


def _own_name(connection: apsw.Connection) -> str:
    """Return the name of the own account, empty while it is not known."""
    rows = connection.execute(
        "SELECT name FROM accounts WHERE id = (SELECT value FROM meta WHERE key = 'account_id')"
    ).fetchall()
    return str(rows[0][0]) if rows else ""


def _is_account(connection: apsw.Connection, name: str) -> bool:
    return bool(connection.execute("SELECT 1 FROM accounts WHERE name = ? AND NOT deleted", (name,)).fetchall())


def _all_names(connection: apsw.Connection) -> set[str]:
    return {str(name).casefold() for (name,) in connection.execute("SELECT name FROM accounts WHERE NOT deleted")}
