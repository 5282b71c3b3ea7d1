"""Commands get applied through whatever node is asked, across a change of leader, or the caller learns why not.

What can go wrong: the leader dies with the answer; it hangs and never answers; it is overloaded; nobody leads; a
refusal is mistaken for an outcome; the caller goes away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1 import state_pb2
from parleyd.group import command_router
from parleyd.group.command_router import RETRY_DELAY_S, CommandRouter, reply_to
from parleyd.group.errors import LostError, NotLeaderError, OutcomeUnknownError, OverloadedError, UnavailableError
from parleyd.group.proposals import AppliedCommands
from parleyd.raft.types import NO_NODE, Index, NodeId, Role, Term
from parleyd.raft.update import RoleChange
from parleyd.transport.peer_calls import ForwardFailedError

ME, OTHER, THIRD = NodeId(1), NodeId(2), NodeId(3)
COMMANDS = [state_pb2.Command(mark_delivered=state_pb2.MarkDelivered(session_id=1, up_to=7))]
DONE = AppliedCommands(Index(5), (state_pb2.CommandResult(code=state_pb2.RESULT_CODE_OK),))


@dataclass
class ScriptedReplica:
    """A replica whose role and answers the test decides."""

    leader: NodeId
    proposed: list[asyncio.Future[AppliedCommands]] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def role(self) -> RoleChange:
        return RoleChange(Role.LEADER if self.is_leader else Role.FOLLOWER, Term(1), self.leader)

    @property
    def is_leader(self) -> bool:
        return self.leader == ME

    def next_role_change(self) -> asyncio.Future[None]:
        return self._changed

    async def role_change(self) -> None:
        await asyncio.shield(self._changed)

    def propose(self, commands: Sequence[state_pb2.Command]) -> asyncio.Future[AppliedCommands]:
        answer: asyncio.Future[AppliedCommands] = asyncio.get_running_loop().create_future()
        self.proposed.append(answer)
        self.asked.set()
        return answer

    def elect(self, leader: NodeId) -> None:
        self.leader = leader
        changed, self._changed = self._changed, asyncio.get_running_loop().create_future()
        changed.set_result(None)


@dataclass
class ScriptedForwarder:
    """Remembers what was passed to whom; the test answers."""

    sent: list[tuple[NodeId, asyncio.Future[pb.ForwardReply]]] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    is_down: bool = False
    attempts: int = 0
    reply: pb.ForwardReply | None = None  # of every request; without one the test answers

    def __post_init__(self) -> None:
        self._changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def next_change(self) -> asyncio.Future[None]:
        return self._changed

    def come_up(self) -> None:
        self.is_down = False
        changed, self._changed = self._changed, asyncio.get_running_loop().create_future()
        changed.set_result(None)

    def forward(self, node: NodeId, commands: Sequence[state_pb2.Command]) -> asyncio.Future[pb.ForwardReply] | None:
        if node == NO_NODE:
            return None
        self.attempts += 1
        answer: asyncio.Future[pb.ForwardReply] = asyncio.get_running_loop().create_future()
        if self.is_down:
            answer.set_exception(ForwardFailedError("no connection", sent=False))
            return answer
        if self.reply is not None:
            answer.set_result(self.reply)
        self.sent.append((node, answer))
        self.asked.set()
        return answer

    async def next_request(self) -> tuple[NodeId, asyncio.Future[pb.ForwardReply]]:
        async with asyncio.timeout(5):
            await self.asked.wait()
        self.asked.clear()
        return self.sent[-1]


def applied_reply() -> pb.ForwardReply:
    return pb.ForwardReply(status=pb.FORWARD_STATUS_APPLIED, index=DONE.index, results=DONE.results)


def make(leader: NodeId) -> tuple[CommandRouter, ScriptedReplica, ScriptedForwarder]:
    replica, forwarder = ScriptedReplica(leader), ScriptedForwarder()
    return CommandRouter(replica, forwarder), replica, forwarder


@pytest.mark.parametrize("first", ["outcome unknown", "link broken"])
async def test_nothing_was_changed_is_not_said_after_an_attempt_without_a_known_outcome(first: str) -> None:
    router, _, forwarder = make(leader=OTHER)
    submitting = asyncio.ensure_future(router.submit(COMMANDS, timeout_s=5))
    _, answer = await forwarder.next_request()
    if first == "outcome unknown":
        answer.set_result(pb.ForwardReply(status=pb.FORWARD_STATUS_OUTCOME_UNKNOWN))
    else:
        answer.set_exception(ForwardFailedError("the link broke", sent=True))
    _, answer = await forwarder.next_request()
    answer.set_result(pb.ForwardReply(status=pb.FORWARD_STATUS_OVERLOADED))
    with pytest.raises(UnavailableError, match="earlier attempt"):
        await submitting


async def test_a_refusal_after_an_attempt_without_a_known_outcome_is_marked() -> None:
    router, _, forwarder = make(leader=OTHER)
    submitting = asyncio.ensure_future(router.submit(COMMANDS, timeout_s=5))
    _, answer = await forwarder.next_request()
    answer.set_result(pb.ForwardReply(status=pb.FORWARD_STATUS_OUTCOME_UNKNOWN))
    _, answer = await forwarder.next_request()
    answer.set_result(applied_reply())
    assert (await submitting).after_unknown


async def test_at_the_deadline_the_router_says_whether_anything_was_proposed() -> None:
    router, _, _ = make(leader=NO_NODE)
    with pytest.raises(UnavailableError) as nobody_asked:
        await router.submit(COMMANDS, timeout_s=0.01)
    assert not nobody_asked.value.may_have_happened
    router, _, forwarder = make(leader=OTHER)
    with pytest.raises(UnavailableError) as asked:
        await router.submit(COMMANDS, timeout_s=0.01)
    assert forwarder.sent
    assert asked.value.may_have_happened


async def test_an_overload_after_an_attempt_that_was_certainly_not_proposed_is_told_as_it_is() -> None:
    router, _, forwarder = make(leader=OTHER)
    submitting = asyncio.ensure_future(router.submit(COMMANDS, timeout_s=5))
    _, answer = await forwarder.next_request()
    answer.set_exception(ForwardFailedError("no connection", sent=False))
    _, answer = await forwarder.next_request()
    answer.set_result(pb.ForwardReply(status=pb.FORWARD_STATUS_OVERLOADED))
    with pytest.raises(OverloadedError):
        await submitting


async def test_a_leader_proposes_itself() -> None:
    router, replica, _ = make(leader=ME)
    submitting = asyncio.ensure_future(router.submit(COMMANDS, timeout_s=5))
    await replica.asked.wait()
    replica.proposed[0].set_result(DONE)
    assert await submitting == DONE


async def test_a_follower_passes_on_and_returns_what_the_leader_says() -> None:
    router, _, forwarder = make(leader=OTHER)
    submitting = asyncio.ensure_future(router.submit(COMMANDS, timeout_s=5))
    node, answer = await forwarder.next_request()
    answer.set_result(applied_reply())
    assert node == OTHER
    assert await submitting == DONE


@pytest.mark.parametrize(
    "lost_answer",
    [
        pb.ForwardReply(status=pb.FORWARD_STATUS_NOT_LEADER),
        pb.ForwardReply(status=pb.FORWARD_STATUS_OUTCOME_UNKNOWN),
        pb.ForwardReply(status=pb.FORWARD_STATUS_LOST),
        ForwardFailedError("the connection broke", sent=True),
    ],
    ids=["not leader", "unknown", "lost", "connection broke"],
)
async def test_what_was_not_settled_is_passed_to_the_next_leader(
    lost_answer: pb.ForwardReply | ForwardFailedError,
) -> None:
    router, replica, forwarder = make(leader=OTHER)
    submitting = asyncio.ensure_future(router.submit(COMMANDS, timeout_s=5))
    _, answer = await forwarder.next_request()
    if isinstance(lost_answer, ForwardFailedError):
        answer.set_exception(lost_answer)
    else:
        answer.set_result(lost_answer)
    replica.elect(THIRD)
    node, answer = await forwarder.next_request()
    while node != THIRD:  # the old leader may be asked once more before the change is seen
        answer.set_result(pb.ForwardReply(status=pb.FORWARD_STATUS_NOT_LEADER))
        node, answer = await forwarder.next_request()
    answer.set_result(applied_reply())
    assert (await submitting).results == DONE.results


async def test_a_leader_that_hangs_is_not_waited_for_once_another_leads() -> None:
    router, replica, forwarder = make(leader=OTHER)
    submitting = asyncio.ensure_future(router.submit(COMMANDS, timeout_s=5))
    _, never_answered = await forwarder.next_request()
    replica.elect(THIRD)
    node, answer = await forwarder.next_request()
    assert node == THIRD
    answer.set_result(applied_reply())
    assert (await submitting).results == DONE.results
    assert isinstance(never_answered.exception(), OutcomeUnknownError)


async def test_a_change_of_term_alone_does_not_end_the_wait_for_a_leader_and_the_next_change_is_seen() -> None:
    router, replica, forwarder = make(leader=OTHER)
    submitting = asyncio.ensure_future(router.submit(COMMANDS, timeout_s=5))
    _, answer = await forwarder.next_request()
    for _ in range(2):
        replica.elect(OTHER)
        await asyncio.sleep(0)
    assert not answer.done()
    replica.elect(THIRD)
    node, answer = await forwarder.next_request()
    answer.set_result(applied_reply())
    assert (node, (await submitting).results) == (THIRD, DONE.results)


async def test_a_change_of_leader_ends_the_waits_for_the_former_leader_only() -> None:
    router, replica, forwarder = make(leader=OTHER)
    first = asyncio.ensure_future(router.submit(COMMANDS, timeout_s=5))
    await forwarder.next_request()
    replica.elect(THIRD)  # the waits for OTHER end at the next turn
    second = asyncio.ensure_future(router.submit(COMMANDS, timeout_s=5))
    while len(forwarder.sent) < 3:
        await forwarder.next_request()
    assert [node for node, _ in forwarder.sent[1:]] == [THIRD, THIRD]
    for _, answer in forwarder.sent[1:]:
        answer.set_result(applied_reply())
    assert [one.results for one in (await first, await second)] == [DONE.results] * 2


async def test_a_deposed_leader_passes_its_own_unsettled_proposal_to_the_next() -> None:
    router, replica, forwarder = make(leader=ME)
    submitting = asyncio.ensure_future(router.submit(COMMANDS, timeout_s=5))
    await replica.asked.wait()
    replica.elect(OTHER)
    _, answer = await forwarder.next_request()
    answer.set_result(applied_reply())
    assert (await submitting).results == DONE.results


async def test_commands_wait_for_a_leader_to_be_elected() -> None:
    router, replica, forwarder = make(leader=NO_NODE)
    submitting = asyncio.ensure_future(router.submit(COMMANDS, timeout_s=5))
    await asyncio.sleep(0)
    assert forwarder.sent == []
    replica.elect(OTHER)
    _, answer = await forwarder.next_request()
    answer.set_result(applied_reply())
    assert await submitting == DONE


async def test_commands_wait_for_the_link_to_the_leader_without_asking_again_and_again() -> None:
    """A thousand commands that waited for a link took a whole core in retries."""
    router, _, forwarder = make(leader=OTHER)
    forwarder.is_down = True
    submitting = [asyncio.ensure_future(router.submit(COMMANDS, timeout_s=5)) for _ in range(1000)]
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10 * RETRY_DELAY_S):
            await asyncio.wait(submitting)
    assert forwarder.attempts == 1000
    forwarder.reply = applied_reply()
    forwarder.come_up()
    answers = await asyncio.gather(*submitting)
    assert all(answer == DONE for answer in answers)
    assert forwarder.attempts == 2000


async def test_a_leader_that_says_that_it_does_not_lead_is_asked_ever_less() -> None:
    router, _, forwarder = make(leader=OTHER)
    forwarder.reply = pb.ForwardReply(status=pb.FORWARD_STATUS_NOT_LEADER)
    with pytest.raises(UnavailableError):
        await router.submit(COMMANDS, timeout_s=0.5)
    assert 2 < forwarder.attempts < 10


async def test_more_callers_than_may_wait_are_refused_at_once() -> None:
    router = CommandRouter(ScriptedReplica(NO_NODE), ScriptedForwarder(), max_waiting=2)
    waiting = [asyncio.ensure_future(router.submit(COMMANDS, timeout_s=5)) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError, match="wait for the leader"):
        await router.submit(COMMANDS, timeout_s=5)
    waiting[0].cancel()
    await asyncio.wait([waiting[0]])
    with pytest.raises(UnavailableError):
        await router.submit(COMMANDS, timeout_s=0.01)
    waiting[1].cancel()


async def test_without_a_leader_the_deadline_says_so() -> None:
    router, _, _ = make(leader=NO_NODE)
    with pytest.raises(UnavailableError, match="no leader"):
        await router.submit(COMMANDS, timeout_s=0.05)


async def test_a_leader_that_does_not_answer_in_time_is_named_as_the_reason() -> None:
    router, _, _ = make(leader=OTHER)
    with pytest.raises(UnavailableError, match="did not answer in time"):
        await router.submit(COMMANDS, timeout_s=0.05)


async def test_an_overloaded_leader_is_not_asked_again() -> None:
    router, _, forwarder = make(leader=OTHER)
    submitting = asyncio.ensure_future(router.submit(COMMANDS, timeout_s=5))
    _, answer = await forwarder.next_request()
    answer.set_result(pb.ForwardReply(status=pb.FORWARD_STATUS_OVERLOADED))
    with pytest.raises(OverloadedError):
        await submitting
    assert len(forwarder.sent) == 1


async def test_a_caller_that_goes_away_leaves_nothing_waiting() -> None:
    router, _, forwarder = make(leader=OTHER)
    submitting = asyncio.ensure_future(router.submit(COMMANDS, timeout_s=5))
    _, answer = await forwarder.next_request()
    submitting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await submitting
    assert answer.cancelled()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (OverloadedError("x"), pb.FORWARD_STATUS_OVERLOADED),
        (NotLeaderError("x"), pb.FORWARD_STATUS_NOT_LEADER),
        (LostError("x"), pb.FORWARD_STATUS_LOST),
        (OutcomeUnknownError("x"), pb.FORWARD_STATUS_OUTCOME_UNKNOWN),
    ],
)
async def test_every_outcome_has_its_reply(error: Exception, status: pb.ForwardStatus.ValueType) -> None:
    outcome: asyncio.Future[AppliedCommands] = asyncio.get_running_loop().create_future()
    outcome.set_exception(error)
    assert reply_to(3, outcome) == pb.ForwardReply(request_id=3, status=status)


async def test_the_reply_to_an_applied_batch_carries_index_and_results() -> None:
    outcome: asyncio.Future[AppliedCommands] = asyncio.get_running_loop().create_future()
    outcome.set_result(DONE)
    reply = reply_to(3, outcome)
    assert (reply.status, reply.index, list(reply.results)) == (pb.FORWARD_STATUS_APPLIED, 5, list(DONE.results))


async def test_commands_that_find_no_leader_are_answered_before_the_client_gives_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """They waited for ten seconds, and the client left after three without knowing that nothing was done."""
    monkeypatch.setattr(command_router, "LEADER_WAIT_S", 0.05)
    router, replica, _ = make(leader=NO_NODE)
    async with asyncio.timeout(5):
        submitting = asyncio.ensure_future(router.submit(COMMANDS, timeout_s=60))
        await asyncio.sleep(0)
        replica.elect(NO_NODE)  # an election that nobody won is no leader
        with pytest.raises(UnavailableError, match="no leader is known") as refused:
            await submitting
    assert not refused.value.may_have_happened


async def test_outcomes_are_counted_and_answers_timed_apart_for_messages() -> None:
    router, replica, _ = make(leader=ME)
    message = [state_pb2.Command(send_messages=state_pb2.SendMessages(session_id=1))]
    for commands in (COMMANDS, message, message):
        submitting = asyncio.ensure_future(router.submit(commands, timeout_s=5))
        await replica.asked.wait()
        replica.asked.clear()
        assert router.waiting == 1
        replica.proposed[-1].set_result(DONE)
        await submitting
    assert sum(router.message_seconds.read().counts) == 2
    assert sum(router.other_seconds.read().counts) == 1
    submitting = asyncio.ensure_future(router.submit(COMMANDS, timeout_s=5))
    await replica.asked.wait()
    replica.proposed[-1].set_exception(OverloadedError("too many"))
    with pytest.raises(OverloadedError):
        await submitting
    replica.asked.clear()
    with pytest.raises(UnavailableError):
        await router.submit(COMMANDS, timeout_s=0.01)
    assert router.outcomes == {"applied": 3, "refused": 1, "unknown": 1}
    assert router.waiting == 0
