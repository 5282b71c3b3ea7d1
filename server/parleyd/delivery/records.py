"""From the state machine's message records to what clients are sent."""

from __future__ import annotations

from parley_proto.v1 import messaging_pb2 as pb
from parleyd.machine.records import MessageRecord


def receipt(conversation_id: int, account_id: int, delivered_up_to: int, read_up_to: int) -> pb.Receipt:
    """How far one member has come."""
    return pb.Receipt(
        conversation_id=conversation_id, account_id=account_id, delivered_up_to=delivered_up_to, read_up_to=read_up_to
    )


def to_proto(record: MessageRecord, peer: str) -> pb.Message:
    """The message as one account sees it: `peer` is the other party from its side."""
    return pb.Message(
        id=record.id,
        conversation_id=record.conversation_id,
        sender_id=record.sender_id,
        sender=record.sender,
        peer=peer,
        body=record.body,
        sent_at_ms=record.sent_at_ms,
        device_id=record.device_id,
        send_number=record.send_number,
    )
