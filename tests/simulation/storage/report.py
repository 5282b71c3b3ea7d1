"""One campaign over everything, and what came of it as JSON and as text."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.simulation.storage.campaign import SEEN, Laboratory, Tally, crash_everywhere, crash_the_starts
from tests.simulation.storage.choices import DAMAGES
from tests.simulation.storage.disk import Kind
from tests.simulation.storage.faults import fail_every_call
from tests.simulation.storage.history import History, make_history
from tests.simulation.storage.promises import Promises
from tests.simulation.storage.recorder import Recorder
from tests.simulation.storage.rot import RotTally, rot_everywhere, rot_in_transfer
from tests.simulation.storage.workload import live

_STEPS_TO_ROT = ("after append 12 to 12", "after append 23 to 23", "after stop", "after append 40 to 40")
_TRANSFERS = 40


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything.

    `stride` 1 means every call, a larger one fewer calls and every rename; `rot_stride` bytes lie between two flipped
    bits.
    """

    seed: int = 0
    width: int = 6
    stride: int = 1
    fault_stride: int = 1
    rot_stride: int = 256
    starts_to_crash: int = 100


@dataclass(frozen=True, slots=True)
class Findings:
    """What a whole campaign saw."""

    calls: int
    crashes: Tally
    starts: Tally
    faults: Tally
    rot: RotTally
    wall_s: float

    def violations(self) -> list[str]:
        """All of them, as text."""
        return [str(one) for tally in (self.crashes, self.starts, self.faults) for one in tally.violations] + [
            *self.rot.violations
        ]

    def never_seen(self) -> list[str]:
        """Situations and kinds of damage that did not come up, and so were not tested."""
        seen = self.crashes.seen + self.starts.seen
        return [what for what in SEEN if not seen[what]] + [d for d in DAMAGES if not self.crashes.by_damage[d]]

    def report(self) -> dict[str, Any]:
        """For build/storage.json."""
        crashes, starts, faults = self.crashes, self.starts, self.faults
        return {
            "storage_calls_of_the_workload": self.calls,
            "crash_points": crashes.points,
            "crash_states": crashes.states,
            "crash_points_during_a_start": starts.points,
            "crash_states_during_a_start": starts.states,
            "different_disks_started_from": starts.starts,
            "calls_failed": faults.points,
            "crash_states_after_a_failed_call": faults.states,
            "by_operation": _sorted(crashes.by_operation),
            "by_damage": _sorted(crashes.by_damage),
            "by_damage_during_a_start": _sorted(starts.by_damage),
            "by_failed_call": _sorted(faults.by_damage),
            "rot_of_synced_data": self.rot.by_file(),
            "seen": {what: (crashes.seen + starts.seen)[what] for what in SEEN},
            "never_seen": self.never_seen(),
            "violations": len(self.violations()),
            "wall_s": round(self.wall_s, 1),
        }


def begin(folder: Path) -> tuple[History, Recorder, list[Promises]]:
    """The reference, and one recorded life."""
    (folder / "reference").mkdir()
    (folder / "life").mkdir()
    history = make_history(folder / "reference")
    recorder, life = live(folder / "life", history)
    return history, recorder, life.promises


def run(folder: Path, scale: Scale, tell: Callable[[str], None]) -> Findings:
    """Everything, in an empty folder."""
    began = time.monotonic()
    history, recorder, promises = begin(folder)
    laboratory = Laboratory(folder / "start", history)
    calls = recorder.calls
    after_renames = {call.number + 1 for call in calls if call.kind is Kind.RENAME}
    points = sorted({*range(0, len(calls) + 1, scale.stride), *after_renames})
    crashes = crash_everywhere(laboratory, calls, promises, scale.seed, scale.width, points)
    tell(f"crashed {crashes.points} times, {crashes.states} states, {len(crashes.violations)} violations")
    starts = crash_the_starts(laboratory, list(crashes.to_crash_again.values())[: scale.starts_to_crash])
    tell(f"crashed in starts {starts.points} times, {starts.states} states, {len(starts.violations)} violations")
    faults = fail_every_call(laboratory, calls, scale.seed, range(0, len(calls), scale.fault_stride))
    tell(f"failed {faults.points} calls, {faults.states} states, {len(faults.violations)} violations")
    resting = [point for point, promised in enumerate(promises) if promised.doing in _STEPS_TO_ROT]
    resting += [call.number + 1 for call in calls if call.target.endswith(".installing")][:1]
    rot = rot_everywhere(laboratory, calls, promises, resting, scale.seed, scale.rot_stride)
    received = rot_in_transfer(laboratory, scale.seed, _TRANSFERS)
    rot.outcomes.update(received.outcomes)
    rot.violations.extend(received.violations)
    tell(f"damaged synced data {rot.outcomes.total()} times, {len(rot.violations)} violations")
    return Findings(len(calls), crashes, starts, faults, rot, time.monotonic() - began)


def _sorted(counts: Counter[str]) -> dict[str, int]:
    return dict(sorted(counts.items()))
