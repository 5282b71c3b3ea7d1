"""The examples of docs/examples run as they stand, against a node: each message once, also after kill -9."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from parley import ParleyClient
from tests.leftovers import MARK
from tests.support.node import InProcessCluster, running_cluster
from tests.unit.client.helpers import PASSWORD, signed_in, until
from tests.unit.project.source import ROOT

EXAMPLES = ROOT / "docs" / "examples"


def environment(cluster: InProcessCluster, home: Path, account: str) -> dict[str, str]:
    return {
        **{name: os.environ[name] for name in ("PATH", "PYTHONPATH", MARK)},
        "HOME": str(home),
        "PARLEY_HOSTS": ",".join(node.address for node in cluster.nodes),
        "PARLEY_ACCOUNT": account,
        "PARLEY_PASSWORD": PASSWORD,
    }


@asynccontextmanager
async def running(
    name: str, *arguments: str, cluster: InProcessCluster, home: Path, account: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """An example that runs. It is killed with the test, or by it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(EXAMPLES / name),
        *arguments,
        env=environment(cluster, home, account),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


async def bodies_of(client: ParleyClient, count: int) -> list[str]:
    async with asyncio.timeout(60):
        reader = await client.messages()
        return [(await anext(reader)).body for _ in range(count)]


def test_the_bot_has_15_lines() -> None:
    """Its docstring and blank lines do not count."""
    text = (EXAMPLES / "bot.py").read_text().split('"""', 2)[2]
    assert len([line for line in text.splitlines() if line.strip() and '"""' not in line]) <= 19
    lines = text[text.index("async def main") :].splitlines()
    assert len([line for line in lines if line.strip() and '"""' not in line]) <= 15


async def test_the_bot_answers_each_message_also_those_that_came_while_it_did_not_run(tmp_path: Path) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path / "ann", "ann") as ann:
        cluster.add_account("bot", PASSWORD)
        await (await ann.send("bot", "one")).accepted(10)
        async with running("bot.py", cluster=cluster, home=tmp_path, account="bot"):
            assert await bodies_of(ann, 1) == ["You wrote: one"]
        await (await ann.send("bot", "two")).accepted(10)
        async with running("bot.py", cluster=cluster, home=tmp_path, account="bot"):
            await ann.send("bot", "three")
            said = await bodies_of(ann, 2)
            assert said[-2:] == ["You wrote: two", "You wrote: three"]


async def test_the_bulk_sender_sends_each_line_once_although_it_is_killed(tmp_path: Path) -> None:
    lines = tmp_path / "lines.csv"
    lines.write_text("".join(f"ben,line {number}\n" for number in range(1200)))
    async with running_cluster() as cluster:
        for name in ("job", "ben"):
            cluster.add_account(name, PASSWORD)
        job = (str(tmp_path / "state"), str(lines))
        async with running("bulk.py", *job, cluster=cluster, home=tmp_path, account="job") as process:
            await until(lambda: len(cluster.bodies_for("ben")) >= 100, "some were sent")
            process.kill()
            await process.wait()
        for _ in range(2):  # the second one finds nothing to do
            async with running("bulk.py", *job, cluster=cluster, home=tmp_path, account="job") as process:
                assert await asyncio.wait_for(process.wait(), 60) == 0
        assert cluster.bodies_for("ben") == [f"line {number}" for number in range(1200)]


async def test_the_bulk_sender_names_the_lines_that_were_refused(tmp_path: Path) -> None:
    lines = tmp_path / "lines.csv"
    lines.write_text("ben,one\nnobody,two\nben,three\n")
    async with running_cluster() as cluster:
        for name in ("job", "ben"):
            cluster.add_account(name, PASSWORD)
        job = (str(tmp_path / "state"), str(lines))
        async with running("bulk.py", *job, cluster=cluster, home=tmp_path, account="job") as process:
            _, said = await asyncio.wait_for(process.communicate(), 60)
            assert process.returncode == 1
            assert said.decode().startswith("line 2, to nobody: ")
        assert cluster.bodies_for("ben") == ["one", "three"]


async def test_the_bridge_sends_each_file_once_although_it_is_killed_again_and_again(tmp_path: Path) -> None:
    queue = tmp_path / "queue"
    make(queue, [f"{number:03}@ben" for number in range(40)] + ["nowhere@nobody"])
    async with running_cluster() as cluster:
        for name in ("bridge", "ben"):
            cluster.add_account(name, PASSWORD)
        for target in (1, 7, 20):
            async with running("bridge.py", str(queue), cluster=cluster, home=tmp_path, account="bridge") as process:
                await until(lambda target=target: len(cluster.bodies_for("ben")) >= target, "some were sent")  # type: ignore[misc]
                process.kill()
                await process.wait()
        async with running("bridge.py", str(queue), cluster=cluster, home=tmp_path, account="bridge"):
            await until(lambda: names(queue / "refused") == ["nowhere@nobody"], "all have a result")
            make(queue, ["later@ben"])
            await until(lambda: "later@ben" in names(queue / "sent"), "what comes later is sent")
        assert cluster.bodies_for("ben") == [*(f"{number:03}@ben" for number in range(40)), "later@ben"]
        assert len(names(queue / "sent")) == 41


def make(queue: Path, files: list[str]) -> None:
    """Put files into the queue as programs have to: by renaming them."""
    queue.mkdir(exist_ok=True)
    for name in files:
        (queue / "being written").write_text(name)
        (queue / "being written").rename(queue / name)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


async def test_the_script_without_asyncio_sends_a_report_and_prints_the_answers(tmp_path: Path) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path / "ben", "ben") as ben:
        cluster.add_account("script", PASSWORD)
        arguments = ("ben", "All beds are taken.")
        async with running("report.py", *arguments, cluster=cluster, home=tmp_path, account="script") as process:
            assert await bodies_of(ben, 1) == ["All beds are taken."]
            await ben.send("script", "Thank you.")
            out, said = await asyncio.wait_for(process.communicate(), 60)
            assert (process.returncode, said) == (0, b"")
            assert out.decode().splitlines()[1:] == ["Thank you."]


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_every_example_is_run_by_a_test_here(name: str) -> None:
    assert f'"{name}"' in Path(__file__).read_text()
