"""Files of the client that hold something else than was written: told in words, kept, and nothing waiting is lost."""

import json
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parley.client_state import ClientState, Node
from parley.device import directory, identity, inbox, outbox, schema, shared_state
from parley.device.notes import DAMAGED_SUFFIX
from parley.device.profile import Hosts, Last, StateDirectory
from parley.device.store import Store
from parley.errors import StoreError
from parley.model import NEWEST, Target
from parley.wire.endpoints import parse_endpoints
from tests.unit.client.records import BOB, account, direct, message


async def open_and_read(path: Path) -> None:
    store = Store(path)
    try:
        await store.open()
        await store.read(lambda c: outbox.open_messages(c, 10))
    finally:
        await store.close()


FIELDS = ("node", "address", "leader", "has_majority", "lost", "trying", "problem", "tls_trouble", "nodes")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c1/hosts.json", '{"given": 5}'),
        ("c1/hosts.json", '{"given": [5]}'),
        ("c1/hosts.json", '{"given": ["a:1"], "given": ["b:1"]}'),
        ("c1/hosts.json", '{"given": ["no port:"]}'),
        ("c1/hosts.json", '{"learned": []}'),
        ("c1/hosts.json", '{"learned": {"n1": null}}'),
        ("c1/hosts.json", '{"last_good": {}}'),
        ("c1/hosts.json", '{"cluster_id": 1}'),
        ("c1/hosts.json", "\udc80"),
        ("c1/hosts.json", "[" * 100_000),
        ("last.json", '{"account": 5}'),
        ("last.json", '{"account": "no name!"}'),
        ("last.json", '{"hosts": "localhost"}'),
        ("last.json", '{"insecure": "yes"}'),
    ],
)
def test_damaged_notes_are_set_aside_with_a_word_and_nothing_that_waits_is_lost(
    name: str, text: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = StateDirectory(tmp_path)
    profile = state.profile("c1", "anna")
    profile.make()
    connection = schema.open_database(profile.database)
    with connection:
        outbox.add(connection, [(BOB, "waits")], 1)
    connection.close()
    damaged = tmp_path / name
    damaged.write_text(text, errors="surrogateescape")
    assert state.last() == Last()
    assert state.hosts("c1") == Hosts()
    found = state.find("anna", parse_endpoints(["localhost:7001"]))
    assert found is not None
    assert (found.cluster_id, found.directory) == ("c1", profile.directory)
    assert not damaged.exists()
    assert damaged.with_name(damaged.name + DAMAGED_SUFFIX).read_text(errors="surrogateescape") == text
    assert "is damaged" in caplog.text
    assert "Waiting messages are in another file" in caplog.text
    connection = schema.open_database(found.database)
    assert [message.body for message in outbox.open_messages(connection, 10)] == ["waits"]
    connection.close()


def test_a_pipe_in_the_place_of_notes_is_not_waited_for_and_is_replaced(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    os.mkfifo(tmp_path / "last.json")
    assert state.last() == Last()
    state.remember_last(Last("anna", ("localhost:7001",)))
    assert state.last().account == "anna"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@given(st.text() | JSON.map(json.dumps) | st.dictionaries(st.sampled_from(FIELDS), JSON).map(json.dumps))
def test_no_shared_state_ends_in_an_error(text: str) -> None:
    ClientState(**shared_state.parse(text))


def test_the_shared_state_is_read_back_as_it_was_written() -> None:
    state = ClientState(node="n1", nodes=(Node("n1", "h:1", True),), problem="x", tls_trouble=True)
    assert ClientState(**shared_state.parse(shared_state.dump(state))) == state


@pytest.mark.parametrize("damage", ["not a database at all" * 100, ""])
async def test_a_damaged_file_is_kept_and_told(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "client.sqlite"
    schema.open_database(path).close()
    content = bytearray(path.read_bytes())
    content[: len(damage)] = damage.encode()
    if not damage:
        content[4096:] = b"\xff" * len(content[4096:])
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"is damaged.*Keep it"):
        await open_and_read(path)
    assert path.read_bytes()[:2000] == bytes(content)[:2000]


@pytest.mark.parametrize("tables", [False, True], ids=["no bytes", "no tables"])
async def test_a_file_that_holds_nothing_is_told_and_works(
    tables: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is what a first start leaves that crashed, or what is left of a file that held an outbox."""
    path = tmp_path / "client.sqlite"
    path.touch()
    if tables:
        with closing(apsw.Connection(str(path))) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    await open_and_read(path)
    assert "holds nothing" in caplog.text
    assert "parley login" in caplog.text
    caplog.clear()
    await open_and_read(path)
    await open_and_read(tmp_path / "new.sqlite")
    assert not caplog.text


@pytest.mark.parametrize("version", [0, 3, 99])
async def test_the_file_of_another_program_is_refused_and_stays_as_it_is(version: int, tmp_path: Path) -> None:
    path = tmp_path / "client.sqlite"
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute(f"CREATE TABLE photos (id INTEGER); PRAGMA user_version = {version}")
    path.chmod(0o640)
    content = path.read_bytes()
    with pytest.raises(StoreError, match=r"of another program.*nothing in it was changed"):
        await open_and_read(path)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (content, 0o640)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("account_id", "no number"),
        ("account_id", 1.5),
        ("device_id", 1 << 40),
        ("token", 5),
        ("cursor", "text"),
        ("position", b"\x00"),
        ("next_number", b"7"),
        ("epoch", float("inf")),
    ],
)
async def test_a_value_of_the_wrong_type_in_the_file_is_damage_and_no_traceback(
    key: str, value: object, tmp_path: Path
) -> None:
    store = Store(tmp_path / "client.sqlite")
    await store.open()
    await store.write(lambda c: schema.set_meta(c, key, value))
    with pytest.raises(StoreError, match="is damaged"):
        await store.read(identity.load)
    await store.close()


@pytest.mark.parametrize(
    ("statement", "read"),
    [
        ("UPDATE outbox SET number = 'x'", lambda c: outbox.open_messages(c, 10)),
        ("UPDATE outbox SET sent_at_ms = 1.5", lambda c: outbox.listing(c, 10)),
        ("UPDATE outbox SET target_kind = 2, target = 'x'", lambda c: outbox.open_messages(c, 10)),
        ("UPDATE outbox SET target = ''", lambda c: outbox.open_messages(c, 10)),
        ("UPDATE inbox SET id = 'x'", lambda c: inbox.after(c, 0, 10, own=True)),
        ("UPDATE inbox SET subjects = '[\"x\"]'", lambda c: inbox.after(c, 0, 10, own=True)),
        ("UPDATE inbox SET sent_at_ms = 9e999", lambda c: inbox.page(c, Target(conversation_id=7), NEWEST, 10)),
        ("UPDATE reads SET up_to = 'x'", inbox.unsent_reads),
        ("UPDATE accounts SET deleted = 'x'", directory.accounts),
        ("UPDATE members SET role = 'x'", directory.conversations),
        ("UPDATE members SET read_up_to = 'x'", lambda c: directory.receipts(c, 0)),
        ("UPDATE conversations SET member_count = 'x'", directory.conversations),
    ],
)
async def test_a_row_of_wrong_types_is_damage_and_never_a_record(
    statement: str, read: Callable[[apsw.Connection], object], tmp_path: Path
) -> None:
    def make(connection: apsw.Connection) -> None:
        directory.learn(connection, [account(2, "bob")], [direct()])
        outbox.add(connection, [(BOB, "waits")], 1)
        inbox.insert(connection, [message(1)], before=b"", after=b"one")
        inbox.set_read(connection, 7, 1)
        connection.execute(statement)

    store = Store(tmp_path / "client.sqlite")
    await store.open()
    await store.write(make)
    with pytest.raises(StoreError, match="is damaged"):
        await store.read(read)
    await store.close()
