"""Protobuf in, records out: the one place where wire types become ours."""

from parley.model import Conversation, Member, Message, Node, NodeStatus
from parley_proto.v1 import admin_pb2, messaging_pb2


def message(wire: messaging_pb2.Message, account_id: int, device_id: bytes = b"") -> Message:
    """`account_id` is the own one; it decides `mine`. `device_id` is this device's; it decides `number`."""
    mine = wire.sender_id == account_id
    return Message(
        id=wire.id,
        conversation_id=wire.conversation_id,
        sender=wire.sender,
        peer=wire.peer,
        body=wire.body,
        sent_at_ms=wire.sent_at_ms,
        mine=mine,
        number=wire.send_number if mine and device_id and wire.device_id == device_id else 0,
    )


def conversation(wire: messaging_pb2.Conversation, account_id: int) -> Conversation:
    """One line of the conversation list."""
    return Conversation(
        id=wire.id,
        peer=wire.peer,
        peer_deleted=wire.peer_deleted,
        last=message(wire.last_message, account_id) if wire.HasField("last_message") else None,
        unread=wire.unread,
        read_up_to=wire.read_up_to,
        peer_delivered_up_to=wire.peer_delivered_up_to,
        peer_read_up_to=wire.peer_read_up_to,
    )


def nodes(news: messaging_pb2.ClusterStatusUpdate) -> tuple[Node, ...]:
    """The members as the connected node sees them, by name."""
    return tuple(sorted((Node(n.name, n.client_address, n.up) for n in news.nodes), key=lambda node: node.name))


def node_status(address: str, wire: admin_pb2.GetStatusResponse) -> NodeStatus:
    """The answer of one node about itself."""
    return NodeStatus(
        address=address,
        cluster_id=wire.cluster_id,
        name=wire.node_name,
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
        members=tuple(
            Member(m.name, m.node_id, m.client_address, m.peer_address, m.voter, m.connected) for m in wire.members
        ),
    )
