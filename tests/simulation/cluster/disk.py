"""One server's disk: the real log and the real state machine, each in a SQLite database in memory.

What is durable when: an append to the log is one transaction under one fsync, so a crash finds it whole or not at all.
The state machine commits without fsync: the death of the process keeps that, the loss of power may take back all of it
down to the last checkpoint. That SQLite on a real disk keeps to this is shown by tests/simulation/storage.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import cast

import apsw

from parleyd.machine.levels import MAX_LEVEL
from parleyd.machine.machine import StateMachine
from parleyd.machine.records import MemberRow
from parleyd.raft.types import ConfState, HardState, Index, NodeId, Term
from parleyd.storage.raft_storage import RaftStorage
from parleyd.transport.codec import encode_membership

IMAGES_BETWEEN_CHECKPOINTS = 3


def member_row(node: int) -> MemberRow:
    """Who a simulated server says it is. All run this release, so the cluster begins with its newest level."""
    return MemberRow(node, f"n{node}", f"n{node}:1", f"n{node}:2", MAX_LEVEL, MAX_LEVEL)


@cache
def bootstrap_images(voters: int) -> tuple[bytes, bytes]:
    """Log and state of a new cluster of servers 1 to `voters`, made by the code that makes them on a real disk."""
    conf_state = ConfState(voters=tuple(NodeId(node) for node in range(1, voters + 1)))
    with tempfile.TemporaryDirectory() as folder:
        log_path, state_path = Path(folder) / "raft.sqlite", Path(folder) / "state.sqlite"
        log = RaftStorage.open(log_path)
        log.initialize(conf_state)
        log.close()
        rows = [member_row(node) for node in conf_state.voters]
        StateMachine.create(state_path, rows, encode_membership(conf_state)).close()
        return _image_of(log_path), _image_of(state_path)


def _image_of(path: Path) -> bytes:
    connection = apsw.Connection(str(path))
    connection.pragma("journal_mode", "delete")  # a database in memory cannot have a write-ahead log
    connection.close()
    return path.read_bytes()


def load_image(image: bytes) -> apsw.Connection:
    """A database in memory with that content."""
    connection = apsw.Connection(":memory:")
    connection.deserialize("main", image)
    connection.pragma("temp_store", "memory")
    return connection


class SimulatedDisk:
    """`state_images` are what power loss may leave, oldest first; the oldest is the last checkpoint's.

    `is_full` until space is made; `next_error` fails one write. `is_lost` says that an operator has to replace this
    server: its content was altered, or wiped.
    """

    def __init__(self, voters: int) -> None:
        log_image, state_image = bootstrap_images(voters)
        self.log_connection = load_image(log_image)
        self.state_connection = load_image(state_image)
        self.state_images: list[tuple[int, bytes]] = [(0, state_image)]
        self.is_full = False
        self.next_error: type[apsw.Error] | None = None
        self.stalled_until = 0
        self.is_lost = False

    # Opening, as a start does

    def open_log(self) -> RaftStorage:
        """The log as a start finds it."""
        log = RaftStorage(Path("raft.sqlite"), self.log_connection)
        log._read_summary()
        return log

    def open_machine(self) -> StateMachine:
        """The state machine as a start finds it."""
        return StateMachine(self.state_connection)

    # What is durable

    def durable_vote(self) -> HardState:
        """Term and vote on disk."""
        row = self.log_connection.execute("SELECT current_term, voted_for, commit_index FROM state").get
        return HardState(Term(row[0]), NodeId(row[1]), Index(row[2]))

    def durable_last_index(self) -> int:
        """The last entry on disk."""
        query = "SELECT max(snapshot_index, coalesce((SELECT max(idx) FROM entries), 0)) FROM state"
        return int(self.log_connection.execute(query).get)

    def has_entry(self, index: int, term: int) -> bool:
        """Whether the entry is durable here: in the log, or behind its start. A lost disk had what it promised."""
        if self.is_lost:
            return True
        if self.log_connection.execute("SELECT term FROM entries WHERE idx = ?", (index,)).get == term:
            return True
        return bool(self.log_connection.execute("SELECT snapshot_index >= ? FROM state", (index,)).get)

    # Writing, with failures

    def write(self, write: Callable[[], None], connection: apsw.Connection, rng: random.Random) -> None:
        """Do `write`; where the disk fails, SQLite says so at one of its statements."""
        error, self.next_error = self.next_error, None
        if self.is_full:
            error = apsw.FullError
        if error is None:
            write()
            return
        countdown = rng.randint(0, 3)

        def fail(*_: object) -> bool:
            nonlocal countdown
            countdown -= 1
            if countdown < 0:
                raise error("the simulated disk fails")
            return True

        connection.exec_trace = fail
        try:
            write()
        finally:
            connection.exec_trace = None
        raise error("the simulated disk fails, although it has kept what was written")

    def roll_back(self) -> None:
        """What a dead process had begun never happened."""
        for connection in (self.log_connection, self.state_connection):
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    # The state machine's file

    def sample_image(self, applied_index: int, rng: random.Random) -> None:
        """Remember now and then what a loss of power might leave."""
        if rng.random() < 0.1 and len(self.state_images) <= IMAGES_BETWEEN_CHECKPOINTS:
            self.state_images.append((applied_index, self.state_connection.serialize("main")))

    def checkpointed(self, applied_index: int) -> None:
        """All that was applied is durable."""
        self.state_images = [(applied_index, self.state_connection.serialize("main"))]

    def lose_power(self, rng: random.Random) -> None:
        """The state is what it was at some time since the last checkpoint."""
        self.roll_back()
        _, image = rng.choice(self.state_images)
        self.state_connection = load_image(image)

    def install(self, image: bytes, applied_index: int) -> None:
        """A received snapshot takes the place of the state, durably."""
        self.state_connection = load_image(image)
        self.state_images = [(applied_index, image)]

    def content(self) -> list[tuple[str, list[tuple[object, ...]]]]:
        """Every row of the state, for comparing what two servers hold."""
        connection = self.state_connection
        tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name").fetchall()
        return [
            (str(table), sorted(connection.execute(f"SELECT * FROM {table}").fetchall()))
            for (table,) in tables
            if table != "checkpoints"  # each node's own
        ]

    # Damage

    def rot(self, rng: random.Random) -> str:
        """Alter a bit of an entry, or of term and vote; returns what was hit, nothing if there was nothing to hit."""
        entries = self._entries()
        if entries and rng.random() < 0.8:
            index, data = rng.choice(entries)
            if data:
                place = rng.randrange(len(data))
                altered = data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
                self.log_connection.execute("UPDATE entries SET data = ? WHERE idx = ?", (altered, index))
            else:
                self.log_connection.execute("UPDATE entries SET term = term + 1 WHERE idx = ?", (index,))
            self.is_lost = True
            return f"entry {index}"
        column = rng.choice(("current_term", "voted_for", "snapshot_index"))
        self.log_connection.execute(f"UPDATE state SET {column} = {column} + 1")
        self.is_lost = True
        return column

    def misdirect(self, rng: random.Random) -> str:
        """Write one entry over another's place."""
        entries = self._entries()
        if len(entries) < 2:
            return ""
        (source, _), (target, _) = rng.sample(entries, 2)
        self.log_connection.execute(
            "UPDATE entries SET (term, type, data, checksum) = "
            "(SELECT term, type, data, checksum FROM entries WHERE idx = ?) WHERE idx = ?",
            (source, target),
        )
        self.is_lost = True
        return f"entry {source} over {target}"

    def _entries(self) -> list[tuple[int, bytes]]:
        query = "SELECT idx, data FROM entries WHERE idx > (SELECT snapshot_index FROM state) ORDER BY idx"
        return [cast("tuple[int, bytes]", row) for row in self.log_connection.execute(query)]
