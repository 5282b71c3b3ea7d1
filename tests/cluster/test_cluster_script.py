"""What `make run` runs: a cluster in the foreground, watched and handled from other terminals."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from parley import ParleyClient
from scripts.cluster_layout import Layout, create_layout, plan_private_nodes
from scripts.cluster_process import ROOT
from tests.cluster.conftest import FAST
from tests.support.prefork import CLUSTER_COMMANDS
from tests.support.raw import until_true

pytestmark = pytest.mark.asyncio(loop_scope="module")

SCRIPT = str(ROOT / "scripts" / "cluster.py")


class Up:
    """`cluster.py up` without a terminal, and what it printed so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output = ""

    async def until(self, condition: Callable[[str], bool], what: str) -> None:
        """Read on until the output meets a condition."""
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(40):
                while not condition(self.output):
                    line = await self.process.stdout.readline()
                    assert line, f"it ended before {what}:\n{self.output}"
                    self.output += line.decode()
        except TimeoutError:
            raise AssertionError(f"waited in vain for {what}:\n{self.output}") from None

    async def until_says(self, text: str, times: int = 1) -> None:
        """Read on until a text was printed."""
        await self.until(lambda output: output.count(text) >= times, f"it says {text!r}")

    async def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Stop it as Ctrl-C would; its exit code."""
        self.process.send_signal(number)
        async with asyncio.timeout(40):
            rest, _ = await self.process.communicate()
        self.output += rest.decode()
        assert self.process.returncode is not None
        return self.process.returncode


@asynccontextmanager
async def up(root: Path, *flags: str) -> AsyncIterator[Up]:
    """The supervisor; nothing of it is left at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, SCRIPT, "--var", str(root), "up", *flags, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    running = Up(process)
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
        await cluster(root, "stop")


