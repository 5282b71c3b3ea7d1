"""Sessions: log-ins of devices, found by the digest of their token.

A retry finds its first outcome: an opened session by its token digest, and a closed one because it is closed already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import AuditAction, NotAudited
from parleyd.machine.authorisation import Action
from parleyd.machine.feature import Command, Feature, SignedInCommand, result
from parleyd.machine.features import audit, devices, failed_log_ins, suspensions
from parleyd.machine.limits import (
    DEVICE_ID_BYTES,
    EXPIRED_SESSIONS_PER_STEP,
    MAX_ID,
    MAX_LABEL_CHARS,
    TOKEN_DIGEST_BYTES,
)
from parleyd.machine.rows import Rows

if TYPE_CHECKING:
    from parleyd.machine.features.accounts import AccountRow
    from parleyd.machine.reader import StateReader
    from parleyd.machine.state import State

DEVICES_LEVEL: Final = 3  # that has commands for the devices of an account
_OPEN_OF_DEVICE = "SELECT id FROM sessions WHERE device_id = ? AND closed = 0 ORDER BY id"
TTL_LEVEL = 3
TIME_TOLERANCE_MS = 60_000

TABLES = """
CREATE TABLE sessions(
    id INTEGER PRIMARY KEY,
    token_digest BLOB NOT NULL UNIQUE,
    account_id INTEGER NOT NULL,
    device_id INTEGER NOT NULL,
    opened_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    closed INTEGER NOT NULL
) STRICT;
CREATE INDEX sessions_device ON sessions(device_id);
CREATE INDEX sessions_account ON sessions(account_id);
CREATE INDEX sessions_expiry ON sessions(expires_at_ms);
"""


@dataclass(frozen=True, slots=True)
class SessionsClosed:
    """Sessions of an account that ended before their expiry."""

    account_id: int
    session_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SessionRow:
    """A session as stored."""

    id: int
    account_id: int
    device_id: int
    expires_at_ms: int
    closed: bool


class Actor(NamedTuple):
    """The account and device of a signed-in command."""

    account: AccountRow
    device_id: int


_SELECT = "SELECT id, account_id, device_id, expires_at_ms, closed FROM sessions WHERE"


def _row(session_id: int, account_id: int, device_id: int, expires_at_ms: int, closed: int) -> SessionRow:
    return SessionRow(session_id, account_id, device_id, expires_at_ms, bool(closed))


class Sessions:
    """The sessions that a transaction touches."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._rows: Rows[int, SessionRow] = Rows(state.connection, select=f"{_SELECT} id = ?", make=_row)
        self.caches = (self._rows.known,)

    def live(self, session_id: int) -> SessionRow | None:
        """Return the session, if it may act now."""
        found = self._rows.find(session_id) if 0 < session_id <= MAX_ID else None
        return None if found is None or found.closed or found.expires_at_ms <= self._state.meta.now_ms else found

    def actor(self, session_id: int) -> Actor | None:
        """Return the account and device of the session; None if the session may not act."""
        session = self.live(session_id)
        account = None if session is None else self._state.accounts.find(session.account_id)
        if session is None or account is None or not account.active:
            return None
        return Actor(account, session.device_id)

    def forget(self, session_ids: list[int]) -> None:
        """Remove sessions that SQL changed from the cache."""
        self._rows.forget(session_ids)

    def forget_all(self) -> None:
        """Read everything from the file again."""
        self._rows.forget_all()


# ---- commands


def open_session(state: State, command: pb.OpenSession) -> pb.CommandResult:
    """Open a session for one device, which is added if it is new; the device's older sessions end."""
    if (
        len(command.token_digest) != TOKEN_DIGEST_BYTES
        or len(command.device_id) != DEVICE_ID_BYTES
        or len(command.device_label) > MAX_LABEL_CHARS
    ):
        return result(pb.RESULT_CODE_INVALID_LENGTH)
    expires_at_ms = _expiry(state, command)
    if not state.meta.now_ms < expires_at_ms <= MAX_ID:
        return result(pb.RESULT_CODE_INVALID_EXPIRY)
    account = state.accounts.find(command.account_id)
    if account is None or not account.active or account.password_hash != command.password_hash:
        return result(pb.RESULT_CODE_CREDENTIALS_CHANGED)
    if not account.password_hash:  # imported without a password, so nothing can have been checked
        return result(pb.RESULT_CODE_CREDENTIALS_CHANGED)
    if suspensions.is_suspended(state, account.id):
        return result(pb.RESULT_CODE_ACCOUNT_SUSPENDED)
    state.flush()
    if state.level < TTL_LEVEL:
        _purge_expired(state)  # later levels keep two sessions per device at most, so that set_time can revive them
    row = state.connection.execute(
        "SELECT s.id, s.account_id, s.closed, d.external FROM sessions s LEFT JOIN devices d ON d.id = s.device_id "
        "WHERE s.token_digest = ?",
        (command.token_digest,),
    ).get
    if row is not None:
        session_id, owner, closed, external = row
        if closed or owner != account.id or external != command.device_id:
            return result(pb.RESULT_CODE_SIGNED_OUT)
        return _opened(state, session_id)
    is_known = devices.is_of(state, account.id, command.device_id)
    device_id = _find_or_add_device(state, account.id, command)
    if isinstance(device_id, pb.CommandResult):
        return device_id
    if state.level >= DEVICES_LEVEL and not is_known:
        failed_log_ins.logged_in_on_new_device(state, account.id)
    _end_older_sessions(state, account.id, device_id)
    state.meta.last_session_id += 1
    session_id = state.meta.last_session_id
    state.connection.execute(
        "INSERT INTO sessions(id, token_digest, account_id, device_id, opened_at_ms, expires_at_ms, closed) "
        "VALUES(?, ?, ?, ?, ?, ?, 0)",
        (session_id, command.token_digest, account.id, device_id, state.meta.now_ms, expires_at_ms),
    )
    return _opened(state, session_id)


