"""Snapshot files of peers: a state with changed bytes, or changed by SQL as only a program can.

A file is refused with an error of the machine, or it is a state of the product that opens. A file whose schema is not
exactly that of its level is never taken.
"""

from __future__ import annotations

import functools
import tempfile
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

import apsw
from hypothesis import strategies as st

from parleyd.formats import FormatRefusedError
from parleyd.machine.errors import MachineError
from parleyd.machine.machine import StateMachine
from parleyd.machine.verify import verify_state_file
from parleyd.page_checksums import checksum_vfs
from tests.fuzz.engine import Target
from tests.unit.machine.harness import Node

REFUSALS = (MachineError, FormatRefusedError)

STATEMENTS = [
    "CREATE TABLE evil(x)",
    "CREATE VIEW evil AS SELECT * FROM accounts",
    "CREATE TRIGGER evil AFTER INSERT ON messages BEGIN DELETE FROM accounts; END",
    "CREATE INDEX evil ON accounts(name)",
    "CREATE TABLE meta2 AS SELECT * FROM meta",
    "DROP TABLE meta",
    "DROP TABLE raised_levels",
    "ALTER TABLE accounts RENAME TO people",
    "ALTER TABLE accounts ADD COLUMN evil INTEGER",
    "PRAGMA application_id = 7",
    "PRAGMA user_version = 0",
    "PRAGMA user_version = 2",
    "PRAGMA user_version = 99",
    "UPDATE meta SET level = 2",
    "UPDATE meta SET applied_index = -1",
    "UPDATE meta SET membership = x''",
    "DELETE FROM meta",
    "DELETE FROM cluster_members",
    "VACUUM",
]
SCHEMA_CHANGES = ("CREATE", "DROP", "ALTER")


@dataclass(frozen=True)
class Altered:
    """What is done to a sound file: statements first, then bytes, then its end is cut off."""

    statements: list[str]
    bytes_: list[tuple[int, int]]
    keep: float


ALTERED = st.builds(
    Altered,
    statements=st.lists(st.sampled_from(STATEMENTS), max_size=3),
    bytes_=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=4),
    keep=st.just(1.0) | st.floats(0, 1),
)


@functools.cache
def sound_file() -> bytes:
    """A state with an account and some messages."""
    with tempfile.TemporaryDirectory() as folder:
        node = Node(Path(folder) / "state.sqlite")
        node.rise()
        session = node.user("ada", 1)
        node.send(session, (1, "ada", "hello"))
        node.close()
        return node.path.read_bytes()


def check_file(altered: Altered) -> None:
    """The file is refused, or it opens; a changed schema is never taken."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "state.sqlite"
        path.write_bytes(sound_file())
        has_other_schema = apply_statements(path, altered.statements)
        content = bytearray(path.read_bytes())
        for place, byte in altered.bytes_:
            content[place % len(content)] = byte
        path.write_bytes(content[: int(len(content) * altered.keep)])
        try:
            verify_state_file(path)
        except REFUSALS:
            return
        assert not has_other_schema
        with suppress(*REFUSALS):
            StateMachine.open(path).close()


def apply_statements(path: Path, statements: list[str]) -> bool:
    """Change the file by SQL; return whether its schema has changed."""
    is_changed = False
    with closing(apsw.Connection(str(path), vfs=checksum_vfs())) as connection:
        for statement in statements:
            with suppress(apsw.Error):
                connection.execute(statement)
                is_changed = is_changed or statement.startswith(SCHEMA_CHANGES)
    return is_changed


TARGETS = (Target("snapshot-files", ALTERED, check_file),)
