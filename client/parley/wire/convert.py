"""Converts protobuf messages to records, and targets to sends. No other module does this."""

from collections.abc import Iterable
from dataclasses import replace
from enum import IntEnum
from typing import TypeVar

from parley.client_state import Node
from parley.cluster_model import (
    BackupInfo,
    ClusterGeneration,
    ClusterMember,
    GenerationKind,
    ImportResult,
    ImportStatus,
    NodeStatus,
    Setting,
    Suspension,
)
from parley.model import (
    Account,
    Conversation,
    ConversationKind,
    Device,
    HistoryStart,
    ListedChannel,
    Member,
    MemberRole,
    Message,
    MessageKind,
    Outgoing,
    Receipt,
    ReceiptCounts,
    Target,
)
from parley.presence_model import AccountPresence, ConnectedAccount, NodeClients, PresenceState
from parley.wire.requests import build
from parley_proto.v1 import accounts_pb2, admin_pb2, conversations_pb2, messaging_pb2, model_pb2

E = TypeVar("E", bound=IntEnum)


def _known(kind: type[E], number: int) -> E:
    """Return the member with this number, or UNKNOWN (0) for one of a later release."""
    try:
        return kind(number)
    except ValueError:
        return kind(0)


def device(wire: accounts_pb2.DeviceInfo) -> Device:
    return Device(wire.device_id.hex(), wire.label, wire.logged_in_at_ms, wire.signed_in, wire.current)


def account(wire: model_pb2.AccountInfo) -> Account:
    return Account(wire.id, wire.name, wire.display_name, wire.deleted)


def accounts(wires: Iterable[model_pb2.AccountInfo]) -> tuple[Account, ...]:
    return tuple(map(account, wires))


def listed_accounts(page: accounts_pb2.ListAccountsResponse) -> tuple[Account, ...]:
    suspended = {one.account_id: Suspension(one.since_ms, one.suspended_by, one.reason) for one in page.suspended}
    return tuple(replace(found, suspended=suspended.get(found.id)) for found in accounts(page.accounts))


def connected_account(wire: accounts_pb2.ConnectedAccount) -> ConnectedAccount:
    return ConnectedAccount(account(wire.account), wire.since_ms, wire.away)


def account_presence(wire: accounts_pb2.AccountPresence, *, all_heard: bool) -> AccountPresence:
    state = _known(PresenceState, wire.state)
    return AccountPresence(wire.account_id, state, wire.since_ms, wire.last_seen_ms, all_heard)


def node_clients(wire: accounts_pb2.NodeClients) -> NodeClients:
    return NodeClients(wire.name, wire.clients, wire.heard)


def member(wire: model_pb2.MemberInfo) -> Member:
    role = _known(MemberRole, wire.role)
    return Member(wire.account_id, role, wire.delivered_up_to, wire.read_up_to, wire.first_message_id)


def message(wire: model_pb2.Message, own_id: int, device_id: bytes) -> Message:
    """Return a message. `own_id`, the own account, decides `mine`. `device_id`, this device, decides `number`."""
    mine = wire.sender_id == own_id
    return Message(
        conversation_id=wire.conversation_id,
        id=wire.id,
        kind=_known(MessageKind, wire.kind),
        sender_id=wire.sender_id,
        body=wire.body,
        sent_at_ms=wire.sent_at_ms,
        mine=mine,
        number=wire.send_number if mine and device_id and wire.device_id == device_id else 0,
        subjects=tuple(wire.subjects),
        urgent=wire.priority == model_pb2.MESSAGE_PRIORITY_URGENT,
    )


def conversation(wire: model_pb2.ConversationInfo) -> Conversation:
    """Return what a conversation is, and its members."""
    members = tuple(map(member, wire.members))
    return Conversation(
        wire.id,
        _known(ConversationKind, wire.kind),
        wire.title,
        members,
        wire.member_count,
        topic=wire.topic,
        public=wire.public,
        archived=wire.archived,
        open_history=wire.open_history,
        muted=wire.muted,
        put_away_up_to=wire.put_away_up_to,
        removed_up_to=wire.removed_up_to,
    )


def removals(wire: Iterable[messaging_pb2.Removal]) -> tuple[tuple[int, int], ...]:
    """Return conversation and message up to which it is removed."""
    return tuple((one.conversation_id, one.up_to) for one in wire)


def listed_channel(wire: conversations_pb2.ListedChannel) -> ListedChannel:
    return ListedChannel(conversation(wire.info), wire.joined)


def summary(wire: conversations_pb2.ConversationSummary, own_id: int, device_id: bytes) -> Conversation:
    """Return one line of the conversation list."""
    return replace(
        conversation(wire.info),
        last=message(wire.last_message, own_id, device_id) if wire.HasField("last_message") else None,
        unread=wire.unread,
        read_up_to=wire.read_up_to,
    )


def receipt(wire: messaging_pb2.Receipt) -> Receipt:
    return Receipt(wire.conversation_id, wire.account_id, wire.delivered_up_to, wire.read_up_to)


def receipt_counts(wire: messaging_pb2.ReceiptCount) -> ReceiptCounts:
    """Return the counts of own messages in a large channel."""
    return ReceiptCounts(
        message_id=wire.message_id,
        others=wire.others,
        delivered=wire.delivered,
        read=wire.read,
        delivered_to_all=wire.delivered_to_all_up_to,
        read_by_all=wire.read_by_all_up_to,
        sent_from=wire.sent_from,
    )


