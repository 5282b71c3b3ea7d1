"""The consensus core: one server's part in Raft, as a pure state machine.

The protocol. Time is divided into *terms*. Each has at most one leader (§5.2). A server is a follower until no leader
has sent a message for a random time. It then asks whether it could win an election (pre-vote, thesis §9.6). If a
majority agrees, it raises its term, votes for itself and asks for votes. A server votes once per term, and only for a
candidate whose log is at least as complete as its own (§5.4.1). So the winner has every committed entry. The leader
appends a no-op and replicates its log. Each message names the entry before its own entries. A follower with that entry
takes them and overwrites what conflicts. A follower without it answers with a hint that skips whole terms (§5.3). An
entry is committed, with all before it, when a majority has it on disk *and* it is of the leader's term (§5.4.2). Every
server applies committed entries in the same order. A leader that loses contact with a majority steps down
(check-quorum, thesis §6.2). A server with a working leader ignores candidates (thesis §4.2.3). Logs are compacted below
what the durable state covers. A follower that needs older entries gets a snapshot (§7). Members change through entries
of their own, one change at a time, with two majorities in between if needed (§6). Reads are answered after a round of
heartbeats that proves leadership (§8, thesis §6.4). Leadership can be transferred (thesis §3.10).

The structure. `step(event) -> Update` is the only input and the only output. The core has no clock, no randomness
except a seeded generator, and no I/O. It iterates in the order of node ids. update.py contains the rules for carrying
out an Update. The parts of the protocol are modules of functions over one shared Core: receive (the term and the
destination of a message), election, proposals, replication, reads, reconfigure, snapshots, transfer.
"""

from __future__ import annotations

from typing import assert_never

from parleyd.invariants import check_invariant
from parleyd.raft import election, proposals, reads, receive, reconfigure, replication, snapshots, transfer
from parleyd.raft.config import InitialState, RaftConfig
from parleyd.raft.core import Core, StepOutput
from parleyd.raft.errors import InvariantError
from parleyd.raft.events import (
    Applied,
    Campaign,
    Compact,
    ConfChangeApplied,
    Event,
    ForgetLeader,
    Persisted,
    Propose,
    ProposeConfChange,
    ReadIndex,
    Receive,
    ResumeCampaigning,
    SnapshotAvailable,
    SnapshotStatus,
    StopCampaigning,
    Tick,
    TransferLeader,
    Unreachable,
)
from parleyd.raft.status import ProgressStatus, RaftStatus
from parleyd.raft.types import NO_INDEX, NO_NODE, NO_TERM, ConfState, EntryType, Index, NodeId, Role, Term
from parleyd.raft.update import Persist, Proposed, RoleChange, Update

_EMPTY = Update()


