"""Accounts: registering and deleting. Rare commands, written straight to the table.

A retry finds its first outcome: a registration by its request id, a deletion by the account being deleted already.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import AuditAction
from parleyd.machine.authorisation import Action, Role, is_allowed
from parleyd.machine.feature import Command, Feature, result
from parleyd.machine.features import (
    administration,
    audit,
    channel_members,
    codes,
    devices,
    failed_log_ins,
    hidden_accounts,
    mutes,
    put_away,
    quotas,
    removals,
    sessions,
)
from parleyd.machine.features.settings import all_values
from parleyd.machine.limits import MAX_HASH_BYTES, MAX_ID, MAX_NAME_CHARS, REQUEST_ID_BYTES
from parleyd.machine.names import NAME_RULES_LEVEL, RESERVED_FORMS, name_key, skeleton, skeleton_sql
from parleyd.machine.rows import Rows

if TYPE_CHECKING:
    from parleyd.machine.reader import StateReader
    from parleyd.machine.state import State

ACTIVE, DELETED = 1, 2
OPEN, BY_INVITATION, CLOSED = 0, 1, 2  # the values of the setting `registration`
DAY_MS = 24 * 3600 * 1000
DISPLAY_NAME_LEVEL = 2
_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9._-]{{0,{MAX_NAME_CHARS - 1}}}", re.ASCII)
_PATTERN_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-*?")

TABLES = """
CREATE TABLE accounts(
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL,
    password_hash BLOB NOT NULL,
    request_id BLOB NOT NULL,
    role INTEGER NOT NULL,
    status INTEGER NOT NULL,
    created_at_ms INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX accounts_active ON accounts(name_key) WHERE status = 1;
CREATE INDEX accounts_deleted ON accounts(name_key) WHERE status = 2;
CREATE INDEX accounts_request ON accounts(request_id) WHERE request_id <> x'';
"""
# What was deleted before this level has the index 0: no device can tell any more who had its name when.
NAME_RULES = f"""
ALTER TABLE accounts ADD COLUMN skeleton TEXT NOT NULL DEFAULT '';
ALTER TABLE accounts ADD COLUMN first_message_id INTEGER NOT NULL DEFAULT 1;
ALTER TABLE accounts ADD COLUMN deleted_at_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE accounts ADD COLUMN deleted_at_index INTEGER NOT NULL DEFAULT 0;
UPDATE accounts SET skeleton = {skeleton_sql("name_key")};
CREATE INDEX accounts_skeleton ON accounts(skeleton);
"""  # noqa: S608 - constants only
DISPLAY_NAMES = "ALTER TABLE accounts ADD COLUMN display_name TEXT NOT NULL DEFAULT '';"


@dataclass(frozen=True, slots=True)
class AccountChanged:
    """What others see of an account changed."""

    account_id: int


@dataclass(frozen=True, slots=True)
class AccountDeleted:
    """An account is gone, with its sessions and devices."""

    account_id: int


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account; a deleted one keeps its name for what it wrote."""

    id: int
    name: str
    password_hash: bytes
    role: int
    active: bool

    def may(self, action: Action) -> bool:
        """Whether the account's role allows it."""
        return is_allowed(self.role, action)


_SELECT = "SELECT id, name, password_hash, role, status = 1 FROM accounts WHERE"


def _row(account_id: int, name: str, password_hash: bytes, role: int, active: int) -> AccountRow:
    return AccountRow(account_id, name, password_hash, role, bool(active))


class Accounts:
    """The accounts that a transaction touches, by id and by name."""

    def __init__(self, state: State) -> None:
        self._connection = state.connection
        self._rows: Rows[int, AccountRow] = Rows(state.connection, select=f"{_SELECT} id = ?", make=_row)
        self._ids: dict[str, int] = {}
        self.caches = (self._rows.known, self._ids)

    def find(self, account_id: int) -> AccountRow | None:
        """The account, deleted or not."""
        return self._rows.find(account_id) if 0 < account_id <= MAX_ID else None

    def named(self, name: str) -> AccountRow | None:
        """The active account of that name; letter case does not matter."""
        key = name_key(name)
        account_id = self._ids.get(key)
        if account_id is None:
            query = "SELECT id FROM accounts WHERE name_key = ? AND status = 1"
            account_id = self._connection.execute(query, (key,)).get
            if account_id is None:
                return None
            self._ids[key] = account_id
        return self._rows.find(account_id)

    def set_role(self, account: AccountRow, role: Role) -> None:
        """Store the role of an account."""
        self._connection.execute("UPDATE accounts SET role = ? WHERE id = ?", (role, account.id))
        self.forget(account)

    def set_password(self, account: AccountRow, password_hash: bytes) -> None:
        """Store the password of an account."""
        self._connection.execute("UPDATE accounts SET password_hash = ? WHERE id = ?", (password_hash, account.id))
        self.forget(account)

    def forget(self, account: AccountRow) -> None:
        """Drop an account that SQL changed."""
        self._rows.forget((account.id,))
        self._ids.pop(name_key(account.name), None)

    def forget_all(self) -> None:
        """Start from the file again."""
        self._rows.forget_all()
        self._ids.clear()


# ---- commands


def register(state: State, command: pb.RegisterAccount) -> pb.CommandResult:
    """Create an account. The name of a deleted one may be taken again, and is a new account."""
    if not is_name(command.name):
        return result(pb.RESULT_CODE_INVALID_NAME)
    if not 0 < len(command.password_hash) <= MAX_HASH_BYTES or len(command.request_id) not in (0, REQUEST_ID_BYTES):
        return result(pb.RESULT_CODE_INVALID_LENGTH)
    if command.request_id:
        query = "SELECT id, name FROM accounts WHERE request_id = ?"
        row = state.connection.execute(query, (command.request_id,)).get
        if row is not None:
            same = name_key(row[1]) == name_key(command.name)
            return _registered(row[0]) if same else result(pb.RESULT_CODE_REQUEST_ID_REUSED)
    refused = name_refusal(state, command.name)
    if refused is not None:
        return result(refused)
    role = Role.USER
    if state.level >= NAME_RULES_LEVEL:
        allowed = _admit(state, command.invitation_digest)
        if not isinstance(allowed, Role):
            return result(allowed)
        role = allowed
    elif state.meta.last_account_id == 0:
        role = Role.ADMINISTRATOR  # below level 3, whoever came first looks after the cluster
    account_id = add(state, command.name, command.password_hash, role, command.request_id)
    code = {Role.USER: "with an invitation", Role.ADMINISTRATOR: "with the code of an administrator"}[role]
    detail = code if command.invitation_digest else ""
    audit.record(state, command.name, AuditAction.ACCOUNT_REGISTERED, command.name, detail)
    return _registered(account_id)


def add(state: State, name: str, password_hash: bytes, role: Role, request_id: bytes = b"") -> int:
    """Add an account whose name was checked. Return its id."""
    state.meta.last_account_id += 1
    account_id = state.meta.last_account_id
    state.connection.execute(
        "INSERT INTO accounts(id, name, name_key, password_hash, request_id, role, status, created_at_ms) "
        "VALUES(?, ?, ?, ?, ?, ?, ?, ?)",
        (account_id, name, name_key(name), password_hash, request_id, role, ACTIVE, state.meta.now_ms),
    )
    if state.meta.level >= NAME_RULES_LEVEL:
        query = "UPDATE accounts SET skeleton = ?, first_message_id = ? WHERE id = ?"
        state.connection.execute(query, (skeleton(name), state.meta.last_message_id + 1, account_id))
    return account_id


def is_name(name: str) -> bool:
    """Return whether the characters may be those of an account's name."""
    return _NAME.fullmatch(name) is not None


def name_refusal(state: State, name: str) -> pb.ResultCode.ValueType | None:
    """Return why no new account may have the name: another has it, or people would take it for something else."""
    if state.accounts.named(name) is not None:
        return pb.RESULT_CODE_NAME_TAKEN
    if state.level < NAME_RULES_LEVEL:
        return None
    form = skeleton(name)
    nodes = state.connection.execute("SELECT name FROM cluster_members")
    if form in RESERVED_FORMS or any(form == skeleton(node) for (node,) in nodes):
        return pb.RESULT_CODE_NAME_RESERVED
    query = "SELECT 1 FROM accounts WHERE skeleton = ? AND status = ? LIMIT 1"
    if state.connection.execute(query, (form, ACTIVE)).get is not None:
        return pb.RESULT_CODE_NAME_LOOKS_ALIKE
    free_since_ms = state.meta.now_ms - state.settings.value("name_reserved_days") * DAY_MS
    query = "SELECT 1 FROM accounts WHERE skeleton = ? AND status = ? AND deleted_at_ms > ? LIMIT 1"
    if state.connection.execute(query, (form, DELETED, max(free_since_ms, 0))).get is not None:
        return pb.RESULT_CODE_NAME_RESERVED
    return None


def _admit(state: State, invitation_digest: bytes) -> Role | pb.ResultCode.ValueType:
    """Return the role of a new account, or why there may be none. A code for it is used up."""
    registration = state.settings.value("registration")
    role = codes.use(state, invitation_digest, _roles_that_register(registration)) if invitation_digest else None
    refused = _registration_refusal(registration, role, invitation_digest)
    if refused is not None:
        return refused
    return Role.USER if role is None else role


def _roles_that_register(registration: int) -> tuple[Role, ...]:
    # An administrator's code comes from a node, so it counts even where registration is closed.
    return (Role.ADMINISTRATOR,) if registration == CLOSED else (Role.USER, Role.ADMINISTRATOR)


def _registration_refusal(registration: int, role: Role | None, code: bytes) -> pb.ResultCode.ValueType | None:
    """Return why nobody may register so; `role` is what the code gives, None for no code or a wrong one."""
    if role in _roles_that_register(registration):
        return None
    if registration == CLOSED:
        return pb.RESULT_CODE_REGISTRATION_CLOSED
    if code:
        return pb.RESULT_CODE_INVALID_CODE
    return None if registration == OPEN else pb.RESULT_CODE_NOT_INVITED


def delete(state: State, command: pb.DeleteAccount) -> pb.CommandResult:
    """Delete the caller's account with its sessions and devices; what it wrote stays for those it wrote to."""
    session = sessions.by_digest(state, command.token_digest)
    account = None if session is None else state.accounts.find(session.account_id)
    if session is None or account is None:
        return result(pb.RESULT_CODE_SIGNED_OUT)
    if not account.active:
        return result(pb.RESULT_CODE_OK)
    if state.sessions.live(session.id) is None:
        return result(pb.RESULT_CODE_SIGNED_OUT)
    if account.password_hash != command.password_hash:
        return result(pb.RESULT_CODE_CREDENTIALS_CHANGED)
    if not account.may(Action.DELETE_OWN_ACCOUNT):
        return result(pb.RESULT_CODE_NOT_ALLOWED)
    if administration.is_last_administrator(state, account) and (
        state.level >= NAME_RULES_LEVEL or _somebody_else_is_there(state, account)
    ):
        return result(pb.RESULT_CODE_LAST_ADMINISTRATOR)
    state.flush()
    sessions.remove_of_account(state, account.id, keep_session_id=session.id)
    devices.remove(state, devices.of_account(state, account.id))
    query = "UPDATE accounts SET status = ?, password_hash = x'' WHERE id = ?"
    state.connection.execute(query, (DELETED, account.id))
    if state.meta.level >= NAME_RULES_LEVEL:
        query = "UPDATE accounts SET deleted_at_ms = ?, deleted_at_index = ? WHERE id = ?"
        state.connection.execute(query, (state.meta.now_ms, state.meta.applied_index + 1, account.id))
        failed_log_ins.forget(state, account.id)
        hidden_accounts.forget(state, account.id)
        mutes.forget(state, account.id)
        put_away.forget(state, account.id)
        removals.forget(state, account.id)
        quotas.forget(state, account.id)
        channel_members.leave_all(state, account.id)
    audit.record(state, account.name, AuditAction.ACCOUNT_DELETED, account.name)
    state.accounts.forget(account)
    state.effects += (AccountDeleted(account.id), AccountChanged(account.id))
    return result(pb.RESULT_CODE_OK)


def _registered(account_id: int) -> pb.CommandResult:
    registered = pb.RegisterAccountResult(account_id=account_id)
    return pb.CommandResult(code=pb.RESULT_CODE_OK, register_account=registered)


def _somebody_else_is_there(state: State, account: AccountRow) -> bool:
    query = "SELECT 1 FROM accounts WHERE id <> ? AND status = ? LIMIT 1"
    return state.connection.execute(query, (account.id, ACTIVE)).get is not None


FEATURE = Feature(
    "accounts",
    tables={1: TABLES, DISPLAY_NAME_LEVEL: DISPLAY_NAMES, NAME_RULES_LEVEL: NAME_RULES},
    commands={
        "register_account": Command(register, grows=True, audits=(AuditAction.ACCOUNT_REGISTERED,)),
        "delete_account": Command(delete, audits=(AuditAction.ACCOUNT_DELETED,)),
    },
)


# ---- queries


def registration_refusal(reader: StateReader, role: Role | None, code: bytes) -> pb.ResultCode.ValueType | None:
    """Return why apply would refuse a registration now; `role` is what its code gives."""
    return _registration_refusal(all_values(reader)["registration"], role, code)


def is_registered(reader: StateReader, request_id: bytes) -> bool:
    """Return whether a registration with this request id was applied."""
    return bool(request_id) and bool(reader.rows("SELECT 1 FROM accounts WHERE request_id = ?", (request_id,)))


def is_first_too_early(reader: StateReader) -> bool:
    """Return whether the first account would become an administrator by an old rule, though all nodes have the new."""
    [(lowest,)] = reader.rows("SELECT coalesce(min(max_level), 0) FROM cluster_members")
    return lowest >= NAME_RULES_LEVEL and not reader.rows("SELECT 1 FROM accounts LIMIT 1")


@dataclass(frozen=True, slots=True)
class AccountCard:
    """What others see of an account."""

    id: int
    name: str
    display_name: str
    deleted: bool


def by_name(reader: StateReader, name: str) -> AccountRow | None:
    """The active account of that name; letter case does not matter."""
    return _one(reader, "name_key = ? AND status = 1", name_key(name))


def by_id(reader: StateReader, account_id: int) -> AccountRow | None:
    """The account of that id, deleted or not."""
    return _one(reader, "id = ?", account_id) if 0 < account_id <= MAX_ID else None


def cards(reader: StateReader, account_ids: set[int]) -> tuple[AccountCard, ...]:
    """What others see of these accounts, by id; unknown ids are left out."""
    found = []
    select = f"{_card_select(reader)} WHERE id = ?"
    for account_id in sorted(account_id for account_id in account_ids if account_id <= MAX_ID):
        rows = reader.rows(select, (account_id,))
        found += [AccountCard(i, name, display_name, bool(deleted)) for i, name, display_name, deleted in rows]
    return tuple(found)


def matching(reader: StateReader, pattern: str, after_name: str, limit: int) -> tuple[AccountCard, ...]:
    """Active accounts in order of name whose whole name matches `pattern` ('*' any run, '?' one character)."""
    wanted = _normal_pattern(pattern)
    if wanted is None:
        return ()
    prefix = wanted[: next((place for place, char in enumerate(wanted) if char in "*?"), len(wanted))]
    rows = reader.rows(
        f"{_card_select(reader)} WHERE status = 1 AND name_key > ? AND name_key >= ? "
        "AND name_key < ? AND name_key GLOB ? ORDER BY name_key LIMIT ?",
        (name_key(after_name), prefix, prefix + "\x7f", wanted, limit),
    )
    return tuple(AccountCard(i, name, display_name, bool(deleted)) for i, name, display_name, deleted in rows)


def _card_select(reader: StateReader) -> str:
    display_name = "display_name" if reader.level() >= DISPLAY_NAME_LEVEL else "''"
    return f"SELECT id, name, {display_name}, status <> 1 FROM accounts"  # noqa: S608 - constants only


def _one(reader: StateReader, condition: str, value: int | str) -> AccountRow | None:
    rows = reader.rows(f"{_SELECT} {condition}", (value,))
    return _row(*rows[0]) if rows else None


def _normal_pattern(pattern: str) -> str | None:
    """The pattern in the tables' spelling, runs of stars made one; None where no name can match."""
    lowered = name_key(pattern) or "*"
    if not set(lowered) <= _PATTERN_CHARS:
        return None
    return re.sub(r"\*+", "*", lowered)
