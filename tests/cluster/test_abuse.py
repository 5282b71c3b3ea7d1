"""A short part of `make abuse`: attacks cost a real cluster bounded memory and no election; an innocent is served."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scripts.cluster_local import LocalCluster
from tests.abuse.attack import Attack, Bounds
from tests.abuse.attacks import ATTACKS, stand_by
from tests.abuse.measure import Disk, Innocent, Load, Measures, Memory
from tests.abuse.run import judge, run_attack
from tests.abuse.scenes import Scene
from tests.cluster.conftest import PATIENT
from tests.cluster.raw import Person

SECONDS = 3.0
# Other tests may have this machine's processors: `make abuse` alone asks for the real times.
PATIENT_MS = 10_000
BUSY_ELECTIONS = 1
"""A leader that waits for a processor may be replaced once, attack or not."""


@pytest.mark.campaign
@pytest.mark.parametrize("name", ["padded strangers", "flood of long messages", "silent connections"])
async def test_an_attack_stays_within_its_bounds(tmp_path: Path, name: str) -> None:
    attack = ATTACKS[name]
    bounds = replace(attack.bounds, p99_ms=PATIENT_MS, elections=attack.bounds.elections + BUSY_ELECTIONS)
    patient = replace(attack, bounds=bounds)
    outcome = await run_attack(patient, tmp_path / "cluster", SECONDS, PATIENT)
    assert outcome.exceeded == []
    assert outcome.attacker, "an attacker that did nothing proves nothing"


def test_every_bound_that_is_exceeded_is_named() -> None:
    attack = Attack("too much", 7, stand_by, bounds=Bounds(rss_mib=10, p99_ms=100, cpu_percent=30))
    cluster = LocalCluster.__new__(LocalCluster)
    innocent = Innocent(cluster, "n1", Person("innocent", b"", "", None), [50.0, 200.0], ["lost"])  # type: ignore[arg-type]
    memory = Memory(cluster, {"n1": 100, "n2": 100}, {"n1": 105, "n2": 150})
    scene = Scene(cluster)
    scene.findings.append("a node has ended")
    load = Load(cluster)
    load.percent.update(n1=90, n2=80)
    innocent.refused = 3
    measures = Measures(innocent, memory, load, Disk(Path("probe"), 30.0))
    outcome = judge(attack, 1.0, measures, scene, ["n2"], elections=1, counts={})
    assert outcome.exceeded == [
        "a node grew by 50 MiB, above 10",
        "the innocent client's p99 was 200.0 ms, above 160",
        "the innocent client had 1 errors, above 0",
        "there were 1 elections, above 0 (a sync of the disk took up to 30.0 ms)",
        "the innocent client was refused 3 times",
        "n2 used 80 % of a core, above 30",
        "a node has ended",
    ]
    measures = Measures(Innocent(cluster, "n1", innocent.person), memory, load, Disk(Path("probe"), 50.0))
    silent = judge(attack, 1.0, measures, scene, [], elections=0, counts={})
    assert "the innocent client had no answer at all" in silent.exceeded
    patient = Measures(innocent, memory, load, Disk(Path("probe"), 50.0))
    found = judge(attack, 1.0, patient, scene, [], elections=0, counts={}).exceeded
    assert not [one for one in found if "p99" in one], "the disk took that long"
    stalled = Measures(innocent, memory, load, Disk(Path("probe"), 2_100.0, stalls=1))
    for elections, is_named in ((1, False), (2, True)):
        found = judge(attack, 1.0, stalled, scene, [], elections=elections, counts={}).exceeded
        assert any("elections" in one for one in found) is is_named
