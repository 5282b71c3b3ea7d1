"""Whether this node serves, campaigns and leads, and to which member it transfers leadership.

The core elects any voter with a complete log, and a leader stays one while a majority answers. A group knows more about
its node: the state may not be trusted, entries may be lost, the disk may be stalled or full, the event loop may lag,
the clock may be wrong, the node may be removed. Here is what is known of that, about this node and about the others. It
becomes events for the core.
"""

from __future__ import annotations

from collections.abc import Mapping

from parleyd.group.campaign_delay import STEP_MS
from parleyd.group.clock import Clock
from parleyd.group.disk_watch import DiskWatch
from parleyd.group.driver import Driver
from parleyd.group.effects import (
    ClocksJudged,
    DiskStalled,
    Effect,
    ElectionReason,
    EntriesLost,
    LoopJudged,
    LoopLags,
    NodeRetired,
    TransferEnded,
)
from parleyd.group.fenced_campaigns import FencedCampaigns
from parleyd.group.leader_watch import LeaderWatch
from parleyd.group.loop_watch import LoopWatch
from parleyd.group.member_room import MemberRoom, Room
from parleyd.group.settings import GroupSettings, GroupStart
from parleyd.group.waits import TransferWaits, best_follower
from parleyd.membership.members import ClusterMembers
from parleyd.raft.events import (
    Campaign,
    ForgetLeader,
    ResumeCampaigning,
    StopCampaigning,
    Tick,
    TransferLeader,
)
from parleyd.raft.messages import Message
from parleyd.raft.types import NO_NODE, Index, NodeId, Role

OWN_LOG = "its own log"
FENCED_PATIENCE = 3  # longest election timeouts without a leader, after which a fenced node campaigns