async def cluster(root: Path, *arguments: str) -> tuple[int, str]:
    """Another terminal: run one command and return its exit code and output."""
    process = await CLUSTER_COMMANDS.start(
        "--var", str(root), *arguments, env={**os.environ, "PYTHONUTF8": "1"}, stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(40):
        output, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, output.decode()


async def status(root: Path) -> dict[str, dict[str, Any]]:
    """What `status --json` says, by node."""
    _, output = await cluster(root, "status", "--json")
    return {node["name"]: node for node in json.loads(output)["nodes"]}


def alive(pid: int) -> bool:
    """Whether a process still runs; one that only waits to be reaped by a careless init does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """A cluster of three on addresses of its own, so that a cluster of the person running this is not in the way."""
    return create_layout(tmp_path / "var", plan_private_nodes(3), FAST)


async def test_a_cluster_is_watched_killed_and_mended_from_other_terminals(layout: Layout) -> None:
    root = layout.root
    async with up(root) as running:
        await running.until_says(" leads (term ")
        assert f"make chat VAR={root} ACCOUNT=" in running.output
        assert "kill -9 PID" in running.output

        async def all_answer() -> None:
            assert {node["role"] for node in (await status(root)).values()} == {"leader", "follower"}

        await until_true(all_answer)
        before = await status(root)
        assert {node["state"] for node in before.values()} == {"up"}
        leader = next(name for name, node in before.items() if node["role"] == "leader")

        code, text = await cluster(root, "kill", leader)
        assert (code, text) == (0, f"kill {leader}: pid {before[leader]['pid']}\n")
        assert not alive(before[leader]["pid"]), "killed and gone"
        await running.until_says(f"{leader} (pid {before[leader]['pid']}) died")
        await running.until_says(" leads (term ", times=2)
        assert (await status(root))[leader]["state"] == "down"

        code, _ = await cluster(root, "start", leader)
        assert code == 0
        await running.until_says(f"{leader} was started, pid ")
        other = next(name for name in before if name != leader)
        assert (await cluster(root, "pause", other))[0] == 0
        await running.until_says(f"{other} is paused")
        assert (await status(root))[other]["state"] == "paused"
        assert (await cluster(root, "resume", other))[0] == 0
        await running.until_says(f"{other} was resumed")
        assert (await cluster(root, "stop", other))[0] == 0
        await running.until_says(f"{other} was stopped")
        assert (await status(root))[other]["state"] == "stopped"

        assert await running.end() == 0
        assert "Traceback" not in running.output
    assert {node["state"] for node in (await status(root)).values()} == {"stopped"}


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGINT,
        pytest.param(signal.SIGTERM, marks=pytest.mark.campaign),
        pytest.param(signal.SIGHUP, marks=pytest.mark.campaign),
    ],
    ids=lambda number: number.name,
)
async def test_the_end_of_the_supervisor_stops_all_nodes_and_keeps_the_data(
    layout: Layout, number: signal.Signals
) -> None:
    async with up(layout.root) as running:
        await running.until_says(" leads (term ")
        pids = [node["pid"] for node in (await status(layout.root)).values()]
        commit = max(node["commit_index"] for node in (await status(layout.root)).values())
        assert await running.end(number) == 0
        assert not [pid for pid in pids if alive(pid)]
    async with up(layout.root) as running:
        assert "Making a new cluster" not in running.output
        await running.until_says(" leads (term ")
        assert max(node["commit_index"] for node in (await status(layout.root)).values()) >= commit
        assert await running.end() == 0


async def test_a_new_cluster_gets_its_administrator_and_keeps_it(layout: Layout) -> None:
    home = layout.root / "clients" / "operator"
    async with up(layout.root) as running:
        await running.until_says("The account operator is the administrator.")
        password = (home / "password").read_text().strip()
        assert (home / "password").stat().st_mode & 0o777 == 0o600
        assert await running.end() == 0
    async with up(layout.root) as running:
        await running.until_says(" leads (term ")
        async with ParleyClient(
            layout.hosts, ca=layout.ca_file, state_dir=layout.root / "elsewhere", connect=False
        ) as client:
            await client.login("operator", password)
            await (await client.administration()).change_setting("registration", 1)
        assert await running.end() == 0
        assert "is the administrator." not in running.output


async def test_nodes_that_die_are_started_again_only_with_restart(layout: Layout) -> None:
    async with up(layout.root, "--restart") as running:
        await running.until_says(" leads (term ")
        pid = (await status(layout.root))["n2"]["pid"]
        os.kill(pid, signal.SIGKILL)
        await running.until_says(f"n2 (pid {pid}) died")
        await running.until_says("n2 was started, pid ")
        await cluster(layout.root, "stop", "n3")
        await running.until_says("n3 was stopped")
        os.kill((await status(layout.root))["n2"]["pid"], signal.SIGKILL)
        await running.until_says("n2 was started, pid ", times=2)
        assert (await status(layout.root))["n3"]["state"] == "stopped", "a person stopped it: it stays down"
        assert await running.end() == 0


async def test_only_one_supervisor_at_a_time_and_a_dead_one_is_succeeded(layout: Layout) -> None:
    async with up(layout.root) as first:
        await first.until_says(" leads (term ")
        before = await status(layout.root)
        async with asyncio.timeout(40):
            code, text = await cluster(layout.root, "up")
        assert code == 1
        assert "already run from another terminal" in text
        first.process.kill()
        await first.process.wait()
        assert {node["state"] for node in (await status(layout.root)).values()} == {"up"}, "nodes outlive a crash of it"
        async with up(layout.root) as second:
            await second.until_says(" leads (term ")
            after = await status(layout.root)
            assert {name: node["pid"] for name, node in after.items()} == {
                name: node["pid"] for name, node in before.items()
            }
            assert await second.end() == 0
            assert not [node for node in after.values() if alive(node["pid"])]


async def test_a_port_taken_by_somebody_else_is_named_and_nothing_is_started(layout: Layout) -> None:
    host, port = layout.node("n2").client_address.split(":")
    server = await asyncio.start_server(lambda *_: None, host, int(port))
    async with server:
        code, text = await cluster(layout.root, "up")
    assert code == 1
    assert f"{host}:{port}" in text
    assert {node["state"] for node in (await status(layout.root)).values()} == {"stopped"}


async def test_a_process_id_that_now_belongs_to_somebody_else_is_never_signalled(layout: Layout) -> None:
    innocent = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE)
    try:
        record = {"pid": innocent.pid, "create_time": time.time() - 3600, "wanted": True}
        (layout.folder("n1") / "process.json").write_text(json.dumps(record))
        code, text = await cluster(layout.root, "kill", "n1")
        assert code == 1
        assert "not running" in text
        assert (await status(layout.root))["n1"]["state"] == "down"
        assert innocent.returncode is None
    finally:
        innocent.kill()
        await innocent.wait()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["kill", "n9"], 1, "n1, n2, n3"),
        (["kill", "n1"], 1, "not running"),
        (["up", "--nodes", "5"], 1, "3 nodes"),
        (["destroy"], 1, "--yes"),
        (["chat"], 1, "ACCOUNT="),
        (["chat", "--account", "../etc"], 1, "name"),
        (["explode"], 2, "explode"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
async def test_wrong_commands_say_what_is_right(layout: Layout, arguments: list[str], code: int, says: str) -> None:
    ended, text = await cluster(layout.root, *arguments)
    assert ended == code
    assert says in text
    assert "Traceback" not in text


async def test_commands_without_a_cluster_say_how_to_make_one(tmp_path: Path) -> None:
    code, text = await cluster(tmp_path / "nothing", "status")
    assert code == 1
    assert "make run" in text


async def test_destroy_removes_the_cluster_and_leaves_what_is_not_its_own(layout: Layout) -> None:
    (layout.root / "precious.txt").write_text("not ours")
    async with up(layout.root) as running:
        await running.until_says(" leads (term ")
        code, text = await cluster(layout.root, "destroy", "--yes")
        assert code == 1, "while a supervisor runs it"
        assert "another terminal" in text
        assert await running.end() == 0
    assert (await cluster(layout.root, "destroy", "--yes"))[0] == 0
    assert [file.name for file in layout.root.iterdir()] == ["precious.txt"]


async def test_the_stream_of_events_shows_clients_and_commands_of_all_nodes_and_no_body(layout: Layout) -> None:
    async with up(layout.root, "--events") as running:
        await running.until_says("The account operator is the administrator.")
        async with ParleyClient(layout.hosts, ca=layout.ca_file, state_dir=layout.root / "elsewhere") as client:
            await client.register("ann", "a long enough password")
            await client.login("ann", "a long enough password")
            await (await client.send("ann", "words of ann")).accepted(60)
        await running.until_says("command register_account: ", times=2)
        await running.until_says("  client connected: account ")
        await running.until_says(" bytes, 1 messages")
        await running.until_says("  client gone: account ")
        await cluster(layout.root, "stop", "n3")
        await cluster(layout.root, "start", "n3")
        assert (layout.root / "events").exists(), "a node that is started from another terminal logs commands, too"
        assert await running.end() == 0
        assert "words of ann" not in running.output
    for name in layout.names:
        assert "words of ann" not in layout.log_file(name).read_text(errors="replace")
    async with up(layout.root) as running:
        await running.until_says(" leads (term ")
        assert await running.end() == 0
        assert not re.search(r" command \w+: ", running.output)
        assert not (layout.root / "events").exists()
