"""A node whose state was altered is found out, harms nobody, and is rebuilt: real processes."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2

from parley_proto.v1 import admin_pb2
from parleyd.machine.machine import HASH_INTERVAL, StateMachine
from scripts.cluster_local import LocalCluster
from tests.cluster.conftest import FAST
from tests.cluster.load import load
from tests.cluster.raw import Person, bodies, eventually, health_stub, raw_client, refused, until_true

pytestmark = pytest.mark.asyncio

ANSWER_S = 15.0


def alter(cluster: LocalCluster, name: str) -> None:
    """Change one number in a stopped node's state, with every checksum in order: its next message gets another id."""
    with closing(StateMachine.open(cluster.layout.data_dir(name) / "state.sqlite")) as machine:
        machine._connection.execute("UPDATE meta SET last_message_id = last_message_id + 5")


async def divergence(cluster: LocalCluster, name: str) -> str:
    status = await cluster.status(name)
    return "" if status is None else status.divergence


async def wait_for_divergence(cluster: LocalCluster, name: str, *, text: str) -> None:
    async def check() -> None:
        assert text in await divergence(cluster, name)

    await until_true(check, timeout_s=60)


async def wait_for_agreement(cluster: LocalCluster) -> None:
    async def check() -> None:
        assert [await divergence(cluster, name) for name in cluster.names] == [""] * len(cluster.names)

    await until_true(check)


async def rebuild(cluster: LocalCluster, administrator: Person, name: str, through: str) -> None:
    request = admin_pb2.RebuildMemberRequest(name=name)
    async with raw_client(cluster, through) as raw:

        async def check() -> None:
            answer = await eventually(
                lambda: raw.admin.RebuildMember(request, metadata=administrator.metadata, timeout=ANSWER_S)
            )
            assert answer.done

        await until_true(check, timeout_s=60)


async def people(cluster: LocalCluster) -> tuple[Person, Person]:
    async with raw_client(cluster, cluster.names[0]) as raw:
        await raw.register("ann", code=await cluster.administrator_code())
        await raw.register("ben")
        return await raw.log_in("ann"), await raw.log_in("ben")


async def health(cluster: LocalCluster, name: str) -> int:
    async with raw_client(cluster, name) as raw:
        check = health_stub(raw.channel).Check
        answer = await check(health_pb2.HealthCheckRequest(), timeout=ANSWER_S, wait_for_ready=True)
        return int(answer.status)


async def check_everybody_has_everything(cluster: LocalCluster, ben: Person, sent: int) -> None:
    await cluster.wait_until_equal()
    expected = [f"message {number}" for number in range(1, sent + 1)]
    for name in cluster.names:
        async with raw_client(cluster, name) as raw:
            assert bodies(await raw.history(ben, "ann"))[:sent] == expected


async def test_an_altered_follower_fences_itself_and_is_rebuilt(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path, settings=FAST) as own:
        ann, ben = await people(own)
        altered = own.others(await own.wait_for_leader())[0]
        good = own.others(altered)
        await own.stop(altered)
        alter(own, altered)
        own.start(altered)
        await own.wait_until_answering(altered)
        async with load(own, ann, "ben") as sending:
            began_at = await own.status(good[0])
            await wait_for_divergence(own, altered, text="this node is fenced")
            for name in good:
                await wait_for_divergence(own, name, text=f"the state of {altered} differs")
            found_at = await own.status(altered)
            assert began_at is not None
            assert found_at is not None
            assert found_at.applied_index - began_at.applied_index < 4 * HASH_INTERVAL
            assert not found_at.serving
            await sending.until(20)

            # It serves nobody, and stays so over a restart.
            await own.stop(altered)
            own.start(altered)
            await wait_for_divergence(own, altered, text="this node is fenced")
            assert await health(own, altered) == health_pb2.HealthCheckResponse.NOT_SERVING
            async with raw_client(own, altered) as raw:
                request = admin_pb2.ListSettingsRequest()
                code, text = await refused(raw.admin.ListSettings(request, metadata=ben.metadata, timeout=ANSWER_S))
            assert code is grpc.StatusCode.UNAVAILABLE
            assert "not trusted" in text
            assert own.log_text(altered).count("node_fenced") == 2  # once when found, once at the start

            await rebuild(own, ann, altered, through=good[0])
            await own.wait_until_answering(altered)
            await sending.until(20)
        assert not (own.layout.data_dir(altered) / "fenced.json").exists()
        await check_everybody_has_everything(own, ben, sending.acknowledged)
        await wait_for_agreement(own)


@pytest.mark.campaign
async def test_an_altered_leader_lets_another_lead_and_votes_on(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path, settings=FAST) as own:
        ann, ben = await people(own)
        altered = own.others(await own.wait_for_leader())[0]
        await own.stop(altered)
        alter(own, altered)
        own.start(altered)
        await own.wait_until_answering(altered)
        async with raw_client(own, altered) as raw:
            request = admin_pb2.TransferLeadershipRequest(name=altered)
            await eventually(lambda: raw.admin.TransferLeadership(request, metadata=ann.metadata, timeout=ANSWER_S))
        async with load(own, ann, "ben") as sending:
            await wait_for_divergence(own, altered, text="this node is fenced")
            leader = await own.wait_for_leader(other_than=altered)
            await sending.until(20)
            # With one of the others gone, the fenced node's vote and log are what makes a majority.
            third = next(name for name in own.names if name not in (leader, altered))
            own.kill(leader)
            assert await own.wait_for_leader(other_than=altered) == third
            await sending.until(20)
            own.start(leader)
            await own.wait_until_answering(leader, third)
            await rebuild(own, ann, altered, through=third)
            await own.wait_until_answering(*own.names)
        await check_everybody_has_everything(own, ben, sending.acknowledged)
        await wait_for_agreement(own)


@pytest.mark.campaign
async def test_two_nodes_that_differ_raise_an_alarm_until_one_of_them_is_rebuilt(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path, nodes=2, settings=FAST) as own:
        ann, ben = await people(own)
        leader = await own.wait_for_leader()
        [altered] = own.others(leader)
        await own.stop(altered)
        alter(own, altered)
        own.start(altered)
        await own.wait_until_answering(altered)
        async with load(own, ann, "ben") as sending:
            for name in own.names:
                await wait_for_divergence(own, name, text="none has a majority")
            await own.wait_until_answering(*own.names)
            await rebuild(own, ann, altered, through=leader)
            await own.wait_until_answering(*own.names)
        await check_everybody_has_everything(own, ben, sending.acknowledged)
        await wait_for_agreement(own)
