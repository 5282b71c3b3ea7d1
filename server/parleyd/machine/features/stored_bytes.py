"""How much each account has stored, its quota, and how long messages are kept.

A message counts for its sender, from level 3 on, with its body and a fixed size of its row. So does what an account
does in a channel: it is a row too. A channel counts for its
creator with its title and members, as long as it exists: for ever. Messages older than
`retention_days` are removed by time of the cluster: a bounded number of rows with each entry of the log, in one sweep
after the other over all conversations, at most one sweep per hour. So every node removes the same rows at the same
entry. A sweep reads a conversation from its oldest row on, up to the first row that is young. After the time of the
cluster was set back, rows may have stamps of the future. They count as sent when the time was set back, at the latest.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

from parley_proto.v1 import model_pb2
from parleyd.machine.feature import Feature
from parleyd.machine.features import quotas

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parleyd.machine.state import State

STORED_BYTES_LEVEL: Final = 3
ROW_BYTES: Final = 128
MEMBER_BYTES: Final = 96
SUBJECT_BYTES: Final = 8
# Work of one entry while a sweep is under way.
ROWS_PER_ENTRY: Final = 256
CONVERSATIONS_PER_ENTRY: Final = 8
SWEEP_INTERVAL_MS: Final = 3600 * 1000
DAY_MS: Final = 24 * 3600 * 1000

TABLES = """
CREATE TABLE stored_bytes(
    account_id INTEGER PRIMARY KEY,
    bytes INTEGER NOT NULL
) STRICT;
-- Rows up to counted_after were stored before anything was counted.
CREATE TABLE retention(
    id INTEGER PRIMARY KEY CHECK (id = 1),
    counted_after INTEGER NOT NULL,
    conversation_id INTEGER NOT NULL,
    not_before_ms INTEGER NOT NULL,
    -- Rows up to this one were stored before the time was set back to this time.
    set_back_after INTEGER NOT NULL,
    set_back_to_ms INTEGER NOT NULL
) STRICT;
INSERT INTO retention(id, counted_after, conversation_id, not_before_ms, set_back_after, set_back_to_ms)
    SELECT 1, coalesce(max(last_message_id), 0), 0, 0, 0, 0 FROM conversations;
