"""Reads from the applied state, beside the writer: what one node knows at the index it has applied.

Each call sees one consistent state and holds no transaction afterwards, so the writer's WAL can always be reused. Every
answer is bounded by a limit the caller gives; the work behind it by that limit and the caller's own conversations.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import apsw

from parleyd.machine.errors import MachineDamagedError
from parleyd.machine.limits import MAX_ID
from parleyd.machine.members import read_members
from parleyd.machine.records import Members, MessageRecord
from parleyd.machine.row_cache import name_key
from parleyd.machine.schema import ROLE_ADMINISTRATOR, check_version, damage_text, open_reader, storage_faults
from parleyd.page_checksums import checksum_vfs

UNREAD_SCAN_LIMIT = 10_000
QUEUED_PAGE_BYTES = 4 << 20
_RUN_LENGTH = 64
_SCANNED_PER_WANTED = 8
ResultRow = tuple[Any, ...]  # the edge to SQLite; every column's type is fixed by its STRICT table
_NAME_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session with whom it speaks for; expiry is for the caller to judge, with its own clock."""

    session_id: int
    account_id: int
    account_name: str
    account_active: bool
    device_id: int
    device_external_id: bytes
    expires_at_ms: int
    closed: bool
    administrator: bool


@dataclass(frozen=True, slots=True)
class AccountRecord:
    """An account; a deleted one keeps its name for what it wrote."""

    account_id: int
    name: str
    password_hash: bytes
    active: bool


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """Where a device stands in what it receives and in what it sends."""

    device_id: int
    external_id: bytes
    account_id: int
    label: str
    delivered_up_to: int
    last_send_number: int


@dataclass(frozen=True, slots=True)
class ConversationRecord:
    """A conversation as one member sees it. `unread` is exact up to UNREAD_SCAN_LIMIT messages behind the mark."""

    conversation_id: int
    peer: str
    peer_deleted: bool
    last_message: MessageRecord
    unread: int
    delivered_up_to: int
    read_up_to: int
    peer_delivered_up_to: int
    peer_read_up_to: int


@dataclass(frozen=True, slots=True)
class MarksRecord:
    """How far a member has come in a conversation."""

    conversation_id: int
    account_id: int
    delivered_up_to: int
    read_up_to: int


@dataclass(frozen=True, slots=True)
class QueuedPage:
    """Some queued messages in order; up to `up_to` there are no others for the device, its own sends passed over."""

    messages: tuple[MessageRecord, ...]
    up_to: int
    more: bool


@dataclass(frozen=True, slots=True)
class _Pair:
    """A conversation and the names of its two sides."""

    conversation_id: int
    names: dict[int, str]
    peer: str


def position(connection: apsw.Connection) -> tuple[int, int, bytes]:
    """Applied index, its term, and the membership stored there, read within the caller's transaction."""
    row = connection.execute("SELECT applied_index, applied_term, membership FROM meta").fetchone()
    if row is None:
        raise MachineDamagedError(damage_text("state", "it does not say which entries it covers"))
    applied_index, applied_term, membership = row
    return applied_index, applied_term, membership


def verify_state_file(path: Path) -> tuple[int, int, bytes]:
    """Check that a received file is a sound state of this release before it replaces the old one; reads all of it."""
    with storage_faults(f"verifying {path}"):
        uri = f"file:{quote(str(path))}?mode=ro&immutable=1"
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        with closing(apsw.Connection(uri, flags=flags, vfs=checksum_vfs())) as connection:
            check_version(connection, path)
            verdict = connection.execute("PRAGMA quick_check(1)").get
            if verdict != "ok":
                raise MachineDamagedError(damage_text(path, f"SQLite's check says: {verdict}"))
            return position(connection)


