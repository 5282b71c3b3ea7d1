"""Elections: roles, terms, votes and the clock that starts them (Raft §5.2, §5.4.1, thesis §9.6, §6.2).

Pre-vote: before it raises its term, a server asks whether it would win. So an isolated server does not depose a healthy
leader on its return. Leader stickiness: with check-quorum, a server with a leader's message within an election timeout
ignores candidates. Check-quorum: a leader without messages from a majority for that long steps down.
"""

from __future__ import annotations

import enum

from parleyd.invariants import check_invariant
from parleyd.raft import reads, replication
from parleyd.raft.core import Core
from parleyd.raft.errors import InvariantError
from parleyd.raft.membership import voters_of
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.quorum import VoteResult
from parleyd.raft.types import NO_INDEX, NO_NODE, NO_TERM, EntryType, Index, NodeId, Role, Term

TRANSFER_CONTEXT = b"transfer"
"""Marks a vote request of a candidate that its leader has chosen; it overrides leader stickiness (thesis §4.2.3)."""


class CampaignKind(enum.Enum):
    """How an election begins."""

    PRE_ELECTION = "pre-election"
    ELECTION = "election"
    TRANSFER = "transfer"


# Transitions


def _reset(core: Core, term: Term) -> None:
    check_invariant(
        term >= core.current_term, f"the term would go back from {core.current_term} to {term}", InvariantError
    )
    if term != core.current_term:
        core.current_term = term
        core.voted_for = NO_NODE
    core.leader = NO_NODE
    core.election_elapsed = 0
    core.heartbeat_elapsed = 0
    draw_election_timeout(core)
    core.transferee = NO_NODE
    core.votes = {}
    core.pending_conf_index = NO_INDEX
    core.uncommitted_bytes = 0
    core.output.dropped_reads.extend(core.reads.abandon(core.id))
    last_index = core.log.last_index
    for node, progress in core.progress.items():
        match = last_index if node == core.id else NO_INDEX
        core.progress[node] = core.new_progress(
            match, Index(last_index + 1), is_learner=progress.is_learner, recent_active=False
        )


def draw_election_timeout(core: Core) -> None:
    """Draw a random timeout, so that servers rarely campaign at the same time (§5.2)."""
    timeout = core.config.election_timeout_ticks
    spread = core.config.election_timeout_spread_ticks or timeout
    core.randomized_timeout_ticks = timeout + core.random.randrange(spread)


def become_follower(core: Core, term: Term, leader: NodeId) -> None:
    """Follow `leader` in `term`; the leader may be unknown yet."""
    _reset(core, term)
    core.role = Role.FOLLOWER
    core.leader = leader


def become_pre_candidate(core: Core) -> None:
    """Ask for pre-votes; neither term nor vote changes (thesis §9.6)."""
    check_invariant(core.role is not Role.LEADER, "a leader cannot become a pre-candidate", InvariantError)
    core.votes = {}
    core.role = Role.PRE_CANDIDATE
    core.leader = NO_NODE


def become_candidate(core: Core) -> None:
    """Enter the next term and vote for this server there (§5.2)."""
    check_invariant(core.role is not Role.LEADER, "a leader cannot become a candidate", InvariantError)
    _reset(core, Term(core.current_term + 1))
    core.role = Role.CANDIDATE
    core.voted_for = core.id


def become_leader(core: Core) -> None:
    """Lead the current term. Its first entry is a no-op: committing it commits all earlier entries (§5.4.2, §8)."""
    check_invariant(
        core.role is Role.CANDIDATE, f"a {core.role.value} cannot become leader without an election", InvariantError
    )
    _reset(core, core.current_term)
    core.role = Role.LEADER
    core.leader = core.id
    own = core.progress[core.id]
    own.become_replicate()
    own.recent_active = True
    # A membership entry may be among the unapplied ones. No further one is taken before all are applied.
    core.pending_conf_index = core.log.last_index
    appended = replication.append_entries(core, [(EntryType.NORMAL, b"")])
    check_invariant(appended, "a new leader could not append its no-op", InvariantError)


# Campaigns


def is_promotable(core: Core) -> bool:
    """Return whether this server may lead: a voter with a trusted state whose log is not about to be replaced."""
    progress = core.progress.get(core.id)
    is_voter = progress is not None and not progress.is_learner
    return core.may_lead and is_voter and core.log.pending_snapshot is None


def stop_campaigning(core: Core) -> None:
    """Start no election any more and end one in progress; votes and the log stay valid.

    A leader continues until it has transferred leadership, or has lost contact with a majority.
    """
    core.may_lead = False
    if core.role in (Role.CANDIDATE, Role.PRE_CANDIDATE):
        become_follower(core, core.current_term, NO_NODE)


def start_election(core: Core, kind: CampaignKind | None = None) -> None:
    """Begin an election, if one is allowed; `kind` None means the kind in the settings."""
    if kind is None:
        kind = CampaignKind.PRE_ELECTION if core.config.pre_vote else CampaignKind.ELECTION
    if core.role is Role.LEADER or not is_promotable(core):
        return
    # With a membership entry committed but not applied, this server would count the wrong majority (etcd 12133, 7280).
    if core.log.has_conf_change_between(core.log.applied_index, core.log.commit_index):
        return
    campaign(core, kind)


