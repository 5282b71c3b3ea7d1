"""Submits commands to the leader from any node.

On the leader they are proposed here. Another node forwards them to the leader. Every command is idempotent (send
numbers, request ids, token digests), so the router also repeats a command after a lost answer. To the client, a change
of leader is a short delay. At the deadline the router reports that the outcome is unknown.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from time import perf_counter
from typing import Any, Protocol, TypeVar

from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1 import state_pb2
from parleyd.group.errors import (
    NO_ROOM_TEXT,
    LostError,
    NoRoomError,
    NotLeaderError,
    OutcomeUnknownError,
    OverloadedError,
    ProposalError,
    UnavailableError,
)
from parleyd.group.proposals import AppliedCommands
from parleyd.observability.figures import ANSWER_BOUNDS_S, Histogram
from parleyd.raft.types import NO_NODE, Index, NodeId
from parleyd.raft.update import RoleChange
from parleyd.request_ids import RequestLog, carried_request_id
from parleyd.retry import ask_until_answered, wait_at_most
from parleyd.transport.peer_calls import ForwardFailedError

T = TypeVar("T")

RETRY_DELAY_S = 0.01
MAX_RETRY_DELAY_S = 0.25
LINK_WAIT_S = 1.0
LEADER_WAIT_S = 2.0
"""How long commands wait while no leader is known. An election takes less. A client's first attempt lasts longer, so
it gets the answer that nothing was done."""
MAX_WAITING = 16_384
MAX_NAMED = 4


class Forwarder(Protocol):
    """Forwards commands to another node; None if there is no link to it."""

    def forward(self, node: NodeId, commands: Sequence[state_pb2.Command]) -> asyncio.Future[pb.ForwardReply] | None:
        """Forward commands to `node`."""

    def next_change(self) -> asyncio.Future[None]:
        """Return a future of the next time that a link can take commands; it is shared, never cancel it."""


class Proposer(Protocol):
    """This node's own replica: the current leader, and the access to the log while it leads."""

    @property
    def role(self) -> RoleChange:
        """Return role, term and leader."""

    @property
    def is_leader(self) -> bool:
        """Return whether this node leads."""

    def propose(self, commands: Sequence[state_pb2.Command]) -> asyncio.Future[AppliedCommands]:
        """Put commands in the log."""

    def next_role_change(self) -> asyncio.Future[None]:
        """Return a future of the next change of role, term or leader; it is shared, never cancel it."""

    async def role_change(self) -> None:
        """Wait for that change."""


class CommandRouter:
    """Submits commands of the API, at most `max_waiting` callers at once."""

    def __init__(self, replica: Proposer, forwarder: Forwarder, max_waiting: int = MAX_WAITING) -> None:
        self._replica = replica
        self._forwarder = forwarder
        self._max_waiting = max_waiting
        self._waiting = 0
        self._asked: dict[asyncio.Future[Any], NodeId] = {}  # answers that callers wait for, and the leader asked
        self._watched: asyncio.Future[None] | None = None
        self._requests = RequestLog("commands")
        self.message_seconds = Histogram(ANSWER_BOUNDS_S)  # until the result of commands with messages is known
        self.other_seconds = Histogram(ANSWER_BOUNDS_S)
        self.outcomes: Counter[str] = Counter(applied=0, refused=0, unknown=0)

    @property
    def waiting(self) -> int:
        """Return how many callers wait for the leader."""
        return self._waiting

    async def submit(self, commands: Sequence[state_pb2.Command], *, timeout_s: float) -> AppliedCommands:
        """Get `commands` applied, all in one log entry, and return their results.

        Raises OverloadedError (certainly not applied), or UnavailableError: at the deadline, after LEADER_WAIT_S
        without a leader, or if an earlier attempt may have been applied. The error says whether the commands may be
        applied later. Repeating them is safe.
        """
        if self._waiting >= self._max_waiting:
            self.outcomes["refused"] += 1
            raise OverloadedError("too many requests wait for the leader")
        attempt = _Attempt(self._replica, self._forwarder)
        self._waiting += 1
        started, outcome = perf_counter(), "refused"
        try:
            async with asyncio.timeout(timeout_s):
                applied = await ask_until_answered(partial(self._try_once, attempt, commands), attempt.wait_for_change)
            outcome = "applied"
            self._seconds_of(commands).observe(perf_counter() - started)
            return applied
        except TimeoutError:
            reason = "no leader is known" if attempt.leader == NO_NODE else "the leader did not answer in time"
            raise UnavailableError(reason, may_have_happened=attempt.may_have_happened) from None
        finally:
            if outcome != "applied" and attempt.may_have_happened:
                outcome = "unknown"
            self.outcomes[outcome] += 1
            self._waiting -= 1
            if carried_request_id():
                self._requests.line(
                    "request_answered",
                    commands=kinds_of(commands),
                    outcome=outcome,
                    forwarded=not self._replica.is_leader,
                    ms=round((perf_counter() - started) * 1000),
                )

    def _seconds_of(self, commands: Sequence[state_pb2.Command]) -> Histogram:
        is_message = bool(commands) and commands[0].WhichOneof("command") == "send_messages"
        return self.message_seconds if is_message else self.other_seconds

    async def _try_once(self, attempt: _Attempt, commands: Sequence[state_pb2.Command]) -> AppliedCommands | None:
        leader = attempt.begin()
        try:
            applied = await self._ask(leader, commands)
            return replace(applied, after_unknown=True) if attempt.may_have_happened else applied
        except OverloadedError as error:
            if attempt.may_have_happened:
                # The refusal is true of this attempt only.
                why = f"an earlier attempt has no known outcome, and now {error}"
                raise UnavailableError(why, may_have_happened=True) from None
            raise
        except asyncio.CancelledError:
            attempt.may_have_happened = True  # the deadline came while the leader had the commands
            raise
        except OutcomeUnknownError:
            attempt.may_have_happened = True
        except ForwardFailedError as error:
            attempt.may_have_happened = attempt.may_have_happened or error.sent
            attempt.link_failed = True
        except ProposalError:
            pass
        return None

    async def _ask(self, leader: NodeId, commands: Sequence[state_pb2.Command]) -> AppliedCommands:
        if self._replica.is_leader:
            return await self._while_leading(leader, self._replica.propose(commands))
        forwarded = self._forwarder.forward(leader, commands)
        if forwarded is None:
            raise NotLeaderError("no leader is known")
        return self._unwrap_reply(await self._while_leading(leader, forwarded))

    async def _while_leading(self, leader: NodeId, answer: asyncio.Future[T]) -> T:
        """Wait for `answer` while `leader` leads: a deposed or paused leader may never answer."""
        self._asked[answer] = leader
        self._watch_role()
        try:
            return await answer
        finally:
            del self._asked[answer]
            del answer  # its error has a traceback with this frame, and would refer to itself

    def _watch_role(self) -> None:
        """Have `_role_changed` called at the next change: once, because a wait in each call took half of its time."""
        change = self._replica.next_role_change()
        if change is not self._watched:
            self._watched = change
            change.add_done_callback(self._role_changed)

    def _role_changed(self, _: asyncio.Future[None]) -> None:
        leader = self._replica.role.leader
        for answer, asked in self._asked.items():
            if asked != leader and not answer.done():
                answer.set_exception(OutcomeUnknownError("the leader changed before it answered"))
                answer.exception()  # no remark if the caller leaves at this moment
        if self._asked:
            self._watch_role()

    def _unwrap_reply(self, reply: pb.ForwardReply) -> AppliedCommands:
        match reply.status:
            case pb.FORWARD_STATUS_APPLIED:
                return AppliedCommands(Index(reply.index), tuple(reply.results))
            case pb.FORWARD_STATUS_OVERLOADED:
                raise OverloadedError("too many entries wait for a majority")
            case pb.FORWARD_STATUS_NO_ROOM:
                raise NoRoomError(NO_ROOM_TEXT)
            case pb.FORWARD_STATUS_OUTCOME_UNKNOWN:
                raise OutcomeUnknownError("the leader stepped down before it reported the result")
            case pb.FORWARD_STATUS_LOST:
                raise LostError("another leader's entry replaced the proposed one")
            case _:
                raise NotLeaderError("the node asked does not lead")