class StateReader:
    """One read-only connection, used by one thread at a time."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection

    @classmethod
    def open(cls, path: Path) -> StateReader:
        """Open beside a running StateMachine."""
        return cls(open_reader(path))

    def close(self) -> None:
        """Let go of the file; safe to call twice."""
        self._connection.close()

    # ---- the state as a whole

    def applied_index(self) -> int:
        """The entry this state covers."""
        return int(self._rows("SELECT applied_index FROM meta")[0][0])

    def summary(self) -> tuple[int, int, bytes]:
        """Applied index, messages stored over the cluster's life and state hash, all of one moment."""
        [(applied_index, message_count, state_hash)] = self._rows(
            "SELECT applied_index, message_count, state_hash FROM meta"
        )
        return applied_index, message_count, bytes(state_hash)

    def members(self) -> Members:
        """The cluster's members, and those that were."""
        with self._consistent():
            return read_members(self._connection)

    # ---- accounts, sessions, devices

    def session_by_digest(self, token_digest: bytes) -> SessionRecord | None:
        """The session whose token has this digest. A deleted account's last one is still found, closed."""
        rows = self._rows(
            "SELECT s.id, s.account_id, a.name, a.status = 1, s.device_id, coalesce(d.external, x''), "
            "s.expires_at_ms, s.closed, a.role = ? FROM sessions s JOIN accounts a ON a.id = s.account_id "
            "LEFT JOIN devices d ON d.id = s.device_id WHERE s.token_digest = ?",
            (ROLE_ADMINISTRATOR, token_digest),
        )
        for session_id, account_id, name, active, device_id, external, expires_at_ms, closed, administrator in rows:
            return SessionRecord(
                session_id,
                account_id,
                name,
                bool(active),
                device_id,
                external,
                expires_at_ms,
                bool(closed),
                bool(administrator),
            )
        return None

    def account_by_name(self, name: str) -> AccountRecord | None:
        """The active account of that name; letter case does not matter."""
        return self._account("name_key = ? AND status = 1", name_key(name))

    def account_by_id(self, account_id: int) -> AccountRecord | None:
        """The account of that id, deleted or not."""
        return self._account("id = ?", account_id) if 0 < account_id <= MAX_ID else None

    def list_accounts(self, pattern: str, after_name: str, limit: int) -> tuple[AccountRecord, ...]:
        """Active accounts in order of name whose whole name matches `pattern` ('*' any run, '?' one character)."""
        wanted = _normal_pattern(pattern)
        if wanted is None:
            return ()
        prefix = wanted[: next((place for place, char in enumerate(wanted) if char in "*?"), len(wanted))]
        rows = self._rows(
            "SELECT id, name, password_hash FROM accounts WHERE status = 1 AND name_key > ? AND name_key >= ? "
            "AND name_key < ? AND name_key GLOB ? ORDER BY name_key LIMIT ?",
            (name_key(after_name), prefix, prefix + "\x7f", wanted, limit),
        )
        return tuple(AccountRecord(account_id, name, digest, active=True) for account_id, name, digest in rows)

    def device(self, device_id: int) -> DeviceRecord | None:
        """The device of that row id (`SessionRecord.device_id`)."""
        rows = self._rows(
            "SELECT id, external, account_id, label, delivered_up_to, last_send_number FROM devices WHERE id = ?",
            (device_id,),
        )
        return next((DeviceRecord(*row) for row in rows), None)

    # ---- conversations

    def is_member(self, conversation_id: int, account_id: int) -> bool:
        """Whether the account may read the conversation."""
        if not 0 < conversation_id <= MAX_ID:
            return False
        query = "SELECT 1 FROM members WHERE conversation_id = ? AND account_id = ?"
        return bool(self._rows(query, (conversation_id, account_id)))

    def conversation_with(self, account_id: int, peer: str) -> int | None:
        """The direct conversation with the account of that name; with a deleted one where no active one has it."""
        rows = self._rows(
            "SELECT c.id FROM accounts a JOIN conversations c "
            "ON c.kind = 1 AND c.low = min(a.id, ?1) AND c.high = max(a.id, ?1) "
            "WHERE a.name_key = ?2 AND (a.status = 1 OR (a.status = 2 "
            "AND NOT EXISTS (SELECT 1 FROM accounts WHERE name_key = ?2 AND status = 1))) "
            "ORDER BY a.id DESC LIMIT 1",
            (account_id, name_key(peer)),
        )
        return rows[0][0] if rows else None

    def conversations(self, account_id: int, before_message_id: int, limit: int) -> tuple[ConversationRecord, ...]:
        """The account's conversations, the latest first; `before_message_id` 0 means from the latest on."""
        with self._consistent():
            rows = self._select(
                "SELECT c.id, c.low, c.high, c.last_message_id, m.delivered_up_to, m.read_up_to "
                "FROM members m JOIN conversations c ON c.id = m.conversation_id "
                "WHERE m.account_id = ? AND c.last_message_id < ? ORDER BY c.last_message_id DESC LIMIT ?",
                (account_id, before_message_id or MAX_ID, limit),
            )
            return tuple(self._conversation(account_id, row) for row in rows)

    def history(self, account_id: int, conversation_id: int, before_id: int, limit: int) -> tuple[MessageRecord, ...]:
        """The newest messages below `before_id` (0: the newest), oldest first; none for one who is no member."""
        if not 0 < conversation_id <= MAX_ID:
            return ()
        with self._consistent():
            member = self._select(
                "SELECT c.low, c.high FROM members m JOIN conversations c ON c.id = m.conversation_id "
                "WHERE m.conversation_id = ? AND m.account_id = ?",
                (conversation_id, account_id),
            )
            if not member:
                return ()
            low, high = member[0]
            pair = self._pair(conversation_id, low, high, account_id)
            rows = self._select(
                f"{_MESSAGE_SELECT} WHERE conversation_id = ? AND id < ? ORDER BY id DESC LIMIT ?",
                (conversation_id, min(before_id or MAX_ID, MAX_ID), limit),
            )
            return tuple(_message(pair, row) for row in reversed(rows))

    def peer_marks(self, account_id: int, limit: int) -> tuple[MarksRecord, ...]:
        """The marks of the others in the account's latest conversations: what a device that connects has missed."""
        rows = self._rows(
            f"{_MARKS_SELECT} IN (SELECT c.id FROM members me "  # noqa: S608 - constants only
            "JOIN conversations c ON c.id = me.conversation_id "
            "WHERE me.account_id = ? ORDER BY c.last_message_id DESC LIMIT ?) AND account_id <> ?",
            (account_id, limit, account_id),
        )
        return tuple(MarksRecord(*row) for row in rows)

    # ---- the queue of a device

    def queued_page(self, account_id: int, after_id: int, limit: int, exclude_device_id: int) -> QueuedPage:
        """The next messages of all the account's conversations in order of id, without the device's own sends.

        Bounded in bytes and in own sends passed over too: a page may be short or empty with more to come.
        """
        with self._consistent():
            newest = self._select("SELECT last_message_id FROM meta")[0][0]
            own = self._select("SELECT external FROM devices WHERE id = ?", (exclude_device_id,))
            merge = _Merge(self, account_id, after_id)
            found: list[MessageRecord] = []
            size = 0
            for scanned, message in enumerate(merge, start=1):
                if not own or message.device_id != own[0][0]:
                    found.append(message)
                    size += len(message.body)
                if len(found) >= limit or size >= QUEUED_PAGE_BYTES or scanned >= limit * _SCANNED_PER_WANTED:
                    return QueuedPage(tuple(found), message.id, more=True)
            return QueuedPage(tuple(found), max(after_id, newest), more=False)

    # ---- helpers

    def _conversation(self, account_id: int, row: ResultRow) -> ConversationRecord:
        conversation_id, low, high, last_message_id, delivered_up_to, read_up_to = row
        pair = self._pair(conversation_id, low, high, account_id)
        peer_id = high if account_id == low else low
        last = self._select(
            f"{_MESSAGE_SELECT} WHERE conversation_id = ? AND id = ?", (conversation_id, last_message_id)
        )
        marks = self._select(f"{_MARKS_SELECT} = ? AND account_id = ?", (conversation_id, peer_id))
        active = self._select("SELECT status = 1 FROM accounts WHERE id = ?", (peer_id,))
        unread = self._select(
            "SELECT coalesce(sum(sender_id <> ?), 0) FROM "
            "(SELECT sender_id FROM messages WHERE conversation_id = ? AND id > ? ORDER BY id LIMIT ?)",
            (account_id, conversation_id, read_up_to, UNREAD_SCAN_LIMIT),
        )
        return ConversationRecord(
            conversation_id=conversation_id,
            peer=pair.peer,
            peer_deleted=not active[0][0],
            last_message=_message(pair, last[0]),
            unread=unread[0][0],
            delivered_up_to=delivered_up_to,
            read_up_to=read_up_to,
            peer_delivered_up_to=marks[0][2],
            peer_read_up_to=marks[0][3],
        )

    def _pair(self, conversation_id: int, low: int, high: int, account_id: int) -> _Pair:
        rows = self._select("SELECT id, name FROM accounts WHERE id IN (?, ?)", (low, high))
        names = {row[0]: row[1] for row in rows}
        return _Pair(conversation_id, names, names[high if account_id == low else low])

    def _account(self, condition: str, value: int | str) -> AccountRecord | None:
        rows = self._rows(
            f"SELECT id, name, password_hash, status = 1 FROM accounts WHERE {condition}",  # noqa: S608 - ours
            (value,),
        )
        return next((AccountRecord(i, name, digest, bool(active)) for i, name, digest, active in rows), None)

    def _rows(self, query: str, bindings: tuple[int | str | bytes, ...] = ()) -> list[ResultRow]:
        """One statement is one consistent state by itself."""
        with storage_faults("reading the state"):
            return self._select(query, bindings)

    def _select(self, query: str, bindings: tuple[int | str | bytes, ...] = ()) -> list[ResultRow]:
        return self._connection.execute(query, bindings).fetchall()

    @contextmanager
    def _consistent(self) -> Iterator[None]:
        with storage_faults("reading the state"):
            self._connection.execute("BEGIN")
            try:
                yield
            finally:
                if self._connection.in_transaction:  # SQLite ends it by itself when it cannot read a page
                    self._connection.execute("COMMIT")


