"""Three real nodes tell monitoring systems the truth about the cluster, within two seconds of what happens."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from parley_proto.v1.messaging_pb2 import SEND_STATUS_ACCEPTED
from scripts.cluster_local import LocalCluster
from tests.cluster.conftest import FAST
from tests.cluster.raw import raw_client
from tests.support.pages import ask, scrape
from tests.support.raw import until_true

pytestmark = pytest.mark.asyncio(loop_scope="module")

TRUTH_S = 2.0
PATIENCE_S = 20.0
"""The time until a page is right is measured, and what is above TRUTH_S fails. Waiting longer says what was wrong."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalCluster]:
    """A cluster whose nodes have pages."""
    async with LocalCluster(tmp_path_factory.mktemp("cluster"), settings=FAST, http=True) as running:
        yield running


async def until_told(check: Callable[[], Awaitable[None]]) -> float:
    """Return how many seconds it takes until the pages say what is right."""
    began = time.monotonic()
    await until_true(check, PATIENCE_S)
    return time.monotonic() - began


async def readiness(cluster: LocalCluster, name: str) -> tuple[int, str]:
    """Return what /readyz answers, and its first reason."""
    reply = await ask(cluster.http_address(name), "/readyz")
    return reply.status, next(iter(json.loads(reply.body)["reasons"]), "")


async def leads(cluster: LocalCluster, name: str) -> bool:
    """Return whether a node's own metrics say that it leads."""
    return (await scrape(cluster.http_address(name)))["parley_raft_is_leader", ()] == 1


async def test_all_nodes_agree_on_one_leader_and_count_what_passes_through_them(
    cluster: LocalCluster, fresh: Callable[[str], str]
) -> None:
    leader = await cluster.wait_for_leader()
    follower = cluster.others(leader)[0]
    before = {name: await scrape(cluster.http_address(name)) for name in cluster.names}
    async with raw_client(cluster, follower) as raw:
        ann, ben = fresh("ann"), fresh("ben")
        await raw.register(ann)
        await raw.register(ben)
        async with raw.session(await raw.log_in(ann)) as stream:
            for number in range(1, 6):
                assert (await stream.send_surely(number, ben, "x")).status == SEND_STATUS_ACCEPTED

    async def told() -> None:
        pages = {name: await scrape(cluster.http_address(name)) for name in cluster.names}
        for name, page in pages.items():
            grown = {sample: value - before[name].get(sample, 0) for sample, value in page.items()}
            assert page["parley_raft_is_leader", ()] == (name == leader)
            assert page["parley_raft_leader", (("member", leader),)] == 1
            assert page["parley_cluster_has_majority", ()] == 1
            assert page["parley_cluster_members", (("part", "voter"),)] == 3
            assert all(page["parley_member_connected", (("member", other),)] == 1 for other in cluster.names)
            assert grown["parley_messages_stored_total", ()] == 5
            assert grown["parley_messages_accepted_total", ()] == (5 if name == follower else 0)
            assert grown["parley_command_answer_seconds_count", (("kind", "message"),)] == (
                5 if name == follower else 0
            )
            assert grown["parley_log_write_seconds_count", ()] >= 5
            lags = [value for (sample, _), value in page.items() if sample == "parley_member_lag_entries"]
            assert lags == ([0, 0, 0] if name == leader else [])
        assert len({page["parley_raft_commit_index", ()] for page in pages.values()}) == 1

    await until_told(told)
    for name in cluster.names:
        assert (await ask(cluster.http_address(name), "/healthz")).status == 200
        assert await readiness(cluster, name) == (200, "")


async def test_after_the_leader_is_killed_the_others_tell_of_the_next_one_within_two_seconds(
    cluster: LocalCluster,
) -> None:
    killed = await cluster.wait_for_leader()
    others = cluster.others(killed)
    elections = {name: (await scrape(cluster.http_address(name)))["parley_raft_elections_total", ()] for name in others}
    cluster.kill(killed)

    async def told() -> None:
        pages = {name: await scrape(cluster.http_address(name)) for name in others}
        assert sum(page["parley_raft_is_leader", ()] for page in pages.values()) == 1
        for name, page in pages.items():
            assert page["parley_cluster_has_majority", ()] == 1
            assert page["parley_raft_leader", (("member", killed),)] == 0
            assert page["parley_member_connected", (("member", killed),)] == 0
            assert page["parley_raft_elections_total", ()] > elections[name]
            assert page["parley_node_ready", ()] == 1
            assert await readiness(cluster, name) == (200, "")

    assert await until_told(told) < TRUTH_S
    with pytest.raises(OSError, match=r"refused|Connect"):
        await ask(cluster.http_address(killed), "/healthz")


async def test_a_node_without_a_majority_says_within_two_seconds_that_it_is_not_ready_and_need_not_be_restarted(
    cluster: LocalCluster,
) -> None:
    leader = await cluster.wait_for_leader()
    lost = cluster.others(leader)
    cluster.kill(*lost)

    async def told() -> None:
        status, reason = await readiness(cluster, leader)
        assert status == 503
        assert reason
        page = await scrape(cluster.http_address(leader))
        assert page["parley_cluster_has_majority", ()] == 0
        assert page["parley_node_ready", ()] == 0
        assert [page["parley_member_connected", (("member", name),)] for name in lost] == [0, 0]

    assert await until_told(told) < TRUTH_S
    assert (await ask(cluster.http_address(leader), "/healthz")).status == 200


async def test_a_follower_that_stands_still_lags_in_the_leaders_metrics(cluster: LocalCluster) -> None:
    leader = await cluster.wait_for_leader()
    paused = cluster.others(leader)[0]
    cluster.pause(paused)
    try:
        async with raw_client(cluster, leader) as raw:
            for number in range(3):
                await raw.register(f"lag{number}-{time.monotonic_ns()}")

        async def told() -> None:
            page = await scrape(cluster.http_address(leader))
            assert page["parley_member_lag_entries", (("member", paused),)] >= 3
            assert page["parley_member_lag_entries", (("member", leader),)] == 0

        await until_told(told)
    finally:
        cluster.resume(paused)


async def test_a_planned_stop_is_told_and_the_pages_end_with_the_node(cluster: LocalCluster) -> None:
    name = cluster.others(await cluster.wait_for_leader())[0]
    assert await cluster.stop(name) == 0
    with pytest.raises(OSError, match=r"refused|Connect"):
        await ask(cluster.http_address(name), "/readyz")
    assert "http_failed" not in cluster.log_text(name)
    assert "Task was destroyed" not in cluster.log_text(name)


async def test_a_hundred_silent_strangers_do_not_keep_a_scraper_out(cluster: LocalCluster) -> None:
    address = cluster.http_address(cluster.names[0])
    host, _, port = address.rpartition(":")
    strangers = [await asyncio.open_connection(host, int(port)) for _ in range(100)]
    try:
        for _ in range(5):
            async with asyncio.timeout(TRUTH_S):
                assert (await ask(address, "/readyz")).status == 200
    finally:
        for _, writer in strangers:
            writer.close()
