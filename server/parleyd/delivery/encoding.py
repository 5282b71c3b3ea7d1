"""Messages in wire form, encoded once per node and joined into the frames of many devices.

A protobuf message is a sequence of fields, so a repeated field may be written entry by entry: `MessageBatch.messages`
is its entries joined. The frame that comes out is what `ServerFrame(messages=MessageBatch(...))` would be.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from parley_proto.v1 import messaging_pb2 as pb
from parleyd.delivery.records import message
from parleyd.machine.features.messages import MessageRecord

_LENGTH_DELIMITED = 2


def _tag(field_number: int) -> bytes:
    return _varint(field_number << 3 | _LENGTH_DELIMITED)


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


_ENTRY = _tag(pb.MessageBatch.MESSAGES_FIELD_NUMBER)
_CURSOR = _tag(pb.MessageBatch.CURSOR_FIELD_NUMBER)
_WITHIN = _varint(pb.MessageBatch.ACKNOWLEDGE_WITHIN_MS_FIELD_NUMBER << 3)
_BATCH = _tag(pb.ServerFrame.MESSAGES_FIELD_NUMBER)


class EncodedMessage(NamedTuple):
    """A message encoded as an entry of MessageBatch, with the fields that a stream needs."""

    id: int
    conversation_id: int
    account_ids: tuple[int, ...]  # the sender and the accounts that the row is about
    device_id: bytes
    entry: bytes
    acknowledge_within_ms: int  # what a device that receives it now may wait with its acknowledgement


def encode_message(record: MessageRecord, acknowledge_within_ms: int = 0) -> EncodedMessage:
    """Encode a message. The bytes are the same for every receiving device."""
    encoded = message(record).SerializeToString()
    return EncodedMessage(
        id=record.id,
        conversation_id=record.conversation_id,
        account_ids=(record.sender_id, *record.subjects),
        device_id=record.device_id,
        entry=b"".join((_ENTRY, _varint(len(encoded)), encoded)),
        acknowledge_within_ms=acknowledge_within_ms,
    )


def messages_frame(messages: Sequence[EncodedMessage], cursor: bytes) -> bytes:
    """Build a ServerFrame with these messages, and the cursor after them.

    The device may wait with its acknowledgement as long as with each of them.
    """
    parts = [encoded.entry for encoded in messages]
    parts += (_CURSOR, _varint(len(cursor)), cursor)
    if within_ms := min((encoded.acknowledge_within_ms for encoded in messages), default=0):
        parts += (_WITHIN, _varint(within_ms))
    batch = b"".join(parts)
    return b"".join((_BATCH, _varint(len(batch)), batch))


def serialize_frame(frame: pb.ServerFrame | bytes) -> bytes:
    """Serialize a frame; one that is encoded already stays unchanged."""
    return frame if isinstance(frame, bytes) else frame.SerializeToString()