def revoke_devices(state: State, actor: Actor, command: pb.RevokeDevices) -> pb.CommandResult:
    """Sign out one device of the caller, or all others. A device keeps its numbers for its next log-in."""
    if not command.device_id:
        _tell(state, actor, end_others(state, actor.account.id, actor.device_id))
        return result(pb.RESULT_CODE_OK)
    query = "SELECT id FROM devices WHERE external = ? AND account_id = ?"
    device_id = state.connection.execute(query, (command.device_id, actor.account.id)).get
    if device_id is None:
        return result(pb.RESULT_CODE_NO_SUCH_DEVICE)
    _tell(state, actor, _close(state, actor.account.id, state.ids(_OPEN_OF_DEVICE, (device_id,))))
    return result(pb.RESULT_CODE_OK)


def _tell(state: State, actor: Actor, ended: int) -> None:
    if ended:
        name = actor.account.name
        audit.record(state, name, AuditAction.SESSIONS_REVOKED, name, f"{ended} of the own sessions")


def _expiry(state: State, command: pb.OpenSession) -> int:
    """Return when a new session expires: by the replicated time, not by the clock of the node that was asked."""
    if state.level >= TTL_LEVEL and command.ttl_ms:
        return state.meta.now_ms + command.ttl_ms
    return command.expires_at_ms


def set_time(state: State, actor: Actor, command: pb.SetTime) -> pb.CommandResult:
    """Set the replicated time to that of the entry, also backwards, if an administrator's clock agrees.

    A wrong clock may have moved the time by years. Then sessions last as long from now on as they did when they were
    opened. Those that have expired by the right time as well stay so.
    """
    if not state.stamp_ms or abs(state.stamp_ms - command.now_ms) > TIME_TOLERANCE_MS:
        return result(pb.RESULT_CODE_TIME_DISPUTED)
    before_ms, now_ms = state.meta.now_ms, state.stamp_ms
    if now_ms < before_ms:
        state.flush()
        state.connection.execute(
            "UPDATE sessions SET expires_at_ms = ?1 + expires_at_ms - opened_at_ms, opened_at_ms = ?1 "
            "WHERE closed = 0 AND expires_at_ms > ?1",
            (now_ms,),
        )
        state.sessions.forget_all()
        state.meta.now_ms = now_ms
        state.stored_bytes.time_set_back()
        detail = f"back by {before_ms - now_ms} ms"
        audit.record(state, actor.account.name, AuditAction.TIME_SET, "", detail)
    return pb.CommandResult(
        code=pb.RESULT_CODE_OK, set_time=pb.SetTimeResult(before_ms=before_ms, after_ms=state.meta.now_ms)
    )


def close_session(state: State, command: pb.CloseSession) -> pb.CommandResult:
    """Close a session; a closed or unknown one is accepted, so a retry is safe."""
    session = by_digest(state, command.token_digest)
    if session is not None and not session.closed:
        state.connection.execute("UPDATE sessions SET closed = 1 WHERE id = ?", (session.id,))
        state.sessions.forget([session.id])
        state.effects.append(SessionsClosed(session.account_id, (session.id,)))
    return result(pb.RESULT_CODE_OK)


def _opened(state: State, session_id: int) -> pb.CommandResult:
    session = state.sessions.live(session_id)
    if session is None:
        return result(pb.RESULT_CODE_SIGNED_OUT)
    device = state.devices.get(session.device_id)
    opened = pb.OpenSessionResult(
        account_id=session.account_id,
        session_id=session_id,
        last_send_number=device.last_send_number,
        delivered_up_to=device.delivered_up_to,
    )
    if state.level >= devices.CLAIM_LEVEL:
        opened.expires_at_ms = session.expires_at_ms
        opened.device_epoch = state.devices.held_claim(device.id).epoch
    return pb.CommandResult(code=pb.RESULT_CODE_OK, open_session=opened)


