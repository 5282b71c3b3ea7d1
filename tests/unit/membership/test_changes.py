"""Which changes of the members are in order, and what becomes of those that are cut short.

What can go wrong: two nodes under one name; a removed directory let in again; the last voter gone; a majority removed
by mistake; a learner promoted that has nothing; a change made twice; an outcome told that nobody knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest

from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1 import state_pb2 as pb_state
from parleyd.group.errors import ChangePendingError, LostError, NotLeaderError, OutcomeUnknownError, OverloadedError
from parleyd.group.proposals import AppliedCommands
from parleyd.machine.records import CommittedEntry, MemberRow, Members, MembershipChange
from parleyd.membership import changes as changes_module
from parleyd.membership import router as router_module
from parleyd.membership.changes import MembershipChangeExecutor
from parleyd.membership.entries import describe_change, to_committed
from parleyd.membership.members import ClusterMembers, addition, to_peer_info
from parleyd.membership.router import ChangeForwarder, MembershipChangeRouter
from parleyd.membership.rules import MembershipRequest, decide
from parleyd.raft.membership import ConfChange, ConfChangeType, SingleChange, decode_conf_change, encode_conf_change
from parleyd.raft.types import NO_NODE, ConfState, Entry, EntryType, Index, NodeId, Term
from parleyd.transport.codec import encode_membership
from parleyd.transport.peer_calls import ForwardFailedError

ME = NodeId(1)


def row(number: int) -> MemberRow:
    return MemberRow(number, f"n{number}", f"host{number}:1", f"host{number}:2")


@dataclass(frozen=True)
class Progress:
    match_index: int
    recent_active: bool


@dataclass
class Status:
    id: NodeId
    conf_state: ConfState
    progress: dict[NodeId, Progress]
    last_index: int = 100


@dataclass
class Role:
    leader: NodeId = ME


@dataclass
class FakeReplica:
    """A leader whose members, progress and next outcome the test decides."""

    conf_state: ConfState
    members: ClusterMembers
    matches: dict[NodeId, int] = field(default_factory=dict)
    silent: frozenset[NodeId] = frozenset()
    outcome: Exception | None = None
    barrier: Exception | None = None
    barriers: int = 0
    proposed: list[ConfChange] = field(default_factory=list)
    is_leader: bool = True
    handed_over: bool = False
    role: Role = field(default_factory=Role)
    retired: bool = False
    node_id: NodeId = ME

    @property
    def raft(self) -> FakeReplica:
        return self

    def status(self) -> Status:
        known = (*self.conf_state.voters, *self.conf_state.learners)
        progress = {node: Progress(self.matches.get(node, 100), node not in self.silent) for node in known}
        return Status(ME, self.conf_state, progress)

    def change_membership(self, request: MembershipRequest) -> asyncio.Future[AppliedCommands]:
        done: asyncio.Future[AppliedCommands] = asyncio.get_running_loop().create_future()
        try:
            change = decide(request, self.members, self.conf_state, 1)
            if self.outcome is not None:
                raise self.outcome
        except Exception as error:
            done.set_exception(error)
            return done
        if change is not None:
            self.proposed.append(change)
        done.set_result(AppliedCommands(Index(0 if change is None else 7), ()))
        return done

    def propose(self, commands: Sequence[pb_state.Command]) -> asyncio.Future[AppliedCommands]:
        self.barriers += 1
        done: asyncio.Future[AppliedCommands] = asyncio.get_running_loop().create_future()
        if self.barrier is None:
            done.set_result(AppliedCommands(Index(8), ()))
        else:
            done.set_exception(self.barrier)
        return done

    async def transfer_leadership(self, target: NodeId | None = None) -> bool:
        self.handed_over = True
        return True

    async def role_change(self) -> None:
        await asyncio.sleep(0)


async def test_a_transfer_that_another_node_won_is_not_told_as_done() -> None:
    """The old leader met a higher term, but the named node lost the election."""
    replica = leader()
    replica.role.leader = NodeId(3)
    answer = await changes(replica).carry_out(transfer("n2"))
    assert (answer.status, answer.detail) == (
        pb.CHANGE_STATUS_REFUSED,
        "n2 did not become leader in time. n3 leads now.",
    )
    answer = await changes(replica).carry_out(transfer("n3"))
    assert (answer.status, answer.leader) == (pb.CHANGE_STATUS_DONE, "n3")


def leader(
    voters: tuple[int, ...] = (1, 2, 3), learners: tuple[int, ...] = (), removed: tuple[int, ...] = ()
) -> FakeReplica:
    conf_state = ConfState(voters=tuple(map(NodeId, voters)), learners=tuple(map(NodeId, learners)))
    members = Members(tuple(map(row, (*voters, *learners))), tuple(map(row, removed)))
    return FakeReplica(conf_state, ClusterMembers.of(members))


def changes(replica: FakeReplica, round_ms: float = 50) -> MembershipChangeExecutor:
    return MembershipChangeExecutor(replica, lambda node: node not in replica.silent, round_ms)  # type: ignore[arg-type]


def add(number: int, name: str = "") -> pb.ClusterChange:
    member = to_peer_info(row(number))
    member.name = name or member.name
    return pb.ClusterChange(add=member)


def promote(name: str) -> pb.ClusterChange:
    return pb.ClusterChange(promote=pb.PromoteMember(name=name))


def remove(name: str, *, force: bool = False) -> pb.ClusterChange:
    return pb.ClusterChange(remove=pb.RemoveMember(name=name, force=force))


def transfer(name: str) -> pb.ClusterChange:
    return pb.ClusterChange(transfer=pb.TransferLeadership(name=name))


async def test_a_newcomer_becomes_a_learner_and_its_record_travels_with_the_change() -> None:
    replica = leader()
    reply = await changes(replica).carry_out(add(4))
    assert (reply.status, reply.index) == (pb.CHANGE_STATUS_DONE, 7)
    [change] = replica.proposed
    assert change.changes == (SingleChange(ConfChangeType.ADD_LEARNER, NodeId(4)),)
    described = describe_change(encode_conf_change(change), ConfState(voters=(ME,), learners=(NodeId(4),)))
    assert (described.added, described.node_ids) == ((row(4),), (1, 4))


def test_a_change_without_a_readable_record_names_no_newcomer() -> None:
    for data in (b"", encode_conf_change(ConfChange()), encode_conf_change(ConfChange(context=b"\xff\xff"))):
        assert describe_change(data, ConfState(voters=(ME,))).added == ()
    assert decode_conf_change(encode_conf_change(addition(row(4)))).context


def test_the_state_is_given_the_membership_in_force_and_no_data_of_its_entry() -> None:
    in_force = ConfState(voters=(ME, NodeId(2)), learners=(NodeId(4),))
    change = Entry(Term(3), Index(7), EntryType.CONF_CHANGE, encode_conf_change(addition(row(4))))
    [given] = to_committed([change], in_force)
    assert (given.index, given.term, given.payload) == (7, 3, b"")
    assert given.membership == MembershipChange(encode_membership(in_force), (1, 2, 4), (row(4),))
    data = [Entry(Term(3), Index(index), data=b"x") for index in (8, 9)]
    assert to_committed(data, None) == [CommittedEntry(8, 3, b"x"), CommittedEntry(9, 3, b"x")]


@pytest.mark.parametrize(
    ("replica", "change", "status", "says"),
    [
        (leader(), add(9, "n2"), pb.CHANGE_STATUS_REFUSED, "parley cluster remove n2"),
        (leader(removed=(4,)), add(4), pb.CHANGE_STATUS_REFUSED, "was removed for good"),
        (leader(), pb.ClusterChange(add=pb.PeerInfo(node_id=4)), pb.CHANGE_STATUS_REFUSED, "needs an id"),
        (leader(), add(1 << 63), pb.CHANGE_STATUS_REFUSED, "needs an id"),  # it would stop every node at apply
        (leader(), add(4, "n" * 65), pb.CHANGE_STATUS_REFUSED, "a name up to"),
        (leader((1, 2, 3, 4, 5, 6, 7), (8, 9)), add(10), pb.CHANGE_STATUS_REFUSED, "is the maximum"),
        (leader((1, 2, 3, 4, 5, 6, 7), (8,)), promote("n8"), pb.CHANGE_STATUS_REFUSED, "7 voters"),
        (leader(), promote("n9"), pb.CHANGE_STATUS_NOT_FOUND, "n1, n2, n3"),
        (leader(), remove("n9"), pb.CHANGE_STATUS_NOT_FOUND, "no member n9"),
        (leader((1,), (2,)), remove("n1"), pb.CHANGE_STATUS_REFUSED, "only voter"),
        (leader((1, 2), (3,)), transfer("n3"), pb.CHANGE_STATUS_REFUSED, "Promote it first"),
        (leader(), pb.ClusterChange(), pb.CHANGE_STATUS_REFUSED, "does not have"),
    ],
)
async def test_what_is_not_in_order_is_refused_with_what_to_do(
    replica: FakeReplica, change: pb.ClusterChange, status: pb.ChangeStatus.ValueType, says: str
) -> None:
    reply = await changes(replica).carry_out(change)
    assert reply.status == status
    assert says in reply.detail
    assert not replica.proposed


@pytest.mark.parametrize(
    ("replica", "change"),
    [
        (leader(), add(2)),
        (leader(), promote("n2")),
        (leader(removed=(4,)), remove("n4")),
        (leader(), transfer("n1")),
    ],
)
async def test_what_is_done_already_is_done_again_without_effect(
    replica: FakeReplica, change: pb.ClusterChange
) -> None:
    reply = await changes(replica).carry_out(change)
    assert (reply.status, reply.index) == (pb.CHANGE_STATUS_DONE, 0)
    assert not replica.proposed


async def test_a_learner_is_promoted_only_when_it_has_what_the_log_held() -> None:
    replica = leader((1, 2, 3), (4,))
    replica.matches[NodeId(4)] = 60
    reply = await changes(replica).carry_out(promote("n4"))
    assert reply.status == pb.CHANGE_STATUS_REFUSED
    assert "lacks 40 of 100" in reply.detail
    replica.matches[NodeId(4)] = 100
    assert (await changes(replica).carry_out(promote("n4"))).status == pb.CHANGE_STATUS_DONE
    assert replica.proposed == [ConfChange((SingleChange(ConfChangeType.ADD_VOTER, NodeId(4)),))]


async def test_a_removal_that_would_leave_no_answering_majority_needs_force() -> None:
    replica = leader()
    replica.silent = frozenset({NodeId(2)})
    reply = await changes(replica).carry_out(remove("n3"))
    assert reply.status == pb.CHANGE_STATUS_REFUSED
    assert "n2" in reply.detail
    assert (await changes(replica).carry_out(remove("n2"))).status == pb.CHANGE_STATUS_DONE
    assert (await changes(replica).carry_out(remove("n3", force=True))).status == pb.CHANGE_STATUS_DONE


async def test_a_silent_node_is_removed_and_a_slow_learner_refused_in_time_however_long_elections_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Between distant sites an election timeout may be longer than a request waits."""
    replica = leader((1, 2, 3), (4,))
    replica.silent = frozenset({NodeId(2)})
    replica.matches[NodeId(4)] = 60
    began = asyncio.get_running_loop().time()
    assert (await changes(replica, 60_000).carry_out(remove("n2"))).status == pb.CHANGE_STATUS_DONE
    assert asyncio.get_running_loop().time() - began < changes_module.LONGEST_ROUND_S, "nobody waits for it"
    monkeypatch.setattr(changes_module, "LONGEST_ROUND_S", 0.05)
    reply = await changes(replica, 60_000).carry_out(remove("n3"))
    assert (reply.status, "did not answer just now (n2)" in reply.detail) == (pb.CHANGE_STATUS_REFUSED, True)
    reply = await changes(replica, 60_000).carry_out(promote("n4"))
    assert (reply.status, "has not caught up" in reply.detail) == (pb.CHANGE_STATUS_REFUSED, True)


