"""Running nodes: health, reflection, wrong starts, lost disks, lagging behind, a cluster of one."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from parley_proto.v1.messaging_pb2 import SEND_STATUS_ACCEPTED
from parleyd.exits import ExitCode
from scripts.cluster_layout import create_layout, plan_private_nodes
from scripts.cluster_local import LocalCluster
from tests.cluster.conftest import FAST
from tests.cluster.daemon import parleyd
from tests.cluster.raw import bodies, health_stub, raw_client, reflection_stub

pytestmark = pytest.mark.asyncio(loop_scope="module")

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_health_is_serving_only_while_commits_flow(cluster: LocalCluster) -> None:
    leader = await cluster.wait_for_leader()
    lost = cluster.others(leader)
    async with raw_client(cluster, leader) as raw:
        watch = health_stub(raw.channel).Watch(health_pb2.HealthCheckRequest())
        try:
            async with asyncio.timeout(30):
                while (await watch.read()).status != SERVING:
                    pass
                cluster.kill(*lost)
                while (await watch.read()).status != NOT_SERVING:
                    pass
                cluster.start(*lost)
                while (await watch.read()).status != SERVING:
                    pass
        finally:
            watch.cancel()


async def test_a_follower_that_lost_its_leader_and_majority_is_not_serving(cluster: LocalCluster) -> None:
    leader = await cluster.wait_for_leader()
    follower, other = cluster.others(leader)
    async with raw_client(cluster, follower) as raw:
        watch = health_stub(raw.channel).Watch(health_pb2.HealthCheckRequest())
        try:
            async with asyncio.timeout(30):
                while (await watch.read()).status != SERVING:
                    pass
                cluster.kill(leader, other)
                while (await watch.read()).status != NOT_SERVING:
                    pass
        finally:
            watch.cancel()


async def test_reflection_is_off_unless_the_settings_ask_for_it(cluster: LocalCluster) -> None:
    async with raw_client(cluster, cluster.names[0]) as raw:
        call = reflection_stub(raw.channel).ServerReflectionInfo()
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call.read()
    assert error.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_reflection_lists_every_service_and_the_peer_port_is_not_among_them(tmp_path: Path) -> None:
    async with (
        LocalCluster(tmp_path, nodes=1, settings={**FAST, "reflection": True}) as lone,
        raw_client(lone, lone.names[0]) as raw,
    ):
        call = reflection_stub(raw.channel).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        await call.done_writing()
        async with asyncio.timeout(10):
            answer = await call.read()
    names = {service.name for service in answer.list_services_response.service}
    assert {"parley.v1.Accounts", "parley.v1.Admin", "parley.v1.Messaging", "grpc.health.v1.Health"} <= names
    assert "parley.v1.Peer" not in names


async def test_status_names_every_member_and_where_the_leader_stands(cluster: LocalCluster) -> None:
    leader = await cluster.wait_for_leader()
    status = await cluster.status(leader)
    assert status is not None
    assert [member.name for member in status.members] == list(cluster.names)
    assert all(member.voter and member.connected for member in status.members)
    assert {member.client_address for member in status.members} == set(cluster.hosts)
    assert status.pid == cluster.pid(leader)
    assert min(member.match_index for member in status.members) > 0


async def test_a_second_process_on_the_same_data_directory_is_refused(cluster: LocalCluster) -> None:
    other = plan_private_nodes(1)[0]
    ended = await parleyd(
        "start",
        "--config",
        str(cluster.layout.config_file("n1")),
        "--client-listen",
        other.client_address,
        "--peer-listen",
        other.peer_address,
    )
    assert ended.code == ExitCode.STORAGE
    assert "Stop the other one" in ended.output
    assert str(cluster.layout.data_dir("n1")) in ended.output
    await cluster.wait_until_answering("n1")


async def test_a_copy_of_a_data_directory_is_refused_beside_its_original_also_at_other_addresses(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    other = plan_private_nodes(1)[0]
    copied = tmp_path / "copy"
    shutil.copytree(cluster.layout.data_dir("n1"), copied, ignore=shutil.ignore_patterns("*-wal", "*-shm", "snapshots"))
    ended = await parleyd(
        *("start", "--config", str(cluster.layout.config_file("n1")), "--data-dir", str(copied)),
        *("--client-listen", other.client_address, "--peer-listen", other.peer_address),
    )
    assert ended.code == ExitCode.STORAGE
    assert f"is a copy of the data directory {cluster.layout.data_dir('n1')}" in ended.output
    await cluster.wait_until_answering("n1")


async def test_a_port_that_is_taken_is_named(cluster: LocalCluster, tmp_path: Path) -> None:
    taken = cluster.address("n1")
    ended = await parleyd(
        "start",
        "--config",
        str(cluster.layout.config_file("n1")),
        "--data-dir",
        str(tmp_path / "data"),
    )
    assert ended.code == ExitCode.ADDRESS
    assert taken in ended.output or cluster.layout.node("n1").peer_address in ended.output


async def test_a_wiped_data_directory_never_votes_and_says_why_it_stops(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path, settings=FAST) as own:
        await own.wait_until_equal()
        own.kill(*own.names)
        shutil.rmtree(own.layout.data_dir("n3"))
        # With n1 alone there is no majority; the empty n3 must not make it one.
        own.start("n1", "n3")
        code = await own.wait_for_exit("n3", 30)
        assert code == ExitCode.STORAGE
        assert "wiped" in own.tail("n3")
        status = await own.status("n1")
        assert status is not None
        assert not status.serving
        own.start("n2")
        leader = await own.wait_for_leader()
        status = await own.status(leader)
        assert status is not None
        assert len(status.members) == 3


async def test_a_follower_that_missed_what_was_cut_from_the_log_gets_a_snapshot(tmp_path: Path) -> None:
    settings = {**FAST, "log_retain_entries": 100}
    async with LocalCluster(tmp_path, settings=settings) as own:
        leader = await own.wait_for_leader()
        lagging = own.others(leader)[0]
        async with raw_client(own, leader) as raw:
            for name in ("ann", "ben"):
                await raw.register(name)
            ann, ben = await raw.log_in("ann"), await raw.log_in("ben")
            async with raw.session(ann) as sending:
                assert (await sending.send_surely(1, "ben", "message 1")).status == SEND_STATUS_ACCEPTED
                await own.wait_until_equal()
                before = await own.status(lagging)
                assert before is not None
                own.kill(lagging)
                number = 1
                while True:  # one entry each, until the log no longer reaches back to what the follower has
                    number += 1
                    assert (await sending.send_surely(number, "ben", f"message {number}")).message_id
                    if number % 100 == 0:
                        now = await own.status(leader)
                        assert now is not None
                        if now.first_index > before.last_index + 1:
                            break
                        assert number < 5000, "the log is never cut"
        own.start(lagging)
        await own.wait_until_equal()
        after = await own.status(lagging)
        assert after is not None
        assert after.first_index > before.last_index + 1, "it caught up from the log, so nothing was shown"
        async with raw_client(own, lagging) as raw:
            assert bodies(await raw.history(ben, "ann")) == [f"message {one}" for one in range(1, number + 1)]
        # What it got must last: kill it once more and let it come up from its own disk.
        own.kill(lagging)
        own.start(lagging)
        await own.wait_until_equal()


async def test_a_cluster_of_one_carries_messages_and_keeps_them(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path, nodes=1, settings=FAST) as lone:
        async with raw_client(lone, "n1") as raw:
            await raw.register("ann")
            ann = await raw.log_in("ann")
            async with raw.session(ann) as stream:
                assert (await stream.send_surely(1, "ann", "to myself")).status == SEND_STATUS_ACCEPTED
                assert bodies(await stream.messages(0)) == []
        lone.kill("n1")
        lone.start("n1")
        await lone.wait_for_leader()
        async with raw_client(lone, "n1") as raw:
            assert bodies(await raw.history(ann, "ann")) == ["to myself"]
        assert await lone.stop("n1") == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["start"], "name"),
        (["start", "--no-such-flag"], "no-such-flag"),
        (["start", "--config", "/nonexistent/node.toml"], "/nonexistent/node.toml"),
        (["start", "--name", "n1", "--data-dir", "d", "--client-listen", "nowhere"], "client_listen"),
        (["start", "--name", "n1", "--data-dir", "d", "--client-listen", "127.0.0.1:99999"], "client_listen"),
        (["start", "--name", "N 1", "--data-dir", "d", "--insecure"], "name"),
        (["start", "--name", "n1", "--data-dir", "d"], "parleyd cert"),
        (["start", "--name", "n1", "--data-dir", "d", "--insecure", "--client-listen", "0.0.0.0:7600"], "insecure"),
        (["start", "--name", "n1", "--data-dir", "d", "--insecure", "--peer", "n2=127.0.0.1:1"], "peers"),
        (["start", "--name", "n1", "--data-dir", "d", "--insecure", "--heartbeat-ms", "soon"], "heartbeat_ms"),
        (["no-such-command"], "no-such-command"),
    ],
    ids=lambda value: " ".join(value[1:]) if isinstance(value, list) else value,
)
async def test_bad_flags_end_with_the_usage_code_and_name_the_culprit(arguments: list[str], says: str) -> None:
    ended = await parleyd(*arguments)
    assert ended.code == ExitCode.USAGE
    assert says in ended.output
    assert "Traceback" not in ended.output


async def test_sigterm_before_the_cluster_was_ever_bootstrapped_ends_at_once_with_0(tmp_path: Path) -> None:
    create_layout(tmp_path, plan_private_nodes(3), FAST)
    async with LocalCluster(tmp_path, start=False) as own:
        own.start("n1")
        await own.wait_until(lambda: "bootstrap_pending" in own.tail("n1"), "n1 to wait for others")
        assert await own.stop("n1") == 0


async def test_health_and_status_answer_over_tls_only_under_the_names_in_the_certificate(
    cluster: LocalCluster,
) -> None:
    credentials = grpc.ssl_channel_credentials(cluster.ca_file.read_bytes())
    options = (("grpc.ssl_target_name_override", "somewhere.else"),)
    async with grpc.aio.secure_channel(cluster.hosts[0], credentials, options) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_stub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