def _end_older_sessions(state: State, account_id: int, device_id: int) -> None:
    """End older sessions. At most two of a device are kept: the live one and the one that it replaced, closed."""
    ended = state.ids(_OPEN_OF_DEVICE, (device_id,))
    state.connection.execute("DELETE FROM sessions WHERE device_id = ? AND closed = 1", (device_id,))
    state.connection.execute("UPDATE sessions SET closed = 1 WHERE device_id = ?", (device_id,))
    state.sessions.forget(ended)
    if ended:
        state.effects.append(SessionsClosed(account_id, tuple(ended)))


def _find_or_add_device(state: State, account_id: int, command: pb.OpenSession) -> int | pb.CommandResult:
    """Return the id of the device, or why it cannot be added; end the one that logged in longest ago if asked to."""

    def add() -> int | pb.CommandResult:
        return devices.find_or_add(state, account_id, command.device_id, command.device_label, command.used_send_number)

    device_id = add()
    if not isinstance(device_id, pb.CommandResult) or device_id.code != pb.RESULT_CODE_TOO_MANY_DEVICES:
        return device_id
    if not command.end_oldest_device or state.level < DEVICES_LEVEL:
        return device_id
    query = "SELECT id FROM sessions WHERE account_id = ? AND closed = 0 AND expires_at_ms > ? ORDER BY id LIMIT 1"
    _close(state, account_id, state.ids(query, (account_id, state.meta.now_ms)))
    return add()


def _close(state: State, account_id: int, session_ids: list[int]) -> int:
    """Close these sessions; return how many they are."""
    keys = [(session_id,) for session_id in session_ids]
    state.connection.executemany("UPDATE sessions SET closed = 1 WHERE id = ?", keys)
    state.sessions.forget(session_ids)
    if session_ids:
        state.effects.append(SessionsClosed(account_id, tuple(session_ids)))
    return len(session_ids)


def _purge_expired(state: State) -> None:
    expired = state.ids(
        "SELECT id FROM sessions WHERE expires_at_ms <= ? ORDER BY expires_at_ms, id LIMIT ?",
        (state.meta.now_ms, EXPIRED_SESSIONS_PER_STEP),
    )
    state.connection.executemany("DELETE FROM sessions WHERE id = ?", [(session_id,) for session_id in expired])
    state.sessions.forget(expired)


# ---- for other features


def by_digest(state: State, token_digest: bytes) -> SessionRow | None:
    """Return the session with that token digest, open or closed."""
    row = state.connection.execute(f"{_SELECT} token_digest = ?", (token_digest,)).get
    return None if row is None else _row(*row)


def end_others(state: State, account_id: int, device_id: int) -> int:
    """End the sessions of all devices of an account but one; 0 is no device. Return how many they were."""
    query = "SELECT id FROM sessions WHERE account_id = ? AND device_id <> ? AND closed = 0 ORDER BY id"
    return _close(state, account_id, state.ids(query, (account_id, device_id)))


def remove_of_account(state: State, account_id: int, *, keep_session_id: int) -> None:
    """End all sessions of an account. The one that deletes it is kept, closed, so that a retry finds its outcome."""
    ended = state.ids("SELECT id FROM sessions WHERE account_id = ? AND closed = 0 ORDER BY id", (account_id,))
    state.connection.execute("DELETE FROM sessions WHERE account_id = ? AND id <> ?", (account_id, keep_session_id))
    state.connection.execute("UPDATE sessions SET closed = 1 WHERE id = ?", (keep_session_id,))
    state.sessions.forget(ended)
    state.effects.append(SessionsClosed(account_id, tuple(ended)))


FEATURE = Feature(
    "sessions",
    tables={1: TABLES},
    commands={
        "open_session": Command(open_session, audits=NotAudited.ROUTINE),
        "close_session": Command(close_session, audits=NotAudited.ROUTINE),
        "revoke_devices": SignedInCommand(
            revoke_devices, Action.MANAGE_OWN_DEVICES, DEVICES_LEVEL, audits=(AuditAction.SESSIONS_REVOKED,)
        ),
        "set_time": SignedInCommand(set_time, Action.SET_TIME, TTL_LEVEL, audits=(AuditAction.TIME_SET,)),
    },
)


# ---- queries


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """A session and its account; the caller checks the expiry by the cluster's time."""

    session_id: int
    account_id: int
    account_name: str
    account_active: bool
    role: int
    device_id: int
    device_external_id: bytes
    expires_at_ms: int
    closed: bool


def with_account(reader: StateReader, token_digest: bytes) -> SessionRecord | None:
    """Return the session whose token has this digest. A deleted account's last one is found too, closed."""
    rows = reader.rows(
        "SELECT s.id, s.account_id, a.name, a.status = 1, a.role, s.device_id, coalesce(d.external, x''), "
        "s.expires_at_ms, s.closed FROM sessions s JOIN accounts a ON a.id = s.account_id "
        "LEFT JOIN devices d ON d.id = s.device_id WHERE s.token_digest = ?",
        (token_digest,),
    )
    for session_id, account_id, name, active, role, device_id, external, expires_at_ms, closed in rows:
        return SessionRecord(
            session_id, account_id, name, bool(active), role, device_id, external, expires_at_ms, bool(closed)
        )
    return None
