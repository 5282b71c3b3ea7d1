"""Log replication: what a leader sends and counts, and what a follower accepts (Raft §5.3, §5.4.2, thesis §10.2).

A leader sends entries before its own disk has them. It counts itself only when its storage confirms them. It counts
only entries of its own term to commit (§5.4.2). A follower's answer waits for its disk.
"""

from __future__ import annotations

from parleyd.raft import reads
from parleyd.raft.core import Core
from parleyd.raft.errors import PeerProtocolError
from parleyd.raft.log import size_of
from parleyd.raft.membership import members_of
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.progress import Progress, ProgressState
from parleyd.raft.types import Entry, EntryType, Index, NodeId, SnapshotMeta

# Leader: the log


def append_entries(core: Core, items: list[tuple[EntryType, bytes]]) -> bool:
    """Append to this leader's log; return False if the unapplied entries are at their bound.

    With no unapplied entries any size is accepted, and entries without data are always accepted. So an election or the
    end of a joint membership never waits for space.
    """
    size = sum(len(data) for _, data in items)
    full = core.uncommitted_bytes + size > core.config.max_uncommitted_bytes
    if core.uncommitted_bytes > 0 and size > 0 and full:
        return False
    core.uncommitted_bytes += size
    index, term = core.log.last_index + 1, core.current_term
    core.log.append(
        tuple(Entry(term, Index(position), kind, data) for position, (kind, data) in enumerate(items, index))
    )
    core.send(MessageType.APPEND_RESPONSE, core.id, index=core.log.last_index)
    return True


def maybe_commit(core: Core) -> bool:
    """Commit what a majority has, if it includes an entry of this term (§5.4.2: never by counting earlier terms)."""
    index = core.quorum_match_index()
    if index <= core.log.commit_index or core.log.term(index) != core.current_term:
        return False
    return core.log.commit_to(index)


# Leader: sending


def broadcast_append(core: Core) -> None:
    """Send all followers what is new; a follower that has everything gets the commit index."""
    for node in core.progress:
        if node != core.id:
            send_news(core, node)


def send_news(core: Core, node: NodeId) -> None:
    """Send what comes next, if the follower is not paused. If that is only the commit index, it is a notice.

    Its answer would tell the leader nothing: the entries before it have answers of their own, and if those were lost,
    the next answer to a heartbeat brings a message that is no notice. The reference has no notices.
    """
    maybe_send_append(core, node, even_if_empty=True, may_be_notice=core.config.commit_notices)


def send_append(core: Core, node: NodeId) -> None:
    """Send what comes next, if the follower is not paused, and have it answered."""
    maybe_send_append(core, node, even_if_empty=True)


def maybe_send_append(core: Core, node: NodeId, *, even_if_empty: bool, may_be_notice: bool = False) -> bool:
    """Send `node` its next entries, or a snapshot if they are gone; return False if nothing was sent.

    While it is not known where a follower's log matches, an empty message is a probe, which has to be answered.
    """
    progress = core.progress[node]
    if progress.is_paused():
        return False
    log = core.log
    prev_index = Index(progress.next_index - 1)
    prev_term = log.term(prev_index)
    if prev_term is None:
        return _maybe_send_snapshot(core, node, progress)
    entries: tuple[Entry, ...] = ()
    # Past a full window only empty messages are sent. If all in flight were lost, the answer to one of them shows it.
    throttled = progress.state is ProgressState.REPLICATE and progress.inflights.full()
    if not throttled and progress.next_index <= log.last_index:
        entries = log.slice(progress.next_index, log.last_index, core.config.max_entries_bytes)
    if not entries and not even_if_empty:
        return False
    core.send(
        MessageType.APPEND,
        node,
        index=prev_index,
        log_term=prev_term,
        entries=entries,
        commit=log.commit_index,
        is_notice=may_be_notice and not entries and progress.state is ProgressState.REPLICATE,
    )
    progress.note_sent(len(entries), size_of(entries), log.commit_index)
    return True


def _maybe_send_snapshot(core: Core, node: NodeId, progress: Progress) -> bool:
    if not progress.recent_active:
        return False  # it is down: a snapshot would be lost, and no second one starts while one is pending
    snapshot = core.snapshot_available
    if snapshot is None or not _is_of_use(core, snapshot, node):
        if node not in core.output.need_snapshot_for:
            core.output.need_snapshot_for.append(node)
        return False
    progress.become_snapshot(snapshot.index)
    core.send(MessageType.SNAPSHOT, node, snapshot=snapshot)
    return True


def _is_of_use(core: Core, snapshot: SnapshotMeta, node: NodeId) -> bool:
    """Return whether the log continues from `snapshot`, and `node` is a member there; otherwise `node` refuses it."""
    return snapshot.index >= core.log.first_index - 1 and node in members_of(snapshot.conf_state)


