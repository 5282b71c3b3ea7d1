"""Files of a client: notes with any bytes, and its database, changed by SQL and byte by byte.

Notes that are damaged count as none, and are set aside. A database is refused with StoreError, or every function that
reads it gives values of its types. In both cases nothing that waits in the outbox is lost.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import apsw
from hypothesis import strategies as st

from parley.client_state import ClientState
from parley.device import directory, drafts, identity, inbox, lost, outbox, restored, schema, shared_state
from parley.device.profile import Hosts, Last, StateDirectory
from parley.device.restored import Evidence
from parley.device.store import Store
from parley.errors import StoreError
from parley.model import NEWEST, Target
from parley.terminal.options import Flags, resolve_options
from parley.wire.endpoints import parse_endpoints
from parley.wire.position import Life, Position
from tests.fuzz.engine import Target as FuzzTarget
from tests.unit.client.records import BOB, account, channel, direct, message

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["localhost:7600", "ann", "~nobody/x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text() | st.just("n1"), inner, max_size=3),
    max_leaves=5,
)
KEYS = ["given", "learned", "last_good", "cluster_id", "account", "hosts", "ca", "insecure", "format", "release"]
NOTES = (
    st.dictionaries(st.sampled_from(KEYS), JSON).map(json.dumps).map(str.encode)
    | st.binary(max_size=60)
    | st.sampled_from([b"[" * 5_000, b'{"a":' * 5_000, b'"\\ud800"', b'{"given": ["\\ud800:1"]}', b"1" * 5_000])
)
ENDPOINTS = parse_endpoints(["localhost:7001"])


def check_notes(content: bytes) -> None:
    """Whatever the notes hold, the client finds its profile, and its notes can be written again."""
    with tempfile.TemporaryDirectory() as folder:
        state = StateDirectory(Path(folder))
        profile = state.profile("c1", "anna")
        profile.make()
        profile.database.touch()
        for path in (state.root / "last.json", state.root / "c1" / "hosts.json"):
            path.write_bytes(content)
        assert isinstance(state.hosts("c1"), Hosts)
        last = state.last()
        assert isinstance(last, Last)
        resolve_options(Flags(state_dir=state.root), {})
        found = state.find("anna", ENDPOINTS)
        assert found is not None
        assert found.directory == profile.directory
        state.remember_hosts("c1", Hosts(("localhost:7001",)))
        state.remember_last(last)


VALUES = st.none() | st.integers(-(1 << 63), (1 << 63) - 1) | st.floats() | st.text(max_size=8) | st.binary(max_size=20)
EDGES = VALUES | st.sampled_from(["", "{}", "[]", "[1, 2]", '["a"]', "x" * 70_000, b"\x08\x07", -1, 0, 1, 99])
META = ["device_id", "token", "account_id", "cursor", "position", "out_of_step", "max_message_bytes", "epoch",
        "claim_nonce", "superseded", "next_number", "shown_place", "pruned_place", shared_state.KEY]  # fmt: skip
COLUMNS = {
    "outbox": ["target_kind", "target", "body", "created_at_ms", "status", "number", "message_id", "conversation_id",
               "sent_at_ms", "detail", "revision", "known_index"],
    "inbox": ["conversation_id", "id", "kind", "sender_id", "body", "sent_at_ms", "mine", "subjects"],
    "accounts": ["name", "display_name", "deleted", "revision"],
    "conversations": ["kind", "title", "member_count", "peer_id", "revision"],
    "members": ["account_id", "role", "delivered_up_to", "read_up_to", "revision"],
    "reads": ["up_to", "sent_up_to"],
    "drafts": ["target_kind", "target", "body"],
    "lost": ["origin", "conversation", "sender", "body", "sent_at_ms", "conversation_id", "after_id", "target_kind",
             "target", "urgent"],
    "format": ["version", "release"],
}  # fmt: skip
PLACES = [("meta", key) for key in META] + [(table, column) for table, names in COLUMNS.items() for column in names]
STATEMENTS = [
    "PRAGMA user_version = 0",
    "PRAGMA user_version = 1",
    "PRAGMA user_version = 2",
    "PRAGMA user_version = 9",
]
STATEMENTS += [f"DROP TABLE {table}" for table in (*COLUMNS, "meta")] + [f"DELETE FROM {table}" for table in COLUMNS]
STATEMENTS += ["CREATE TRIGGER t AFTER INSERT ON outbox BEGIN DELETE FROM outbox; END", "DROP INDEX outbox_waiting"]


@dataclass(frozen=True)
class Altered:
    """What is done to a sound database: values, then statements, then bytes, then its end is cut off."""

    values: list[tuple[tuple[str, str], Any]]
    statements: list[str]
    bytes_: list[tuple[int, int]]
    keep: float


ALTERED = st.builds(
    Altered,
    values=st.lists(st.tuples(st.sampled_from(PLACES), EDGES), max_size=3),
    statements=st.lists(st.sampled_from(STATEMENTS), max_size=1),
    bytes_=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=2),
    keep=st.just(1.0) | st.just(1.0) | st.floats(0, 1),
)


@functools.cache
def sound_database() -> bytes:
    """A device that has sent, received and read, with a message that waits."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "client.sqlite"
        connection = schema.open_database(path)
        device = identity.load(connection).device_id
        identity.signed_in(connection, device, "token", 1, identity.load_position(connection))
        directory.learn(connection, [account(1, "anna"), account(2, "bob")], [direct(), channel()])
        inbox.insert(connection, [message(1), message(2)], before=b"", after=b"one")
        inbox.set_read(connection, 7, 1)
        schema.set_meta(connection, shared_state.KEY, shared_state.dump(ClientState()))
        drafts.save(connection, BOB, "half")
        connection.execute(
            "INSERT INTO lost (generation, origin, conversation, sender, body, sent_at_ms, conversation_id, after_id, "
            "target_kind, target, urgent) VALUES (0, 1, 'bob', '', 'lost', 5, 7, 1, 1, 'bob', 0)"
        )
        outbox.add(connection, [(BOB, "sent")], 1)
        outbox.claim(connection, 1)
        outbox.add(connection, [(BOB, "waits")], 1)
        connection.close()
        return path.read_bytes()