class _Attempt:
    """The last attempt of one caller. It decides when the next attempt is useful."""

    def __init__(self, replica: Proposer, forwarder: Forwarder) -> None:
        self._replica = replica
        self._forwarder = forwarder
        self._link_change = forwarder.next_change()
        self._delay_s = RETRY_DELAY_S
        self.leader = replica.role.leader
        self.may_have_happened = False
        self.link_failed = False

    def begin(self) -> NodeId:
        """Begin an attempt; return the leader to ask."""
        # Taken before the attempt, so that no change after it is missed.
        self._link_change = self._forwarder.next_change()
        self.link_failed = False
        self.leader = self._replica.role.leader
        return self.leader

    async def wait_for_change(self) -> None:
        """Wait for another leader, or for the link to this one; if this one may answer next time, a growing delay.

        Raises TimeoutError if no leader becomes known.
        """
        if self._replica.role.leader != self.leader:
            return
        if self.leader == NO_NODE:
            async with asyncio.timeout(LEADER_WAIT_S):
                while self._replica.role.leader == NO_NODE:
                    await self._replica.role_change()
        elif self.link_failed:
            changes = (self._link_change, self._replica.next_role_change())
            await asyncio.wait(changes, timeout=LINK_WAIT_S, return_when=asyncio.FIRST_COMPLETED)
        else:
            await wait_at_most(self._replica.role_change(), self._delay_s)
            self._delay_s = min(2 * self._delay_s, MAX_RETRY_DELAY_S)


def kinds_of(commands: Sequence[state_pb2.Command]) -> list[str]:
    """Return the kinds of the first commands, for a line of the log."""
    return [str(command.WhichOneof("command")) for command in commands[:MAX_NAMED]]


def reply_to(request_id: int, outcome: asyncio.Future[AppliedCommands]) -> pb.ForwardReply:
    """Build the reply to a follower from the outcome of its commands."""
    reply = pb.ForwardReply(request_id=request_id)
    if outcome.cancelled():
        reply.status = pb.FORWARD_STATUS_OUTCOME_UNKNOWN
        return reply
    match outcome.exception():
        case None:
            applied = outcome.result()
            reply.status = pb.FORWARD_STATUS_APPLIED
            reply.index = applied.index
            reply.results.extend(applied.results)
        case NoRoomError():
            reply.status = pb.FORWARD_STATUS_NO_ROOM
        case OverloadedError():
            reply.status = pb.FORWARD_STATUS_OVERLOADED
        case NotLeaderError():
            reply.status = pb.FORWARD_STATUS_NOT_LEADER
        case LostError():
            reply.status = pb.FORWARD_STATUS_LOST
        case _:
            reply.status = pb.FORWARD_STATUS_OUTCOME_UNKNOWN
    return reply
