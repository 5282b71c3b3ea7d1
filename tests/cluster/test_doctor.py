"""Both doctors on real processes: a healthy cluster, a wrong clock, a full disk, nodes that are killed.

The nodes believe files about their clocks and about the free space of their disks.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest_asyncio

from parley.terminal.exits import ExitCode
from parleyd.exits import ExitCode as NodeExitCode
from scripts.cluster_local import LocalCluster
from tests.cluster.conftest import FAST
from tests.cluster.daemon import parleyd
from tests.cluster.raw import PASSWORD
from tests.support.raw import until_true
from tests.unit.client.test_command import Done, Parley

MIB = 1 << 20
PLENTY, LOW = 10_000 * MIB, 200 * MIB
TEN_MINUTES_S = 600

PROGRAM = f"""
import collections, shutil, sys, time
from pathlib import Path
folder = Path(sys.argv.pop(1))
time_ns = time.time_ns
time.time_ns = lambda: time_ns() + ({TEN_MINUTES_S} * 10**9 if (folder / "jumped").exists() else 0)
time.time = lambda: time.time_ns() / 1e9
usage = collections.namedtuple("usage", "total used free")
shutil.disk_usage = lambda _: usage(0, 0, {LOW} if (folder / "low").exists() else {PLENTY})
from parleyd.__main__ import main
main()
"""


class Examined:
    """A cluster whose nodes can be made sick, and the command of somebody who is signed in."""

    def __init__(self, cluster: LocalCluster, folder: Path) -> None:
        self.cluster = cluster
        self.parley = Parley(folder / "client")
        self.parley.environment |= {"PARLEY_HOSTS": cluster.address("n1"), "PARLEY_CA": str(cluster.ca_file)}
        self._folder = folder

    def folder(self, name: str) -> Path:
        return self._folder / f"sick-{name}"

    async def finds(self, code: ExitCode, *expected: tuple[str, str, str]) -> dict[str, Any]:
        """Wait until the doctor finds these (severity, rule, node) among others, and ends with the code."""
        reports: list[dict[str, Any]] = []

        async def look() -> None:
            done: Done = await self.parley("cluster", "doctor", "--json")
            reports.append(json.loads(done.out))
            found = {(row["severity"], row["rule"], row["node"]) for row in reports[-1]["findings"]}
            assert found >= {*expected}, found
            assert reports[-1]["version"] == 1
            # The disk of this machine may be slow at times, which is a warning or worse, and true.
            is_slow = any(row["rule"] == "sync" and row["severity"] != "ok" for row in reports[-1]["findings"])
            assert done.code == code or is_slow

        await until_true(look, timeout_s=60)
        return reports[-1]


@pytest_asyncio.fixture
async def examined(tmp_path: Path) -> AsyncIterator[Examined]:
    async with LocalCluster(tmp_path, settings=FAST, start=False) as cluster:
        examined = Examined(cluster, tmp_path)
        for name in cluster.names:
            examined.folder(name).mkdir()
            cluster.run_with(("-c", PROGRAM, str(examined.folder(name))), name)
        cluster.start(*cluster.names)
        await cluster.wait_for_leader()
        yield examined


async def test_the_doctor_finds_what_is_done_to_a_cluster_and_nothing_in_a_healthy_one(
    examined: Examined, fresh: Callable[[str], str]
) -> None:
    cluster, parley, ann = examined.cluster, examined.parley, fresh("ann")
    stranger = await examined.finds(ExitCode.OK, ("note", "session", ""), ("ok", "answers", ""))
    assert all(row["answered"] for row in stranger["nodes"])
    assert (await parley("register", ann, "--password-stdin", stdin=PASSWORD)).code == 0
    assert (await parley("login", ann, "--password-stdin", stdin=PASSWORD)).code == 0
    healthy = await examined.finds(ExitCode.OK, ("ok", "clocks", ""), ("ok", "disks", ""), ("ok", "certificates", ""))
    found = {(row["severity"], row["rule"]) for row in healthy["findings"] if row["rule"] != "sync"}
    assert {rule for severity, rule in found if severity != "ok"} == {"backups"}, "these nodes write none"

    (examined.folder("n2") / "jumped").touch()
    await examined.finds(ExitCode.CRITICAL, ("critical", "clocks", "n2"))
    (examined.folder("n2") / "jumped").unlink()
    await examined.finds(ExitCode.OK, ("ok", "clocks", ""))

    (examined.folder("n3") / "low").touch()
    await examined.finds(ExitCode.CRITICAL, ("critical", "disks", "n3"))
    (examined.folder("n3") / "low").unlink()
    await examined.finds(ExitCode.OK, ("ok", "disks", ""))

    cluster.kill("n3")
    report = await examined.finds(ExitCode.WARNING, ("warning", "answers", "n3"), ("warning", "spare", ""))
    assert [(row["answered"], bool(row["error"])) for row in report["nodes"]] == [
        (True, False),
        (True, False),
        (False, True),
    ]
    shown = await parley("cluster", "doctor")
    assert f"n3 does not answer at {cluster.address('n3')}: " in shown.out
    cluster.kill("n2")
    await examined.finds(ExitCode.CRITICAL, ("critical", "majority", ""), ("warning", "answers", "n2"))
    cluster.kill("n1")
    await examined.finds(ExitCode.CRITICAL, ("critical", "answers", ""), ("note", "session", ""))


async def look(cluster: LocalCluster, name: str) -> tuple[int, dict[str, Any], set[tuple[str, str]]]:
    """Run `parleyd doctor` for a node: the exit code, the report, the rules with their severities."""
    ended = await parleyd("doctor", "--config", str(cluster.layout.config_file(name)), "--json")
    report = json.loads(ended.output)
    return ended.code, report, {(row["rule"], row["severity"]) for row in report["findings"]}


def files_of(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    """The names, sizes, times and bytes of a node's files."""
    return {
        path.name: (path.stat().st_size, path.stat().st_mtime_ns, path.read_bytes())
        for path in folder.iterdir()
        if path.is_file()
    }


async def test_the_doctor_of_a_node_sees_it_run_and_stop_and_changes_nothing(examined: Examined) -> None:
    cluster = examined.cluster
    folder = cluster.layout.data_dir("n2")

    async def is_well() -> None:
        code, report, found = await look(cluster, "n2")
        assert (report["node"], report["running"]) == ("n2", True)
        expected = {"node", "ports", "peers", "clock", "certificate", "identity", "log", "state", "pages"}
        assert {rule for rule, severity in found if severity in ("ok", "note")} >= expected, report
        assert ("node", "ok") in found
        assert code in (NodeExitCode.OK, NodeExitCode.WARNING), report  # a disk of this machine may be slow

    await until_true(is_well, timeout_s=60)
    cluster.kill("n3")

    async def misses_n3() -> None:
        _, report, found = await look(cluster, "n2")
        assert {("peers", "warning"), ("node", "warning")} <= found, report

    await until_true(misses_n3, timeout_s=60)
    cluster.kill("n2")
    before = files_of(folder)
    _, report, found = await look(cluster, "n2")
    assert report["running"] is False
    assert {("ports", "ok"), ("log", "ok"), ("state", "ok"), ("pages", "ok")} <= found, report
    assert "node" not in {rule for rule, _ in found}
    assert files_of(folder) == before
    cluster.start("n2", "n3")
    await cluster.wait_until_equal()