def alter(path: Path, altered: Altered) -> bool:
    """Change the database; return whether it still has the message that waits."""
    path.write_bytes(sound_database())
    connection = apsw.Connection(str(path))
    for (table, name), value in altered.values:
        with suppress(apsw.Error):
            if table == "meta":
                connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
            else:
                connection.execute(f"UPDATE {table} SET {name} = ?", (value,))
    for statement in altered.statements:
        with suppress(apsw.Error):
            connection.execute(statement)
    try:
        waits = bool(connection.execute("SELECT 1 FROM outbox WHERE body = 'waits' AND status = 1").fetchall())
    except apsw.Error:
        waits = False
    connection.close()
    content = bytearray(path.read_bytes())
    for place, byte in altered.bytes_:
        content[place % len(content)] = byte
    path.write_bytes(content[: int(len(content) * altered.keep)])
    return waits and not altered.bytes_ and altered.keep == 1.0


RESTORED = Evidence(Life(Position(1, ((0, 1),)), 0), (direct(),), (account(1, "anna"), account(2, "bob")))
"""A restored cluster that has the conversation with bob, and nothing of what was sent."""
READS: tuple[Callable[[apsw.Connection], object], ...] = (
    identity.load,
    identity.open_profile,
    lambda c: ClientState(**shared_state.parse(schema.get_meta(c, shared_state.KEY, ""))),
    lambda c: outbox.begin_session(c, 1),
    lambda c: outbox.open_messages(c, 10),
    lambda c: outbox.listing(c, 10),
    lambda c: outbox.listing(c, 10, target=BOB),
    lambda c: outbox.changed_since(c, 0, 10),
    outbox.count_open,
    outbox.prune,
    inbox.prune,
    directory.prune,
    inbox.load_cursor,
    inbox.unsent_reads,
    lambda c: inbox.after(c, 0, 10, own=True),
    lambda c: inbox.page(c, Target(conversation_id=7), NEWEST, 10),
    lambda c: inbox.page(c, BOB, NEWEST, 10),
    lambda c: inbox.conversations(c, 10),
    directory.accounts,
    directory.conversations,
    lambda c: directory.receipts(c, 0),
    lambda c: drafts.load(c, BOB),
    lambda c: drafts.load(c, Target(conversation_id=7)),
    lambda c: lost.listing(c, 10),
    lambda c: lost.listing(c, 10, target=BOB),
    lost.count_sent,
    lambda c: restored.begin_life(c, RESTORED),
)


def check_types(found: Any) -> None:
    """Every field of a record has the type that it is declared with."""
    if isinstance(found, list | tuple):
        for each in found:
            check_types(each)
    elif dataclasses.is_dataclass(found):
        for name, kind in get_type_hints(type(found)).items():
            if kind in (int, str, bool, bytes):
                assert type(getattr(found, name)) is kind, (name, getattr(found, name))
            check_types(getattr(found, name))


async def read_all(path: Path) -> None:
    """Open the database as a client does and read everything in it; only StoreError may come."""
    store = Store(path)
    try:
        async with asyncio.timeout(20):
            try:
                await store.open()
            except StoreError:
                return
            for read in READS:
                with suppress(StoreError):
                    check_types(await store.write(read))
    finally:
        await store.close()


def check_database(altered: Altered) -> None:
    """The database is read or refused, and what waits stays in it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "client.sqlite"
        waits = alter(path, altered)
        asyncio.run(read_all(path))
        assert path.exists()
        if waits:
            connection = apsw.Connection(str(path))
            rows = connection.execute("SELECT 1 FROM outbox WHERE body = 'waits' AND status = 1").fetchall()
            with suppress(apsw.Error):  # it waited for a conversation that the restored cluster does not have
                rows += connection.execute("SELECT 1 FROM lost WHERE body = 'waits'").fetchall()
            connection.close()
            assert rows, "a message that waited is gone"


TARGETS = (
    FuzzTarget("client-notes", NOTES, check_notes),
    FuzzTarget("client-database", ALTERED, check_database, examples=25),
)