class _Merge:
    """Messages of many conversations in order of id; each is read in short runs, and only as far as needed."""

    def __init__(self, reader: StateReader, account_id: int, after_id: int) -> None:
        self._reader = reader
        self._account_id = account_id
        self._runs: dict[int, deque[ResultRow]] = {}
        self._pairs: dict[int, _Pair] = {}
        heads = reader._select(
            "SELECT (SELECT g.id FROM messages g WHERE g.conversation_id = c.id AND g.id > ?1 ORDER BY g.id "
            "LIMIT 1), c.id, c.low, c.high FROM members m JOIN conversations c ON c.id = m.conversation_id "
            "WHERE m.account_id = ?2 AND c.last_message_id > ?1",
            (after_id, account_id),
        )
        self._sides = {row[1]: (row[2], row[3]) for row in heads}
        self._heap: list[tuple[int, int]] = [(row[0], row[1]) for row in heads]
        heapq.heapify(self._heap)

    def __iter__(self) -> Iterator[MessageRecord]:
        while self._heap:
            message_id, conversation_id = self._heap[0]
            run = self._runs.get(conversation_id) or self._read_run(conversation_id, message_id)
            row = run.popleft()
            following = run[0][0] if run else self._id_after(conversation_id, message_id)
            if following is None:
                heapq.heappop(self._heap)
                self._runs.pop(conversation_id, None)
            else:
                heapq.heapreplace(self._heap, (following, conversation_id))
            yield _message(self._pairs[conversation_id], row)

    def _read_run(self, conversation_id: int, from_id: int) -> deque[ResultRow]:
        if conversation_id not in self._pairs:
            self._pairs[conversation_id] = self._reader._pair(
                conversation_id, *self._sides[conversation_id], self._account_id
            )
        rows = self._reader._select(
            f"{_MESSAGE_SELECT} WHERE conversation_id = ? AND id >= ? ORDER BY id LIMIT ?",
            (conversation_id, from_id, _RUN_LENGTH),
        )
        run = self._runs[conversation_id] = deque(rows)
        return run

    def _id_after(self, conversation_id: int, message_id: int) -> int | None:
        rows = self._reader._select(
            "SELECT id FROM messages WHERE conversation_id = ? AND id > ? ORDER BY id LIMIT 1",
            (conversation_id, message_id),
        )
        return rows[0][0] if rows else None


_MESSAGE_SELECT = "SELECT id, sender_id, body, sent_at_ms, device, send_number FROM messages"
_MARKS_SELECT = "SELECT conversation_id, account_id, delivered_up_to, read_up_to FROM members WHERE conversation_id"


def _message(pair: _Pair, row: ResultRow) -> MessageRecord:
    message_id, sender_id, body, sent_at_ms, device, send_number = row
    return MessageRecord(
        pair.conversation_id,
        message_id,
        sender_id,
        pair.names[sender_id],
        body,
        sent_at_ms,
        device,
        send_number,
        pair.peer,
    )


def _normal_pattern(pattern: str) -> str | None:
    """The pattern in the tables' spelling, runs of stars made one; None where no name can match."""
    lowered = name_key(pattern) or "*"
    if not all(char in _NAME_CHARS or char in "*?" for char in lowered):
        return None
    normal: list[str] = []
    for char in lowered:
        if not (char == "*" and normal and normal[-1] == "*"):
            normal.append(char)
    return "".join(normal)
