"""A flipped bit in state.sqlite is damage wherever it is read; whole copies carry the checksums with them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from parleyd import page_checksums
from parleyd.machine import files
from parleyd.machine.errors import MachineDamagedError, MachineStorageError
from parleyd.machine.features import accounts
from parleyd.machine.features.waiting import queued_page
from parleyd.machine.machine import StateMachine
from parleyd.machine.reader import StateReader
from parleyd.machine.verify import verify_state_file
from parleyd.page_checksums import CHECKSUM_VFS, checksum_vfs
from parleyd.raft.types import SnapshotMeta
from parleyd.storage.errors import StorageDamagedError
from parleyd.storage.snapshots import write_snapshot
from tests.unit.machine.harness import BOOTSTRAP_MEMBERS, Node, sends
from tests.unit.storage.faulty_vfs import faulty_disk
from tests.unit.storage.log_helpers import meta

PAGE_BYTES = 4096
LONG_BODY = "long " * 4000  # fills pages of its own


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def flip_in(path: Path, text: bytes) -> None:
    """Flip one bit in the middle of the last occurrence of `text`."""
    flip(path, path.read_bytes().rindex(text) + len(text) // 2)


def describe(_: apsw.Connection) -> SnapshotMeta:
    return meta(1, 1)


def pages_without_checksum(path: Path) -> int:
    """How many pages of the file do not match their checksum."""
    checksum_vfs()
    content = path.read_bytes()
    with closing(apsw.Connection(":memory:")) as connection:
        pages = [content[start : start + PAGE_BYTES] for start in range(0, len(content), PAGE_BYTES)]
        return sum(connection.execute("SELECT verify_checksum(?)", (page,)).get != 1 for page in pages)


@pytest.fixture
def messages(node: Node) -> Path:
    """A stopped node's state with a short and a long message."""
    ada = node.user("ada", 1)
    node.user("bob", 2)
    node.send(ada, (1, "bob", "see you at nine"), (2, "bob", LONG_BODY))
    node.close()
    return node.path


def read_messages(path: Path) -> None:
    with closing(StateReader.open(path)) as reader:
        bob = accounts.by_name(reader, "bob")
        assert bob is not None
        assert len(queued_page(reader, bob.id, 0, 10, b"").messages) == 2


def verify(path: Path) -> None:
    verify_state_file(path)


def copy(path: Path) -> None:
    write_snapshot(path, path.with_name("copy.sqlite"), describe)


@pytest.mark.parametrize("text", [b"see you at nine", b"long long long"])
@pytest.mark.parametrize(
    ("read", "damage"),
    [(read_messages, MachineDamagedError), (verify, MachineDamagedError), (copy, StorageDamagedError)],
)
def test_a_flipped_bit_in_a_message_is_damage_to_every_reader(
    messages: Path, text: bytes, read: Callable[[Path], None], damage: type[Exception]
) -> None:
    read(messages)
    flip_in(messages, text)
    with pytest.raises(damage, match=r"the other members still hold the data") as refused:
        read(messages)
    assert any(
        words in str(refused.value) for words in ("its checksum", "unable to get the page", "failed to get page")
    )


def test_a_flipped_bit_met_while_applying_ends_the_state_machine_and_is_no_result(node: Node) -> None:
    session = node.user("ada", 1)
    node.close()
    flip_in(node.path, b"ada")
    node.machine = StateMachine.open(node.path)
    for _ in range(2):
        with pytest.raises((MachineDamagedError, MachineStorageError), match=r"its checksum|already failed"):
            node.one(sends(session, (1, "ada", "hello")))


def test_a_state_whose_first_page_hides_the_checksums_is_damage(messages: Path) -> None:
    """Byte 20 of the file says how many bytes of each page are reserved: without it nothing would be compared."""
    flip(messages, 20)
    for open_ in (StateMachine.open, StateReader.open, verify_state_file):
        with pytest.raises(MachineDamagedError):
            open_(messages)


def test_a_first_page_torn_by_a_crash_is_taken_from_the_log(node: Node) -> None:
    """The checkpoint had begun to write it; until it is whole, the log has it."""
    node.user("ada", 1)
    node.machine._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    node.user("bob", 2)
    node.machine._connection.execute("CREATE TABLE moved(x)")  # changes page 1
    node.machine._connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    node.machine._connection.close(True)
    content = node.path.read_bytes()
    node.path.write_bytes(bytes(PAGE_BYTES) + content[PAGE_BYTES:])
    machine = StateMachine.open(node.path)
    assert page_checksums.verifies_pages(machine._connection)
    machine.close()
    assert pages_without_checksum(node.path) == 0


def test_every_page_of_a_state_and_of_a_copy_has_its_checksum(node: Node) -> None:
    """The copy is larger than the cache of the connection that writes it, and comes from the write-ahead log."""
    node.machine._connection.wal_autocheckpoint(0)
    ada = node.user("ada", 1)
    for number in range(1, 80):
        node.send(ada, (number, "ada", "x" * 60_000))
    write_snapshot(node.path, node.path.with_name("copy.sqlite"), describe)
    copied = node.path.with_name("copy.sqlite")
    assert copied.stat().st_size > 4 << 20
    assert pages_without_checksum(copied) == 0
    verify_state_file(copied)
    node.close()
    assert pages_without_checksum(node.path) == 0


def test_a_state_made_without_checksums_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "reserve_checksums", lambda _: None)
    with pytest.raises(MachineDamagedError, match="pages have checksums"):
        StateMachine.create(tmp_path / "state.sqlite", BOOTSTRAP_MEMBERS, b"")


def test_pages_are_compared_through_a_disk_that_tests_make_fail(messages: Path) -> None:
    with faulty_disk() as disk:
        machine = StateMachine.open(messages, disk.name)
        assert page_checksums.verifies_pages(machine._connection)
        machine.close()


def test_loading_leaves_the_default_file_system_as_it_was() -> None:
    assert checksum_vfs() == CHECKSUM_VFS
    assert apsw.vfs_names()[0] != CHECKSUM_VFS


def test_an_installation_without_the_extension_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    StateMachine.create(tmp_path / "state.sqlite", BOOTSTRAP_MEMBERS, b"").close()
    monkeypatch.setattr(page_checksums, "CHECKSUM_VFS", "absent")
    monkeypatch.setattr(page_checksums, "_EXTENSION", "absent")
    with pytest.raises(MachineStorageError, match="Install apsw from its wheel"):
        StateMachine.open(tmp_path / "state.sqlite")


def test_other_programs_still_read_the_file(messages: Path) -> None:
    with closing(sqlite3.connect(f"file:{messages}?mode=ro", uri=True)) as connection:
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (2,)
