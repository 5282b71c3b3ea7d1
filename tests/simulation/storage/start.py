"""Starts a node on what a crash left, by the code of a real start, and writes down what it then knows.

The order is that of the server: take and tidy the folder, read the identity, open log and state, bring the two
together, replay. Afterwards the node votes and writes on, is killed and started again: what it knows must stay.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import apsw

from parleyd.group.opening import create_files, recover
from parleyd.machine.errors import MachineDamagedError, MachineError
from parleyd.machine.machine import StateMachine
from parleyd.raft.types import HardState, Index, NodeId, Term
from parleyd.raft.update import Persist
from parleyd.storage import identity as identities
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.errors import StorageDamagedError, StorageError
from parleyd.storage.identity import NodeIdentity
from parleyd.storage.raft_storage import LogContents, RaftStorage
from parleyd.storage.recovery import Recovered
from tests.simulation.storage.disk import Disk, Image, put
from tests.simulation.storage.history import BOOTSTRAPPED, SECOND, History, State, committed, entry_at, look_at
from tests.simulation.storage.recorder import Recorder
from tests.simulation.storage.workload import FOLDER, kill


@dataclass(frozen=True, slots=True)
class Observation:
    """What a start found; `refused` when it would not start, `problem` when it started from something wrong."""

    refused: str = ""
    damaged: bool = False
    problem: str = ""
    identity: NodeIdentity | None = None
    log: LogContents | None = None
    applied: int = 0
    recovered: Recovered | None = None
    installing: bool = False
    unreadable: bool = False  # SQLite itself noticed, if only when it came to what is damaged


class _UnreadableError(Exception):
    """Reading the whole state met damage that the start passed by."""


@dataclass(slots=True)
class _Open:
    data: DataDirectory
    log: RaftStorage
    machine: StateMachine


def observe(image: Image, folder: Path, history: History) -> tuple[Observation, Recorder]:
    """Start twice on `image`, in `folder`, which is emptied first; also gives the first start's calls."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    put(image, folder)
    recorder = Recorder(folder, Disk.holding(image))
    with recorder.recording():
        try:
            seen = _start(folder / FOLDER, history, recorder)
        except (StorageError, MachineError) as error:
            damaged = isinstance(error, StorageDamagedError | MachineDamagedError)
            return Observation(refused=f"{type(error).__name__}: {error}", damaged=damaged), recorder
        except _UnreadableError as error:
            return Observation(problem=str(error), unreadable=True), recorder
    return seen, recorder


def _start(path: Path, history: History, recorder: Recorder) -> Observation:
    recorder.during = "start"
    installing = (path / "state.sqlite.installing").exists()
    with DataDirectory.open(path) as data:
        identity = identities.load(data.identity)
        if identity is None or not identity.has_cluster:
            # Nothing was promised but the name: found anew over whatever is there.
            data.discard_incomplete_bootstrap()
            create_files(data, BOOTSTRAPPED)
            identities.save(data.identity, BOOTSTRAPPED)
        with _opened(data) as node:
            found = node.log.load()
            state = _look_at(node)
            problem = _check_state(state, node.machine, history)
            recovered = recover(node.log, node.machine)
            calls = len(recorder.calls)
            problem = (
                problem or _replay(node, recovered, history) or _check_state(_look_at(node), node.machine, history)
            )
            expected = _write_on(node, recovered)
        problem = problem or _start_again(data, expected, recovered, history)
    del recorder.calls[calls:]
    return Observation(
        problem=problem,
        identity=identity,
        log=found,
        applied=state.applied,
        recovered=recovered,
        installing=installing,
    )


@contextmanager
def _opened(data: DataDirectory) -> Iterator[_Open]:
    """Log and state, and a kill at the end."""
    log = RaftStorage.open(data.raft_db)
    try:
        machine = StateMachine.open(data.state_db)
        try:
            yield _Open(data, log, machine)
        finally:
            kill(machine._connection)
    finally:
        kill(log._connection)


def _look_at(node: _Open) -> State:
    try:
        return look_at(node.machine, node.data.state_db)
    except (apsw.Error, UnicodeDecodeError) as error:
        raise _UnreadableError(f"reading the whole state: {error}") from error


def _check_state(state: State, machine: StateMachine, history: History) -> str:
    """Whether this is the state as of the entry it names."""
    if not 0 <= state.applied < len(history.states):
        return f"the state names entry {state.applied}, which never was"
    difference = state.difference(history.states[state.applied])
    if difference:
        return f"the state as of entry {state.applied} is another one: {difference}"
    try:
        verdict = machine._connection.pragma("integrity_check")
    except apsw.Error as error:
        raise _UnreadableError(f"checking the whole state: {error}") from error
    # The check goes on where any other reader ends.
    if "unable to get the page" in str(verdict) or "failed to get page" in str(verdict):
        raise _UnreadableError(f"checking the whole state: {verdict}")
    return "" if verdict == "ok" else f"SQLite says of the state: {verdict}"


def _replay(node: _Open, recovered: Recovered, history: History) -> str:
    """Apply what is known to be committed, as the driver would."""
    missing = [e for e in recovered.entries if recovered.applied_index < e.index <= recovered.hard_state.commit_index]
    for entry in missing:
        if entry.index >= len(history.states) or entry != history.entry(entry.index):
            return f"entry {entry.index} of term {entry.term} would be applied, which was never committed"
        node.machine.apply([committed(entry)])
    reached = recovered.applied_index + len(missing)
    if recovered.hard_state.commit_index != reached:
        return f"committed up to {recovered.hard_state.commit_index}, but replay ends at {reached}"
    return ""


def _write_on(node: _Open, recovered: Recovered) -> LogContents:
    """Vote in the next term and append an entry there; gives what the log must hold from then on."""
    hard = recovered.hard_state
    term = Term(hard.current_term + 1)
    last = recovered.entries[-1].index if recovered.entries else recovered.snapshot.index
    entry = replace(entry_at(1), term=term, index=Index(last + 1))
    node.log.append([Persist(hard_state=HardState(term, NodeId(0), hard.commit_index))])
    voted = HardState(term, SECOND, hard.commit_index)
    node.log.append([Persist(hard_state=voted, entries=(entry,))])
    return LogContents(voted, (*recovered.entries, entry), recovered.snapshot)


def _start_again(data: DataDirectory, expected: LogContents, first: Recovered, history: History) -> str:
    with _opened(data) as node:
        found = node.log.load()
        if found != expected:
            return f"after a second start the log is {found}, not {expected}"
        state = _look_at(node)
        problem = _check_state(state, node.machine, history)
        if problem:
            return f"after a second start {problem}"
        reached = max(first.applied_index, first.hard_state.commit_index)
        if state.applied < reached:
            return f"after a second start the state fell back to {state.applied} from {reached}"
        # Replay writes the same bytes again, so transactions behind a torn one may be whole again: then it is ahead.
        if state.applied == reached and recover(node.log, node.machine).repair is not None:
            return "a repaired log is repaired again at the next start"
    return ""
