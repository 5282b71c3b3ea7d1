"""Applies what concerns accounts, sessions and devices: rare commands, written straight to the tables.

A retry of each finds its first outcome: a registration by its request id, a session by its token digest, a closed
session and a deleted account by being so already.
"""

from __future__ import annotations

import re

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine import commands as c
from parleyd.machine.limits import (
    DEVICE_ID_BYTES,
    EXPIRED_SESSIONS_PER_STEP,
    MAX_DEVICES_PER_ACCOUNT,
    MAX_HASH_BYTES,
    MAX_ID,
    MAX_LABEL_CHARS,
    MAX_NAME_CHARS,
    REQUEST_ID_BYTES,
    TOKEN_DIGEST_BYTES,
)
from parleyd.machine.records import AccountDeleted, SessionClosed
from parleyd.machine.row_cache import AccountRow, RowCache, name_key
from parleyd.machine.schema import ACCOUNT_ACTIVE, ACCOUNT_DELETED, ROLE_ADMINISTRATOR, ROLE_USER

_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME_CHARS - 1}}}", re.ASCII)


def register_account(state: RowCache, command: pb.RegisterAccount) -> c.CommandResult:
    """Create an account. The name of a deleted one may be taken again, and is a new account."""
    if not _NAME.fullmatch(command.name):
        return c.refusal(
            c.INVALID, "an account name is 1 to 64 letters, digits, '.', '_' or '-', not starting with a sign"
        )
    if not 0 < len(command.password_hash) <= MAX_HASH_BYTES or len(command.request_id) not in (0, REQUEST_ID_BYTES):
        return c.refusal(c.INVALID, "the password hash or the request id has a wrong length; no account was made")
    if command.request_id:
        row = state.connection.execute("SELECT id, name FROM accounts WHERE request_id = ?", (command.request_id,)).get
        if row is not None:
            if name_key(row[1]) == name_key(command.name):
                return c.CommandResult(code=c.OK, account_id=row[0])
            return c.refusal(c.INVALID, "this request id already registered another name; no account was made")
    if state.account_named(command.name) is not None:
        return c.refusal(c.ALREADY_EXISTS, f"the name {command.name} is taken; no account was made, choose another")
    state.meta.last_account_id += 1
    account_id = state.meta.last_account_id
    state.connection.execute(
        "INSERT INTO accounts VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
        (
            account_id,
            command.name,
            name_key(command.name),
            command.password_hash,
            command.request_id,
            # Somebody must be able to look after the cluster: whoever came first.
            ROLE_ADMINISTRATOR if account_id == 1 else ROLE_USER,
            ACCOUNT_ACTIVE,
            state.meta.now_ms,
        ),
    )
    return c.CommandResult(code=c.OK, account_id=account_id)


def open_session(state: RowCache, command: pb.OpenSession) -> c.CommandResult:
    """Open a session for one device, which is known from then on; the device's older sessions end."""
    if len(command.token_digest) != TOKEN_DIGEST_BYTES or len(command.device_id) != DEVICE_ID_BYTES:
        return c.refusal(c.INVALID, "the token digest or the device id has a wrong length; no session was opened")
    if len(command.device_label) > MAX_LABEL_CHARS or not state.meta.now_ms < command.expires_at_ms <= MAX_ID:
        return c.refusal(c.INVALID, "the device label is too long or the expiry is past; no session was opened")
    account = state.account(command.account_id)
    if account is None or not account.active or account.password_hash != command.password_hash:
        return c.refusal(c.UNAUTHENTICATED, "the account or its password changed meanwhile; log in again")
    state.flush()
    _purge_expired(state)
    row = state.connection.execute(
        "SELECT s.id, s.account_id, s.closed, d.external FROM sessions s LEFT JOIN devices d ON d.id = s.device_id "
        "WHERE s.token_digest = ?",
        (command.token_digest,),
    ).get
    if row is not None:
        session_id, owner, closed, external = row
        if closed or owner != account.id or external != command.device_id:
            return c.refusal(c.UNAUTHENTICATED, "this session was opened and closed before; log in again")
        return _opened(state, session_id)
    device_id = _device_for(state, account, command)
    if isinstance(device_id, c.CommandResult):
        return device_id
    _end_older_sessions(state, device_id)
    state.meta.last_session_id += 1
    session_id = state.meta.last_session_id
    state.connection.execute(
        "INSERT INTO sessions VALUES(?, ?, ?, ?, ?, ?, 0)",
        (session_id, command.token_digest, account.id, device_id, state.meta.now_ms, command.expires_at_ms),
    )
    return _opened(state, session_id)


