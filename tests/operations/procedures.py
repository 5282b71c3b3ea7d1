"""The combined run: the procedures of docs/OPERATIONS.md in a row, and how long each made anybody wait.

The upgrade comes first, because the others are procedures of this release's level: `parley cluster replace` and join
tokens exist from level 3 on.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from parleyd.machine.levels import MAX_LEVEL
from scripts.cluster_layout import Settings, create_layout, plan_private_nodes, write_config
from scripts.cluster_local import LocalCluster
from tests.cluster.conftest import FAST, PATIENT
from tests.cluster.daemon import parleyd
from tests.cluster.raw import PASSWORD, bodies, raw_client, until_true
from tests.cluster.releases import PREVIOUS_LEVEL, installed
from tests.operations.commands import Administrator, CommandFailedError, make_administrator
from tests.operations.judgement import NO_STOP_MS, NO_WAIT_MS, Books, Step, between, faults_of_copy
from tests.operations.traffic import QUIET_SENDS, RECEIVER, SENDERS, Traffic, traffic

SETTINGS: Settings = {**FAST, **PATIENT, "shutdown_grace_s": 2}
FIRST = ("n1", "n2", "n3")
LATER = ("n4", "n5")
TRANSFERS = 10
ATTEMPTS = 3
AFTER_SENDS = 20  # of each sender, whose waits still count for a step that has ended
WAIT_S = 120.0


@dataclass(slots=True)
class Found:
    """All that the run found."""

    steps: list[Step] = field(default_factory=list)
    books: Books = field(default_factory=Books)
    faults: list[str] = field(default_factory=list)

    def all_faults(self) -> list[str]:
        """Return everything that is wrong, in words."""
        return [*self.faults, *self.books.faults(), *(text for step in self.steps for text in step.exceeded())]


class Procedures:
    """One run on one cluster of three nodes that becomes one of five."""

    def __init__(self, cluster: LocalCluster, folder: Path, release: Path) -> None:
        self._cluster = cluster
        self._folder = folder
        self._release = release
        self.found = Found()

    async def run(self) -> Found:
        """Carry out all procedures."""
        hosts = [self._cluster.address(name) for name in FIRST]
        boss = await make_administrator(self._cluster, hosts, self._folder / "boss")
        async with traffic(self._cluster, hosts, self._folder) as load:
            async with self._step("upgrade of three nodes by one level", load, NO_WAIT_MS):
                await self._upgrade(boss)
            async with self._step("add two nodes", load):
                await self._add(boss)
            async with self._step("replace a lost node", load):
                await self._replace(boss)
            async with self._step("rolling restart of five nodes", load, NO_WAIT_MS):
                await boss("rolling-restart")
            backup = self._folder / "run.backup"
            before = load.accepted()
            async with self._step("backup", load):
                await boss("backup", str(backup))
            async with self._step("restore into a second cluster", load):
                self.found.faults += faults_of_copy(await self._restore(backup), before)
            async with self._step(f"transfer of leadership, {TRANSFERS} times", load):
                await self._transfer(boss)
        self.found.books = load.books()
        await self._cluster.wait_until_equal(timeout_s=WAIT_S)
        for name in self._cluster.names:
            self.found.books.stored[name] = [
                body for texts in (await _stored(self._cluster, name)).values() for body in texts
            ]
        return self.found

    @asynccontextmanager
    async def _step(self, name: str, load: Traffic, bound_ms: float = NO_STOP_MS) -> AsyncIterator[None]:
        """Measure what is done inside, after a time in which nothing is done."""
        quiet_s = time.perf_counter()
        await load.more(QUIET_SENDS)
        began_s = time.perf_counter()
        yield
        await load.more(AFTER_SENDS)
        ended_s = time.perf_counter()
        # Sends from now on that end later belong to the next quiet time.
        step = Step(
            name,
            began_s,
            ended_s,
            max(between([send for send in load.sends if send.accepted_s <= began_s], quiet_s, began_s)),
            between(load.sends, began_s, ended_s),
            load.deliveries_ms(began_s, ended_s),
            bound_ms,
        )
        self.found.steps.append(step)
        print(f"{name}: {step.seconds:.1f} s, longest send {step.longest_send_ms:.0f} ms", flush=True)

    async def _upgrade(self, boss: Administrator) -> None:
        """Install this release in the place of the one before, and restart one node after the other."""
        await self._until_level(PREVIOUS_LEVEL, *FIRST)
        self._release.write_text("this")
        await boss("rolling-restart")
        await self._until_level(MAX_LEVEL, *FIRST)

    async def _add(self, boss: Administrator) -> None:
        for name in LATER:
            await self._join(name, await boss("invite-node"))
        await self._until_voters(*FIRST, *LATER)

    async def _replace(self, boss: Administrator) -> None:
        """Lose a node with its disk, and put a new one in its place."""
        lost = self._cluster.others(await self._cluster.wait_for_leader())[0]
        self._cluster.kill(lost)
        shutil.rmtree(self._cluster.layout.data_dir(lost))
        async with boss.running("replace", lost) as command:
            assert command.stdout is not None
            assert command.stderr is not None
            said = asyncio.ensure_future(command.stderr.read())
            async with asyncio.timeout(WAIT_S):
                token = (await command.stdout.readline()).decode().strip()
                if token:
                    await self._join(lost, token)
                code = await command.wait()
            if code != 0 or not token:
                raise CommandFailedError(f"parley cluster replace {lost} ended with {code}:\n{(await said).decode()}")
        await self._until_voters(*self._cluster.names)

    async def _restore(self, backup: Path) -> dict[str, list[str]]:
        """Restore into a second cluster, beside the first one. Return what it has."""
        async with LocalCluster(self._folder / "beside", nodes=1, settings=FAST, start=False) as beside:
            config = str(beside.layout.config_file("n1"))
            done = await parleyd("restore", str(backup), "--config", config, timeout_s=WAIT_S)
            if done.code != 0:
                raise CommandFailedError(f"parleyd restore ended with {done.code}:\n{done.output}")
            beside.start("n1")
            await beside.wait_until_answering("n1")
            return await _stored(beside, "n1")

    async def _transfer(self, boss: Administrator) -> None:
        """Transfer leadership to each node in turn."""
        names = self._cluster.names
        for number in range(TRANSFERS):
            leader = await self._cluster.wait_for_leader()
            target = names[(names.index(leader) + 1 + number % 2) % len(names)]
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    await boss("transfer", target)
                    break
                except CommandFailedError as error:
                    # A node that waits for a processor does not win in time. The text advises to repeat it.
                    if attempt == ATTEMPTS or "in time" not in str(error):
                        raise

    async def _join(self, name: str, token: str) -> None:
        folder = self._cluster.layout.folder(name)
        (folder / "join-token").write_text(token)
        settings = {**SETTINGS, "join_token_file": str(folder / "join-token")}
        write_config(self._cluster.layout, name, settings, joins=True)
        self._cluster.start(name)

    async def _until_level(self, level: int, *names: str) -> None:
        async def is_there() -> None:
            found = [await self._cluster.status(name) for name in names]
            assert [one and one.level for one in found] == [level] * len(names)

        await until_true(is_there, timeout_s=WAIT_S)

    async def _until_voters(self, *names: str) -> None:
        async def are_there() -> None:
            status = await self._cluster.status(await self._cluster.wait_for_leader())
            assert status is not None
            assert sorted(member.name for member in status.members if member.voter) == sorted(names)

        await until_true(are_there, timeout_s=WAIT_S)


async def carry_out(folder: Path) -> Found:
    """Make a cluster of the release before, carry out all procedures, and return what was found."""
    layout = create_layout(folder / "cluster", plan_private_nodes(len(FIRST) + len(LATER)), SETTINGS)
    for name in FIRST:
        text = layout.config_file(name).read_text().partition("[peers]")[0]
        rows = [f'{first} = "{layout.node(first).peer_address}"' for first in FIRST]
        layout.config_file(name).write_text("\n".join([text, "[peers]", *rows, ""]))
    release = folder / "release"
    release.write_text("previous")
    async with LocalCluster(folder / "cluster", start=False) as cluster:
        cluster.run_with(installed(release), *cluster.names)
        cluster.start(*FIRST)
        await cluster.wait_until_answering(*FIRST)
        return await Procedures(cluster, folder, release).run()


async def _stored(cluster: LocalCluster, name: str) -> dict[str, list[str]]:
    """Return the messages that a node has, by sender, read by plain gRPC."""
    async with raw_client(cluster, name) as raw:
        person = await raw.log_in(RECEIVER, PASSWORD)
        return {sender: bodies(await raw.history(person, sender)) for sender in SENDERS}