async def test_force_removes_no_last_voter() -> None:
    replica = leader((1,), (2,))
    reply = await changes(replica).carry_out(remove("n1", force=True))
    assert reply.status == pb.CHANGE_STATUS_REFUSED
    assert not replica.proposed


async def test_a_leader_that_is_to_be_removed_hands_over_first() -> None:
    replica = leader()
    reply = await changes(replica).carry_out(remove("n1"))
    assert replica.handed_over
    assert reply.status == pb.CHANGE_STATUS_NOT_LEADER
    assert not replica.proposed


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ChangePendingError("x"), pb.CHANGE_STATUS_BUSY),
        (NotLeaderError("x"), pb.CHANGE_STATUS_NOT_LEADER),
        (LostError("x"), pb.CHANGE_STATUS_NOT_LEADER),
        (OverloadedError("x"), pb.CHANGE_STATUS_NOT_LEADER),
        (OutcomeUnknownError("x"), pb.CHANGE_STATUS_OUTCOME_UNKNOWN),
    ],
)
async def test_every_end_of_a_proposal_has_its_status(error: Exception, status: pb.ChangeStatus.ValueType) -> None:
    replica = leader()
    replica.outcome = error
    assert (await changes(replica).carry_out(add(4))).status == status


@pytest.mark.parametrize("change", [remove("n3"), add(4)])
async def test_a_change_is_told_only_when_a_majority_from_now_on_knows_it(change: pb.ClusterChange) -> None:
    replica = leader()
    assert (await changes(replica).carry_out(change)).status == pb.CHANGE_STATUS_DONE
    assert replica.barriers == 1
    replica = leader(removed=(3,), voters=(1, 2))
    assert (await changes(replica).carry_out(remove("n3"))).status == pb.CHANGE_STATUS_DONE
    assert replica.barriers == 1, "what is done already may not be known to the others yet either"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OutcomeUnknownError("stopped"), pb.CHANGE_STATUS_OUTCOME_UNKNOWN),
        (NotLeaderError("deposed"), pb.CHANGE_STATUS_NOT_LEADER),
    ],
)
async def test_a_change_that_others_may_not_know_is_not_told_as_done(error: Exception, status: int) -> None:
    replica = leader()
    replica.barrier = error
    assert (await changes(replica).carry_out(remove("n3"))).status == status
    assert replica.proposed, "it was made all the same, and repeating it is harmless"