def close_session(state: RowCache, command: pb.CloseSession) -> c.CommandResult:
    """Close a session; closing one that is closed or unknown is fine, so a retry is."""
    session_id = state.connection.execute(
        "SELECT id FROM sessions WHERE token_digest = ? AND closed = 0", (command.token_digest,)
    ).get
    if session_id is not None:
        state.connection.execute("UPDATE sessions SET closed = 1 WHERE id = ?", (session_id,))
        state.forget_sessions([session_id])
        state.effects.append(SessionClosed((session_id,)))
    return c.CommandResult(code=c.OK)


def delete_account(state: RowCache, command: pb.DeleteAccount) -> c.CommandResult:
    """Delete the caller's account with its sessions and devices; what it wrote stays for those it wrote to."""
    row = state.connection.execute(
        "SELECT id, account_id FROM sessions WHERE token_digest = ?", (command.token_digest,)
    ).get
    account = None if row is None else state.account(row[1])
    if row is None or account is None:
        return c.refusal(c.UNAUTHENTICATED, "this session is closed, expired or unknown; nothing was deleted")
    session_id, account_id = row
    if not account.active:
        return c.CommandResult(code=c.OK, account_id=account_id)
    if state.live_session(session_id) is None or account.password_hash != command.password_hash:
        return c.refusal(c.UNAUTHENTICATED, "the session ended or the password changed meanwhile; nothing was deleted")
    if _is_last_administrator(state, account_id) and _somebody_else_is_there(state, account_id):
        return c.refusal(
            c.CONFLICT,
            f"{account.name} is the only administrator, and without one nobody could look after the cluster; nothing "
            "was deleted. Make another account administrator first: parley cluster grant NAME",
        )
    state.flush()
    _remove_sessions_and_devices(state, account_id, keep_session_id=session_id)
    state.connection.execute(
        "UPDATE accounts SET status = ?, password_hash = x'' WHERE id = ?", (ACCOUNT_DELETED, account_id)
    )
    state.forget_account(account)
    state.effects.append(AccountDeleted(account_id))
    return c.CommandResult(code=c.OK, account_id=account_id)


def set_role(state: RowCache, command: pb.SetRole) -> c.CommandResult:
    """Make an account an administrator, or take that from it; there is always one left, so that somebody can."""
    session = state.live_session(command.session_id)
    if session is None:
        return c.refusal(c.UNAUTHENTICATED, "this session is closed, expired or unknown; nothing was changed")
    if not _is_administrator(state, session.account_id):
        return c.refusal(c.PERMISSION_DENIED, "only an administrator may change who is one; nothing was changed")
    account = state.account_named(command.account)
    if account is None:
        return c.refusal(c.NOT_FOUND, f"there is no account {command.account}; nothing was changed")
    if not command.administrator and _is_last_administrator(state, account.id):
        return c.refusal(c.CONFLICT, f"{account.name} is the only administrator; make another one first")
    role = ROLE_ADMINISTRATOR if command.administrator else ROLE_USER
    state.connection.execute("UPDATE accounts SET role = ? WHERE id = ?", (role, account.id))
    return c.CommandResult(code=c.OK, account_id=account.id)


def _is_administrator(state: RowCache, account_id: int) -> bool:
    query = "SELECT 1 FROM accounts WHERE id = ? AND role = ? AND status = ?"
    return state.connection.execute(query, (account_id, ROLE_ADMINISTRATOR, ACCOUNT_ACTIVE)).get is not None


def _is_last_administrator(state: RowCache, account_id: int) -> bool:
    query = "SELECT 1 FROM accounts WHERE id <> ? AND role = ? AND status = ? LIMIT 1"
    others = state.connection.execute(query, (account_id, ROLE_ADMINISTRATOR, ACCOUNT_ACTIVE)).get
    return others is None and _is_administrator(state, account_id)


def _somebody_else_is_there(state: RowCache, account_id: int) -> bool:
    query = "SELECT 1 FROM accounts WHERE id <> ? AND status = ? LIMIT 1"
    return state.connection.execute(query, (account_id, ACCOUNT_ACTIVE)).get is not None


