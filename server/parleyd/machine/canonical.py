"""Protobuf messages as bytes for the state hash: one form, generated from the descriptor.

Protobuf's own bytes may differ between releases of the library, so they are never hashed. Here a message is its
scalar numbers in the order of their field numbers, eight bytes each, without the zeros at the end; then each string,
submessage, repeated field and number with presence that is set, in the same order, behind its number and its length.
Fields without a value leave no trace, so a field that a later release adds changes nothing before it is used, and its
use belongs to a level.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cache
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

Encode = Callable[[Any], bytes]

_FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
_NOT_NUMBERS = (FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_MESSAGE)
_SIGNED = (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_ENUM)
_LENGTH = struct.Struct("<I")
_NUMBER_AND_LENGTH = struct.Struct("<II")


def canonical(messages: Sequence[Message]) -> bytes:
    """Encode messages one after the other, each behind its length."""
    parts = [_LENGTH.pack(len(messages))]
    for message in messages:
        encoded = encoder(message.DESCRIPTOR)(message)
        parts += (_LENGTH.pack(len(encoded)), encoded)
    return b"".join(parts)


@cache
def encoder(descriptor: Descriptor) -> Encode:
    """Make the encoding function of a message type. Raises TypeError for floats and maps: they have no one form."""
    fields = sorted(descriptor.fields, key=lambda field: field.number)
    numbers = [field for field in fields if _is_number(field)]
    others = [
        (_NUMBER_AND_LENGTH.pack, field.number, field.name, _payload_of(field))
        for field in fields
        if field not in numbers
    ]
    encode_numbers = _encode_numbers(numbers)

    def encode(message: Any) -> bytes:
        scalars = encode_numbers(message)
        parts = [_LENGTH.pack(len(scalars)), scalars]
        for pack, number, name, payload_of in others:
            payload = payload_of(message, name)
            if payload is not None:
                parts += (pack(number, len(payload)), payload)
        return b"".join(parts)

    return encode


def _is_number(field: FieldDescriptor) -> bool:
    kind = field.cpp_type
    if kind in _FLOATS:
        raise TypeError(f"{field.full_name} is a float: nodes could round it differently")
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        raise TypeError(f"{field.full_name} is a map: its entries have no order")
    # One with presence (in a oneof, say) differs from an unset one even where it is 0.
    return not (field.is_repeated or field.has_presence or kind in _NOT_NUMBERS)


def _encode_numbers(fields: Sequence[FieldDescriptor]) -> Encode:
    if not fields:
        return lambda _: b""
    pack = struct.Struct("<" + "".join("q" if field.cpp_type in _SIGNED else "Q" for field in fields)).pack
    get = attrgetter(*(field.name for field in fields))
    if len(fields) == 1:
        return lambda message: pack(get(message)).rstrip(b"\0")
    return lambda message: pack(*get(message)).rstrip(b"\0")


def _payload_of(field: FieldDescriptor) -> Callable[[Any, str], bytes | None]:
    """How a field that is no plain number is encoded; None where it has no value."""
    encode_one = _encode_item(field)

    def repeated(message: Any, name: str) -> bytes | None:
        items = getattr(message, name)
        if not items:
            return None
        parts = [_LENGTH.pack(len(items))]
        for item in items:
            encoded = encode_one(item)
            parts += (_LENGTH.pack(len(encoded)), encoded)
        return b"".join(parts)

    def submessage(message: Any, name: str) -> bytes | None:
        return encode_one(getattr(message, name)) if message.HasField(name) else None

    def single(message: Any, name: str) -> bytes | None:
        value = getattr(message, name)
        is_set = message.HasField(name) if field.has_presence else bool(value)
        return encode_one(value) if is_set else None

    if field.is_repeated:
        return repeated
    return submessage if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE else single


def _encode_item(field: FieldDescriptor) -> Encode:
    if field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE:
        # Looked up when used: a message type may contain itself.
        message_type = field.message_type

        def nested(item: Any) -> bytes:
            return encoder(message_type)(item)

        return nested
    if field.type == FieldDescriptor.TYPE_BYTES:
        return bytes
    if field.type == FieldDescriptor.TYPE_STRING:
        return lambda item: item.encode()
    return lambda item: int(item).to_bytes(8, "little", signed=field.cpp_type in _SIGNED)