def send_what_waits_for_a_snapshot(core: Core) -> None:
    """Send the new snapshot to the followers that need one."""
    for node, progress in core.progress.items():
        if node != core.id and core.log.term(Index(progress.next_index - 1)) is None:
            maybe_send_append(core, node, even_if_empty=False)


# Leader: answers


def handle_append_response(core: Core, message: Message) -> None:
    """Record that a follower, or this server's own storage, has appended entries or refused them."""
    progress = core.progress[message.sender]
    progress.recent_active = True
    if message.reject:
        _handle_rejection(core, message, progress)
        return
    resumes = progress.match_index == message.index and progress.state is ProgressState.PROBE
    if not progress.acknowledge(message.index) and not resumes:
        return
    _advance_state(core, message.index, progress)
    is_self = message.sender == core.id
    if maybe_commit(core):
        reads.release_postponed(core)
        broadcast_append(core)
    elif not is_self and progress.commit_is_news(core.log.commit_index):
        send_news(core, message.sender)
    if is_self:
        return
    # The window has space again: fill it.
    while maybe_send_append(core, message.sender, even_if_empty=False):
        pass
    if message.sender == core.transferee and progress.match_index == core.log.last_index:
        core.send(MessageType.TIMEOUT_NOW, message.sender)


def _handle_rejection(core: Core, message: Message, progress: Progress) -> None:
    hint = message.reject_hint
    if message.log_term > 0:
        # The follower has no entry of its hint's term above its hint, so no entry of a higher term can match here.
        hint, _ = core.log.last_index_at_or_below_term(hint, message.log_term)
    if progress.step_back(message.index, hint):
        if progress.state is ProgressState.REPLICATE:
            progress.become_probe()
        send_append(core, message.sender)


def _advance_state(core: Core, acknowledged: Index, progress: Progress) -> None:
    if progress.state is ProgressState.PROBE:
        progress.become_replicate()
    elif progress.state is ProgressState.REPLICATE:
        progress.inflights.free_up_to(acknowledged)
    elif progress.match_index + 1 >= core.log.first_index:
        # Wherever the snapshot ended, the log continues from here.
        progress.become_probe()
        progress.become_replicate()


def handle_heartbeat_response(core: Core, message: Message) -> None:
    """Record that a follower is alive: send what it may have missed, and count its confirmation of reads."""
    progress = core.progress[message.sender]
    progress.recent_active = True
    progress.paused_by_flow = False
    if progress.match_index < core.log.last_index or progress.state is ProgressState.PROBE:
        send_append(core, message.sender)
    if message.context:
        reads.handle_heartbeat_ack(core, message)


def handle_unreachable(core: Core, node: NodeId) -> None:
    """Probe `node` before pipelining again, because a message to it was lost."""
    progress = core.progress.get(node)
    if progress is not None and progress.state is ProgressState.REPLICATE:
        progress.become_probe()


# Follower


def check_append(message: Message) -> None:
    """Refuse an append whose entries are not contiguous, before anything is changed."""
    prev = message.index
    last_term = message.log_term
    for entry in message.entries:
        prev = Index(prev + 1)
        if entry.index != prev or entry.term < last_term:
            raise PeerProtocolError(
                f"node {message.sender} sent entry {entry.term}/{entry.index} where index {prev} and a term of at "
                f"least {last_term} was due"
            )
        last_term = entry.term
    if last_term > message.term:
        raise PeerProtocolError(f"node {message.sender} sent an entry of term {last_term} in term {message.term}")


def handle_append(core: Core, message: Message) -> None:
    """Take the leader's entries, or answer where this log may still match the leader's.

    A notice is answered only if it does not match.
    """
    log = core.log
    if message.index < log.commit_index:
        _confirm(core, message, log.commit_index)
        return
    last = log.accept(message.index, message.log_term, message.entries)
    if last is not None:
        log.commit_to(min(message.commit, last))
        _confirm(core, message, last)
        return
    hint, hint_term = log.last_index_at_or_below_term(min(message.index, log.last_index), message.log_term)
    core.send(
        MessageType.APPEND_RESPONSE,
        message.sender,
        index=message.index,
        reject=True,
        reject_hint=hint,
        log_term=hint_term,
    )


def _confirm(core: Core, message: Message, last: Index) -> None:
    if not message.is_notice:
        core.send(MessageType.APPEND_RESPONSE, message.sender, index=last)


def handle_heartbeat(core: Core, message: Message) -> None:
    """Take a heartbeat. Its commit index is never beyond what the leader has confirmed of this server's log."""
    core.log.commit_to(message.commit)
    core.send(MessageType.HEARTBEAT_RESPONSE, message.sender, context=message.context)
