"""The rows a transaction works on: read once, changed in memory, written once at its end.

A batch of sends touches the same few rows again and again (a device's number, a conversation's last message, the
counters), and SQLite is asked for each only once. The caches may be empty or full: what apply computes is the same.

Invariants: a changed row stays cached until `flush` has written it; after a rollback `forget_all` must be called;
whoever changes a cached table by SQL calls `flush` before and drops the rows concerned. Ids are never given out twice,
so a cached row that SQL removed is one that nothing leads to any more.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, cast

import apsw

from parleyd.machine.errors import MachineDamagedError
from parleyd.machine.limits import MAX_ID, MAX_SENDS_IN_FLIGHT
from parleyd.machine.records import Effect, Recipient
from parleyd.machine.schema import ACCOUNT_ACTIVE, CONVERSATION_DIRECT, damage_text

MAX_CACHED_ROWS = 16_384


@dataclass(slots=True)
class Meta:
    """The one row of counters and position; columns in the table's order."""

    applied_index: int
    applied_term: int
    membership: bytes
    state_hash: bytes
    now_ms: int
    last_account_id: int
    last_session_id: int
    last_device_id: int
    last_conversation_id: int
    last_message_id: int
    message_count: int


@dataclass(frozen=True, slots=True)
class AccountRow:
    id: int
    name: str
    password_hash: bytes
    active: bool


@dataclass(frozen=True, slots=True)
class SessionRow:
    id: int
    account_id: int
    device_id: int
    expires_at_ms: int
    closed: bool


@dataclass(slots=True)
class DeviceRow:
    id: int
    external: bytes
    account_id: int
    delivered_up_to: int
    last_send_number: int


@dataclass(slots=True)
class ConversationRow:
    id: int
    low: int
    high: int
    last_message_id: int
    recipients: tuple[Recipient, ...]


@dataclass(slots=True)
class MarksRow:
    conversation_id: int
    account_id: int
    delivered_up_to: int
    read_up_to: int


_META_COLUMNS = tuple(field.name for field in fields(Meta))
_META_TYPES = [bytes if field.type == "bytes" else int for field in fields(Meta)]
_META_SELECT = f"SELECT {', '.join(_META_COLUMNS)} FROM meta"  # noqa: S608 - column names only
_META_UPDATE = f"UPDATE meta SET {', '.join(f'{name} = ?' for name in _META_COLUMNS)}"  # noqa: S608 - same


