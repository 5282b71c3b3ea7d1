"""The life of one node, as one run of the real code: bootstrapped, voting, appending, applying, cut, killed, restored.

Every step says beforehand what it will have promised when it returns. The orders in which several files change
(bootstrap, recovery, cutting the log, installing a snapshot) are the server's own, called on just as much of a node as
they need. Tuning that would take thousands of entries to matter is turned down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import apsw

from parley_proto.v1 import peer_pb2
from parleyd.group.files import GroupFiles
from parleyd.group.opening import create_files, recover
from parleyd.group.retention import LogBounds, LogRetention
from parleyd.group.snapshot_store import SnapshotStore
from parleyd.machine import machine as state_machine
from parleyd.machine.machine import StateMachine
from parleyd.raft.types import Entry, HardState, Index, NodeId, SnapshotMeta, Term
from parleyd.raft.update import Persist
from parleyd.storage import identity as identities
from parleyd.storage import log_file, raft_storage, snapshots
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.raft_storage import RaftStorage
from tests.simulation.storage.history import (
    BOOTSTRAPPED,
    NOT_BOOTSTRAPPED,
    OWN,
    SECOND,
    THIRD,
    History,
    committed,
    look_at,
)
from tests.simulation.storage.promises import LogVersion, Promises
from tests.simulation.storage.recorder import Recorder

FOLDER = "var/node"  # below the recorder's root; none of it exists at first
_RETAINED = 4
_CHUNK_BYTES = 16 << 10
SILENT = SimpleNamespace(info=lambda *_, **__: None)


@contextmanager
def tuned_down() -> Iterator[None]:
    """Checkpoints, garbage and copies come in steps small enough to happen in a short life."""
    with ExitStack() as patches:
        patches.enter_context(patch.object(log_file, "_AUTOCHECKPOINT_PAGES", 12))
        patches.enter_context(patch.object(raft_storage, "GARBAGE_ROWS_PER_WRITE", 3))
        patches.enter_context(patch.object(state_machine, "LONG_WAL_PAGES", 30))
        patches.enter_context(patch.object(snapshots, "PAGES_PER_STEP", 16))
        yield


def kill(connection: apsw.Connection) -> None:
    """Let go of a database the way a killed process does: nothing more is written."""
    with suppress(apsw.ConnectionClosedError):  # a close that failed has closed all the same
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        connection.close(True)


class Life:
    """Runs the steps; `promises[n]` is what holds after a crash when `n` calls had returned."""

    def __init__(self, recorder: Recorder, history: History) -> None:
        self._recorder = recorder
        self.history = history
        self._path = recorder.root / FOLDER
        self.promises: list[Promises] = [Promises()]
        self._now = self.promises[0]
        self._version = LogVersion()
        self._commit = 0
        recorder.listener = lambda: self.promises.append(self._now)
        self.data: DataDirectory | None = None
        self.log: RaftStorage | None = None
        self.machine: StateMachine | None = None
        self.snapshot_store: SnapshotStore | None = None
        self.retention = LogRetention(LogBounds(_RETAINED, 1 << 30), [])

    # ---- the script

    def run(self) -> None:
        """The whole life; ends with the node stopped."""
        self._found()
        self._start()
        self._vote(1, OWN)
        self._append(self._entries(1, 1))
        self._append(self._entries(2, 3), self._entries(4, 5, commit=3))
        self._apply(1, 3)
        self._append(Persist(hard_state=self._hard(commit=5), must_sync=False))
        self._apply(4, 4)
        self._apply(5, 5)
        for index in range(6, 13):
            self._append(self._entries(index, index, commit=index - 1))
            self._apply(index, index)
        self._append(self._stale(13, 14, term=1))
        self._vote(2, SECOND)
        self._append(self._entries(13, 15, commit=12))
        self._apply(13, 15)
        self._apply(16, 17)  # a majority has them before this node's own disk
        self._append(self._entries(16, 18, commit=17))
        self._cut()
        self._make_snapshot()
        self._kill()
        self._start()
        for index in range(18, 23):
            self._append(self._entries(index + 1, index + 1, commit=index))
            self._apply(index, index)
        self._checkpoint()
        self._apply(23, 23)
        self._stop()
        self._start()
        self._append(self._entries(24, 25, commit=23), self._entries(26, 26, commit=25))
        self._apply(24, 26)
        self._vote(3, THIRD)
        self._append(self._stale(27, 29, term=3))
        self._vote(4, NodeId(0))
        self._restore(28)  # over a stale tail that reaches past it
        self._restore(32)  # and at once another
        self._append(self._entries(33, 34, commit=32))
        self._apply(33, 34)
        for index in range(35, 41):
            self._append(self._entries(index, index, commit=index))
            self._apply(index, index)
        self._cut()
        self._kill()
        self._start()
        self._vote(5, SECOND)
        self._append(self._stale(41, 42, term=5))
        self._stop()

    # ---- steps

    @contextmanager
    def _doing(self, what: str, **allowed: Any) -> Iterator[None]:
        """While inside, what is `allowed` beforehand or afterwards; the step's own end says what holds then."""
        self._recorder.during = what
        self._now = replace(self._now, doing=what, **allowed)
        yield
        self._recorder.check()

    def _done(self, **promised: Any) -> None:
        """From here on a crash must find what is `promised`."""
        self._now = replace(self._now, doing=f"after {self._recorder.during}", **promised)
        self.promises[-1] = self._now

    def _found(self) -> None:
        with self._doing("bootstrap", identities=(None, NOT_BOOTSTRAPPED)):
            self.data = DataDirectory.open(self._path)
            identities.save(self.data.identity, NOT_BOOTSTRAPPED)
            self._done(identities=(NOT_BOOTSTRAPPED,))
            self.data.discard_incomplete_bootstrap()
            self._version = LogVersion()
            first = frozenset({0})
            self._now = replace(
                self._now,
                doing="bootstrap",
                identities=(NOT_BOOTSTRAPPED, BOOTSTRAPPED),
                logs=(self._version,),
                states=first,
                states_if_killed=first,
            )
            create_files(self.data, BOOTSTRAPPED)
            identities.save(self.data.identity, BOOTSTRAPPED)
            self._done(identities=(BOOTSTRAPPED,))

    def _start(self) -> None:
        with self._doing("start"):
            if self.data is None:
                self.data = DataDirectory.open(self._path)
            assert identities.load(self.data.identity) == BOOTSTRAPPED
            self.log = RaftStorage.open(self.data.raft_db)
            self.machine = StateMachine.open(self.data.state_db)
            recovered = recover(self.log, self.machine)
            found = self.log.load()
            assert not self._version.difference(found), self._version.difference(found)
            # What of the commit index was not written is forgotten.
            self._version = replace(self._version, commit=found.hard_state.commit_index)
            self._commit = recovered.hard_state.commit_index
            self.retention = LogRetention(LogBounds(_RETAINED, 1 << 30), recovered.applied_entries())
            self.snapshot_store = SnapshotStore(self.data, _CHUNK_BYTES)
            self._done(logs=(self._version,))

    def _append(self, *writes: Persist) -> None:
        what = "append the commit index"
        if writes[-1].entries:
            what = f"append {writes[0].entries[0].index} to {writes[-1].entries[-1].index}"
        self._log_operation(what, self._version.after(writes), lambda log: log.append(writes))

    def _vote(self, term: int, vote: NodeId) -> None:
        write = Persist(hard_state=HardState(Term(term), vote, Index(self._commit)))
        self._log_operation(
            f"vote for {vote} in term {term}", self._version.after([write]), lambda log: log.append([write])
        )

    def _log_operation(self, what: str, after: LogVersion, operation: Callable[[RaftStorage], None]) -> None:
        assert self.log is not None
        with self._doing(what, logs=(self._version, after)):
            operation(self.log)
            self._version = after
            self._done(logs=(after,))

    def _apply(self, first: int, last: int) -> None:
        assert self.machine is not None
        entries = self.history.slice(first, last)
        both = self._now.states_if_killed | {last}
        with self._doing(f"apply {first} to {last}", states=self._now.states | {last}, states_if_killed=both):
            self.machine.apply([committed(entry) for entry in entries])
            if self.machine.has_long_wal:
                self.machine.shorten_wal()
            self.retention.applied(entries)
            seen = look_at(self.machine, self._path / "state.sqlite")
            assert not seen.difference(self.history.states[last]), "applied in other portions, it is another state"
            self._done(states_if_killed=frozenset({last}))

    def _checkpoint(self) -> None:
        assert self.machine is not None
        with self._doing("checkpoint"):
            covered = self.machine.checkpoint()
            self._done(states=frozenset(s for s in self._now.states if s >= covered))

    def _cut(self) -> None:
        """Checkpoint and compact, as the group asks for it."""
        assert self.log is not None
        assert self.machine is not None
        applied = self.machine.applied_index
        meta = self.history.meta(applied - _RETAINED)
        after = self._version.cut(meta)

        with self._doing("cut the log"):
            covered = self.machine.checkpoint()
            self._done(states=frozenset(s for s in self._now.states if s >= covered))
            self._now = replace(self._now, doing=self._recorder.during, logs=(self._version, after))
            target = self.retention.plan_compaction(covered)
            assert target == (meta.index, meta.term)
            self.log.compact(meta)
            self.retention.compact(meta.index)
            self._version = after
            self._done(logs=(after,))

    def _make_snapshot(self) -> None:
        assert self.snapshot_store is not None
        with self._doing("make a snapshot"):
            made = self.snapshot_store._make()
            self._done()
        assert made.meta.index in self._now.states_if_killed

    def _restore(self, index: int) -> None:
        """Receive a snapshot and install it, as the product does it."""
        assert self.snapshot_store is not None
        meta, made = self.history.meta(index), self.history.snapshots[index]
        header = peer_pb2.SnapshotHeader(total_bytes=made.total_bytes, sha256=made.sha256)

        async def chunks() -> AsyncIterator[bytes]:
            for chunk in snapshots.read_chunks(made.path, _CHUNK_BYTES):
                yield chunk

        with self._doing(f"receive snapshot {index}"):
            asyncio.run(self.snapshot_store.receive(header, meta, chunks()))
            self._done()
        self._commit = index
        write = Persist(hard_state=self._hard(index), snapshot=meta)
        after = self._version.after([write])
        either = {"states": self._now.states | {index}, "states_if_killed": self._now.states_if_killed | {index}}
        with self._doing(f"restore snapshot {index}", logs=(self._version, after), **either):
            asyncio.run(self._install(meta, write))
            self.retention.start_over()
            self.snapshot_store.discard_received(Index(index))
            self._version = after
            new = frozenset({index})
            self._done(logs=(after,), states=new, states_if_killed=new)

    def _kill(self) -> None:
        with self._doing("kill"):
            self.let_go()
            self._done()

    def _stop(self) -> None:
        assert self.log is not None
        assert self.machine is not None
        # On the way out the commit index is written, if it waited.
        after = replace(self._version, written_commit=self._version.commit)
        with self._doing("stop"):
            self.machine.close()
            self.log.close()
            self._version = after
            self.let_go()
            self._done(logs=(after,))

    def let_go(self) -> None:
        """End the process: whatever is open is closed without a word to the disk."""
        for database in (self.log, self.machine):
            if database is not None:
                kill(database._connection)
        if self.snapshot_store is not None:
            self.snapshot_store.close()
        if self.data is not None:
            self.data.close()
        self.data, self.log, self.machine, self.snapshot_store = None, None, None, None

    # ---- what the steps are given

    def _hard(self, commit: int) -> HardState:
        return HardState(self._version.term, self._version.vote, Index(commit))

    def _entries(self, first: int, last: int, commit: int = 0) -> Persist:
        entries = self.history.slice(first, last)
        self._commit = max(self._commit, commit)
        return Persist(hard_state=self._hard(self._commit), entries=entries)

    def _stale(self, first: int, last: int, term: int) -> Persist:
        """Entries that a leader of `term` wrote and that never got a majority."""
        entries = tuple(Entry(Term(term), Index(index), data=b"stale" * index) for index in range(first, last + 1))
        return Persist(entries=entries)

    async def _install(self, meta: SnapshotMeta, write: Persist) -> None:
        assert self.log is not None
        assert self.machine is not None
        assert self.snapshot_store is not None
        files = GroupFiles(
            self.log, self.machine, cast(Any, SimpleNamespace(paused=_nobody_reads)), self.snapshot_store
        )
        try:
            await files.install(meta, write)
        finally:
            self.machine = files.machine
            files.let_go()


@asynccontextmanager
async def _nobody_reads() -> AsyncIterator[None]:
    yield


def live(root: Path, history: History) -> tuple[Recorder, Life]:
    """One life, from an empty disk to a clean stop."""
    recorder = Recorder(root)
    life = Life(recorder, history)
    with recorder.recording(), tuned_down():
        try:
            life.run()
        finally:
            life.let_go()
    return recorder, life