# ---- the router


class FakeForwarder:
    """Answers as it is told, one after the other."""

    def __init__(self, *answers: pb.ClusterChangeReply | Exception) -> None:
        self.answers = list(answers)

    async def change(self, node: NodeId, change: pb.ClusterChange, timeout_s: float) -> pb.ClusterChangeReply:
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


DONE = pb.ClusterChangeReply(status=pb.CHANGE_STATUS_DONE, index=9)


def change_router(forwarder: FakeForwarder, led_by: int) -> MembershipChangeRouter:
    replica = leader()
    replica.role = Role(NodeId(led_by))
    return MembershipChangeRouter(replica, changes(replica), forwarder)  # type: ignore[arg-type]


async def test_what_was_certainly_not_proposed_is_asked_again_elsewhere() -> None:
    not_leader = pb.ClusterChangeReply(status=pb.CHANGE_STATUS_NOT_LEADER)
    forwarder = FakeForwarder(ForwardFailedError("down", sent=False), not_leader, DONE)
    assert await change_router(forwarder, led_by=2).submit(remove("n3"), timeout_s=5) == DONE
    assert not forwarder.answers


async def test_what_may_have_been_proposed_is_not_tried_again() -> None:
    forwarder = FakeForwarder(ForwardFailedError("broke", sent=True), DONE)
    reply = await change_router(forwarder, led_by=2).submit(remove("n3"), timeout_s=5)
    assert reply.status == pb.CHANGE_STATUS_OUTCOME_UNKNOWN
    assert "repeat" in reply.detail
    assert forwarder.answers == [DONE]