class RowCache:
    """Caches and pending changes of one state machine."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self.meta = self._load_meta()
        self.effects: list[Effect] = []
        self._accounts: dict[int, AccountRow] = {}
        self._account_ids: dict[str, int] = {}
        self._sessions: dict[int, SessionRow] = {}
        self._devices: dict[int, DeviceRow] = {}
        self._conversations: dict[int, ConversationRow] = {}
        self._conversation_ids: dict[tuple[int, int], int] = {}
        self._marks: dict[tuple[int, int], MarksRow] = {}
        self._undelivered: dict[int, set[int]] = {}
        self._changed_devices: dict[int, DeviceRow] = {}
        self._changed_conversations: dict[int, ConversationRow] = {}
        self._changed_marks: dict[tuple[int, int], MarksRow] = {}
        self._new_messages: list[tuple[int, int, int, bytes, int, int, str]] = []
        self._new_results: list[tuple[int, int, int, int, int, int, int]] = []

    # ---- reading

    def ids(self, query: str, bindings: tuple[int, ...]) -> list[int]:
        """The ids a query selects in its first column."""
        return [cast("int", row[0]) for row in self.connection.execute(query, bindings).fetchall()]

    def account(self, account_id: int) -> AccountRow | None:
        """The account, deleted or not."""
        found = self._accounts.get(account_id)
        if found is None and 0 < account_id <= MAX_ID:
            row = self.connection.execute(
                "SELECT id, name, password_hash, status FROM accounts WHERE id = ?", (account_id,)
            ).get
            if row is not None:
                found = self._accounts[account_id] = AccountRow(row[0], row[1], row[2], row[3] == ACCOUNT_ACTIVE)
        return found

    def account_named(self, name: str) -> AccountRow | None:
        """The active account of that name; letter case does not matter."""
        key = name_key(name)
        account_id = self._account_ids.get(key)
        if account_id is None:
            account_id = self.connection.execute(
                "SELECT id FROM accounts WHERE name_key = ? AND status = 1", (key,)
            ).get
            if account_id is None:
                return None
            self._account_ids[key] = account_id
        return self.account(account_id)

    def live_session(self, session_id: int) -> SessionRow | None:
        """The session, if it may act now."""
        found = self._sessions.get(session_id)
        if found is None:
            if not 0 < session_id <= MAX_ID:
                return None
            row = self.connection.execute(
                "SELECT id, account_id, device_id, expires_at_ms, closed FROM sessions WHERE id = ?", (session_id,)
            ).get
            if row is None:
                return None
            found = self._sessions[session_id] = SessionRow(row[0], row[1], row[2], row[3], bool(row[4]))
        return None if found.closed or found.expires_at_ms <= self.meta.now_ms else found

    def device(self, device_id: int) -> DeviceRow:
        """The device of a live session: it exists as long as the session may act."""
        found = self._devices.get(device_id)
        if found is None:
            row = self.connection.execute(
                "SELECT id, external, account_id, delivered_up_to, last_send_number FROM devices WHERE id = ?",
                (device_id,),
            ).get
            found = self._devices[device_id] = DeviceRow(*row)
        return found

    def conversation(self, conversation_id: int) -> ConversationRow | None:
        """The conversation of that id."""
        found = self._conversations.get(conversation_id)
        if found is None and 0 < conversation_id <= MAX_ID:
            row = self.connection.execute(
                "SELECT id, low, high, last_message_id FROM conversations WHERE id = ?", (conversation_id,)
            ).get
            if row is not None:
                conversation_id, low, high, last_message_id = row
                recipients = self._recipients(low, high)
                found = self._remember(ConversationRow(conversation_id, low, high, last_message_id, recipients))
        return found

    def direct_conversation(self, one: int, other: int) -> ConversationRow:
        """The conversation of a pair of accounts, begun now if they never spoke."""
        low, high = (one, other) if one <= other else (other, one)
        conversation_id = self._conversation_ids.get((low, high))
        if conversation_id is None:
            conversation_id = self.connection.execute(
                "SELECT id FROM conversations WHERE kind = 1 AND low = ? AND high = ?", (low, high)
            ).get
        found = None if conversation_id is None else self.conversation(conversation_id)
        return found or self._begin_conversation(low, high)

    def marks(self, conversation_id: int, account_id: int) -> MarksRow | None:
        """A member's marks; None for an account that is no member."""
        key = (conversation_id, account_id)
        found = self._marks.get(key)
        if found is None and 0 < conversation_id <= MAX_ID:
            row = self.connection.execute(
                "SELECT conversation_id, account_id, delivered_up_to, read_up_to FROM members "
                "WHERE conversation_id = ? AND account_id = ?",
                key,
            ).get
            if row is not None:
                found = self._marks[key] = MarksRow(*row)
        return found

    def undelivered(self, account_id: int) -> set[int]:
        """Conversations of the account with a message above its delivery mark; the caller drops what it has moved."""
        found = self._undelivered.get(account_id)
        if found is None:
            self.flush()
            rows = self.connection.execute(
                "SELECT m.conversation_id FROM members m JOIN conversations c ON c.id = m.conversation_id "
                "WHERE m.account_id = ? AND c.last_message_id > m.delivered_up_to",
                (account_id,),
            )
            found = self._undelivered[account_id] = {row[0] for row in rows}
        return found

    def result(self, device_id: int, number: int) -> tuple[int, int, int, int] | None:
        """First result of an earlier send: code, message id, conversation id, time. None when it is forgotten."""
        self.flush()
        row = self.connection.execute(
            "SELECT number, code, message_id, conversation_id, sent_at_ms FROM device_results "
            "WHERE device_id = ? AND slot = ?",
            (device_id, number % MAX_SENDS_IN_FLIGHT),
        ).get
        return None if row is None or row[0] != number else (row[1], row[2], row[3], row[4])

    # ---- changing

    def add_message(
        self, conversation: ConversationRow, sender_id: int, device: DeviceRow, number: int, body: str
    ) -> int:
        """Store a message at the end of its conversation and give it the next id."""
        meta = self.meta
        message_id = meta.last_message_id = meta.last_message_id + 1
        meta.message_count += 1
        conversation.last_message_id = message_id
        self._changed_conversations[conversation.id] = conversation
        self._new_messages.append((conversation.id, message_id, sender_id, device.external, number, meta.now_ms, body))
        for recipient in conversation.recipients:
            waiting = self._undelivered.get(recipient.account_id)
            if waiting is not None:
                waiting.add(conversation.id)
        return message_id

    def use_number(self, device: DeviceRow, number: int, code: int, message_id: int, conversation_id: int) -> None:
        """The device's send `number` is applied, with this result for its retries."""
        device.last_send_number = number
        self._changed_devices[device.id] = device
        slot = number % MAX_SENDS_IN_FLIGHT
        self._new_results.append((device.id, slot, number, code, message_id, conversation_id, self.meta.now_ms))

    def move_cursor(self, device: DeviceRow, up_to: int) -> None:
        """Everything up to this message id has been handed to the device."""
        device.delivered_up_to = up_to
        self._changed_devices[device.id] = device

    def move_marks(self, marks: MarksRow, delivered_up_to: int, read_up_to: int) -> None:
        """A member has come this far."""
        marks.delivered_up_to = delivered_up_to
        marks.read_up_to = read_up_to
        self._changed_marks[(marks.conversation_id, marks.account_id)] = marks

    # ---- writing and forgetting

    def flush(self) -> None:
        """Write the changed rows, so that SQL sees what the caches know."""
        execute_many = self.connection.executemany
        if self._new_messages:
            execute_many(
                "INSERT INTO messages(conversation_id, id, sender_id, device, send_number, sent_at_ms, "
                "kind, priority, body) VALUES(?, ?, ?, ?, ?, ?, 0, 0, ?)",
                self._new_messages,
            )
            self._new_messages = []
        if self._new_results:
            execute_many("INSERT OR REPLACE INTO device_results VALUES(?, ?, ?, ?, ?, ?, ?)", self._new_results)
            self._new_results = []
        if self._changed_devices:
            execute_many(
                "UPDATE devices SET delivered_up_to = ?, last_send_number = ? WHERE id = ?",
                [(row.delivered_up_to, row.last_send_number, row.id) for row in self._changed_devices.values()],
            )
            self._changed_devices = {}
        if self._changed_conversations:
            execute_many(
                "UPDATE conversations SET last_message_id = ? WHERE id = ?",
                [(row.last_message_id, row.id) for row in self._changed_conversations.values()],
            )
            self._changed_conversations = {}
        if self._changed_marks:
            execute_many(
                "UPDATE members SET delivered_up_to = ?, read_up_to = ? WHERE conversation_id = ? AND account_id = ?",
                [
                    (row.delivered_up_to, row.read_up_to, row.conversation_id, row.account_id)
                    for row in self._changed_marks.values()
                ],
            )
            self._changed_marks = {}

    def write_meta(self) -> None:
        """Write position and counters."""
        self.connection.execute(_META_UPDATE, [getattr(self.meta, name) for name in _META_COLUMNS])

    def trim(self) -> None:
        """Bound the caches, oldest rows first; called between transactions, when nothing waits to be written."""
        for cache in self._caches():
            for _ in range(len(cache) - MAX_CACHED_ROWS):
                del cache[next(iter(cache))]

    def forget_sessions(self, session_ids: Iterable[int]) -> None:
        """Drop sessions that SQL changed."""
        for session_id in session_ids:
            self._sessions.pop(session_id, None)

    def forget_account(self, account: AccountRow) -> None:
        """Drop an account that SQL changed."""
        self._accounts.pop(account.id, None)
        self._account_ids.pop(name_key(account.name), None)

    def forget_all(self) -> None:
        """Start from the file again, after a rollback; the effects are the caller's to cut."""
        self.meta = self._load_meta()
        for rows in (*self._caches(), self._changed_devices, self._changed_conversations, self._changed_marks):
            rows.clear()
        self._new_messages.clear()
        self._new_results.clear()

    def _caches(self) -> tuple[dict[Any, Any], ...]:
        return (
            self._accounts,
            self._account_ids,
            self._sessions,
            self._devices,
            self._conversations,
            self._conversation_ids,
            self._marks,
            self._undelivered,
        )

    def _load_meta(self) -> Meta:
        rows: list[tuple[Any, ...]] = self.connection.execute(_META_SELECT).fetchall()
        # SQLite does not check what it reads: a page of another table in this one's place gives any rows.
        if len(rows) != 1 or [type(value) for value in rows[0]] != _META_TYPES:
            raise MachineDamagedError(damage_text("state", "it does not say which entries it covers"))
        return Meta(*rows[0])

    def _begin_conversation(self, low: int, high: int) -> ConversationRow:
        self.meta.last_conversation_id += 1
        conversation_id = self.meta.last_conversation_id
        self.connection.execute(
            "INSERT INTO conversations VALUES(?, ?, ?, ?, 0)", (conversation_id, CONVERSATION_DIRECT, low, high)
        )
        self.connection.executemany(
            "INSERT INTO members VALUES(?, ?, ?, 0, 0)",
            [(conversation_id, account_id, self.meta.now_ms) for account_id in sorted({low, high})],
        )
        return self._remember(ConversationRow(conversation_id, low, high, 0, self._recipients(low, high)))

    def _remember(self, conversation: ConversationRow) -> ConversationRow:
        self._conversations[conversation.id] = conversation
        self._conversation_ids[(conversation.low, conversation.high)] = conversation.id
        return conversation

    def _recipients(self, low: int, high: int) -> tuple[Recipient, ...]:
        names = {account_id: self._name(account_id) for account_id in (low, high)}
        if low == high:
            return (Recipient(low, names[low]),)
        return (Recipient(low, names[high]), Recipient(high, names[low]))

    def _name(self, account_id: int) -> str:
        account = self.account(account_id)
        return "" if account is None else account.name


def name_key(name: str) -> str:
    """Names differ by more than letter case. They are ASCII, so this does not depend on a Unicode version."""
    return name.lower()
