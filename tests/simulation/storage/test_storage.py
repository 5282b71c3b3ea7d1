"""A share of the storage campaign, and the proof that it would find bugs; `make storage` runs all of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from parleyd.machine.errors import MachineError
from parleyd.storage.errors import StorageError
from tests.simulation.storage.campaign import Laboratory, crash_everywhere
from tests.simulation.storage.history import History, make_history
from tests.simulation.storage.planted import PLANTED
from tests.simulation.storage.report import Scale, run
from tests.simulation.storage.workload import live


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """What everything is held against, made once."""
    return make_history(tmp_path_factory.mktemp("reference"))


def test_a_crash_a_failed_call_or_rot_never_makes_a_node_know_something_wrong(tmp_path: Path) -> None:
    scale = Scale(width=3, stride=37, fault_stride=61, rot_stride=16384, starts_to_crash=2)
    findings = run(tmp_path, scale, lambda _: None)
    assert not findings.violations(), "\n".join(findings.violations()[:3])
    assert findings.crashes.seen["installation finished by the start"] > 0
    assert findings.crashes.states > 200
    assert findings.faults.points > 10


def test_the_same_life_makes_the_same_calls(tmp_path: Path, history: History) -> None:
    traces = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        recorder, _ = live(tmp_path / name, history)
        traces.append(recorder.calls)
    assert traces[0] == traces[1]
    assert len(traces[0]) > 500


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_bug_is_found(name: str, tmp_path: Path, history: History) -> None:
    planted = PLANTED[name]
    (tmp_path / "life").mkdir()
    with planted.plant():
        try:
            recorder, life = live(tmp_path / "life", history)
        except (StorageError, MachineError):
            assert planted.breaks_the_life
            return
        laboratory = Laboratory(tmp_path / "start", history)
        points = [n for n, promised in enumerate(life.promises) if planted.shows_in in promised.doing]
        for point in points:
            if crash_everywhere(laboratory, recorder.calls, life.promises, 0, 2, [point]).violations:
                return
    pytest.fail(f"{name} was not found in {len(points)} crash points of {planted.shows_in}")
