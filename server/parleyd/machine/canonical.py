"""Encodes protobuf messages for the state hash: one form, generated from the descriptor.

Protobuf's own bytes may differ between releases of the library, so they are never hashed. A message is encoded as its
length, then its scalar numbers in the order of their field numbers, eight bytes each, without the zeros at the end.
Then follows each string, submessage, repeated field and number with presence that is set, in the same order, after its
field number. A 0 is the end. Unset fields have no encoding, so a field that a later release adds changes nothing before
it is used, and its use belongs to a level.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from functools import cache
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor, OneofDescriptor
from google.protobuf.message import Message

# Appends the encoding of a value to a list of parts.
Write = Callable[[Any, list[bytes]], None]

_FLOATS = (FieldDescriptor.CPPTYPE_FLOAT, FieldDescriptor.CPPTYPE_DOUBLE)
_NOT_NUMBERS = (FieldDescriptor.CPPTYPE_STRING, FieldDescriptor.CPPTYPE_MESSAGE)
_SIGNED = (FieldDescriptor.CPPTYPE_INT32, FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_ENUM)
_U32 = struct.Struct("<I")
_END = _U32.pack(0)


def canonical(messages: Sequence[Message]) -> bytes:
    """Encode messages one after the other, after their count."""
    parts = [_U32.pack(len(messages))]
    for message in messages:
        writer(message.DESCRIPTOR)(message, parts)
    return b"".join(parts)


@cache
def writer(descriptor: Descriptor) -> Write:
    """Make the function that writes a message type. Raises TypeError for floats and maps, which have no unique form."""
    return _make(descriptor, {})


def _make(descriptor: Descriptor, making: dict[Descriptor, Write]) -> Write:
    """Make the writer of a type, or return that of `making`, because a message type may contain itself."""
    if descriptor in making:
        return making[descriptor]
    fields = sorted(descriptor.fields, key=lambda field: field.number)
    numbers = [field for field in fields if _is_number(field)]
    numbers_of = _numbers_of(numbers)
    others: list[Write] = []
    # These lengths are hashed very often.
    lengths = [_U32.pack(length) for length in range(8 * len(numbers) + 1)]

    def write(message: Any, parts: list[bytes]) -> None:
        scalars = numbers_of(message)
        parts += (lengths[len(scalars)], scalars)
        for write_field in others:
            write_field(message, parts)
        parts.append(_END)

    def write_numbers(message: Any, parts: list[bytes]) -> None:
        scalars = numbers_of(message)
        parts += (lengths[len(scalars)], scalars, _END)

    if len(fields) == len(numbers):
        return write_numbers
    making[descriptor] = write
    others += _writers_of_fields([field for field in fields if field not in numbers], making)
    return write


def _is_number(field: FieldDescriptor) -> bool:
    kind = field.cpp_type
    if kind in _FLOATS:
        raise TypeError(f"{field.full_name} is a float: nodes could round it differently")
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        raise TypeError(f"{field.full_name} is a map: its entries have no order")
    # A field with presence (in a oneof, for example) that is set differs from an unset one even if its value is 0.
    return not (field.is_repeated or field.has_presence or kind in _NOT_NUMBERS)


def _numbers_of(fields: Sequence[FieldDescriptor]) -> Callable[[Any], bytes]:
    if not fields:
        return lambda _: b""
    pack = struct.Struct("<" + "".join("q" if field.cpp_type in _SIGNED else "Q" for field in fields)).pack
    get = attrgetter(*(field.name for field in fields))
    if len(fields) == 1:
        return lambda message: pack(get(message)).rstrip(b"\0")
    return lambda message: pack(*get(message)).rstrip(b"\0")


def _writers_of_fields(fields: Sequence[FieldDescriptor], making: dict[Descriptor, Write]) -> list[Write]:
    """Make one writer for each field; adjacent fields of a oneof share one, because at most one is set."""
    writers: list[Write] = []
    place = 0
    while place < len(fields):
        group = fields[place].containing_oneof
        together = [field for field in fields if group is not None and field.containing_oneof == group]
        if len(together) > 1 and list(fields[place : place + len(together)]) == together:
            writers.append(_oneof(group, together, making))
            place += len(together)
        else:
            writers.append(_field(fields[place], making))
            place += 1
    return writers


def _oneof(group: OneofDescriptor | None, fields: Sequence[FieldDescriptor], making: dict[Descriptor, Write]) -> Write:
    assert group is not None
    group_name = group.name
    by_name = {field.name: (_U32.pack(field.number), _item(field, making)) for field in fields}

    def write(message: Any, parts: list[bytes]) -> None:
        name = message.WhichOneof(group_name)
        if name is not None:
            number, write_item = by_name[name]
            parts.append(number)
            write_item(getattr(message, name), parts)

    return write


def _field(field: FieldDescriptor, making: dict[Descriptor, Write]) -> Write:
    name, number, write_item = field.name, _U32.pack(field.number), _item(field, making)

    def write_repeated(message: Any, parts: list[bytes]) -> None:
        items = getattr(message, name)
        if items:
            parts += (number, _U32.pack(len(items)))
            for item in items:
                write_item(item, parts)

    def write_present(message: Any, parts: list[bytes]) -> None:
        if message.HasField(name):
            parts.append(number)
            write_item(getattr(message, name), parts)

    def write_nonempty(message: Any, parts: list[bytes]) -> None:
        value = getattr(message, name)
        if value:
            parts.append(number)
            write_item(value, parts)

    if field.is_repeated:
        return write_repeated
    return write_present if field.has_presence else write_nonempty


def _item(field: FieldDescriptor, making: dict[Descriptor, Write]) -> Write:
    """Make the writer of one value. Its encoding contains where it ends."""
    if field.message_type is not None:
        return _make(field.message_type, making)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _write_bytes
    if field.type == FieldDescriptor.TYPE_STRING:
        return _write_text
    return _write_signed if field.cpp_type in _SIGNED else _write_unsigned


def _write_bytes(item: bytes, parts: list[bytes]) -> None:
    parts += (_U32.pack(len(item)), item)


def _write_text(item: str, parts: list[bytes]) -> None:
    _write_bytes(item.encode(), parts)


def _write_signed(item: int, parts: list[bytes]) -> None:
    parts.append(item.to_bytes(8, "little", signed=True))


def _write_unsigned(item: int, parts: list[bytes]) -> None:
    parts.append(int(item).to_bytes(8, "little"))  # bool is included
