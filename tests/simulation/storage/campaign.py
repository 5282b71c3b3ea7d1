"""Crashes a recorded life at every call, in many ways, starts a node on each result and judges it.

What a start finds depends on the files alone, so equal files are started on once, and judged against the promises of
every call that could have left them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path

from tests.simulation.storage.choices import KILLED, Choice, choices
from tests.simulation.storage.disk import Call, Disk, Image
from tests.simulation.storage.history import History
from tests.simulation.storage.judge import judge
from tests.simulation.storage.promises import LogVersion, Promises
from tests.simulation.storage.start import Observation, observe
from tests.simulation.storage.workload import FOLDER

STALE_SHM = "killed, and the shared memory is garbage"
TRACE_LINES = 6
WIDTH_OF_SECOND = 2  # of a crash during the start after a crash


@dataclass(frozen=True, slots=True)
class Violation:
    """A crash state after which the node knows something wrong, and how to get there again."""

    doing: str
    damage: str
    detail: str
    wrong: str
    trace: tuple[str, ...]
    again: str

    def __str__(self) -> str:
        lines = "\n".join(f"    {line}" for line in self.trace)
        return (
            f"crash while: {self.doing}\n  found: {self.damage} {self.detail}\n  wrong: {self.wrong}\n"
            f"  the last calls before it:\n{lines}\n  again: {self.again}"
        )


@dataclass(slots=True)
class Tally:
    """What was tried and what came of it."""

    points: int = 0
    states: int = 0
    starts: int = 0
    by_operation: Counter[str] = field(default_factory=Counter)
    by_damage: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    violations: list[Violation] = field(default_factory=list)
    to_crash_again: dict[tuple[str, str, bool, bool], Crashed] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Crashed:
    """A crash state on which a start is worth crashing too."""

    again: str
    promised: Promises
    image: Image


class Laboratory:
    """Starts nodes on images, each image once."""

    def __init__(self, folder: Path, history: History) -> None:
        self.folder = folder
        self.history = history
        self.known: dict[bytes, Observation] = {}

    def look(self, image: Image) -> Observation:
        """What a start finds there."""
        key = digest(image)
        if key not in self.known:
            self.known[key], _ = observe(image, self.folder, self.history)
        return self.known[key]

    def calls_of_a_start(self, image: Image) -> list[Call]:
        """The calls that a start on `image` makes until the node serves."""
        _, recorder = observe(image, self.folder, self.history)
        return recorder.calls


def digest(image: Image) -> bytes:
    """A name for equal images."""
    hashed = blake2b(digest_size=16)
    for path, content in sorted(image.items()):
        hashed.update(f"{path}\0{-1 if content is None else len(content)}\0".encode())
        hashed.update(content or b"")
    return hashed.digest()


def crash_states(disk: Disk, name: str, width: int) -> Iterator[tuple[Choice, Image]]:
    """What a crash could leave of `disk`, each choice with its files; the same again is left out."""
    done: set[bytes] = set()
    for choice in choices(disk.pending, name, width):
        image = disk.image(choice.kept)
        key = digest(image)
        if key not in done or choice.damage == KILLED:
            done.add(key)
            yield choice, image
        if choice.damage == KILLED and FOLDER in image:
            garbage = bytes(range(256)) * 128
            yield Choice(STALE_SHM, "", choice.kept), {**image, f"{FOLDER}/state.sqlite-shm": garbage}


def crash_everywhere(
    laboratory: Laboratory,
    calls: list[Call],
    promises: list[Promises],
    seed: int,
    width: int,
    points: Iterable[int] | None = None,
    only_state: int | None = None,
) -> Tally:
    """Crash after each number of calls in `points` (all, if not said), and judge every state that could be left."""
    tally, disk = Tally(), Disk()
    wanted = set(range(len(calls) + 1) if points is None else points)
    for point in range(len(calls) + 1):
        if point:
            disk.carry_out(calls[point - 1])
        if point not in wanted:
            continue
        tally.points += 1
        promised, before = promises[point], calls[max(0, point - TRACE_LINES) : point]
        for number, (choice, image) in enumerate(crash_states(disk, f"{seed}/{point}", width)):
            if only_state not in (None, number):
                continue
            again = f"--seed {seed} --width {width} --point {point} --state {number}"
            seen = _examine(laboratory, tally, promised, choice, image, before, again)
            if seen.recovered is not None and seen.identity is not None and seen.identity.has_cluster:
                repaired = seen.recovered.repair is not None
                key = (operation_of(promised), choice.damage, seen.installing, repaired)
                tally.to_crash_again.setdefault(key, Crashed(again, promised, image))
    tally.starts = len(laboratory.known)
    return tally


def crash_the_starts(
    laboratory: Laboratory, first: Iterable[Crashed], only_point: int | None = None, only_state: int | None = None
) -> Tally:
    """Start on what a first crash left, and crash that start at each of its calls: the same promises hold."""
    tally = Tally()
    for crashed in first:
        disk, promised = Disk.holding(crashed.image), _while_starting(laboratory.look(crashed.image), crashed.promised)
        calls = laboratory.calls_of_a_start(crashed.image)
        for point in range(len(calls) + 1):
            if point:
                disk.carry_out(calls[point - 1])
            if only_point not in (None, point):
                continue
            tally.points += 1
            before = calls[max(0, point - TRACE_LINES) : point]
            for number, (choice, image) in enumerate(crash_states(disk, f"{crashed.again}/{point}", WIDTH_OF_SECOND)):
                if only_state not in (None, number):
                    continue
                again = f"{crashed.again} --then {point} --second {number}"
                _examine(laboratory, tally, promised, choice, image, before, again)
    tally.starts = len(laboratory.known)
    return tally


def _while_starting(seen: Observation, promised: Promises) -> Promises:
    """A start may have got as far as repairing the log, and no process has lived on to lose what it had."""
    assert seen.recovered is not None
    assert seen.log is not None
    logs = promised.logs
    if seen.recovered.repair is not None:
        found = LogVersion.of(seen.log)
        logs = (*logs, found.after([seen.recovered.repair]))
    return replace(promised, doing=f"start after: {promised.doing}", logs=logs, states_if_killed=promised.states)


def _examine(
    laboratory: Laboratory,
    tally: Tally,
    promised: Promises,
    choice: Choice,
    image: Image,
    before: list[Call],
    again: str,
) -> Observation:
    seen = laboratory.look(image)
    tally.states += 1
    tally.by_operation[operation_of(promised)] += 1
    tally.by_damage[choice.damage] += 1
    count_what_was_seen(tally.seen, seen, promised)
    wrong = judge(seen, promised, killed=choice.damage in (KILLED, STALE_SHM))
    if wrong:
        trace = tuple(str(call) for call in before)
        command = f"python -m tests.simulation.storage {again}"
        tally.violations.append(Violation(promised.doing, choice.damage, choice.detail, wrong, trace, command))
    return seen


def operation_of(promised: Promises) -> str:
    """The first word of what the node was doing."""
    return promised.doing.removeprefix("after ").split()[0]


SEEN = (
    "started over an empty disk",
    "bootstrap done again",
    "installation finished by the start",
    "log repaired by the start",
    "state behind the log",
    "state ahead of the log",
    "operation under way found done",
    "operation under way found not done",
    "commit index lagged",
    "committed entries lost by the state and replayed",
)


def count_what_was_seen(counts: Counter[str], seen: Observation, promised: Promises) -> None:
    """Which of the situations that matter this start was in; one that never comes up was never tested."""
    counts["started over an empty disk"] += seen.identity is None and not seen.refused
    log, recovered = seen.log, seen.recovered
    if log is None or recovered is None or seen.identity is None:
        return
    counts["bootstrap done again"] += not seen.identity.has_cluster
    counts["installation finished by the start"] += seen.installing
    counts["log repaired by the start"] += recovered.repair is not None
    counts["state behind the log"] += seen.applied < log.last_index
    counts["state ahead of the log"] += seen.applied > log.last_index
    if len(promised.logs) == 2 and promised.logs[0].difference(log) != promised.logs[1].difference(log):
        counts["operation under way found done"] += not promised.logs[1].difference(log)
        counts["operation under way found not done"] += not promised.logs[0].difference(log)
    if promised.logs:
        counts["commit index lagged"] += log.hard_state.commit_index < promised.logs[-1].commit
    if promised.states_if_killed:
        counts["committed entries lost by the state and replayed"] += seen.applied < min(promised.states_if_killed)