async def test_the_leader_itself_asks_nobody_and_without_a_leader_the_answer_says_so() -> None:
    assert (await change_router(FakeForwarder(), led_by=1).submit(add(4), timeout_s=5)).status == pb.CHANGE_STATUS_DONE
    reply = await change_router(FakeForwarder(), led_by=0).submit(add(4), timeout_s=0)
    assert reply.status == pb.CHANGE_STATUS_NOT_LEADER
    assert "Nothing was changed" in reply.detail


async def test_a_change_that_finds_no_leader_is_answered_before_the_client_gives_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(router_module, "LEADER_WAIT_S", 0.05)
    async with asyncio.timeout(5):
        reply = await change_router(FakeForwarder(), led_by=0).submit(add(4), timeout_s=60)
    assert (reply.status, "Nothing was changed" in reply.detail) == (pb.CHANGE_STATUS_NOT_LEADER, True)


async def test_a_node_that_was_removed_tells_the_truth_about_its_own_removal_and_about_other_changes() -> None:
    replica = leader(voters=(2, 3), removed=(1,))
    replica.retired, replica.role = True, Role(NO_NODE)
    router = MembershipChangeRouter(replica, changes(replica), FakeForwarder())  # type: ignore[arg-type]
    assert (await router.submit(remove("n1"), timeout_s=5)).status == pb.CHANGE_STATUS_DONE
    reply = await router.submit(remove("n2"), timeout_s=5)
    assert (reply.status, "was removed" in reply.detail) == (pb.CHANGE_STATUS_NOT_LEADER, True)


