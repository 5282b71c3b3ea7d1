"""Restore, recovery and replacement are killed with kill -9 at many moments, and repeated: each result is whole."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from parleyd.exits import ExitCode
from scripts.cluster_local import LocalCluster
from scripts.cluster_process import ROOT
from tests.cluster.conftest import FAST
from tests.cluster.load import load
from tests.cluster.raw import PASSWORD, Person
from tests.cluster.test_data_comes_back import command_of, numbered, on_stopped, stored, two_people
from tests.cluster.test_membership import a_leader, give_table, token_file, until_members, wipe
from tests.unit.client.test_command import Parley

pytestmark = [pytest.mark.asyncio, pytest.mark.campaign, pytest.mark.timeout(600)]

ROUNDS = 8
MESSAGES = 200
COMMAND_S = 120.0


async def until(condition: Callable[[], bool]) -> None:
    """Look without a pause: the moments between two steps are short."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def killed_when(reached: Callable[[], bool], *arguments: str) -> int:
    """Run a command of `parleyd` and kill it as soon as something holds; its exit code, -9 if it was killed."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "parleyd", *arguments),
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("PARLEY")},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    async with asyncio.timeout(COMMAND_S):
        await until(lambda: process.returncode is not None or reached())
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        return await process.wait()


def after(seconds: float) -> Callable[[], bool]:
    """Return a condition that holds from a moment on."""
    due = time.perf_counter() + seconds
    return lambda: time.perf_counter() >= due


def moments_of_restore(folder: Path) -> list[Callable[[], bool]]:
    """Return conditions that hold one after the other while a restore works, in the order of its steps."""
    return [
        folder.exists,
        (folder / "restore-unfinished").exists,
        (folder / "snapshots" / "restoring.sqlite").exists,
        (folder / "state.sqlite").exists,
        (folder / "raft.sqlite").exists,
        (folder / "identity.json").exists,
    ]


async def fill(cluster: LocalCluster, ann: Person) -> list[str]:
    """Send messages; the texts that are stored."""
    async with load(cluster, ann, "ben") as sending:
        await sending.until(MESSAGES)
    return numbered(sending.acknowledged)


def is_prefix_of_what_was_sent(found: list[str], at_least: list[str]) -> bool:
    return found == numbered(len(found)) and len(at_least) <= len(found) <= len(at_least) + 1


async def test_a_restore_that_is_killed_at_every_step_is_repeated_and_gives_the_whole_backup(tmp_path: Path) -> None:
    file = tmp_path / "monday.backup"
    async with LocalCluster(tmp_path / "cluster", nodes=1, settings=FAST) as cluster:
        ann, ben = await two_people(cluster)
        texts = await fill(cluster, ann)
        (tmp_path / "ann").mkdir()
        parley = command_of(cluster, tmp_path / "ann")
        assert (await parley("login", "ann", PARLEY_PASSWORD=PASSWORD)).code == 0
        assert (await parley("cluster", "backup", str(file))).code == 0
        assert await cluster.stop("n1") == ExitCode.OK
        folder, config = cluster.layout.data_dir("n1"), str(cluster.layout.config_file("n1"))
        wipe(cluster, "n1")
        killed = 0
        for number in range(len(moments_of_restore(folder)) + ROUNDS):
            wipe_if_there(folder)
            moments = moments_of_restore(folder)
            reached = moments[number] if number < len(moments) else after(0.15 * (number - len(moments) + 1))
            code = await killed_when(reached, "restore", str(file), "--config", config)
            killed += code == -9
            if (folder / "restore-unfinished").exists() and not (folder / "identity.json").exists():
                cluster.start("n1")
                assert await cluster.wait_for_exit("n1", 60) == ExitCode.STORAGE
                assert "was not finished" in cluster.tail("n1")
            if not (folder / "identity.json").exists():
                done = await on_stopped(cluster, "n1", "restore", str(file))
                assert done.code == ExitCode.OK, done.output
            cluster.start("n1")
            await cluster.wait_until_answering("n1")
            assert is_prefix_of_what_was_sent(await stored(cluster, "n1", ben), texts)
            assert await cluster.stop("n1") == ExitCode.OK
        assert killed > len(moments_of_restore(folder)) // 2, "too few were killed while they worked"


def wipe_if_there(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


async def test_a_recovery_that_is_killed_at_many_moments_is_repeated_and_keeps_all_that_the_node_had(
    tmp_path: Path,
) -> None:
    async with LocalCluster(tmp_path / "cluster", settings=FAST) as cluster:
        ann, ben = await two_people(cluster)
        texts = await fill(cluster, ann)
        leader = await a_leader(cluster)
        cluster.kill(*cluster.names)
        folder, config = cluster.layout.data_dir(leader), str(cluster.layout.config_file(leader))
        before = tmp_path / "before"
        shutil.copytree(folder, before, ignore=shutil.ignore_patterns("place.json"))
        recover = ("recover", "--force-new-cluster", "--yes", "--config", config)
        changed = (folder / "snapshots" / "recovering.sqlite").exists
        killed = 0
        for number in range(ROUNDS + 2):
            wipe(cluster, leader)
            shutil.copytree(before, folder)
            # Twice in a row: the second one goes on where the first one was killed.
            for reached in (changed if number < 2 else after(0.4 + 0.1 * number), after(0.6 + 0.1 * number)):
                killed += await killed_when(reached, *recover) == -9
            done = await on_stopped(cluster, leader, "recover", "--force-new-cluster", "--yes")
            assert done.code == ExitCode.OK or "no majority is lost" in done.output, done.output
            cluster.start(leader)
            await cluster.wait_until_answering(leader)
            assert is_prefix_of_what_was_sent(await stored(cluster, leader, ben), texts)
            status = await cluster.status(leader)
            assert status is not None
            assert [member.name for member in status.members] == [leader]
            assert len(status.generations) == 1, "recovered once, not twice"
            assert await cluster.stop(leader) == ExitCode.OK
        assert killed > ROUNDS // 2, "too few were killed while they worked"


async def token_of_a_killed_run(parley: Parley, lost: str, reached: Callable[[], bool]) -> list[str]:
    """Run a replacement until a moment, and kill it; the token that it printed, if it came as far."""
    async with parley.running("cluster", "replace", lost) as command:
        assert command.stdout is not None
        reading = asyncio.ensure_future(command.stdout.readline())
        await until(lambda: command.returncode is not None or reached())
        assert command.returncode != 0, "there is no new node"  # it may have refused: then it is repeated
        with contextlib.suppress(ProcessLookupError):
            command.kill()
        token = (await reading).decode().strip()
        return [token] if token else []


async def test_a_replacement_that_is_killed_at_many_moments_is_repeated_until_the_new_node_is_a_voter(
    tmp_path: Path,
) -> None:
    async with LocalCluster(tmp_path / "cluster", settings=FAST) as cluster:
        ann, _ = await two_people(cluster)
        leader = await a_leader(cluster)
        lost = cluster.others(leader)[0]
        (tmp_path / "ann").mkdir()
        parley = command_of(cluster, tmp_path / "ann")
        assert (await parley("login", "ann", PARLEY_PASSWORD=PASSWORD)).code == 0
        async with load(cluster, ann, "ben") as sending:
            cluster.kill(lost)
            wipe(cluster, lost)
            give_table(cluster.layout, lost, "join", cluster.others(lost))
            tokens: list[str] = []
            number = 0
            while number < ROUNDS or not tokens:
                number += 1
                assert number < 5 * ROUNDS, "no run came as far as its token"
                # While it looks, asks for the removal, has just been answered, has printed its token, and waits.
                tokens += await token_of_a_killed_run(parley, lost, after(0.7 * number))
            async with parley.running("cluster", "replace", lost) as command:
                assert command.stdout is not None
                tokens.append((await command.stdout.readline()).decode().strip())
                token_file(cluster.layout, lost).write_text(tokens[0] + "\n")  # one of a run that was killed is as good
                cluster.start(lost)
                async with asyncio.timeout(COMMAND_S):
                    assert await command.wait() == 0
            await until_members(cluster, leader, set(cluster.names))
            await sending.until(20)
        await cluster.wait_until_equal()
        assert len(set(tokens)) == len(tokens) > 1
