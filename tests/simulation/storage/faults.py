"""Every call fails once, with EIO and where it can with ENOSPC: the step must say so, its object must be dead.

A write or sync that failed may have been kept or lost. So after the failure nothing may be synced again, a crash then
must leave what a crash at that call may leave, and a fresh start must go on from it.
"""

from __future__ import annotations

import errno
import gc
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial

import apsw

from parleyd.machine.errors import MachineDamagedError, MachineError, MachineStorageError
from parleyd.raft.errors import PeerProtocolError
from parleyd.storage.errors import CopyFailedError, StorageDamagedError, StorageError
from tests.simulation.storage.campaign import Laboratory, Tally, Violation, operation_of
from tests.simulation.storage.choices import KILLED, choices
from tests.simulation.storage.disk import Call, Kind
from tests.simulation.storage.judge import judge
from tests.simulation.storage.recorder import Fault, Recorder
from tests.simulation.storage.workload import Life, tuned_down

ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC}
_NEEDS_SPACE = {Kind.CREATE, Kind.WRITE, Kind.MKDIR, Kind.RENAME}
_WIDTH = 1


def fail_every_call(laboratory: Laboratory, calls: list[Call], seed: int, numbers: Iterable[int]) -> Tally:
    """Live once for each fault, up to where it ends that life."""
    tally = Tally()
    for number in numbers:
        for name, error in ERRORS.items():
            if name == "EIO" or calls[number].kind in _NEEDS_SPACE:
                tally.points += 1
                for damage, wrong in _fail(laboratory, Fault(number, error), tally, seed):
                    tally.by_damage[f"{name} on {calls[number].kind.value}"] += 1
                    if wrong:
                        tally.violations.append(_violation(calls[number], f"{name}, {damage}", wrong, seed))
    return tally


def _fail(laboratory: Laboratory, fault: Fault, tally: Tally, seed: int) -> Iterator[tuple[str, str]]:
    root = laboratory.folder.with_name("faulty")
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    recorder = Recorder(root, fault=fault)
    life = Life(recorder, laboratory.history)
    wrong = "the step went on as if nothing had happened"
    with recorder.recording(), tuned_down():
        try:
            life.run()
        except (StorageError, MachineError, PeerProtocolError, CopyFailedError) as error:
            wrong = _unfit(error, recorder, fault) or _still_works(life)
        finally:
            _close(life)
            life.let_go()
    yield "", wrong or _synced_again(recorder)
    promised = life.promises[-1]
    for choice in choices(recorder.disk.pending, f"{seed}/{fault}", _WIDTH):
        seen = laboratory.look(recorder.disk.image(choice.kept))
        tally.states += 1
        tally.by_operation[operation_of(promised)] += 1
        yield f"then {choice.damage} {choice.detail}", judge(seen, promised, killed=choice.damage == KILLED)


def _synced_again(recorder: Recorder) -> str:
    """A sync that failed once may succeed the next time without having written anything."""
    failed = recorder.failed
    assert failed is not None
    if failed.kind not in (Kind.SYNC, Kind.SYNC_FOLDER) or failed.during == "bootstrap":
        return ""  # a bootstrap that was cut short is done again from nothing
    again = [c for c in recorder.calls[failed.number :] if c.kind is failed.kind and c.path == failed.path]
    return f"what was not synced is synced again: {again[0]}" if again else ""


def _unfit(error: Exception, recorder: Recorder, fault: Fault) -> str:
    """Whether the step failed in the wrong way."""
    assert recorder.failed is not None
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, StorageDamagedError | MachineDamagedError):
        return f"one failed call is called damage, which asks for the node to be wiped: {text}"
    receives = recorder.during.startswith("receive")
    if isinstance(error, PeerProtocolError) and not (receives and fault.errno == errno.ENOSPC):
        return f"the sender is blamed for this node's disk: {text}"
    return ""


def _still_works(life: Life) -> str:
    """After a step of the log or the state machine failed, that object takes nothing more."""
    doing, log, machine = life.promises[-1].doing, life.log, life.machine
    # Nothing to write is asked for, so that an object which is well writes nothing.
    log_works = log is not None and _works(partial(log.append, []))
    machine_works = machine is not None and _works(partial(machine.apply, []))
    if doing.startswith(("append", "vote")) and log_works:
        return "the log takes writes after one of them failed"
    if doing.startswith(("apply", "checkpoint")) and machine_works:
        return "the state machine applies after it failed"
    if doing.startswith(("cut", "restore")) and log_works and machine_works:
        return "log and state machine both go on after one of them failed"
    return ""


def _works(operation: Callable[[], object]) -> bool:
    try:
        operation()
    except (StorageError, MachineStorageError):
        return False
    return True


def _close(life: Life) -> None:
    """What the server does with log and state on its way out, also after a failure."""
    for database in (life.machine, life.log):
        if database is not None:
            # A failure to tidy up while closing is SQLite's own secret, except that a VFS in Python gives it away.
            with suppress(StorageError, MachineError, apsw.ConnectionClosedError):
                database.close()
    if life.promises[-1].doing == "bootstrap":
        gc.collect()  # a bootstrap that failed leaves its log to the end of the process


def _violation(call: Call, damage: str, wrong: str, seed: int) -> Violation:
    again = f"python -m tests.simulation.storage --seed {seed} --fail {call.number}"
    return Violation(call.during, damage, "", wrong, (str(call),), again)
