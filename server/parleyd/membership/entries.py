"""Converts a membership entry for the state machine: the members from it on, and the record of a new member.

The context of a membership entry contains the new member's record. When it is applied, the state machine writes
membership and the member's row in one transaction. All other parts of the node follow that row.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from parley_proto.v1 import peer_pb2 as pb
from parleyd.machine.effects import Effect
from parleyd.machine.features.members import MembersChanged
from parleyd.machine.limits import MAX_ID
from parleyd.machine.records import CommittedEntry, MemberRow, MembershipChange
from parleyd.membership.members import ClusterMembers, to_row
from parleyd.raft.membership import decode_conf_change, members_of
from parleyd.raft.types import ConfState, Entry
from parleyd.transport.codec import encode_membership


def describe_change(data: bytes, conf_state: ConfState) -> MembershipChange:
    """Return the state machine's form of the membership entry `data`, after which `conf_state` is in force."""
    return MembershipChange(encode_membership(conf_state), members_of(conf_state), _newcomers(data))


def members_in(effects: Sequence[Effect]) -> ClusterMembers | None:
    """The newest members that applied entries have brought; None where they brought none."""
    for effect in reversed(effects):
        if isinstance(effect, MembersChanged):
            return ClusterMembers.of(effect.members)
    return None


def to_committed(entries: Sequence[Entry], conf_state: ConfState | None) -> list[CommittedEntry]:
    """Return the state machine's form of entries; `conf_state` is the membership that starts with the only entry."""
    if conf_state is None:
        return [CommittedEntry(entry.index, entry.term, entry.data) for entry in entries]
    [entry] = entries
    return [CommittedEntry(entry.index, entry.term, b"", describe_change(entry.data, conf_state))]


def _newcomers(data: bytes) -> tuple[MemberRow, ...]:
    context = decode_conf_change(data).context if data else b""
    if not context:
        return ()
    try:
        row = to_row(pb.PeerInfo.FromString(context))
    except DecodeError:
        return ()  # the same bytes on every node, because all of them have only the new member's id
    return (row,) if 0 < row.node_id <= MAX_ID else ()
