"""The tables of the replicated state, and how its file is opened.

Rows go where the last ones went: messages are clustered by conversation, results by device and slot. The few indexes on
random keys (name, token digest, device id, request id) are written only when people register or log in.
A message is one row however many read it; what is queued for a device is what lies above its cursor.
`checkpoints` alone is this node's own and no part of the replicated state.
Each page has a checksum (page_checksums.py), compared at every read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

import apsw

from parleyd.formats import UNRELEASED_FORMAT, newer_format, unreleased_format
from parleyd.machine.errors import MachineDamagedError, MachineStorageError
from parleyd.machine.limits import FIRST_MESSAGE_ID
from parleyd.machine.records import MemberRow
from parleyd.page_checksums import (
    ChecksumsUnavailableError,
    checksum_vfs,
    is_page_damage,
    page_damage_text,
    reserve_checksums,
    verifies_pages,
)

SCHEMA_VERSION = 2  # 1 was that of Parley 0.1
STATE_HASH_BYTES = 16
ACCOUNT_ACTIVE, ACCOUNT_DELETED = 1, 2
ROLE_USER, ROLE_ADMINISTRATOR = 0, 1
CONVERSATION_DIRECT = 1

_AUTOCHECKPOINT_PAGES = 2000
_JOURNAL_SIZE_LIMIT_BYTES = 64 << 20
WRITER_CACHE_KIB = 64 << 10
READER_CACHE_KIB = 8 << 10

_TABLES = """
CREATE TABLE meta(
    id INTEGER PRIMARY KEY CHECK (id = 1),
    applied_index INTEGER NOT NULL,
    applied_term INTEGER NOT NULL,
    membership BLOB NOT NULL,
    state_hash BLOB NOT NULL,
    now_ms INTEGER NOT NULL,
    last_account_id INTEGER NOT NULL,
    last_session_id INTEGER NOT NULL,
    last_device_id INTEGER NOT NULL,
    last_conversation_id INTEGER NOT NULL,
    last_message_id INTEGER NOT NULL,
    message_count INTEGER NOT NULL
) STRICT;
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
CREATE TABLE devices(
    id INTEGER PRIMARY KEY,
    external BLOB NOT NULL UNIQUE,
    account_id INTEGER NOT NULL,
    label TEXT NOT NULL,
    delivered_up_to INTEGER NOT NULL,
    last_send_number INTEGER NOT NULL
) STRICT;
CREATE INDEX devices_account ON devices(account_id);
CREATE TABLE device_results(
    device_id INTEGER NOT NULL,
    slot INTEGER NOT NULL,
    number INTEGER NOT NULL,
    code INTEGER NOT NULL,
    message_id INTEGER NOT NULL,
    conversation_id INTEGER NOT NULL,
    sent_at_ms INTEGER NOT NULL,
    PRIMARY KEY(device_id, slot)
) STRICT, WITHOUT ROWID;
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
CREATE TABLE conversations(
    id INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    low INTEGER NOT NULL,
    high INTEGER NOT NULL,
    last_message_id INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX conversations_pair ON conversations(low, high) WHERE kind = 1;
CREATE TABLE members(
    conversation_id INTEGER NOT NULL,
    account_id INTEGER NOT NULL,
    joined_at_ms INTEGER NOT NULL,
    delivered_up_to INTEGER NOT NULL,
    read_up_to INTEGER NOT NULL,
    PRIMARY KEY(conversation_id, account_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX members_account ON members(account_id);
CREATE TABLE messages(
    conversation_id INTEGER NOT NULL,
    id INTEGER NOT NULL,
    sender_id INTEGER NOT NULL,
    device BLOB NOT NULL,
    send_number INTEGER NOT NULL,
    sent_at_ms INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY(conversation_id, id)
) STRICT, WITHOUT ROWID;
CREATE TABLE checkpoints(
    id INTEGER PRIMARY KEY CHECK (id = 1),
    count INTEGER NOT NULL
) STRICT;
CREATE TABLE cluster_members(
    node_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    peer_address TEXT NOT NULL,
    client_address TEXT NOT NULL
) STRICT;
CREATE TABLE removed_members(
    node_id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,
    peer_address TEXT NOT NULL,
    client_address TEXT NOT NULL
) STRICT;
"""


def create_state(path: Path, bootstrap_members: Sequence[MemberRow], membership: bytes) -> None:
    """Make the empty state of a new cluster: complete under its name, or not there at all."""
    if path.exists():
        raise MachineStorageError(f"{path} exists already; a new state is never written over an old one")
    temporary = path.with_name(path.name + ".tmp")
    with storage_faults(f"creating {path}"):
        for suffix in ("", "-wal", "-shm", "-journal"):
            temporary.with_name(temporary.name + suffix).unlink(missing_ok=True)
        with closing(apsw.Connection(str(temporary), vfs=checksum_vfs())) as connection:
            reserve_checksums(connection)
            connection.execute("BEGIN")
            connection.execute(_TABLES)
            _fill(connection, sorted(bootstrap_members, key=lambda row: row.node_id), membership)
            connection.pragma("user_version", SCHEMA_VERSION)
            connection.execute("COMMIT")
        _fsync(temporary)
        os.replace(temporary, path)
        _fsync(path.parent)


def open_writer(path: Path, vfs: str | None = None) -> apsw.Connection:
    """Open the one connection that writes and checkpoints; a `vfs` of the caller's stands on the checksum VFS."""
    with storage_faults(f"opening {path}"):
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE, vfs=vfs or checksum_vfs())
        try:
            connection.set_busy_timeout(5_000)
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", "normal")
            connection.set_wal_hook(_checkpoint_when_long)
            connection.pragma("journal_size_limit", _JOURNAL_SIZE_LIMIT_BYTES)
            _configure(connection, WRITER_CACHE_KIB)
            if not verifies_pages(connection):
                # The first page tells the VFS that there are checksums. If a crash tore it, it is in the log.
                connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            check_version(connection, path)
        except BaseException:
            connection.close(True)
            raise
    return connection


def open_reader(path: Path) -> apsw.Connection:
    """Open a connection that only reads, beside the writer."""
    with storage_faults(f"opening {path}"):
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY, vfs=checksum_vfs())
        try:
            connection.set_busy_timeout(5_000)
            _configure(connection, READER_CACHE_KIB)
            check_version(connection, path)
        except BaseException:
            connection.close(True)
            raise
    return connection


@contextmanager
def storage_faults(what: str) -> Iterator[None]:
    """Map what SQLite and the system report about the disk."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError, apsw.SQLError, UnicodeDecodeError) as error:
        raise MachineDamagedError(damage_text(what, str(error))) from error
    except apsw.CantOpenError as error:
        raise MachineDamagedError(damage_text(what, f"{error} (missing, or not readable for this user)")) from error
    except ChecksumsUnavailableError as error:
        raise MachineStorageError(f"{what}: {error}") from error
    except (apsw.Error, OSError, MemoryError) as error:
        if is_page_damage(error):
            raise MachineDamagedError(damage_text(what, page_damage_text("state.sqlite"))) from error
        raise MachineStorageError(
            f"{what}: {error}. The node stops; everything acknowledged is in the log and is applied again from there. "
            "Mend the disk (space, permissions, health) and start the node."
        ) from error


def damage_text(where: object, what: str) -> str:
    """Say what is wrong with the state file, what it means, and how to rejoin."""
    return (
        f"{where}: {what}. This node's state cannot be trusted; the other members still hold the data. Remove this "
        "member from the cluster (parley cluster remove NAME), move its data directory away, and start it with --join: "
        "it joins as a new member and receives everything from the leader."
    )


def _fill(connection: apsw.Connection, bootstrap_members: Sequence[MemberRow], membership: bytes) -> None:
    rows = [(row.node_id, row.name, row.peer_address, row.client_address) for row in bootstrap_members]
    connection.executemany("INSERT INTO cluster_members VALUES(?, ?, ?, ?)", rows)
    state_hash = blake2b(repr((rows, membership)).encode(), digest_size=STATE_HASH_BYTES).digest()
    connection.execute("INSERT INTO checkpoints VALUES(1, 0)")
    connection.execute(
        "INSERT INTO meta VALUES(1, 0, 0, ?, ?, 0, 0, 0, 0, 0, ?, 0)", (membership, state_hash, FIRST_MESSAGE_ID - 1)
    )


def _configure(connection: apsw.Connection, cache_kib: int) -> None:
    connection.pragma("cache_size", -cache_kib)
    connection.pragma("temp_store", "memory")
    connection.pragma("trusted_schema", False)


def _checkpoint_when_long(connection: apsw.Connection, _name: str, pages: int) -> int:
    """What SQLite's own automatic checkpoint does, but for this: a failure is not kept from the commit that met it.

    A checkpoint syncs what many commits wrote. Were a failed one passed over, the next would sync again, be told that
    all is well, and overwrite the database by what may be on no disk.
    """
    if pages >= _AUTOCHECKPOINT_PAGES:
        with suppress(apsw.BusyError):  # a reader that is just closing may hold the lock; the next commit tries again
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    return apsw.SQLITE_OK


def check_version(connection: apsw.Connection, path: Path) -> None:
    """Refuse a state of another release's schema, and one whose pages would be read without a comparison."""
    version = int(str(connection.pragma("user_version")))
    if not verifies_pages(connection):
        if version == UNRELEASED_FORMAT:
            raise unreleased_format(path)
        raise MachineDamagedError(damage_text(path, "its first page does not say that pages have checksums"))
    if version > SCHEMA_VERSION:
        raise newer_format(path, "", version, SCHEMA_VERSION)
    if version != SCHEMA_VERSION:
        raise MachineDamagedError(
            damage_text(path, f"the state has schema version {version}, this release knows {SCHEMA_VERSION}")
        )


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
