"""What a node tells of its machine in its status."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from parleyd import node_condition
from parleyd.api.cluster_status import full_status
from parleyd.backup.schedule import BackupSchedule
from parleyd.node_condition import NodeConditions, count_open_files
from parleyd.observability.figures import RECENT_VALUES, WORK_BOUNDS_S, RecentHistogram
from parleyd.security.certificate_files import plan_renewal, write_ca, write_node, write_renewal
from parleyd.security.node_certificates import NodeCertificates
from parleyd.settings.table import Settings
from parleyd.storage.disk_space import DiskSpace
from tests.support.node import running_cluster

WRITES = RecentHistogram(WORK_BOUNDS_S)


def no_backups() -> BackupSchedule:
    """The schedule of a node that writes none."""
    return BackupSchedule(None, None, 3_600, 1, lambda: True)  # type: ignore[arg-type]  # none is made


def certificates_in(folder: Path, *, days: int, ca_days: int = 3_650) -> NodeCertificates:
    """What a node uses, after a start with new files."""
    write_ca(folder, days=ca_days)
    made = write_node(folder, folder, "n1", ["localhost"], days=days)
    settings = Settings("n1", folder, ca_file=folder / "ca.pem", cert_file=made.certificate, key_file=made.key)
    certificates = NodeCertificates.of(settings)
    assert certificates is not None
    return certificates


def days_told(conditions: NodeConditions) -> int:
    """How many days the certificate lasts, rounded up."""
    left_ms = conditions.look().certificate_expires_at_ms - time.time() * 1000
    return -int(-left_ms // 86_400_000)


def test_the_end_of_the_certificate_is_that_of_what_the_node_uses(tmp_path: Path) -> None:
    certificates = certificates_in(tmp_path, days=20)
    conditions = NodeConditions(certificates, DiskSpace(tmp_path, 5), WRITES, no_backups())
    assert days_told(conditions) == 20
    write_renewal(plan_renewal(tmp_path / "n1.pem", tmp_path, days=200))
    assert days_told(conditions) == 20, "it is not in use yet"
    certificates.look()
    assert days_told(conditions) == 200


def test_a_ca_that_ends_first_counts(tmp_path: Path) -> None:
    certificates = certificates_in(tmp_path, days=200, ca_days=10)
    assert days_told(NodeConditions(certificates, DiskSpace(tmp_path, 5), WRITES, no_backups())) == 10


def test_a_node_without_tls_has_no_certificate(tmp_path: Path) -> None:
    assert NodeConditions(None, DiskSpace(tmp_path, 5), WRITES, no_backups()).look().certificate_expires_at_ms == 0


def test_the_disk_is_measured_at_each_look(tmp_path: Path) -> None:
    free = [3, 2]
    conditions = NodeConditions(None, DiskSpace(tmp_path, 5, lambda _: free.pop()), WRITES, no_backups())
    first, second = conditions.look(), conditions.look()
    assert (first.disk_free_bytes, second.disk_free_bytes, first.disk_reserve_bytes) == (2, 3, 5)


async def test_many_who_ask_for_a_status_cost_one_look_and_each_is_told_the_time_of_its_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Path] = []

    def free_bytes(folder: Path) -> int:
        looks.append(folder)
        return 7

    monkeypatch.setattr(node_condition, "FRESH_S", 60)
    conditions = NodeConditions(None, DiskSpace(tmp_path, 5, free_bytes), WRITES, no_backups())
    async with running_cluster() as cluster:
        node = cluster.node("n1")
        node.condition = conditions.get
        found = await asyncio.gather(*(full_status(node.view, 0.0) for _ in range(50)))
        before_ms = int(time.time() * 1000)
        last = await full_status(node.view, 0.0)
    assert len(looks) == 1
    assert {one.disk_free_bytes for one in found} == {last.disk_free_bytes} == {7}
    assert before_ms <= last.wall_clock_ms <= time.time() * 1000 + 1, "what the clock showed before would look wrong"


def test_a_disk_that_cannot_be_measured_is_told_as_0(tmp_path: Path) -> None:
    def fail(_: Path) -> int:
        raise OSError("stale")

    conditions = NodeConditions(None, DiskSpace(tmp_path, 5, fail), WRITES, no_backups())
    assert conditions.look().disk_free_bytes == 0


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="this system does not list open files")
def test_open_files_are_counted(tmp_path: Path) -> None:
    before = count_open_files()
    with ExitStack() as files:
        for number in range(100):
            files.enter_context((tmp_path / str(number)).open("w"))
        # Threads of gRPC, from tests before this one, may close a socket meanwhile.
        assert abs(count_open_files() - before - 100) < 20


def test_durable_writes_are_told_by_the_median_of_the_last_ones(tmp_path: Path) -> None:
    writes = RecentHistogram(WORK_BOUNDS_S)
    conditions = NodeConditions(None, DiskSpace(tmp_path, 5), writes, no_backups())
    assert conditions.look().log_write_ms == 0.0
    for seconds in (0.001, 0.5, 0.002):
        writes.observe(seconds)
    assert conditions.look().log_write_ms == 2.0
    for _ in range(RECENT_VALUES):
        writes.observe(0.25)
    assert conditions.look().log_write_ms == 250.0
    writes.observe(0.001)
    assert conditions.look().log_write_ms == 250.0
    assert sum(writes.read().counts) == RECENT_VALUES + 4


def test_the_newest_backup_and_the_interval_are_those_of_the_schedule(tmp_path: Path) -> None:
    schedule = BackupSchedule(None, tmp_path, 3_600, 1, lambda: True)  # type: ignore[arg-type]  # none is made
    schedule.newest_at_s = 12.5
    look = NodeConditions(None, DiskSpace(tmp_path, 5), WRITES, schedule).look()
    assert (look.backup_interval_s, look.last_backup_at_ms) == (3_600, 12_500)
    none = NodeConditions(None, DiskSpace(tmp_path, 5), WRITES, no_backups()).look()
    assert (none.backup_interval_s, none.last_backup_at_ms) == (0, 0)
