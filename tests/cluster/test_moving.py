"""Addresses, names and disks of nodes move, by the procedures of docs/OPERATIONS.md, on real processes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from parley import ParleyClient
from parleyd.exits import ExitCode
from scripts.cluster_layout import NodePlan, split_address, write_config
from scripts.cluster_local import LocalCluster
from tests.cluster.conftest import FAST
from tests.cluster.daemon import Ended, parleyd
from tests.cluster.load import load
from tests.cluster.raw import PASSWORD, bodies, raw_client, until_true
from tests.cluster.test_membership import a_leader, first_person, invite, operator_at, running, until_members

pytestmark = [pytest.mark.asyncio, pytest.mark.campaign, pytest.mark.timeout(300)]

ACCEPTED_S = 60


def elsewhere(node: NodePlan) -> NodePlan:
    """Return the node with other ports, for clients and for nodes."""
    (host, port), (_, peer_port) = split_address(node.client_address), split_address(node.peer_address)
    return NodePlan(node.name, f"{host}:{port + 400}", f"{host}:{peer_port + 400}")


async def move_alone(cluster: LocalCluster, name: str) -> None:
    """Write other addresses into the settings of one stopped node. The settings of the others stay as they are."""
    old, new = cluster.layout.node(name), elsewhere(cluster.layout.node(name))
    file = cluster.layout.config_file(name)
    text = file.read_text().replace(old.client_address, new.client_address)
    file.write_text(text.replace(old.peer_address, new.peer_address))
    await cluster.move(new)


async def move_all(cluster: LocalCluster) -> None:
    """Write other addresses of all stopped nodes into the settings of each."""
    await cluster.move(*map(elsewhere, cluster.layout.nodes))
    for name in cluster.names:
        write_config(cluster.layout, name, FAST)


async def until_published(cluster: LocalCluster) -> None:
    """Until every node has the present addresses of all members, and the leader is connected to them."""

    async def is_known() -> None:
        for name in cluster.names:
            status = await cluster.status(name)
            assert status is not None
            assert {(m.name, m.peer_address, m.client_address) for m in status.members} == {
                (node.name, node.peer_address, node.client_address) for node in cluster.layout.nodes
            }
            assert all(member.connected for member in status.members)

    await until_true(is_known, timeout_s=60)


async def send(client: ParleyClient, body: str) -> None:
    await (await client.send("ben", body)).accepted(timeout=ACCEPTED_S)


async def test_nodes_move_to_other_addresses_one_by_one_and_all_at_once_and_clients_follow(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path / "cluster", settings=FAST) as own:
        async with raw_client(own, "n1") as raw:
            await raw.register("ben")
        state_dir = tmp_path / "ann"
        async with ParleyClient(own.address("n1"), ca=own.ca_file, state_dir=state_dir) as client:
            await client.register("ann", PASSWORD)
            await client.login("ann", PASSWORD)
            await send(client, "message 1")
            for number, name in enumerate(("n2", "n3"), start=2):
                assert await own.stop(name) == ExitCode.OK
                await move_alone(own, name)
                own.start(name)
                await until_published(own)
                await send(client, f"message {number}")
            # The only node that the client was told of is gone. It has learned the new addresses of the others.
            own.kill("n1")
            await send(client, "message 4")
            await own.wait_until_answering("n2", "n3")
            own.start("n1")
            await until_published(own)
        # All at once: nobody publishes anything meanwhile, and the settings have the new addresses of all.
        for name in own.names:
            assert await own.stop(name) == ExitCode.OK
        await move_all(own)
        own.start(*own.names)
        await until_published(own)
        async with ParleyClient(own.hosts, ca=own.ca_file, state_dir=state_dir, account="ann") as client:
            await send(client, "message 5")
        await own.wait_until_equal()
        for name in own.names:
            async with raw_client(own, name) as raw:
                ben = await raw.log_in("ben")
                assert bodies(await raw.history(ben, "ann")) == [f"message {number}" for number in range(1, 6)]


async def test_a_node_keeps_its_name_and_its_machine_gets_another_one_by_adding_and_removing(tmp_path: Path) -> None:
    async with running(tmp_path, bootstrap_members=3, joiners=1) as cluster:
        leader = await a_leader(cluster)
        old = cluster.others(leader)[0]
        kept = next(name for name in ("n1", "n2", "n3") if name not in (leader, old))
        async with raw_client(cluster, kept) as raw:
            ann = await first_person(cluster, raw)
            await raw.register("ben")
            async with load(cluster, ann, "ben") as sending:
                await sending.until(20)
                # The data directory of one node under the name of another: with that one's certificate and addresses.
                assert await cluster.stop(old) == ExitCode.OK
                config = cluster.layout.config_file("n4")
                settings = config.read_text()
                config.write_text(
                    settings.replace(str(cluster.layout.data_dir("n4")), str(cluster.layout.data_dir(old)))
                )
                cluster.start("n4")
                assert await cluster.wait_for_exit("n4", 60) == ExitCode.STORAGE
                assert "add a new node and remove this one" in cluster.tail("n4")
                cluster.start(old)
                await cluster.wait_until_answering(old)
                # The new name has a directory of its own. The old one goes when the new one is a voter.
                config.write_text(settings)
                await invite(cluster, kept, ann, "n4")
                cluster.start("n4")
                await until_members(cluster, kept, {"n1", "n2", "n3", "n4"})
                async with operator_at(cluster, kept, ann) as operator:
                    await operator.remove(old)
                await until_members(cluster, kept, {"n1", "n2", "n3", "n4"} - {old})
                await sending.until(20)
            ben = await raw.log_in("ben")
            seen = bodies(await raw.history(ben, "ann"))
        assert seen == [f"message {number}" for number in range(1, len(seen) + 1)]
        assert sending.acknowledged <= len(seen) <= sending.acknowledged + 1


async def moved(cluster: LocalCluster, name: str, *arguments: str) -> Ended:
    """Run `parleyd moved` with the settings of a node."""
    return await parleyd("moved", *arguments, "--config", str(cluster.layout.config_file(name)), timeout_s=60)


async def test_a_data_directory_is_copied_to_another_disk_and_never_runs_twice(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path / "cluster", settings=FAST) as own:
        leader = await own.wait_for_leader()
        name = own.others(leader)[0]
        config, folder, copied = own.layout.config_file(name), own.layout.data_dir(name), tmp_path / "new-disk"
        async with raw_client(own, leader) as raw:
            await raw.register("ann")
            await raw.register("ben")
            ann, ben = await raw.log_in("ann"), await raw.log_in("ben")
        settings = config.read_text()
        async with load(own, ann, "ben") as sending:
            await sending.until(20)
            # A copy made while the node runs is no copy of one moment.
            subprocess.run(["cp", "-a", folder, copied], check=True)  # noqa: ASYNC221
            config.write_text(settings.replace(str(folder), str(copied)))
            refused = await moved(own, name)
            assert (refused.code, "runs on this data directory" in refused.output) == (ExitCode.STORAGE, True)
            assert await own.stop(name) == ExitCode.OK
            refused = await moved(own, name)
            assert (refused.code, "copy the whole directory again" in refused.output) == (ExitCode.STORAGE, True)
            # The procedure: stop, copy, name the copy in data_dir, `parleyd moved`, start.
            subprocess.run(["rm", "-r", copied], check=True)  # noqa: ASYNC221
            subprocess.run(["cp", "-a", folder, copied], check=True)  # noqa: ASYNC221
            own.start(name)
            assert await own.wait_for_exit(name, 60) == ExitCode.STORAGE
            assert "is a copy of the data directory" in own.tail(name)
            done = await moved(own, name)
            assert done.code == ExitCode.OK, done.output
            assert f"{copied} has taken the place of {folder}" in done.output
            own.start(name)
            await own.wait_until_answering(name)
            # The original, beside it and alone: it is refused, and the copy goes on.
            config.write_text(settings)
            ended = await parleyd("start", "--config", str(config), timeout_s=60)
            assert (ended.code, f"was moved to {copied}" in ended.output) == (ExitCode.STORAGE, True)
            assert await own.stop(name) == ExitCode.OK
            own.start(name)
            assert await own.wait_for_exit(name, 60) == ExitCode.STORAGE
            config.write_text(settings.replace(str(folder), str(copied)))
            own.start(name)
            await own.wait_until_answering(*own.names)
            await sending.until(20)
        # The status tells strangers nothing of the log, and the scripts do not know the new directory with the token.
        async with raw_client(own, name) as raw:

            async def has_everything() -> None:
                seen = bodies(await raw.history(ben, "ann"))
                assert seen == [f"message {number}" for number in range(1, len(seen) + 1)]
                assert sending.acknowledged <= len(seen) <= sending.acknowledged + 1

            await until_true(has_everything)
