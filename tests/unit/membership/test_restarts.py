"""Which member may restart: never the leader, one at a time, and only if a majority stays that has everything."""

from __future__ import annotations

import asyncio

import pytest

from parley_proto.v1 import peer_pb2 as pb
from parleyd.membership import changes as changes_module
from parleyd.membership.changes import MembershipChangeExecutor
from parleyd.raft.types import NodeId
from tests.unit.membership.test_changes import FakeReplica, changes, leader


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes_module, "READY_WITHIN_S", 0.02)
    monkeypatch.setattr(changes_module, "RESTART_MARGIN_S", 0.05)


async def ask(executor: MembershipChangeExecutor, name: str) -> tuple[int, str]:
    reply = await executor.carry_out(pb.ClusterChange(restart=pb.RestartMember(name=name)))
    return reply.status, reply.detail


async def answer(replica: FakeReplica, name: str) -> tuple[int, str]:
    return await ask(changes(replica), name)


async def test_a_follower_may_restart_while_all_others_have_everything_and_nothing_is_proposed() -> None:
    replica = leader()
    assert await answer(replica, "n2") == (pb.CHANGE_STATUS_DONE, "")
    assert replica.proposed == []


async def test_the_leader_may_not_restart() -> None:
    status, text = await answer(leader(), "n1")
    assert status == pb.CHANGE_STATUS_REFUSED
    assert "Transfer leadership first" in text


async def test_nobody_restarts_while_another_voter_lacks_entries_or_is_not_connected() -> None:
    behind = leader()
    behind.matches = {NodeId(3): 99}
    status, text = await answer(behind, "n2")
    assert status == pb.CHANGE_STATUS_BUSY
    assert "n3 did not answer just now, or lacked entries" in text
    silent = leader()
    silent.silent = frozenset({NodeId(3)})
    assert (await answer(silent, "n2"))[0] == pb.CHANGE_STATUS_BUSY
    assert (await answer(silent, "n3"))[0] == pb.CHANGE_STATUS_DONE, "the one that is behind may"


async def test_a_learner_restarts_and_a_learner_that_is_behind_holds_nobody_up() -> None:
    replica = leader(learners=(4,))
    replica.matches = {NodeId(4): 1}
    assert (await answer(replica, "n4"))[0] == pb.CHANGE_STATUS_DONE
    assert (await answer(replica, "n2"))[0] == pb.CHANGE_STATUS_DONE


@pytest.mark.parametrize("voters", [(1,), (1, 2)])
async def test_a_cluster_that_would_have_no_majority_restarts_nobody(voters: tuple[int, ...]) -> None:
    status, text = await answer(leader(voters), f"n{voters[-1]}")
    assert status == pb.CHANGE_STATUS_REFUSED
    assert "could accept no messages" in text


async def test_a_second_node_waits_until_the_first_one_has_certainly_gone() -> None:
    replica = leader()
    executor = MembershipChangeExecutor(replica, lambda _: True, 50, grace_s=0)  # type: ignore[arg-type]
    assert (await ask(executor, "n2"))[0] == pb.CHANGE_STATUS_DONE
    status, text = await ask(executor, "n3")
    assert status == pb.CHANGE_STATUS_BUSY
    assert "n2 was restarted less than" in text
    assert (await ask(executor, "n2"))[0] == pb.CHANGE_STATUS_DONE, "the same one may ask again"
    while (await ask(executor, "n3"))[0] == pb.CHANGE_STATUS_BUSY:
        pass


async def test_the_time_of_a_permit_begins_when_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes_module, "READY_WITHIN_S", 10)
    replica = leader()
    replica.matches = {NodeId(3): 99}
    executor = MembershipChangeExecutor(replica, lambda _: True, 50, grace_s=0)  # type: ignore[arg-type]
    loop = asyncio.get_running_loop()
    caught_up_at: list[float] = []

    def catch_up() -> None:
        replica.matches = {}
        caught_up_at.append(loop.time())

    loop.call_later(0.1, catch_up)
    assert (await ask(executor, "n2"))[0] == pb.CHANGE_STATUS_DONE
    while (await ask(executor, "n3"))[0] == pb.CHANGE_STATUS_BUSY:
        pass
    assert loop.time() >= caught_up_at[0] + changes_module.RESTART_MARGIN_S


async def test_a_stranger_and_a_node_that_does_not_lead_permit_nothing() -> None:
    assert (await answer(leader(), "n9"))[0] == pb.CHANGE_STATUS_NOT_FOUND
    replica = leader()
    replica.is_leader = False
    assert (await answer(replica, "n2"))[0] == pb.CHANGE_STATUS_NOT_LEADER