def _opened(state: RowCache, session_id: int) -> c.CommandResult:
    session = state.live_session(session_id)
    if session is None:
        return c.refusal(c.UNAUTHENTICATED, "this session has expired; log in again")
    device = state.device(session.device_id)
    return c.CommandResult(
        code=c.OK,
        account_id=session.account_id,
        session_id=session_id,
        last_send_number=device.last_send_number,
        delivered_up_to=device.delivered_up_to,
    )


def _device_for(state: RowCache, account: AccountRow, command: pb.OpenSession) -> int | c.CommandResult:
    row = state.connection.execute("SELECT id, account_id FROM devices WHERE external = ?", (command.device_id,)).get
    if row is not None:
        if row[1] != account.id:
            return c.refusal(c.PERMISSION_DENIED, "this device belongs to another account; no session was opened")
        return int(row[0])
    # What any device of the account has received is not new to another one; what none has is.
    cursor, count = state.connection.execute(
        "SELECT coalesce(max(delivered_up_to), 0), count(*) FROM devices WHERE account_id = ?", (account.id,)
    ).get
    if count >= MAX_DEVICES_PER_ACCOUNT and not _remove_idle_device(state, account.id):
        return c.refusal(
            c.PERMISSION_DENIED,
            f"{MAX_DEVICES_PER_ACCOUNT} devices of this account are logged in; log one of them out and try again",
        )
    state.meta.last_device_id += 1
    device_id = state.meta.last_device_id
    state.connection.execute(
        "INSERT INTO devices VALUES(?, ?, ?, ?, ?, 0)",
        (device_id, command.device_id, account.id, command.device_label, cursor),
    )
    return device_id


def _remove_idle_device(state: RowCache, account_id: int) -> bool:
    """Make room by forgetting the logged-out device that was used longest ago."""
    idle = state.ids(
        "SELECT d.id FROM devices d LEFT JOIN sessions s ON s.device_id = d.id "
        "WHERE d.account_id = ? GROUP BY d.id "
        "HAVING coalesce(sum(s.closed = 0 AND s.expires_at_ms > ?), 0) = 0 "
        "ORDER BY coalesce(max(s.id), 0), d.id LIMIT 1",
        (account_id, state.meta.now_ms),
    )
    for device_id in idle:
        # Its sessions are over; rows left behind would point to nothing.
        state.connection.execute("DELETE FROM sessions WHERE device_id = ?", (device_id,))
        _delete_devices(state, [device_id])
    return bool(idle)


def _end_older_sessions(state: RowCache, device_id: int) -> None:
    """At most two sessions of a device are kept: the live one and the one it replaced, closed."""
    session_ids = tuple(
        state.ids("SELECT id FROM sessions WHERE device_id = ? AND closed = 0 ORDER BY id", (device_id,))
    )
    state.connection.execute("DELETE FROM sessions WHERE device_id = ? AND closed = 1", (device_id,))
    state.connection.execute("UPDATE sessions SET closed = 1 WHERE device_id = ?", (device_id,))
    state.forget_sessions(session_ids)
    if session_ids:
        state.effects.append(SessionClosed(session_ids))


def _purge_expired(state: RowCache) -> None:
    expired = state.ids(
        "SELECT id FROM sessions WHERE expires_at_ms <= ? ORDER BY expires_at_ms, id LIMIT ?",
        (state.meta.now_ms, EXPIRED_SESSIONS_PER_STEP),
    )
    state.connection.executemany("DELETE FROM sessions WHERE id = ?", [(session_id,) for session_id in expired])
    state.forget_sessions(expired)


def _remove_sessions_and_devices(state: RowCache, account_id: int, keep_session_id: int) -> None:
    """The session that deletes its account is kept, closed, so that a retry finds what it did."""
    open_ids = state.ids("SELECT id FROM sessions WHERE account_id = ? AND closed = 0 ORDER BY id", (account_id,))
    state.connection.execute("DELETE FROM sessions WHERE account_id = ? AND id <> ?", (account_id, keep_session_id))
    state.connection.execute("UPDATE sessions SET closed = 1 WHERE id = ?", (keep_session_id,))
    state.forget_sessions(open_ids)
    state.effects.append(SessionClosed(tuple(open_ids)))
    _delete_devices(state, state.ids("SELECT id FROM devices WHERE account_id = ? ORDER BY id", (account_id,)))


def _delete_devices(state: RowCache, device_ids: list[int]) -> None:
    keys = [(device_id,) for device_id in device_ids]
    state.connection.executemany("DELETE FROM device_results WHERE device_id = ?", keys)
    state.connection.executemany("DELETE FROM devices WHERE id = ?", keys)
