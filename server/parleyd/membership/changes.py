"""Membership changes, transfers of leadership and permits to restart, given by the leader (Raft §6, thesis §4.2).

A new node is a learner first. It receives everything and does not count, so a missing node raises no quorum. It becomes
a voter when it has received, within one election timeout, all that the log contained when the round began (thesis
§4.2.1). The group decides whether a change is allowed (rules.py) in the same step that proposes it. The core accepts
only one change at a time, so nothing can change in between.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from parley_proto.v1 import peer_pb2 as pb
from parleyd.group.errors import (
    ChangePendingError,
    LostError,
    NotLeaderError,
    OutcomeUnknownError,
    OverloadedError,
)
from parleyd.group.runner import GroupRunner
from parleyd.machine.records import MemberRow
from parleyd.membership import rules
from parleyd.membership.members import to_row
from parleyd.membership.rules import (
    AddMember,
    ChangeRefusedError,
    MembershipRequest,
    NoSuchMemberError,
    NotAdmittedError,
    NotYetError,
    PromoteMember,
    RemoveMember,
)
from parleyd.raft.types import NO_NODE, NodeId

CHANGE_TIMEOUT_S = 5.0
LONGEST_ROUND_S = CHANGE_TIMEOUT_S / 2
"""However long an election timeout is, a change waits no longer for other nodes, and then says why it is refused."""
PROGRESS_CHECK_INTERVAL_S = 0.01

READY_WITHIN_S = 2.0
RESTART_MARGIN_S = 2.0
"""A node that stops has left the others so long after `shutdown_grace_s` at the latest."""

PENDING_TEXT = "Another change of the members is in progress. Nothing was changed. Try again in a moment."
UNKNOWN_TEXT = (
    "The change was proposed, but it was not applied in time. It may still happen. Look at parley cluster "
    "status and repeat the command. Repeating it is safe."
)


class MembershipChangeExecutor:
    """Carries out changes while this node leads."""

    def __init__(
        self, replica: GroupRunner, connected: Callable[[NodeId], bool], round_ms: float, grace_s: float = 10.0
    ) -> None:
        """Prepare for the changes; a learner must receive within `round_ms` what the log has at its beginning.

        A longer round than LONGEST_ROUND_S counts as that.

        A node that may restart ends within `grace_s` and a margin. Until then no other one may.
        """
        self._replica = replica
        self._connected = connected
        self._round_s = min(round_ms / 1000, LONGEST_ROUND_S)
        self._restart_s = grace_s + RESTART_MARGIN_S
        self._restarting = ("", 0.0)  # which node may restart, and when it has certainly gone

    async def carry_out(self, change: pb.ClusterChange) -> pb.ClusterChangeReply:
        """Make one change; never raises, the reply contains the outcome."""
        try:
            async with asyncio.timeout(CHANGE_TIMEOUT_S):
                return await self._carry_out(change)
        except NotAdmittedError as error:
            return _reply(pb.CHANGE_STATUS_NOT_ADMITTED, str(error))
        except ChangeRefusedError as error:
            return _reply(pb.CHANGE_STATUS_REFUSED, str(error))
        except NotYetError as error:
            return _reply(pb.CHANGE_STATUS_BUSY, str(error))
        except NoSuchMemberError as error:
            return _reply(pb.CHANGE_STATUS_NOT_FOUND, str(error))
        except ChangePendingError:
            return _reply(pb.CHANGE_STATUS_BUSY, PENDING_TEXT)
        except (NotLeaderError, LostError, OverloadedError) as error:
            return _reply(pb.CHANGE_STATUS_NOT_LEADER, str(error))
        except (OutcomeUnknownError, TimeoutError):
            return _reply(pb.CHANGE_STATUS_OUTCOME_UNKNOWN, UNKNOWN_TEXT)

    async def _carry_out(self, change: pb.ClusterChange) -> pb.ClusterChangeReply:
        match change.WhichOneof("change"):
            case "add":
                return await self._propose(AddMember(to_row(change.add), change.admitted))
            case "promote":
                await self._wait_until_caught_up(change.promote.name)
                return await self._propose(PromoteMember(change.promote.name))
            case "remove":
                await self._step_aside_if_removed(change.remove.name)
                answering = await self._who_answers(besides=change.remove.name)
                return await self._propose(RemoveMember(change.remove.name, answering, change.remove.force))
            case "transfer":
                return await self._transfer(change.transfer.name)
            case "restart":
                return await self._permit_restart(change.restart.name)
            case _:
                raise ChangeRefusedError(
                    "This node's release does not have the requested change. Nothing was changed. Update the node."
                )

    async def _propose(self, request: MembershipRequest) -> pb.ClusterChangeReply:
        applied = await self._replica.change_membership(request)
        # A removed node may be destroyed after this answer, and its vote with it. Before that, a majority of the
        # remaining voters must have stored that the change is committed (docs/adr/0006).
        try:
            await self._replica.propose(())
        except (NotLeaderError, LostError, OverloadedError) as error:
            # The next leader confirms it. The index says that the change itself is applied, whatever comes now.
            return pb.ClusterChangeReply(status=pb.CHANGE_STATUS_NOT_LEADER, index=applied.index, detail=str(error))
        return pb.ClusterChangeReply(status=pb.CHANGE_STATUS_DONE, index=applied.index)

    def _known(self, name: str) -> MemberRow:
        return rules.known(self._replica.members, name)

    # ---- what takes a while

    async def _wait_until_caught_up(self, name: str) -> None:
        """Return when the learner has received in time all that the log has now; at once for a voter."""
        self._check_leading()
        node = NodeId(self._known(name).node_id)
        if node in self._replica.raft.conf_state.voters:
            return
        goal = self._replica.raft.status().last_index
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._round_s
        while (behind := goal - self._match_index(node)) > 0:
            if loop.time() > deadline:
                raise ChangeRefusedError(
                    f"{name} has not caught up: it lacks {behind} of {goal} log entries. It stays a learner, and "
                    "nothing was changed. Look at parley cluster status and try again later."
                )
            await asyncio.sleep(PROGRESS_CHECK_INTERVAL_S)

    async def _who_answers(self, besides: str) -> frozenset[NodeId]:
        """Return the nodes heard from within a round and still connected, this one included;

        early if no voter but `besides` is missing.

        The core forgets these nodes at every check of the quorum, so one look alone would find too few.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._round_s
        heard: set[NodeId] = {self._replica.node_id}
        row = self._replica.members.named(besides)
        if row is not None:
            heard.add(NodeId(row.node_id))  # nobody waits for it; whether it answers decides nothing
        while True:
            self._check_leading()
            status = self._replica.raft.status()
            heard |= {node for node, progress in status.progress.items() if progress.recent_active}
            if heard.issuperset(status.conf_state.voters) or loop.time() > deadline:
                return frozenset(node for node in heard if node == status.id or self._connected(node))
            await asyncio.sleep(PROGRESS_CHECK_INTERVAL_S)

    async def _permit_restart(self, name: str) -> pb.ClusterChangeReply:
        """Let one member stop for a moment. Nothing is proposed."""
        self._check_leading()
        replica = self._replica
        ready = await self._who_is_ready(NodeId(self._known(name).node_id))
        rules.restart(replica.members, replica.raft.conf_state, replica.node_id, name, ready)
        now, (before, until) = asyncio.get_running_loop().time(), self._restarting
        if before != name and now < until:
            raise NotYetError(
                f"{before} was restarted less than {self._restart_s:.0f} s ago. {name} was not restarted. Try again in "
                f"{until - now:.0f} s."
            )
        self._restarting = (name, now + self._restart_s)
        return pb.ClusterChangeReply(status=pb.CHANGE_STATUS_DONE)

    async def _who_is_ready(self, besides: NodeId) -> frozenset[NodeId]:
        """Return the nodes that are connected and have all that the log has now; early if no other voter is missing."""
        goal = self._replica.raft.status().last_index
        loop = asyncio.get_running_loop()
        deadline = loop.time() + READY_WITHIN_S
        while True:
            self._check_leading()
            status = self._replica.raft.status()
            ready = {
                node
                for node, progress in status.progress.items()
                if progress.match_index >= goal and self._connected(node)
            } | {status.id}
            if ready.issuperset(set(status.conf_state.voters) - {besides}) or loop.time() > deadline:
                return frozenset(ready)
            await asyncio.sleep(PROGRESS_CHECK_INTERVAL_S)

    def _match_index(self, node: NodeId) -> int:
        progress = self._replica.raft.status().progress.get(node)
        self._check_leading()
        return 0 if progress is None else progress.match_index

    async def _step_aside_if_removed(self, name: str) -> None:
        """Transfer leadership before this leader is removed, so that no election is needed."""
        self._check_leading()
        row = self._replica.members.named(name)
        others = len(self._replica.raft.conf_state.voters) > 1
        handed_over = False
        if row is not None and row.node_id == self._replica.node_id and others:
            handed_over = await self._replica.transfer_leadership()
        if handed_over:
            raise NotLeaderError("the leader transferred leadership, because it is being removed")

    async def _transfer(self, name: str) -> pb.ClusterChangeReply:
        self._check_leading()
        members, replica = self._replica.members, self._replica
        target: NodeId | None = None
        if name:
            target = NodeId(self._known(name).node_id)
            if target == replica.node_id:
                return pb.ClusterChangeReply(status=pb.CHANGE_STATUS_DONE, leader=name)
            if target not in replica.raft.conf_state.voters:
                raise ChangeRefusedError(f"{name} is a learner and cannot lead. Nothing was changed. Promote it first.")
        if not await replica.transfer_leadership(target):
            failed = (
                f"{name} did not become leader in time. It" if name else "No other voter became leader in time. Each"
            )
            raise ChangeRefusedError(
                f"{failed} may be down or far behind. This node still leads. Look at parley cluster status, then try "
                "again."
            )
        while replica.role.leader == NO_NODE:
            await replica.role_change()
        row = members.rows.get(replica.role.leader)
        leader = "" if row is None else row.name
        if target is not None and replica.role.leader != target:
            raise ChangeRefusedError(f"{name} did not become leader in time. {leader or 'Another node'} leads now.")
        return pb.ClusterChangeReply(status=pb.CHANGE_STATUS_DONE, leader=leader)

    def _check_leading(self) -> None:
        if not self._replica.is_leader:
            raise NotLeaderError("this node does not lead")


def _reply(status: pb.ChangeStatus.ValueType, detail: str) -> pb.ClusterChangeReply:
    return pb.ClusterChangeReply(status=status, detail=detail)