class Raft:
    """One server of one Raft group."""

    def __init__(self, config: RaftConfig, initial: InitialState) -> None:
        self._core = Core(config, initial)
        election.become_follower(self._core, self._core.current_term, NO_NODE)
        self._told_hard_state = initial.hard_state
        self._told_role = RoleChange(Role.FOLLOWER, self._core.current_term, NO_NODE)
        self._proposed: Proposed | None = None

    # Looking

    @property
    def node_id(self) -> NodeId:
        """Return this server's id."""
        return self._core.id

    @property
    def role(self) -> Role:
        """Return this server's role."""
        return self._core.role

    @property
    def leader(self) -> NodeId:
        """Return the leader that this server follows, NO_NODE if none."""
        return self._core.leader

    @property
    def term(self) -> Term:
        """Return the current term."""
        return self._core.current_term

    @property
    def commit_index(self) -> Index:
        """Return the highest index known to be committed."""
        return self._core.log.commit_index

    @property
    def applied_index(self) -> Index:
        """Return the highest index reported as applied."""
        return self._core.log.applied_index

    @property
    def first_index(self) -> Index:
        """Return the first index that the log still has."""
        return self._core.log.first_index

    @property
    def last_index(self) -> Index:
        """Return the last index of the log, durable or not."""
        return self._core.log.last_index

    @property
    def conf_state(self) -> ConfState:
        """Return the membership in force."""
        return self._core.conf_state

    def status(self) -> RaftStatus:
        """Return the present state, as one immutable record."""
        core = self._core
        progress = {}
        if core.role is Role.LEADER:
            progress = {
                node: ProgressStatus(
                    match_index=known.match_index,
                    next_index=known.next_index,
                    state=known.state,
                    inflight=len(known.inflights),
                    recent_active=known.recent_active,
                    paused=known.is_paused(),
                    pending_snapshot=known.pending_snapshot,
                    is_learner=known.is_learner,
                )
                for node, known in core.progress.items()
            }
        return RaftStatus(
            id=core.id,
            role=core.role,
            term=core.current_term,
            voted_for=core.voted_for,
            leader=core.leader,
            commit_index=core.log.commit_index,
            applied_index=core.log.applied_index,
            first_index=core.log.first_index,
            last_index=core.log.last_index,
            conf_state=core.conf_state,
            transferee=core.transferee,
            uncommitted_bytes=core.uncommitted_bytes,
            progress=progress,
        )

    # Stepping

    def step(self, event: Event) -> Update:  # noqa: PLR0912 (one case for each event)
        """Take in one event. The caller must carry out the returned Update by the rules in update.py.

        InvariantError: stop this server. PeerProtocolError: nothing was changed, disconnect that peer. ValueError:
        nothing was changed, the caller proposed an unreadable membership change.
        """
        core = self._core
        match event:
            case Receive(message):
                receive.receive(core, message)
            case Persisted():
                receive.persisted(core, event)
            case Applied(index):
                reconfigure.applied_to(core, index)
            case Propose(payloads):
                self._proposed = proposals.propose(core, payloads)
            case Tick():
                election.tick(core)
            case ReadIndex(context):
                reads.request_read(core, context)
            case ConfChangeApplied(data):
                reconfigure.apply_conf_change(core, data)
            case ProposeConfChange(data, v2):
                kind = EntryType.CONF_CHANGE_V2 if v2 else EntryType.CONF_CHANGE
                self._proposed = proposals.propose_conf_change(core, data, kind)
            case Campaign():
                election.start_election(core)
            case StopCampaigning():
                election.stop_campaigning(core)
            case ResumeCampaigning():
                core.may_lead = True
            case TransferLeader(target):
                transfer.transfer_leader(core, target)
            case ForgetLeader():
                election.forget_leader(core)
            case Unreachable(node):
                if core.role is Role.LEADER:
                    replication.handle_unreachable(core, node)
            case SnapshotStatus(node, ok):
                snapshots.snapshot_status(core, node, ok=ok)
            case Compact(index):
                core.log.compact(index)
            case SnapshotAvailable(snapshot):
                snapshots.snapshot_available(core, snapshot)
            case _:
                assert_never(event)
        return self._take_update()

    def _take_update(self) -> Update:
        core = self._core
        role = self._role_change()
        if role is not None:
            core.output.dropped_reads.extend(core.reads.abandon_forwarded())
        persist = self._persist()
        committed = core.log.take_committed()
        output, proposed = core.output, self._proposed
        if output.is_empty() and persist is None and role is None and proposed is None and not committed:
            return _EMPTY
        core.output = StepOutput()
        self._proposed = None
        return Update(
            persist=persist,
            send=tuple(output.send),
            after_persist=tuple(output.promises),
            committed=committed,
            reads=tuple(output.reads),
            role=role,
            proposed=proposed,
            dropped_reads=tuple(output.dropped_reads),
            need_snapshot_for=tuple(output.need_snapshot_for),
        )

    def _role_change(self) -> RoleChange | None:
        core, told = self._core, self._told_role
        if core.role is told.role and core.current_term == told.term and core.leader == told.leader:
            return None
        self._told_role = RoleChange(core.role, core.current_term, core.leader)
        return self._told_role

    def _persist(self) -> Persist | None:
        core, told = self._core, self._told_hard_state
        log, output = core.log, core.output
        is_new_ballot = core.current_term != told.current_term or core.voted_for != told.voted_for
        hard_state = None
        if is_new_ballot or log.commit_index != told.commit_index:
            check_invariant(log.commit_index >= told.commit_index, "the commit index would go back", InvariantError)
            hard_state = self._told_hard_state = core.hard_state()
        entries, snapshot = log.take_unpersisted(), log.take_snapshot()
        promises_wait = bool(output.promises or output.to_self)
        if hard_state is None and not entries and snapshot is None and not promises_wait:
            return None
        # Everything that is not known to be durable yet is durable after this write, because writes keep their order.
        has_unstable = log.last_index > log.stable_index
        pending = log.pending_snapshot
        done = Persisted(
            term=core.current_term,
            last_term=log.last_term if has_unstable else NO_TERM,
            last_index=log.last_index if has_unstable else NO_INDEX,
            snapshot_index=pending.index if pending is not None else NO_INDEX,
            messages=tuple(output.to_self),
        )
        must_sync = is_new_ballot or bool(entries) or snapshot is not None
        return Persist(hard_state=hard_state, entries=entries, snapshot=snapshot, must_sync=must_sync, done=done)
