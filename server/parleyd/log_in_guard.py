"""Asks the leader's throttle before a password is checked, so that guesses at several nodes count together.

A node that leads, or finds no leader that answers, asks its own throttle. So the delay works without a majority, too.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

from parley_proto.v1 import peer_pb2 as pb
from parleyd.machine.limits import GROUP
from parleyd.raft.types import NO_NODE, NodeId
from parleyd.security.log_in_throttle import WHYS, Attempt, LogInThrottle, Verdict, Why
from parleyd.transport.peer_calls import ForwardFailedError

ASK_TIMEOUT_S = 1.0

Ask = Callable[[NodeId, pb.LogInAttempt, float], Awaitable[pb.LogInVerdict]]


class LogInGuard:
    """The throttle of log-ins as one node uses it, for its clients and for its peers."""

    def __init__(
        self, node_id: NodeId, leader: Callable[[], NodeId], ask: Ask, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`ask` sends an attempt to another node; it raises ForwardFailedError."""
        self._node_id = node_id
        self._leader = leader
        self._ask = ask
        self._clock = clock
        self._throttle = LogInThrottle()

    async def begin(self, attempt: Attempt) -> Verdict:
        """Count an attempt, and say whether its password may be checked."""
        told = await self._ask_leader(attempt, pb.LOG_IN_STEP_BEGIN)
        if told is None:
            return self._throttle.begin(attempt, self._clock())
        why: Why = next((one for one in WHYS if one == told.why), "account")
        return Verdict(told.wait_ms / 1000, told.failures, why if told.wait_ms else "")

    async def succeeded(self, attempt: Attempt) -> None:
        """Report that the password was right."""
        if await self._ask_leader(attempt, pb.LOG_IN_STEP_SUCCEEDED) is None:
            self._throttle.succeeded(attempt, self._clock())

    async def not_checked(self, attempt: Attempt) -> None:
        """Take an attempt back whose password was not checked."""
        if await self._ask_leader(attempt, pb.LOG_IN_STEP_NOT_CHECKED) is None:
            self._throttle.not_checked(attempt, self._clock())

    def answer(self, request: pb.LogInAttempt) -> pb.LogInVerdict:
        """Count what another member reports, if this node leads."""
        if self._leader() != self._node_id:
            return pb.LogInVerdict()
        attempt = Attempt(request.account, request.address, request.device, request.kept_failures, request.lifted)
        verdict = Verdict(0.0, 0)
        match request.step:
            case pb.LOG_IN_STEP_BEGIN:
                verdict = self._throttle.begin(attempt, self._clock())
            case pb.LOG_IN_STEP_SUCCEEDED:
                self._throttle.succeeded(attempt, self._clock())
            case pb.LOG_IN_STEP_NOT_CHECKED:
                self._throttle.not_checked(attempt, self._clock())
        wait_ms = round(verdict.wait_s * 1000)
        return pb.LogInVerdict(counted=True, wait_ms=wait_ms, failures=verdict.failures, why=verdict.why)

    async def _ask_leader(self, attempt: Attempt, step: pb.LogInStep.ValueType) -> pb.LogInVerdict | None:
        """Return the answer of another node that leads; None if this node has to decide."""
        leader = self._leader()
        if leader in (NO_NODE, self._node_id):
            return None
        request = pb.LogInAttempt(
            account=attempt.account,
            address=attempt.address,
            device=attempt.device,
            kept_failures=attempt.kept,
            lifted=attempt.lifted,
            step=step,
            group=GROUP,
        )
        try:
            verdict = await self._ask(leader, request, ASK_TIMEOUT_S)
        except ForwardFailedError:
            return None
        return verdict if verdict.counted else None
