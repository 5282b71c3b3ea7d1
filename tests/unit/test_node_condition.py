"""What a node tells of its machine in its status."""

from __future__ import annotations

import datetime
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from parleyd.node_condition import NodeConditions, certificate_expires_at_ms, count_open_files
from parleyd.security.certificate_files import write_ca, write_node
from parleyd.settings.table import Settings
from parleyd.storage.disk_space import DiskSpace


def settings_with_certificate(folder: Path, days: int) -> Settings:
    write_ca(folder)
    made = write_node(folder, folder, "n1", ["localhost"], days=days)
    return Settings(
        name="n1", data_dir=folder, ca_file=folder / "ca.pem", cert_file=made.certificate, key_file=made.key
    )


def test_the_end_of_the_certificate_is_that_of_the_file_that_was_loaded(tmp_path: Path) -> None:
    conditions = NodeConditions(settings_with_certificate(tmp_path, 20), DiskSpace(tmp_path, 5))
    write_node(tmp_path, tmp_path, "n1", ["localhost"], days=200, force=True)
    left = datetime.timedelta(milliseconds=conditions.look().certificate_expires_at_ms - time.time() * 1000)
    assert datetime.timedelta(days=19) < left <= datetime.timedelta(days=20)


def test_a_ca_that_ends_first_counts(tmp_path: Path) -> None:
    write_ca(tmp_path, days=10)
    made = write_node(tmp_path, tmp_path, "n1", ["localhost"], days=200)
    settings = Settings("n1", tmp_path, ca_file=tmp_path / "ca.pem", cert_file=made.certificate, key_file=made.key)
    assert certificate_expires_at_ms(settings) < (time.time() + 11 * 86_400) * 1000


def test_no_certificate_is_told_as_0(tmp_path: Path) -> None:
    settings = settings_with_certificate(tmp_path, 20)
    assert certificate_expires_at_ms(replace(settings, insecure=True)) == 0
    assert settings.cert_file is not None
    settings.cert_file.write_text("no certificate")
    assert certificate_expires_at_ms(settings) == 0


def test_disk_and_clock_are_measured_at_each_look(tmp_path: Path) -> None:
    free = [3, 2]
    conditions = NodeConditions(Settings("n1", tmp_path, insecure=True), DiskSpace(tmp_path, 5, lambda _: free.pop()))
    before_ms = int(time.time() * 1000)
    first, second = conditions.look(), conditions.look()
    assert (first.disk_free_bytes, second.disk_free_bytes, first.disk_reserve_bytes) == (2, 3, 5)
    assert before_ms <= first.wall_clock_ms <= second.wall_clock_ms <= time.time() * 1000 + 1


def test_a_disk_that_cannot_be_measured_is_told_as_0(tmp_path: Path) -> None:
    def fail(_: Path) -> int:
        raise OSError("stale")

    conditions = NodeConditions(Settings("n1", tmp_path, insecure=True), DiskSpace(tmp_path, 5, fail))
    assert conditions.look().disk_free_bytes == 0


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="this system does not list open files")
def test_open_files_are_counted(tmp_path: Path) -> None:
    before = count_open_files()
    with (tmp_path / "one").open("w"), (tmp_path / "two").open("w"):
        assert count_open_files() == before + 2
