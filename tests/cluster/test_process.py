"""A node as a process: signals at any time, and what its files are to other users."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from parley.net.channel import ChannelPool, Security
from parley.wire.endpoints import parse_endpoints
from scripts.cluster_layout import create_layout, plan_private_nodes
from scripts.cluster_local import LocalCluster
from tests.cluster.conftest import FAST


async def test_signals_that_ask_for_nothing_do_not_end_a_node_and_sighup_reloads_the_log_level(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path, nodes=1, settings={**FAST, "log_level": "error"}) as cluster:
        (name,) = cluster.names
        config = cluster.layout.config_file(name)
        config.write_text(config.read_text().replace('log_level = "error"', 'log_level = "debug"'))
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGHUP):
            os.kill(cluster.pid(name), number)
        await cluster.wait_until(lambda: "log_level_reloaded" in cluster.log_text(name), "the level to be reloaded")
        config.write_text("nonsense")
        os.kill(cluster.pid(name), signal.SIGHUP)
        await cluster.wait_until(lambda: "settings_not_reloaded" in cluster.log_text(name), "the file to be refused")
        assert await cluster.stop(name) == 0
        events = [json.loads(line)["event"] for line in cluster.log_text(name).splitlines()]
    assert "shutdown_started" in events, "info is above debug"


async def test_all_files_of_a_node_are_its_owners_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        async with LocalCluster(tmp_path, nodes=1, settings=FAST) as cluster:
            (name,) = cluster.names
            files = [cluster.layout.log_file(name), *cluster.layout.data_dir(name).rglob("*")]
            assert {path.name for path in files} >= {"raft.sqlite", "state.sqlite", "state.sqlite-wal", "identity.json"}
            assert [path for path in files if path.stat().st_mode & 0o077] == []
    finally:
        os.umask(before)


def test_a_node_that_is_stopped_while_its_libraries_load_ends_as_planned(tmp_path: Path) -> None:
    """It ended with -15 during the first second."""
    layout = create_layout(tmp_path, plan_private_nodes(1), FAST)
    config = layout.config_file(layout.names[0])
    command = [sys.executable, "-X", "importtime", "-m", "parleyd", "start", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as node:
        assert node.stderr is not None
        assert any("click" in line for line in node.stderr), "a library that the command line needs"
        node.terminate()
        rest = node.stderr.read()
        assert node.wait(20) == 0
    assert "Traceback" not in rest


async def test_proxies_of_the_environment_keep_nobody_from_a_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy for the web kept the nodes from each other."""
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nothing listens there
    async with LocalCluster(tmp_path, settings=FAST) as cluster:
        leader = await cluster.wait_for_leader()
        endpoint = parse_endpoints([cluster.address(leader)])[0]
        pool = ChannelPool(Security(cluster.ca_file.read_bytes()))
        try:
            async with asyncio.timeout(10):
                await pool.get(endpoint).channel_ready()
        finally:
            await pool.close()