"""


@dataclass(frozen=True, slots=True)
class _Sweep:
    """What a sweep goes by, and where it stands."""

    counted_after: int
    conversation_id: int
    not_before_ms: int
    set_back_after: int
    set_back_to_ms: int

    def sent_at_ms(self, message_id: int, stamp_ms: int) -> int:
        """Return when a row was sent, at the latest."""
        return min(stamp_ms, self.set_back_to_ms) if message_id <= self.set_back_after else stamp_ms


_SELECT = "SELECT counted_after, conversation_id, not_before_ms, set_back_after, set_back_to_ms FROM retention"


class StoredBytes:
    """The counters of accounts, and where the sweep stands."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._bytes: dict[int, int] = {}
        self._changed: set[int] = set()
        self._quotas: dict[int, int | None] = {}
        self.caches = (self._bytes, self._quotas)

    def room(self, account_id: int) -> int:
        """Return how many bytes more the account may store (`stored_size`, `channel_size`); it may be negative."""
        if self._state.level < STORED_BYTES_LEVEL:
            return sys.maxsize
        if account_id not in self._quotas:
            self._quotas[account_id] = quotas.own(self._state, account_id)
        own = self._quotas[account_id]
        quota = self._state.settings.value(quotas.SETTING) if own is None else own
        return quota - self._of(account_id) if quota else sys.maxsize

    def quota_changed(self, account_id: int) -> None:
        """Look the quota of an account up again."""
        self._quotas.pop(account_id, None)

    def add(self, account_id: int, size: int) -> None:
        """Count what was stored. Below the level that counts, do nothing."""
        if self._state.level >= STORED_BYTES_LEVEL:
            self._change(account_id, size)

    def _change(self, account_id: int, by: int) -> None:
        self._bytes[account_id] = max(self._of(account_id) + by, 0)
        self._changed.add(account_id)

    def _of(self, account_id: int) -> int:
        found = self._bytes.get(account_id)
        if found is None:
            query = "SELECT bytes FROM stored_bytes WHERE account_id = ?"
            found = self._bytes[account_id] = self._state.connection.execute(query, (account_id,)).get or 0
        return found

    # ---- retention

    def sweep(self) -> None:
        """Remove some of the messages that are too old, after the commands of an entry."""
        state = self._state
        days = state.settings.value("retention_days")
        if not days:
            return
        now_ms = state.meta.now_ms
        at = _Sweep(*cast("tuple[int, int, int, int, int]", state.connection.execute(_SELECT).fetchone()))
        conversation_id, not_before_ms = at.conversation_id, at.not_before_ms
        if now_ms < not_before_ms:
            return
        state.flush()
        left = ROWS_PER_ENTRY
        for _ in range(CONVERSATIONS_PER_ENTRY):
            query = "SELECT id FROM conversations WHERE id > ? ORDER BY id LIMIT 1"
            following = state.ids(query, (conversation_id,))
            if not following:
                conversation_id, not_before_ms = 0, now_ms + SWEEP_INTERVAL_MS
                break
            removed = self._remove(at, following[0], now_ms - days * DAY_MS, left)
            left -= removed
            if not left:
                break  # there may be more in this conversation
            conversation_id = following[0]
        state.connection.execute(
            "UPDATE retention SET conversation_id = ?, not_before_ms = ?", (conversation_id, not_before_ms)
        )

    def _remove(self, at: _Sweep, conversation_id: int, older_than_ms: int, limit: int) -> int:
        """Remove the oldest rows of a conversation, at most `limit`; return how many."""
        connection = self._state.connection
        # No index has the stamps, so a condition on them would read a whole conversation of young rows.
        rows = connection.execute(
            "SELECT id, kind, sender_id, body, length(subjects), sent_at_ms FROM messages "
            "WHERE conversation_id = ? ORDER BY id LIMIT ?",
            (conversation_id, limit),
        )
        removed = list(
            itertools.takewhile(
                lambda row: at.sent_at_ms(row[0], row[5]) < older_than_ms,
                cast("Iterator[tuple[int, int, int, str, int, int]]", rows),
            )
        )
        rows.close()
        for message_id, kind, sender_id, body, subject_bytes, _ in removed:
            # The first row of a channel counts with its channel.
            if kind != model_pb2.MESSAGE_KIND_CHANNEL_CREATED and message_id > at.counted_after:
                self._change(sender_id, -event_size(body, subject_bytes // SUBJECT_BYTES))
        if removed:
            connection.execute(
                "DELETE FROM messages WHERE conversation_id = ? AND id <= ?", (conversation_id, removed[-1][0])
            )
            self._state.messages.removed()
        return len(removed)

    def time_set_back(self) -> None:
        """Record that the time of the cluster was set back. The next sweep is due at once."""
        meta = self._state.meta
        self._state.connection.execute(
            "UPDATE retention SET not_before_ms = 0, set_back_after = ?, set_back_to_ms = ?",
            (meta.last_message_id, meta.now_ms),
        )

    # ---- rows of a transaction

    def flush(self) -> None:
        """Write the changed counters."""
        if self._changed:
            self._state.connection.executemany(
                "INSERT OR REPLACE INTO stored_bytes(account_id, bytes) VALUES(?, ?)",
                [(account_id, self._bytes[account_id]) for account_id in sorted(self._changed)],
            )
            self._changed.clear()

    def forget_all(self) -> None:
        """Read everything from the file again."""
        self._bytes.clear()
        self._changed.clear()
        self._quotas.clear()


def stored_size(body: str) -> int:
    """Return what a message with this body counts, in bytes."""
    return ROW_BYTES + (len(body) if body.isascii() else len(body.encode()))


def event_size(body: str, subjects: int) -> int:
    """Return what an event of a channel counts, in bytes: its row, its text and the accounts that it names."""
    return stored_size(body) + subjects * SUBJECT_BYTES


def membership_size(title: str) -> int:
    """Return what a member that enters a channel counts, in bytes, for whoever adds it: its row, also after its end."""
    return MEMBER_BYTES + stored_size(title)


def channel_size(title: str, members: int) -> int:
    """Return what a channel counts, in bytes: its own row, its first row, and a row for each member."""
    return 2 * stored_size(title) + members * MEMBER_BYTES


FEATURE = Feature("stored_bytes", tables={STORED_BYTES_LEVEL: TABLES})
