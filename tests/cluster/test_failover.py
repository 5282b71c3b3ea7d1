"""Nodes die, hang and come back; what was acknowledged stays, once and in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from parley import NoMajorityError, ParleyClient
from parley_proto.v1.messaging_pb2 import SEND_STATUS_ACCEPTED
from scripts.cluster_local import LocalCluster
from tests.cluster.raw import PASSWORD, Person, bodies, numbered_sends, raw_client

pytestmark = pytest.mark.asyncio(loop_scope="module")

Fresh = Callable[[str], str]


async def two_people(cluster: LocalCluster, node: str, fresh: Fresh) -> tuple[Person, Person]:
    """Ann and Ben, logged in through one node."""
    async with raw_client(cluster, node) as raw:
        names = fresh("ann"), fresh("ben")
        for name in names:
            await raw.register(name)
        return await raw.log_in(names[0]), await raw.log_in(names[1])


async def stored(cluster: LocalCluster, node: str, ann: Person, ben: Person) -> list[str]:
    """What one node holds of their conversation."""
    async with raw_client(cluster, node) as raw:
        return bodies(await raw.history(ben, ann.name))


async def test_chat_goes_on_after_kill_9_of_the_leader(cluster: LocalCluster, fresh: Fresh) -> None:
    leader = await cluster.wait_for_leader()
    follower = cluster.others(leader)[0]
    ann, ben = await two_people(cluster, follower, fresh)
    async with raw_client(cluster, follower) as raw, raw.session(ann) as sending, raw.session(ben) as receiving:
        assert (await sending.send_surely(1, ben.name, "before")).status == SEND_STATUS_ACCEPTED
        cluster.kill(leader)
        assert (await sending.send_surely(2, ben.name, "after")).status == SEND_STATUS_ACCEPTED
        assert bodies(await receiving.messages(2)) == ["before", "after"]
    assert await cluster.wait_for_leader(other_than=leader) != leader
    cluster.start(leader)
    await cluster.wait_until_equal()
    assert await stored(cluster, leader, ann, ben) == ["before", "after"]


async def test_chat_goes_on_when_the_leader_hangs_and_it_catches_up_when_it_wakes(
    cluster: LocalCluster, fresh: Fresh
) -> None:
    leader = await cluster.wait_for_leader()
    follower = cluster.others(leader)[0]
    ann, ben = await two_people(cluster, follower, fresh)
    async with raw_client(cluster, follower) as raw, raw.session(ann) as sending:
        assert (await sending.send_surely(1, ben.name, "before")).status == SEND_STATUS_ACCEPTED
        cluster.pause(leader)
        assert (await sending.send_surely(2, ben.name, "while it hangs")).status == SEND_STATUS_ACCEPTED
        cluster.resume(leader)
        assert (await sending.send_surely(3, ben.name, "after")).status == SEND_STATUS_ACCEPTED
    await cluster.wait_until_equal()
    for node in cluster.names:
        assert await stored(cluster, node, ann, ben) == ["before", "while it hangs", "after"]
    views = await cluster.wait_for_views(lambda views: all(view.serving for view in views), "all to serve")
    assert sum(view.role == "leader" for view in views) == 1


async def test_a_killed_follower_is_not_missed_and_catches_up(cluster: LocalCluster, fresh: Fresh) -> None:
    leader = await cluster.wait_for_leader()
    follower = cluster.others(leader)[0]
    ann, ben = await two_people(cluster, leader, fresh)
    async with raw_client(cluster, leader) as raw, raw.session(ann) as sending:
        term = max(view.term for view in await cluster.views())
        cluster.kill(follower)
        results = await sending.send_all_surely(*numbered_sends(ben.name, 20))
        assert {result.status for result in results} == {SEND_STATUS_ACCEPTED}
        if max(view.term for view in await cluster.views()) == term:  # on a slow machine another node may lead now
            assert not sending.said_again, "the leader missed it"
        cluster.start(follower)
        await cluster.wait_until_equal()
    assert await stored(cluster, follower, ann, ben) == [f"message {number}" for number in range(1, 21)]


async def test_everything_acknowledged_survives_kill_9_of_all_nodes(cluster: LocalCluster, fresh: Fresh) -> None:
    node = cluster.names[0]
    ann, ben = await two_people(cluster, node, fresh)
    async with raw_client(cluster, node) as raw, raw.session(ann) as sending:
        results = await sending.send_all_surely(*numbered_sends(ben.name, 50))
        assert {result.status for result in results} == {SEND_STATUS_ACCEPTED}
        cluster.kill(*cluster.names)
    cluster.start(*cluster.names)
    await cluster.wait_for_leader()
    await cluster.wait_until_equal()
    for name in cluster.names:
        assert await stored(cluster, name, ann, ben) == [f"message {number}" for number in range(1, 51)]
    async with raw_client(cluster, node) as raw, raw.session(ann) as sending:
        assert sending.welcome.last_send_number == 50, "the session and its numbering survive too"
        assert (await sending.send_surely(51, ben.name, "and on")).status == SEND_STATUS_ACCEPTED


async def test_sigterm_of_the_leader_hands_over_and_exits_0_with_hardly_a_pause(
    cluster: LocalCluster, fresh: Fresh
) -> None:
    leader = await cluster.wait_for_leader()
    follower = cluster.others(leader)[0]
    ann, ben = await two_people(cluster, follower, fresh)
    async with raw_client(cluster, follower) as raw, raw.session(ann) as sending:
        longest_pause_s, number, stopping = 0.0, 0, None
        while stopping is None or not stopping.done() or number < 100:
            number += 1
            asked = asyncio.get_running_loop().time()
            assert (await sending.send_surely(number, ben.name, f"{number}")).status == SEND_STATUS_ACCEPTED
            longest_pause_s = max(longest_pause_s, asyncio.get_running_loop().time() - asked)
            if number == 20:
                stopping = asyncio.create_task(cluster.stop(leader))
        assert stopping.result() == 0
    assert longest_pause_s < 1.0
    assert await cluster.wait_for_leader(other_than=leader) != leader
    assert await stored(cluster, follower, ann, ben) == [str(one) for one in range(1, number + 1)]


async def test_a_minority_accepts_nothing_and_says_so_then_recovers(cluster: LocalCluster, fresh: Fresh) -> None:
    leader = await cluster.wait_for_leader()
    ann, ben = await two_people(cluster, leader, fresh)
    lost = cluster.others(leader)
    async with raw_client(cluster, leader) as raw, raw.session(ann) as sending:
        cluster.kill(*lost)
        await sending.send((1, ben.name, "into the void"))
        status = await sending.next("status")
        while status.status.has_majority:
            status = await sending.next("status")
        cluster.start(*lost)
        await cluster.wait_for_leader()
    async with raw_client(cluster, leader) as raw, raw.session(ann) as sending:
        assert (await sending.send_surely(1, ben.name, "into the void")).status == SEND_STATUS_ACCEPTED
    await cluster.wait_until_equal()
    for name in cluster.names:
        assert await stored(cluster, name, ann, ben) == ["into the void"]


@pytest.mark.parametrize("stop", [LocalCluster.kill, LocalCluster.pause], ids=["killed", "stopped"])
async def test_without_a_majority_a_client_says_that_nothing_was_done(
    cluster: LocalCluster, fresh: Fresh, tmp_path: Path, stop: Callable[..., None]
) -> None:
    """The client cut the node off after 1.9 s and said that the request may have been carried out."""
    leader = await cluster.wait_for_leader()
    name = fresh("ann")
    addresses = [cluster.address(node) for node in cluster.names]
    async with ParleyClient(addresses, ca=cluster.ca_file, state_dir=tmp_path) as ann:
        await ann.register(name, PASSWORD)
        await ann.login(name, PASSWORD)
    follower, other = cluster.others(leader)
    stop(cluster, leader)
    stop(cluster, other)
    await cluster.wait_for_views(
        lambda views: all(not view.leader for view in views if view.name == follower), "nobody leads"
    )
    async with ParleyClient(addresses, account=name, ca=cluster.ca_file, state_dir=tmp_path, connect=False) as ann:
        with pytest.raises(NoMajorityError, match="Nothing was changed"):
            await ann.set_display_name("Ann")
    async with ParleyClient(addresses, ca=cluster.ca_file, state_dir=tmp_path / "second", connect=False) as ann:
        with pytest.raises(NoMajorityError, match="Nothing was changed"):
            await ann.login(name, PASSWORD)
