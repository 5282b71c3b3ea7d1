"""Nodes of two releases side by side: upgraded one by one under load, and never further than the slowest of them."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

import grpc
import pytest

from parley_proto.v1 import admin_pb2
from parley_proto.v1.conversations_pb2 import CreateChannelRequest
from parleyd.exits import ExitCode
from scripts.cluster_layout import create_layout, plan_private_nodes
from scripts.cluster_local import LocalCluster
from tests.cluster.conftest import FAST
from tests.cluster.load import load
from tests.cluster.raw import Person, bodies, eventually, raw_client, refused, until_true
from tests.cluster.releases import NEXT, NEXT_LEVEL, NEXT_RELEASE, OLD, OLD_LEVEL

pytestmark = pytest.mark.asyncio

ANSWER_S = 15.0
START_S = 60.0  # a process that starts on a busy machine


async def level_of(cluster: LocalCluster, name: str) -> int:
    status = await cluster.status(name)
    return 0 if status is None else status.level


async def wait_for_level(cluster: LocalCluster, level: int, *names: str) -> None:
    async def check() -> None:
        assert [await level_of(cluster, name) for name in names] == [level] * len(names)

    await until_true(check)


async def upgrade(cluster: LocalCluster, name: str) -> None:
    assert await cluster.stop(name) == ExitCode.OK
    cluster.run_with(NEXT, name)
    cluster.start(name)
    await cluster.wait_until_answering(name)


async def use_new_command(cluster: LocalCluster, name: str, person: Person) -> int:
    """Make a channel through one node; its id."""
    request = CreateChannelRequest(title="news", request_id=secrets.token_bytes(16))
    async with raw_client(cluster, name) as raw:
        made = await eventually(
            lambda: raw.conversations.CreateChannel(request, metadata=person.metadata, timeout=ANSWER_S)
        )
    return made.conversation_id


async def change_setting(cluster: LocalCluster, person: Person, name: str, value: int) -> None:
    request = admin_pb2.ChangeSettingRequest(name=name, value=value)
    async with raw_client(cluster, await cluster.wait_for_leader()) as raw:
        await eventually(lambda: raw.admin.ChangeSetting(request, metadata=person.metadata, timeout=ANSWER_S))


def digests(cluster: LocalCluster, name: str) -> list[str]:
    folder = cluster.layout.data_dir(name)
    return [hashlib.sha256((folder / file).read_bytes()).hexdigest() for file in ("state.sqlite", "raft.sqlite")]


@pytest.fixture
def old_cluster(tmp_path: Path) -> LocalCluster:
    create_layout(tmp_path, plan_private_nodes(3), FAST)
    cluster = LocalCluster(tmp_path, start=False)
    cluster.run_with(OLD, *cluster.names)
    return cluster


async def test_nodes_are_upgraded_one_by_one_under_load_and_the_level_rises_after_the_last(
    old_cluster: LocalCluster,
) -> None:
    async with old_cluster as own:
        own.start(*own.names)
        await own.wait_until_answering(*own.names)
        async with raw_client(own, own.names[0]) as raw:
            for name in ("ann", "ben"):
                await raw.register(name)
            ann, ben = await raw.log_in("ann"), await raw.log_in("ben")
        async with load(own, ann, "ben") as sending:
            await sending.until(50)
            for name in own.names:
                for asked in own.names:
                    code, text = await refused(use_new_command(own, asked, ben))
                    assert code is grpc.StatusCode.FAILED_PRECONDITION
                    assert "level" in text
                    assert await level_of(own, asked) == OLD_LEVEL
                await upgrade(own, name)
                await sending.until(50)
            await wait_for_level(own, NEXT_LEVEL, *own.names)
            assert await use_new_command(own, own.names[0], ben) > 0
            await sending.until(300)  # so that the hashes of the new level are compared, too
            # An old node that comes late stops before it touches anything.
            late = own.names[-1]
            assert await own.stop(late) == ExitCode.OK
            before = digests(own, late)
            own.run_with(OLD, late)
            own.start(late)
            assert await own.wait_for_exit(late, START_S) == ExitCode.RELEASE
            assert digests(own, late) == before
            assert f"Start this node with Parley {NEXT_RELEASE} or newer" in own.tail(late)
            own.run_with(NEXT, late)
            own.start(late)
            await own.wait_until_answering(late)
            await sending.until(50)
        await own.wait_until_equal()
        async with raw_client(own, own.names[0]) as raw:
            seen = bodies(await raw.history(ben, "ann"))
        sent = sending.acknowledged
        assert seen[:sent] == [f"message {number}" for number in range(1, sent + 1)]
        assert len(seen) <= sent + 1, "one send may have been stored whose answer the load did not wait for"
        for name in own.names:
            status = await own.status(name)
            assert status is not None
            assert status.divergence == ""


async def test_a_level_that_is_held_back_rises_when_it_is_let_go_and_stops_a_node_that_went_back(
    old_cluster: LocalCluster,
) -> None:
    async with old_cluster as own:
        own.run_with(NEXT, *own.names[:2])
        own.start(*own.names)
        await own.wait_until_answering(*own.names)
        async with raw_client(own, own.names[0]) as raw:
            await raw.register("ann", code=await own.administrator_code())
            ann = await raw.log_in("ann")
        await change_setting(own, ann, "level_limit", OLD_LEVEL)
        back = own.names[2]
        await upgrade(own, back)
        await own.wait_until_equal()
        assert {await level_of(own, name) for name in own.names} == {OLD_LEVEL}
        # It has published that it supports the next level; then it is gone, and comes back as the old release.
        assert await own.stop(back) == ExitCode.OK
        await change_setting(own, ann, "level_limit", 0)
        await wait_for_level(own, NEXT_LEVEL, *own.names[:2])
        own.run_with(OLD, back)
        own.start(back)
        assert await own.wait_for_exit(back, START_S) == ExitCode.RELEASE
        assert "of the log has level" in own.tail(back)
        assert f"Start this node with Parley {NEXT_RELEASE} or newer" in own.tail(back)
        own.run_with(NEXT, back)
        own.start(back)
        await own.wait_until_answering(back)
        await wait_for_level(own, NEXT_LEVEL, back)
        await own.wait_until_equal()
