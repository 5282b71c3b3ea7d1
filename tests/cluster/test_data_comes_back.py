"""What was acknowledged comes back: from a backup after all nodes were lost, and from one node that is left.

The commands are those of docs/OPERATIONS.md, on real processes.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from parley_proto.v1 import admin_pb2 as pb
from parley_proto.v1.messaging_pb2 import SEND_STATUS_ACCEPTED
from parleyd.exits import ExitCode
from parleyd.machine.new_generation import GAP
from scripts.cluster_layout import Settings
from scripts.cluster_local import LocalCluster
from tests.cluster.conftest import FAST
from tests.cluster.daemon import Ended, parleyd
from tests.cluster.load import load
from tests.cluster.raw import PASSWORD, Person, bodies, raw_client, until_true
from tests.cluster.test_membership import (
    a_leader,
    first_person,
    give_table,
    invite,
    operator_at,
    token_file,
    until_logged,
    until_members,
    wipe,
)
from tests.unit.client.test_command import Parley

pytestmark = pytest.mark.asyncio

BACKUP_S = 120.0
NODES = {"n1", "n2", "n3"}


def command_of(cluster: LocalCluster, folder: Path) -> Parley:
    """The command `parley` of an administrator of this cluster."""
    parley = Parley(folder)
    parley.environment |= {"PARLEY_HOSTS": ",".join(cluster.hosts), "PARLEY_CA": str(cluster.ca_file)}
    return parley


async def two_people(cluster: LocalCluster) -> tuple[Person, Person]:
    """An administrator and somebody to write to."""
    async with raw_client(cluster, cluster.names[0]) as raw:
        ann = await first_person(cluster, raw)
        await raw.register("ben")
        return ann, await raw.log_in("ben")


async def on_stopped(cluster: LocalCluster, name: str, command: str, *arguments: str) -> Ended:
    """Run a command of `parleyd` with the settings file of a node."""
    config = str(cluster.layout.config_file(name))
    return await parleyd(command, *arguments, "--config", config, timeout_s=BACKUP_S)


async def stored(cluster: LocalCluster, name: str, person: Person) -> list[str]:
    """The messages from ann to ben, as this node has them."""
    async with raw_client(cluster, name) as raw:
        return bodies(await raw.history(person, "ann"))


async def audit_rows(cluster: LocalCluster, name: str, person: Person) -> list[pb.AuditRow]:
    """The audit log, as this node has it."""
    async with raw_client(cluster, name) as raw:
        answer = await raw.admin.ListAudit(pb.ListAuditRequest(page_size=1000), metadata=person.metadata)
        return list(answer.rows)


def numbered(count: int) -> list[str]:
    return [f"message {number}" for number in range(1, count + 1)]


async def until_generation(cluster: LocalCluster, kind: pb.GenerationKind.ValueType) -> None:
    """Until every node reports the new generation and how it began."""

    async def is_told() -> None:
        for name in cluster.names:
            status = await cluster.status(name)
            assert status is not None
            assert status.generation > 0
            assert [(one.generation, one.kind) for one in status.generations] == [(status.generation, kind)]

    await until_true(is_told, timeout_s=60)


async def goes_on(cluster: LocalCluster, before: list[str]) -> None:
    """A person logs in with the password from before, and a message that is sent now is one more, on every node."""
    async with raw_client(cluster, "n2") as raw:
        ann = await raw.log_in("ann", PASSWORD)
        async with raw.session(ann) as stream:
            sent = await stream.send_surely(1, "ben", "after it")
            assert sent.status == SEND_STATUS_ACCEPTED
            assert sent.message_id > GAP, "no id of the life before"
        ben = await raw.log_in("ben", PASSWORD)
    await cluster.wait_until_equal()
    for name in cluster.names:
        assert await stored(cluster, name, ben) == [*before, "after it"]


async def test_a_backup_under_load_is_restored_into_a_new_cluster_that_others_join(tmp_path: Path) -> None:
    file = tmp_path / "monday.backup"
    async with LocalCluster(tmp_path / "cluster", settings=FAST) as cluster:
        ann, ben = await two_people(cluster)
        leader = await a_leader(cluster)
        parley = command_of(cluster, tmp_path / "ann")
        (tmp_path / "ann").mkdir()
        assert (await parley("login", "ann", PARLEY_PASSWORD=PASSWORD)).code == 0
        async with load(cluster, ann, "ben") as sending:
            await sending.until(50)
            acknowledged = sending.acknowledged
            audited = await audit_rows(cluster, leader, ann)
            while True:  # on a busy machine the leadership may move meanwhile
                leader = await a_leader(cluster)
                file.unlink(missing_ok=True)
                made = await parley("cluster", "backup", str(file), "--json")
                assert made.code == 0, made.err
                if await a_leader(cluster) == leader:
                    break
            await sending.until(20)
        record = json.loads(made.out)
        assert record["is_current"]
        assert record["node"] in NODES - {leader}, "a follower made it"
        old_id = record["cluster_id"]
        checked = await parleyd("backup", "verify", str(file), timeout_s=BACKUP_S)
        assert checked.code == ExitCode.OK, checked.output

        cluster.kill(*cluster.names)
        for name in cluster.names:
            wipe(cluster, name)
        done = await on_stopped(cluster, "n1", "restore", str(file))
        assert done.code == ExitCode.OK, done.output
        again = await on_stopped(cluster, "n1", "restore", str(file))
        assert again.code == ExitCode.STORAGE, again.output
        cluster.start("n1")
        await cluster.wait_until_answering("n1")
        before = await stored(cluster, "n1", ben)
        assert before == numbered(len(before)), "each message once, in order"
        assert acknowledged <= len(before) <= sending.acknowledged

        for name in ("n2", "n3"):
            give_table(cluster.layout, name, "join", ["n1"])
        await invite(cluster, "n1", ann, "n2", "n3")
        cluster.start("n2", "n3")
        await until_members(cluster, "n1", NODES)
        await until_generation(cluster, pb.GENERATION_KIND_RESTORED)
        status = await cluster.status("n1")
        assert status is not None
        assert status.cluster_id != old_id
        assert "cluster_was_restored" in cluster.log_text("n1")
        rows = await audit_rows(cluster, "n2", ann)
        assert rows[: len(audited)] == audited, "what a person noted of the audit log before is still in it"
        assert [row.object for row in rows if row.action == "request.backup"] == [record["node"]]
        assert [row.actor for row in rows if row.action == "cluster.restored"] == ["(operator)"]
        await goes_on(cluster, before)


async def test_a_restore_that_is_killed_is_repeated_and_no_node_starts_in_between(tmp_path: Path) -> None:
    file = tmp_path / "monday.backup"
    async with LocalCluster(tmp_path / "cluster", nodes=1, settings=FAST) as cluster:
        _, ben = await two_people(cluster)
        (tmp_path / "ann").mkdir()
        parley = command_of(cluster, tmp_path / "ann")
        assert (await parley("login", "ann", PARLEY_PASSWORD=PASSWORD)).code == 0
        assert (await parley("send", "ben", "message 1")).code == 0
        made = await parley("cluster", "backup", str(file))
        assert made.code == 0, made.err
        await cluster.stop("n1")
        wipe(cluster, "n1")
        # The directory of a restore that was killed after its first step.
        folder = cluster.layout.data_dir("n1")
        folder.mkdir()
        (folder / "restore-unfinished").write_text(str(file))
        (folder / "state.sqlite").write_bytes(b"a part")
        cluster.start("n1")
        assert await cluster.wait_for_exit("n1") == ExitCode.STORAGE
        assert "was not finished" in cluster.tail("n1")
        done = await on_stopped(cluster, "n1", "restore", str(file))
        assert done.code == ExitCode.OK, done.output
        cluster.start("n1")
        await cluster.wait_until_answering("n1")
        assert await stored(cluster, "n1", ben) == ["message 1"]


@pytest.mark.campaign
async def test_the_node_that_is_left_of_three_goes_on_with_all_that_it_has_and_others_join(tmp_path: Path) -> None:
    settings: Settings = {**FAST, "backup_folder": str(tmp_path), "backup_interval_s": 3600}
    async with LocalCluster(tmp_path / "cluster", settings=settings) as cluster:
        ann, ben = await two_people(cluster)
        leader = await a_leader(cluster)
        for name in cluster.names:
            await until_logged(cluster, name, "backup_written")
        async with load(cluster, ann, "ben") as sending:
            await sending.until(50)
            cluster.kill(*cluster.others(leader))
        # The leader may have entries that no majority has, and it has all that was acknowledged.
        acknowledged, tried = sending.acknowledged, sending.acknowledged + 1
        assert (await on_stopped(cluster, leader, "recover")).code == ExitCode.STORAGE, "it runs"
        cluster.kill(leader)
        for name in cluster.others(leader):
            wipe(cluster, name)
        looked = await on_stopped(cluster, leader, "recover")
        assert looked.code == ExitCode.USAGE, looked.output
        for name in cluster.others(leader):
            assert cluster.layout.node(name).peer_address in looked.output
        done = await on_stopped(cluster, leader, "recover", "--force-new-cluster", "--yes")
        assert done.code == ExitCode.OK, done.output
        again = await on_stopped(cluster, leader, "recover", "--force-new-cluster", "--yes")
        assert again.code == ExitCode.USAGE, again.output
        assert "no majority is lost" in again.output

        cluster.start(leader)
        await cluster.wait_until_answering(leader)
        before = await stored(cluster, leader, ben)
        assert before == numbered(len(before)), "each message once, in order"
        assert acknowledged <= len(before) <= tried
        assert "cluster_was_recovered" in cluster.log_text(leader)

        for name in cluster.others(leader):
            give_table(cluster.layout, name, "join", [leader])
            cluster.start(name)
            async with operator_at(cluster, leader, ann) as operator:
                address = cluster.layout.node(name).peer_address

                async def is_added() -> None:
                    try:
                        await operator.add(name, address)  # noqa: B023
                    except Exception as error:
                        raise AssertionError(str(error)) from error

                await until_true(is_added, timeout_s=30)
        await until_members(cluster, leader, NODES)
        await until_generation(cluster, pb.GENERATION_KIND_RECOVERED)
        await goes_on(cluster, before)


@pytest.mark.campaign
async def test_a_lost_node_is_replaced_in_one_step_that_is_interrupted_and_repeated(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path / "cluster", settings=FAST) as cluster:
        ann, _ = await two_people(cluster)
        leader = await a_leader(cluster)
        lost = cluster.others(leader)[0]
        (tmp_path / "ann").mkdir()
        parley = command_of(cluster, tmp_path / "ann")
        assert (await parley("login", "ann", PARLEY_PASSWORD=PASSWORD)).code == 0
        refused = await parley("cluster", "replace", lost)
        assert "answers and is a voter" in refused.err
        async with load(cluster, ann, "ben") as sending:
            cluster.kill(lost)
            wipe(cluster, lost)
            for is_interrupted in (True, False):
                async with parley.running("cluster", "replace", lost) as command:
                    assert command.stdout is not None
                    token = (await command.stdout.readline()).decode()
                    assert token.strip(), "it was removed and has a token"
                    if is_interrupted:
                        command.kill()
                        continue
                    give_table(cluster.layout, lost, "join", cluster.others(lost))
                    token_file(cluster.layout, lost).write_text(token)
                    cluster.start(lost)
                    async with asyncio.timeout(60):
                        assert await command.wait() == 0
            await until_members(cluster, leader, NODES)
            await sending.until(10)
