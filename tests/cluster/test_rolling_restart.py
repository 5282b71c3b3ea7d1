"""`parley cluster rolling-restart` on real nodes under load: nothing lost or doubled, and nobody waits long."""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest

from parley import ConnectionState, ParleyClient
from parley_proto.v1 import admin_pb2
from scripts.cluster_local import LocalCluster
from scripts.cluster_process import ROOT
from tests.cluster.conftest import FAST, PATIENT
from tests.cluster.operations import record
from tests.cluster.paced import PacedSender
from tests.cluster.raw import PASSWORD, bodies, raw_client
from tests.support.raw import eventually

SETTINGS = {**FAST, **PATIENT, "shutdown_grace_s": 2}
MOST_MS = 300.0
"""No send may take so much longer than the slowest one before."""


async def rolling_restart(
    cluster: LocalCluster, state_dir: Path, *arguments: str, timeout_s: float = 120
) -> tuple[int, str]:
    """Run the command as an administrator would."""
    hosts = [part for host in cluster.hosts for part in ("--host", host)]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PARLEY")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parley_command", "cluster", "rolling-restart", *arguments),
        *(*hosts, "--ca", str(cluster.ca_file), "--state-dir", str(state_dir), "--account", "boss"),
        cwd=ROOT,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(timeout_s):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode()


async def administrator(cluster: LocalCluster, state_dir: Path) -> None:
    """Leave a signed-in administrator's files."""
    code = await cluster.administrator_code()
    async with ParleyClient(cluster.hosts, ca=cluster.ca_file, state_dir=state_dir, connect=False) as client:
        await client.register("boss", PASSWORD, code)
        await client.login("boss", PASSWORD)


def process_facts(cluster: LocalCluster, name: str) -> tuple[int, int]:
    """Return the process id and the number of its open files."""
    process = psutil.Process(cluster.pid(name))
    return process.pid, process.num_fds()


async def uptimes(cluster: LocalCluster) -> dict[str, float]:
    return {view.name: view.uptime_s for view in await cluster.views()}


@pytest.mark.campaign
async def test_all_nodes_are_restarted_under_load_and_no_message_waits_is_lost_or_doubled(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path / "cluster", settings=SETTINGS) as own, AsyncExitStack() as life:
        await administrator(own, tmp_path / "boss")
        async with raw_client(own, "n1") as raw:
            await raw.register("ben")
        senders = []
        for name in ("ann", "cem", "dora"):
            made = ParleyClient(own.hosts, ca=own.ca_file, state_dir=tmp_path / name)
            client = await life.enter_async_context(made)
            await client.register(name, PASSWORD)
            await client.login(name, PASSWORD)
            await client.wait_until(ConnectionState.CONNECTED, timeout=20)
            senders.append(PacedSender(client, "ben"))
        before = {name: process_facts(own, name) for name in own.names}
        began = time.monotonic()
        ends = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            for sender in senders:
                tasks.create_task(sender.run(ends))
            for sender in senders:
                await sender.until(60)
            usual = [took for sender in senders for took in sender.took_ms]
            for sender in senders:
                sender.sends.clear()
            code, output = await rolling_restart(own, tmp_path / "boss")
            ends.set()
        took = [took for sender in senders for took in sender.took_ms]
        assert code == 0, output
        assert output.count("was restarted") == 3, output
        longest, median = max(took), statistics.median(usual)
        record(
            "rolling restart of three nodes",
            longest_send_ms=longest,
            usual_send_ms=median,
            longest_usual_send_ms=max(usual),
            sends=len(took),
            output=output.splitlines(),
        )
        for name, uptime_s in (await uptimes(own)).items():
            assert uptime_s < time.monotonic() - began - 1, f"{name} was not restarted"
            pid, files = process_facts(own, name)
            assert pid == before[name][0], "a node replaces its own process"
            assert files <= before[name][1] + 20, "the old process left its files open"
        async with raw_client(own, "n1") as raw:
            ben = await raw.log_in("ben")
            for sender, name in zip(senders, ("ann", "cem", "dora"), strict=True):
                got = bodies(await raw.history(ben, name))
                assert got == [f"message {number}" for number in range(1, sender.sent + 1)]
        await own.wait_until_equal()
        assert longest - max(usual) < MOST_MS, f"usual {median:.0f} ms, at most {max(usual):.0f}; now {longest:.0f} ms"


@pytest.mark.campaign
async def test_a_restart_is_not_permitted_while_another_node_is_down_and_the_text_says_how_to_go_on(
    tmp_path: Path,
) -> None:
    async with LocalCluster(tmp_path / "cluster", settings=SETTINGS) as own:
        await administrator(own, tmp_path / "boss")
        leader = await own.wait_for_leader()
        down, asked = own.others(leader)
        await own.stop(down)
        code, output = await rolling_restart(own, tmp_path / "boss")
        assert code == 4, output
        assert f"{down} did not answer. Nothing was restarted" in output

        # The node asked knows better than a command that did not look.
        async with raw_client(own, asked) as raw:
            boss = await raw.log_in("boss")
            request = admin_pb2.RestartNodeRequest(name=asked)
            answer = await eventually(lambda: raw.admin.RestartNode(request, metadata=boss.metadata, timeout=10))
        assert f"{down} did not answer just now" in answer.not_yet
        assert (await uptimes(own))[asked] > 1
        own.start(down)
        await own.wait_until_answering(*own.names)

        # One that does not come back.
        config = own.layout.config_file(asked)
        config.write_text(config.read_text().replace("[peers]", "nonsense = 1\n\n[peers]"))
        code, output = await rolling_restart(own, tmp_path / "boss", asked, "--timeout", "12")
        assert code == 4, output
        assert f"Stopped at {asked}" in output
        assert f"go on with: parley cluster rolling-restart {asked}" in output.replace("\n", " ")
        config.write_text(config.read_text().replace("nonsense = 1\n", ""))
        own.start(asked)
        await own.wait_until_answering(*own.names)
        code, output = await rolling_restart(own, tmp_path / "boss", asked)
        assert code == 0, output


async def test_a_signal_to_stop_wins_over_a_restart(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path / "cluster", settings=SETTINGS) as own:
        await administrator(own, tmp_path / "boss")
        leader = await own.wait_for_leader()
        asked = own.others(leader)[0]
        async with raw_client(own, asked) as raw:
            boss = await raw.log_in("boss")
            request = admin_pb2.RestartNodeRequest(name=asked)
            await raw.admin.RestartNode(request, metadata=boss.metadata, timeout=10)
            own.terminate(asked)
        assert await own.wait_for_exit(asked) in (0, -15)