def send(message: Outgoing) -> model_pb2.Send:
    """Return a numbered message for the wire, with its target as it was stored."""
    wire = model_pb2.Send(number=message.number, body=message.body)
    if message.urgent:
        wire.priority = model_pb2.MESSAGE_PRIORITY_URGENT
    if message.target.account:
        wire.account_name = message.target.account
        wire.known_index = message.known_index
    elif message.target.account_id:
        wire.account_id = message.target.account_id
    else:
        wire.conversation_id = message.target.conversation_id
    return wire


def history_request(target: Target, start: HistoryStart, limit: int) -> conversations_pb2.GetHistoryRequest:
    """Return the request for one page of a conversation. The caller adds the position it has seen."""
    request = build(conversations_pb2.GetHistoryRequest, limit=limit)
    if target.account:
        request.account_name = target.account
    elif target.account_id:
        request.account_id = target.account_id
    else:
        request.conversation_id = target.conversation_id
    if start.after_id is not None:
        request.after_id = start.after_id
    elif start.around_id is not None:
        request.around_id = start.around_id
    elif start.first_unread:
        request.first_unread = True
    else:
        request.before_id = start.before_id
    return request


def setting(wire: admin_pb2.Setting) -> Setting:
    return Setting(wire.name, wire.value, wire.default, wire.minimum, wire.maximum, wire.help)


def import_result(wire: admin_pb2.ImportedAccount) -> ImportResult:
    return ImportResult(_known(ImportStatus, wire.status), wire.detail)


def nodes(news: messaging_pb2.ClusterStatusUpdate) -> tuple[Node, ...]:
    """Return the members of the cluster as the connected node sees them, by name."""
    return tuple(sorted((Node(n.name, n.client_address, n.up) for n in news.nodes), key=lambda node: node.name))


def node_status(
    address: str, wire: admin_pb2.GetStatusResponse, *, asked_at_ms: float, answered_at_ms: float
) -> NodeStatus:
    """Return the status of one node. The times are Unix time on this machine's clock."""
    return NodeStatus(
        address=address,
        cluster_id=wire.cluster_id,
        name=wire.node_name,
        node_id=wire.node_id,
        role=wire.role,
        term=wire.term,
        leader=wire.leader,
        commit_index=wire.commit_index,
        applied_index=wire.applied_index,
        first_index=wire.first_index,
        last_index=wire.last_index,
        connected_clients=wire.connected_clients,
        messages_per_second=wire.messages_per_second,
        messages_total=wire.messages_total,
        serving=wire.serving,
        pid=wire.pid,
        uptime_s=wire.uptime_s,
        version=wire.version,
        members=tuple(map(_cluster_member, wire.members)),
        joint=wire.joint,
        removed=wire.removed,
        level=wire.level,
        min_level=wire.min_level,
        max_level=wire.max_level,
        divergence=wire.divergence,
        disk=wire.disk,
        refused=wire.refused,
        snapshots=wire.snapshots,
        clock=wire.clock,
        cluster_time_ms=wire.cluster_time_ms,
        state_hash=wire.state_hash.hex(),
        clock_offset_ms=wire.wall_clock_ms - (asked_at_ms + answered_at_ms) / 2 if wire.wall_clock_ms else None,
        round_trip_ms=answered_at_ms - asked_at_ms,
        certificate_expires_at_ms=wire.certificate_expires_at_ms,
        disk_free_bytes=wire.disk_free_bytes,
        disk_reserve_bytes=wire.disk_reserve_bytes,
        open_files=wire.open_files,
        open_files_limit=wire.open_files_limit,
        log_write_ms=wire.log_write_ms,
        backup_interval_s=wire.backup_interval_s,
        last_backup_at_ms=wire.last_backup_at_ms,
        loop_lag_ms=wire.loop_lag_ms,
        generation=wire.generation,
        generations=tuple(map(_cluster_generation, wire.generations)),
    )


def backup_info(wire: admin_pb2.BackupHeader, file_bytes: int) -> BackupInfo:
    """Return what a backup file of that size is."""
    return BackupInfo(
        cluster_id=wire.cluster_id,
        node=wire.node_name,
        release=wire.release,
        generation=wire.generation,
        level=wire.level,
        index=wire.index,
        term=wire.term,
        state_hash=wire.state_hash,
        made_at_ms=wire.made_at_ms,
        messages_total=wire.messages_total,
        content_bytes=wire.content_bytes,
        file_bytes=file_bytes,
        is_current=wire.is_current,
    )


def _cluster_generation(wire: admin_pb2.ClusterGeneration) -> ClusterGeneration:
    return ClusterGeneration(wire.generation, _known(GenerationKind, wire.kind), wire.began_at_ms, wire.after_index)


def _cluster_member(wire: admin_pb2.MemberStatus) -> ClusterMember:
    return ClusterMember(
        name=wire.name,
        node_id=wire.node_id,
        client_address=wire.client_address,
        peer_address=wire.peer_address,
        voter=wire.voter,
        connected=wire.connected,
        learner=wire.learner,
        match_index=wire.match_index,
        min_level=wire.min_level,
        max_level=wire.max_level,
    )
