"""Membership changes in a running server: proposing, applying, leaving a joint membership (Raft §6, thesis §4).

A membership entry takes effect when it is applied. A leader accepts a new one only when every earlier one is applied,
so at most one is pending.
"""

from __future__ import annotations

from parleyd.raft import election, reads, replication
from parleyd.raft.core import Core
from parleyd.raft.errors import InvariantError
from parleyd.raft.membership import (
    ConfChange,
    MembershipError,
    NextMembership,
    change_membership,
    decode_conf_change,
    encode_conf_change,
)
from parleyd.raft.types import NO_NODE, EntryType, Index, Role

LEAVE_JOINT = encode_conf_change(ConfChange())


def may_propose(core: Core, data: bytes) -> bool:
    """Return whether a membership entry fits the leader's present state."""
    if core.config.disable_conf_change_validation:
        return True
    if core.pending_conf_index > core.log.applied_index:
        return False
    try:
        change_membership(core.conf_state, decode_conf_change(data))
    except MembershipError:
        return False  # once committed, it would stop every server
    return True


def append_conf_change(core: Core, data: bytes, kind: EntryType) -> tuple[bool, bool]:
    """Append a membership entry; return whether the log had space and whether the change was accepted.

    A change that does not fit becomes an empty entry: the log advances, and nothing changes.
    """
    taken = may_propose(core, data)
    if not taken:
        kind, data = EntryType.NORMAL, b""
    if not replication.append_entries(core, [(kind, data)]):
        return False, taken
    if taken:
        core.pending_conf_index = core.log.last_index
    return True, taken


def apply_conf_change(core: Core, data: bytes) -> None:
    """Apply a membership entry that has reached the state machine."""
    if not data:
        return
    try:
        changed = change_membership(core.conf_state, decode_conf_change(data))
    except MembershipError as error:
        raise InvariantError(f"a committed membership change does not fit {core.conf_state}: {error}") from error
    switch_to(core, changed)


def switch_to(core: Core, changed: NextMembership) -> None:
    """Use a new membership from now on."""
    core.set_membership(changed.conf_state, changed.fresh)
    own = core.progress.get(core.id)
    if core.role is not Role.LEADER:
        return
    if own is None or own.is_learner:
        # Removed or demoted: without stepping down it would lead without a vote (§6).
        if core.config.step_down_on_removal:
            election.become_follower(core, core.current_term, NO_NODE)
        return
    reads.recount(core)
    if replication.maybe_commit(core):  # a smaller majority may have more
        reads.release_postponed(core)
        replication.broadcast_append(core)
    else:
        for node in core.progress:
            if node != core.id:
                replication.maybe_send_append(core, node, even_if_empty=False)
    if core.transferee not in (*core.conf_state.voters, *core.conf_state.voters_outgoing):
        core.transferee = NO_NODE


def applied_to(core: Core, index: Index) -> None:
    """Record that the state machine is at `index`; if that ends a change that leaves by itself, propose to leave."""
    applied_bytes = core.log.applied_to(index)
    core.uncommitted_bytes = max(core.uncommitted_bytes - applied_bytes, 0)
    may_leave = core.conf_state.auto_leave and core.log.applied_index >= core.pending_conf_index
    if may_leave and core.role is Role.LEADER and core.transferee == NO_NODE and core.id in core.progress:
        append_conf_change(core, LEAVE_JOINT, EntryType.CONF_CHANGE_V2)
        replication.broadcast_append(core)