class Leadership:
    """One node's knowledge of who may lead.

    `disk` is the watch over this node's writes; the group reports their starts and ends to it. `loop` is the one over
    its event loop, and what the others report of theirs.
    """

    def __init__(
        self,
        driver: Driver,
        output: list[Effect],
        settings: GroupSettings,
        clock: Clock,
        room: MemberRoom,
        start: GroupStart,
    ) -> None:
        """Start without a fence; the group reports one that a former run left."""
        self.disk = DiskWatch(settings.disk_stall_ms)
        self.loop = LoopWatch(settings.loop_lag_ms, start.now_ms)
        self.is_fenced = False
        self.is_retired = driver.raft.node_id in start.members.removed
        self.has_lost_entries = False
        self._driver = driver
        self._output = output
        self._clock = clock
        self._room = room
        self._members = start.members
        self._transfers = TransferWaits(2 * settings.retry_ms)
        self._watch = LeaderWatch(settings.silence, start.now_ms)
        self._fenced_campaigns = FencedCampaigns(FENCED_PATIENCE * settings.retry_ms)
        self._wrong_clocks: Mapping[NodeId, int] = {}
        self._untrusted: frozenset[NodeId] = frozenset()

    @property
    def is_leader(self) -> bool:
        """Return whether this node leads, as far as it can tell."""
        return self._driver.role.role is Role.LEADER

    @property
    def has_leader(self) -> bool:
        """Return whether a leader is known."""
        return self._driver.role.leader != NO_NODE

    @property
    def takes_proposals(self) -> bool:
        """Return whether this node leads and its state is trusted."""
        return self.is_leader and not self.is_fenced

    def is_serving(self, now_ms: float) -> bool:
        """Return whether a leader is known, and this node's disk is not stalled and has room to follow the leader.

        A leader without a majority steps down by itself.
        """
        is_behind = self._room.is_behind(self._driver.raft.conf_state)
        is_out = self.is_retired or self.is_fenced or self.has_lost_entries or is_behind
        return self.has_leader and not self.disk.is_stalled(now_ms) and not is_out

    # ---- what happens to this node

    def fence(self, now_ms: float) -> None:
        """Record that this node's state is not trusted."""
        self.is_fenced = True
        self._let_others_campaign_first(now_ms)

    def lose_entries(self, text: str) -> None:
        """Record that this node's log lacks entries that it had confirmed; `text` is for operators."""
        self.has_lost_entries = True
        self._driver.step(StopCampaigning())
        self._output.append(EntriesLost(text))

    def follow(self, members: ClusterMembers) -> None:
        """Take over the members as of an applied entry or a snapshot."""
        self._members = members
        if self._driver.raft.node_id in members.removed:
            self.retire(OWN_LOG)

    def retire(self, told_by: str) -> None:
        """Record that this node was removed from the cluster."""
        if not self.is_retired:
            self.is_retired = True
            self._output.append(NodeRetired(told_by))

    # ---- what happens to others

    def distrust(self, nodes: frozenset[NodeId]) -> None:
        """Record whose states are not trusted."""
        self._untrusted = nodes

    def clocks_judged(self, wrong: Mapping[NodeId, int]) -> None:
        """Take over whose clocks are wrong, and report it when they are other ones than before."""
        if wrong.keys() != self._wrong_clocks.keys():
            self._output.append(ClocksJudged(wrong))
        self._wrong_clocks = wrong

    def peer_lost(self, node: NodeId, now_ms: float) -> None:
        """If the leader is lost, forget it and ask for pre-votes soon, without waiting for an election timeout.

        A live majority with contact to the leader refuses, so a short network failure changes nothing.
        """
        self._room.lose(node)
        if node == self._driver.role.leader and node != self._driver.raft.node_id:
            self._forget_leader(now_ms, STEP_MS, ElectionReason.LEADER_DISCONNECTED)

    @property
    def leader_commit(self) -> Index:
        """Return the highest commit index that a leader has told this node."""
        return self._watch.commit

    def heard(self, message: Message, now_ms: float) -> None:
        """Record a message that the core took. A leader that sends is not silent."""
        if message.sender == self._driver.role.leader:
            self._watch.heard(message.sender, now_ms, message.commit)

    def _forget_leader(self, now_ms: float, step_ms: float, reason: ElectionReason) -> None:
        raft, leader = self._driver.raft, self._driver.role.leader
        self._driver.step(ForgetLeader())
        self._clock.plan_campaign(raft.conf_state.voters, raft.node_id, leader, now_ms, step_ms, reason)

    # ---- time

    def time_passed(self, now_ms: float) -> bool:
        """Tick the core and transfer leadership if this node should not lead; return whether a tick was due."""
        late_ms = self._clock.late_ms(now_ms)
        ticks = self._clock.take_ticks(now_ms)
        if ticks:
            self._watch_loop(late_ms, now_ms)
        if ticks and self.is_fenced:
            self._let_others_campaign_first(now_ms)
        for _ in range(0 if self._would_disturb() else ticks):
            self._driver.step(Tick())
        if ticks and self._watch.ticked(self._driver.role.leader, now_ms):
            self._forget_leader(now_ms, self._watch.campaign_step_ms, ElectionReason.LEADER_SILENT)
        if ticks and self.is_leader:
            if self.disk.should_give_up(now_ms):
                self._transfer_from_stalled_disk()
            if self.loop.should_transfer(now_ms) and self._driver.raft.status().transferee == NO_NODE:
                self._transfer_from_late_loop(now_ms)
            if self._should_not_lead and self._driver.raft.status().transferee == NO_NODE:
                self._transfer_to_best()
        reason = self._clock.take_campaign(now_ms)
        if reason is not None and not self.has_leader and not self.is_retired:
            self._driver.step(Campaign(), reason)
        return ticks > 0

    @property
    def _should_not_lead(self) -> bool:
        return self.is_fenced or self._room.own is not Room.ENOUGH or self._driver.raft.node_id in self._wrong_clocks

    def _let_others_campaign_first(self, now_ms: float) -> None:
        is_due = self._fenced_campaigns.are_due(now_ms, has_leader=self.has_leader)
        self._driver.step(ResumeCampaigning() if is_due else StopCampaigning())

    def _would_disturb(self) -> bool:
        """Return whether this node must not campaign: peers removed it unknown to its own log, or entries are lost."""
        is_still_member = self._driver.raft.node_id in self._members.rows
        return self.has_lost_entries or (self.is_retired and is_still_member)

    def _transfer_from_stalled_disk(self) -> None:
        """Transfer leadership to a follower with a working disk, because a stalled leader delays every caller."""
        target = self._transfer_to_best()
        if target is not None:
            self.disk.gave_up()
            self._output.append(DiskStalled(target))

    def _watch_loop(self, late_ms: float, now_ms: float) -> None:
        was_lagging = self.loop.is_lagging
        self.loop.ticked(late_ms, now_ms)
        if self.loop.is_lagging != was_lagging:
            self._output.append(LoopJudged(self.loop.is_lagging, self.loop.lag_ms))

    def _transfer_from_late_loop(self, now_ms: float) -> None:
        """Transfer leadership to a follower that has every committed entry and a punctual event loop, if there is one.

        Nothing is tried with a follower that lags behind: callers would wait for it to catch up.
        """
        status = self._driver.raft.status()
        unfit = frozenset(
            node
            for node, progress in status.progress.items()
            if progress.match_index < status.commit_index or not self.loop.is_punctual(node, now_ms)
        )
        target = self._transfer_to_best(unfit)
        if target is not None:
            self.loop.transferred(now_ms)
            self._output.append(LoopLags(target))

    def _transfer_to_best(self, unfit: frozenset[NodeId] = frozenset()) -> NodeId | None:
        avoided = self._untrusted if self.is_fenced else self._untrusted | self._room.no_better_than_own()
        target = best_follower(self._driver.raft.status(), avoided | frozenset(self._wrong_clocks) | unfit)
        if target is not None:
            self._driver.step(TransferLeader(target))
        return target

    # ---- transfers that callers ask for

    def transfer(self, token: int, target: NodeId | None, now_ms: float) -> None:
        """Transfer leadership to `target` or else to the best follower; the end is told to the caller."""
        status, short = self._driver.raft.status(), self._room.short()
        target = target or best_follower(status, self._untrusted | short) or best_follower(status, self._untrusted)
        if target is None:
            self._output.append(TransferEnded(token, not self.is_leader))
            return
        self._transfers.add(token, now_ms)
        self._driver.step(TransferLeader(target))

    def withdraw(self, token: int) -> None:
        """Forget a caller that asked for a transfer; the transfer continues."""
        self._transfers.withdraw(token)

    def answer_transfers(self, now_ms: float) -> None:
        """Answer the callers whose transfer has ended."""
        for token in self._transfers.take_ended(now_ms, is_leader=self.is_leader):
            self._output.append(TransferEnded(token, not self.is_leader))