async def test_a_removal_that_closes_the_links_under_its_own_call_is_reported_as_done() -> None:
    replica = leader()
    replica.role = Role(NodeId(2))

    class Closing:
        async def change(self, node: NodeId, change: pb.ClusterChange, timeout_s: float) -> pb.ClusterChangeReply:
            replica.retired = True
            raise ForwardFailedError("the connection was closed", sent=True)

    router = MembershipChangeRouter(replica, changes(replica), Closing())  # type: ignore[arg-type]
    assert (await router.submit(remove("n1"), timeout_s=5)).status == pb.CHANGE_STATUS_DONE
    replica.retired = False
    assert (await router.submit(remove("n3"), timeout_s=5)).status == pb.CHANGE_STATUS_OUTCOME_UNKNOWN


async def test_a_change_that_was_applied_is_not_told_as_nothing_was_changed() -> None:
    replica = leader(learners=(4,))
    replica.barrier = NotLeaderError("it stepped down")
    router = MembershipChangeRouter(replica, changes(replica), cast(ChangeForwarder, None))  # type: ignore[arg-type]
    reply = await router.submit(pb.ClusterChange(promote=pb.PromoteMember(name="n4")), timeout_s=0.01)
    assert replica.proposed
    assert reply.status == pb.CHANGE_STATUS_OUTCOME_UNKNOWN
    assert "The change was made" in reply.detail


@pytest.mark.parametrize("later", [pb.CHANGE_STATUS_BUSY, pb.CHANGE_STATUS_REFUSED, pb.CHANGE_STATUS_NOT_FOUND])
async def test_a_refusal_by_the_next_leader_does_not_hide_that_the_change_was_made(
    later: pb.ChangeStatus.ValueType,
) -> None:
    made = pb.ClusterChangeReply(status=pb.CHANGE_STATUS_NOT_LEADER, index=9)
    refused = pb.ClusterChangeReply(status=later, detail="Nothing was changed")
    forwarder = FakeForwarder(made, refused)
    reply = await change_router(forwarder, led_by=2).submit(remove("n3"), timeout_s=5)
    assert reply.status == pb.CHANGE_STATUS_OUTCOME_UNKNOWN
    assert "The change was made" in reply.detail


async def test_a_node_that_was_removed_meanwhile_does_not_say_that_nothing_was_proposed() -> None:
    replica = leader()
    replica.role = Role(NodeId(2))

    class Removing:
        async def change(self, node: NodeId, change: pb.ClusterChange, timeout_s: float) -> pb.ClusterChangeReply:
            replica.retired = True
            return pb.ClusterChangeReply(status=pb.CHANGE_STATUS_NOT_LEADER, index=9)

    router = MembershipChangeRouter(replica, changes(replica), Removing())  # type: ignore[arg-type]
    assert (await router.submit(remove("n3"), timeout_s=5)).status == pb.CHANGE_STATUS_OUTCOME_UNKNOWN
