"""Strategies for protobuf messages: any fields, with values near the bounds, and their bytes, damaged or not."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

Values = Mapping[str, st.SearchStrategy[Any]]
NO_VALUES: Values = MappingProxyType({})

EDGES = [0, 1, 2, 3, 7, 255, 256, 1024, 65_536, (1 << 31) - 1, 1 << 32, 1 << 48, (1 << 62) + 1, (1 << 63) - 1]
WIDTHS = {
    FieldDescriptor.TYPE_UINT32: (0, (1 << 32) - 1),
    FieldDescriptor.TYPE_INT32: (-(1 << 31), (1 << 31) - 1),
    FieldDescriptor.TYPE_UINT64: (0, (1 << 64) - 1),
    FieldDescriptor.TYPE_INT64: (-(1 << 63), (1 << 63) - 1),
}
TEXTS = st.sampled_from(["", "a", "x" * 65, "x" * 65_537, "a\0b", "\u202eabc", "Z\u0351" * 50, "\U0010ffff" * 9]) | (
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)
BINARY = st.sampled_from([b"", bytes(16), bytes(15), bytes(32), b"\xff" * 70_000]) | st.binary(max_size=40)
MAX_DEPTH = 4


def damaged(sound: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Bytes of real messages, with one of them changed or the rest gone; sometimes any bytes."""

    def cut(content: bytes, at: int, byte: int) -> bytes:
        place = at % max(len(content), 1)
        return content[:place] if byte > 255 else content[:place] + bytes([byte]) + content[place + 1 :]

    return st.binary(max_size=200) | st.builds(cut, sound, st.integers(0, 1 << 16), st.integers(0, 300))


def encoded(descriptor: Descriptor, values: Values = NO_VALUES) -> st.SearchStrategy[bytes]:
    """Bytes of messages of a type; one in four is damaged. `values` are strategies for fields by their names."""
    sound = messages(descriptor, values).map(lambda message: bytes(message.SerializeToString()))
    return st.one_of(sound, sound, sound, damaged(sound))


@st.composite
def messages(draw: st.DrawFn, descriptor: Descriptor, values: Values = NO_VALUES, depth: int = 0) -> Message:
    """A message with some of its fields; of a oneof, the last one that is drawn counts."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        is_present = draw(st.integers(0, 9)) < (8 if field.name in values else 5)
        if not is_present or (field.message_type is not None and depth >= MAX_DEPTH):
            continue
        one = _value(field, values, depth)
        if field.is_repeated:
            drawn = draw(st.lists(one, max_size=3))
            target = getattr(message, field.name)
            for each in drawn:
                target.append(each)
        elif field.message_type is not None:
            getattr(message, field.name).CopyFrom(draw(one))
        else:
            setattr(message, field.name, draw(one))
    return message


def _value(field: FieldDescriptor, values: Values, depth: int) -> st.SearchStrategy[Any]:
    if field.name in values:
        return values[field.name]
    if field.message_type is not None:
        return messages(field.message_type, values, depth + 1)
    if field.enum_type is not None:
        return st.sampled_from([*field.enum_type.values_by_number, 99])
    if field.type == FieldDescriptor.TYPE_STRING:
        return TEXTS
    if field.type == FieldDescriptor.TYPE_BYTES:
        return BINARY
    if field.type == FieldDescriptor.TYPE_BOOL:
        return st.booleans()
    least, most = WIDTHS[field.type]
    return st.integers(0, 9) | st.sampled_from([edge for edge in EDGES if edge <= most] + [least, most])