def campaign(core: Core, kind: CampaignKind) -> None:
    """Ask all voters, this server's own storage included, for their votes."""
    if kind is CampaignKind.PRE_ELECTION:
        become_pre_candidate(core)
        request, response = MessageType.PRE_VOTE, MessageType.PRE_VOTE_RESPONSE
        term = Term(core.current_term + 1)
    else:
        become_candidate(core)
        request, response = MessageType.VOTE, MessageType.VOTE_RESPONSE
        term = core.current_term
    context = TRANSFER_CONTEXT if kind is CampaignKind.TRANSFER else b""
    last_index, last_term = core.log.last_index, core.log.last_term
    for node in voters_of(core.conf_state):
        if node == core.id:
            core.send(response, node, term=term)  # its own vote counts once it is durable
        else:
            core.send(request, node, term=term, index=last_index, log_term=last_term, context=context)


def ignores_candidates(core: Core) -> bool:
    """Return whether a leader was heard from within an election timeout: leader stickiness (thesis §4.2.3)."""
    heard_recently = core.election_elapsed < core.config.election_timeout_ticks
    return core.config.check_quorum and core.leader != NO_NODE and heard_recently


def handle_vote_request(core: Core, message: Message) -> None:
    """Grant at most one vote per term, and only to a log at least as complete (§5.2, §5.4.1).

    Learners vote too when asked, because the candidate may have applied a promotion that this server has not.
    """
    is_pre_vote = message.type is MessageType.PRE_VOTE
    response = MessageType.PRE_VOTE_RESPONSE if is_pre_vote else MessageType.VOTE_RESPONSE
    may_vote = (
        core.voted_for == message.sender
        or (core.voted_for == NO_NODE and core.leader == NO_NODE)
        or (is_pre_vote and message.term > core.current_term)
    )
    if not (may_vote and core.log.is_up_to_date(message.index, message.log_term)):
        refuse_vote(core, message.sender, response)
        return
    # A pre-vote is answered in the term of the request. This server's own term may be lower.
    core.send(response, message.sender, term=message.term)
    if not is_pre_vote:
        core.election_elapsed = 0
        core.voted_for = message.sender


def refuse_vote(core: Core, candidate: NodeId, response: MessageType) -> None:
    """Refuse a vote. A server that is no voter any more adds its commit index.

    It stands for no election, but its log may be longer than those of all other servers. These may not have learned
    that its removal is committed. With the commit index they apply the removal and elect a leader without it.
    """
    log = core.log
    if core.id in voters_of(core.conf_state):
        core.send(response, candidate, reject=True)
    else:
        commit = log.commit_index
        core.send(response, candidate, reject=True, commit=commit, log_term=log.term(commit) or NO_TERM)


def learn_commit(core: Core, message: Message) -> None:
    """Take over the commit index of a server that refuses a vote, up to where the logs match (§5.3)."""
    if core.role is Role.LEADER or not core.log.matches(message.commit, message.log_term):
        return
    core.log.commit_to(message.commit)
    counts_wrong_majority = core.log.has_conf_change_between(core.log.applied_index, core.log.commit_index)
    if counts_wrong_majority and core.role is not Role.FOLLOWER:
        become_follower(core, core.current_term, NO_NODE)


def handle_vote_response(core: Core, message: Message) -> None:
    """Count a vote of the kind that was requested; win, lose or wait."""
    expected = MessageType.PRE_VOTE_RESPONSE if core.role is Role.PRE_CANDIDATE else MessageType.VOTE_RESPONSE
    if core.role not in (Role.CANDIDATE, Role.PRE_CANDIDATE) or message.type is not expected:
        return
    core.votes.setdefault(message.sender, not message.reject)
    result = core.vote_result(core.votes)
    if result is VoteResult.WON:
        if core.role is Role.PRE_CANDIDATE:
            campaign(core, CampaignKind.ELECTION)
        elif core.id in core.votes:
            become_leader(core)
            replication.broadcast_append(core)
        # Otherwise the votes suffice, but this server's disk does not have the term yet. If it led now and crashed, the
        # same votes could elect it in the same term again, and it would write other entries at the same indexes.
    elif result is VoteResult.LOST:
        become_follower(core, core.current_term, NO_NODE)


# Time


def tick(core: Core) -> None:
    """Advance the logical clock by one tick."""
    if core.role is Role.LEADER:
        _tick_leader(core)
        return
    core.election_elapsed += 1
    if core.election_elapsed >= core.randomized_timeout_ticks and is_promotable(core):
        core.election_elapsed = 0
        start_election(core)


def _tick_leader(core: Core) -> None:
    core.heartbeat_elapsed += 1
    core.election_elapsed += 1
    if core.election_elapsed >= core.config.election_timeout_ticks:
        core.election_elapsed = 0
        if core.config.check_quorum:
            _check_quorum(core)
        core.transferee = NO_NODE  # a transfer that takes longer has failed: accept proposals again (thesis §3.10)
    if core.role is Role.LEADER and core.heartbeat_elapsed >= core.config.heartbeat_ticks:
        core.heartbeat_elapsed = 0
        reads.broadcast_heartbeat(core, core.reads.last_token())


def _check_quorum(core: Core) -> None:
    active = {
        node: progress.recent_active or node == core.id
        for node, progress in core.progress.items()
        if not progress.is_learner
    }
    if core.vote_result(active) is not VoteResult.WON:
        become_follower(core, core.current_term, NO_NODE)
        return
    for node, progress in core.progress.items():
        if node != core.id:
            progress.recent_active = False


def forget_leader(core: Core) -> None:
    """Set the leader to unknown but stay in the term; the election clock continues.

    It has no effect with lease reads, because the leader relies on its followers then.
    """
    if core.role is Role.FOLLOWER and not core.config.lease_reads:
        core.leader = NO_NODE
