"""The bytes that are hashed: fixed for good, one per message, blind to fields that nobody has used yet.

What can go wrong: another release encodes the same result otherwise, so that all nodes seem to differ; two results
encode alike, so that a difference is missed; a field that a later release adds changes what older ones hashed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from parley_proto.v1 import model_pb2
from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.canonical import canonical, writer

FieldProto = descriptor_pb2.FieldDescriptorProto


def encode(message: Message) -> bytes:
    parts: list[bytes] = []
    writer(message.DESCRIPTOR)(message, parts)
    return b"".join(parts)


def types_of(descriptor: Descriptor) -> Iterator[Descriptor]:
    """The message type and all that it contains."""
    seen, waiting = set(), [descriptor]
    while waiting:
        one = waiting.pop()
        if one.full_name not in seen:
            seen.add(one.full_name)
            yield one
            waiting += [field.message_type for field in one.fields if field.message_type is not None]


# ---- golden bytes: these never change within a level

GOLDEN = [
    (pb.CommandResult(), "0000000000000000"),
    (pb.CommandResult(code=pb.RESULT_CODE_OK), "010000000100000000"),
    (pb.RegisterAccountResult(account_id=0x0102), "02000000020100000000"),
    (
        pb.CommandResult(code=pb.RESULT_CODE_OK, register_account=pb.RegisterAccountResult(account_id=7)),
        # code; field 2: its account id, its end; the end
        "0100000001 02000000 0100000007 00000000 00000000",
    ),
    (
        pb.CommandResult(
            code=pb.RESULT_CODE_GAP,
            send_messages=pb.SendMessagesResult(
                last_send_number=1, sends=[pb.StoredSendResult(number=3, code=pb.RESULT_CODE_GAP)]
            ),
        ),
        # code; field 4: last number, field 2: one send with 9 bytes of numbers; three ends
        "0100000019 04000000 0100000001 02000000 01000000 09000000 030000000000000019 00000000 00000000 00000000",
    ),
    (
        model_pb2.Send(number=1, account_name="bob", body="ä"),
        "0100000001 02000000 03000000 626f62 05000000 02000000 c3a4 00000000",
    ),
    (model_pb2.Send(account_id=0), "00000000 03000000 0000000000000000 00000000"),
]


@pytest.mark.parametrize(("message", "expected"), GOLDEN, ids=range(len(GOLDEN)))
def test_encoding_is_that_of_level_1(message: Message, expected: str) -> None:
    assert encode(message) == bytes.fromhex(expected)


def test_several_messages_stand_behind_their_count() -> None:
    both = [pb.CommandResult(code=pb.RESULT_CODE_OK), pb.CommandResult()]
    assert canonical(both) == bytes.fromhex("02000000 0100000001 00000000 00000000 00000000")
    assert canonical([]) == bytes(4)
    assert canonical(both) != canonical(both[::-1])


# ---- every result has an encoding


def test_every_message_type_of_results_has_an_encoding() -> None:
    found = list(types_of(pb.CommandResult.DESCRIPTOR))
    assert len(found) >= 7
    for descriptor in found:
        assert encode(message_factory.GetMessageClass(descriptor)()) == bytes(8)


def test_every_field_of_every_result_is_seen() -> None:
    """Each field alone, set to something, gives bytes of its own."""
    for descriptor in types_of(pb.CommandResult.DESCRIPTOR):
        seen = {encode(message_factory.GetMessageClass(descriptor)())}
        for field in descriptor.fields:
            message = message_factory.GetMessageClass(descriptor)()
            if field.message_type is not None:
                item = message_factory.GetMessageClass(field.message_type)()
                getattr(message, field.name).append(item) if field.is_repeated else getattr(
                    message, field.name
                ).SetInParent()
            elif field.is_repeated:
                getattr(message, field.name).append(1)
            else:
                setattr(message, field.name, 1)
            seen.add(encode(message))
        assert len(seen) == 1 + len(descriptor.fields), descriptor.full_name


def test_results_have_no_texts() -> None:
    """Texts may be reworded between releases; what is hashed may not."""
    for descriptor in types_of(pb.CommandResult.DESCRIPTOR):
        for field in descriptor.fields:
            assert field.cpp_type != FieldDescriptor.CPPTYPE_STRING, field.full_name


# ---- message types made up for a test


def made(*fields: FieldProto, nested: list[descriptor_pb2.DescriptorProto] | None = None) -> type[Message]:
    """A proto3 message type of these fields; in a pool of its own, so that one name may have several forms."""
    file = descriptor_pb2.FileDescriptorProto(name="t.proto", package="t", syntax="proto3")
    message = file.message_type.add(name="T")
    message.field.extend(fields)
    message.nested_type.extend(nested or [])
    if any(field.HasField("oneof_index") for field in fields):
        message.oneof_decl.add(name="which")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("t.T"))


def field(name: str, number: int, kind: int, **rest: Any) -> FieldProto:
    return FieldProto(
        name=name,
        number=number,
        type=kind,  # type: ignore[arg-type]
        label=FieldProto.LABEL_REPEATED if rest.pop("repeated", False) else FieldProto.LABEL_OPTIONAL,
        **rest,
    )


OLD_FIELDS = (
    field("a", 1, FieldProto.TYPE_UINT64),
    field("b", 3, FieldProto.TYPE_STRING),
    field("c", 5, FieldProto.TYPE_INT64),
)


@pytest.mark.parametrize(
    "added",
    [
        field("x", 6, FieldProto.TYPE_UINT64),
        field("x", 7, FieldProto.TYPE_STRING),
        field("x", 8, FieldProto.TYPE_BYTES),
        field("x", 9, FieldProto.TYPE_UINT64, repeated=True),
        field("x", 10, FieldProto.TYPE_MESSAGE, type_name=".t.T"),
        field("x", 11, FieldProto.TYPE_BOOL),
        field("x", 12, FieldProto.TYPE_SINT32),
    ],
    ids=lambda one: str(one.number),
)
def test_field_added_later_changes_nothing_until_it_is_used(added: FieldProto) -> None:
    old, new = made(*OLD_FIELDS), made(*OLD_FIELDS, added)
    for values in ({}, {"a": 5}, {"b": "text"}, {"c": -1}, {"a": 1 << 63, "b": "ä", "c": 256}):
        assert encode(old(**values)) == encode(new(**values))
    with_nested = field("inner", 4, FieldProto.TYPE_MESSAGE, type_name=".t.T")
    old, new = made(*OLD_FIELDS, with_nested), made(*OLD_FIELDS, with_nested, added)
    assert encode(old(inner=old(a=1))) == encode(new(inner=new(a=1)))


def test_field_used_by_a_later_release_is_seen() -> None:
    new: Any = made(*OLD_FIELDS, field("x", 6, FieldProto.TYPE_UINT64))
    assert encode(new(a=5, x=1)) != encode(new(a=5))


@pytest.mark.parametrize("kind", [FieldProto.TYPE_FLOAT, FieldProto.TYPE_DOUBLE])
@pytest.mark.parametrize("repeated", [False, True])
def test_float_has_no_encoding(kind: int, repeated: bool) -> None:
    with pytest.raises(TypeError, match="float"):
        writer(made(field("x", 1, kind, repeated=repeated)).DESCRIPTOR)


def test_map_has_no_encoding() -> None:
    entry = descriptor_pb2.DescriptorProto(name="XEntry")
    entry.field.extend([field("key", 1, FieldProto.TYPE_STRING), field("value", 2, FieldProto.TYPE_STRING)])
    entry.options.map_entry = True
    mapped = field("x", 1, FieldProto.TYPE_MESSAGE, repeated=True, type_name=".t.T.XEntry")
    with pytest.raises(TypeError, match="map"):
        writer(made(mapped, nested=[entry]).DESCRIPTOR)


def test_zero_in_a_oneof_is_not_the_same_as_nothing_or_as_its_neighbour() -> None:
    which = [field(name, number, FieldProto.TYPE_UINT64, oneof_index=0) for number, name in enumerate("xyz", start=1)]
    kind: Any = made(*which)
    assert len({encode(kind()), encode(kind(x=0)), encode(kind(y=0)), encode(kind(z=0)), encode(kind(x=1))}) == 5


# ---- any two messages


def messages_of(descriptor: Any, depth: int = 3) -> st.SearchStrategy[Any]:
    """Any message of a type, with small values that are often equal."""
    kind = message_factory.GetMessageClass(descriptor)

    def value_of(one: FieldDescriptor) -> st.SearchStrategy[Any]:
        if one.message_type is not None:
            return messages_of(one.message_type, depth - 1) if depth else st.nothing()
        if one.enum_type is not None:
            return st.sampled_from([0, 1, 25])
        if one.type == FieldDescriptor.TYPE_STRING:
            return st.sampled_from(["", "a", "ab", "b\x00", "ä"])
        if one.type == FieldDescriptor.TYPE_BYTES:
            return st.sampled_from([b"", b"\x00", b"\x01", b"\x01\x00"])
        if one.type == FieldDescriptor.TYPE_BOOL:
            return st.booleans()
        low = -(2**31) if one.type == FieldDescriptor.TYPE_INT64 else 0
        return st.sampled_from([low, 0, 1, 2, 255, 256, 1 << 31])

    values: dict[str, st.SearchStrategy[Any]] = {}
    for one in descriptor.fields:
        strategy = value_of(one)
        if one.is_repeated:
            strategy = st.lists(strategy, max_size=2) if depth or one.message_type is None else st.just([])
        if not strategy.is_empty:
            values[one.name] = strategy

    def build(given_values: dict[str, Any]) -> Any:
        return kind(**given_values)

    return st.fixed_dictionaries({}, optional=values).map(build)


@pytest.mark.parametrize("kind", [pb.CommandResult, pb.SendMessagesResult, model_pb2.Send, model_pb2.Message])
def test_two_messages_encode_alike_only_if_they_are_equal(kind: type[Message]) -> None:
    strategy = messages_of(kind.DESCRIPTOR)

    @settings(max_examples=150, deadline=None)
    @given(strategy, strategy)
    def check(one: Message, other: Message) -> None:
        assert (encode(one) == encode(other)) == (one == other)
        assert encode(one) == encode(kind.FromString(one.SerializeToString()))

    check()


@settings(max_examples=60, deadline=None)
@given(st.lists(messages_of(pb.StoredSendResult.DESCRIPTOR), max_size=3), st.data())
def test_lists_of_messages_encode_alike_only_if_they_are_equal(one: list[Message], data: st.DataObject) -> None:
    other = data.draw(st.lists(st.sampled_from([*one, pb.StoredSendResult()]), max_size=3))
    assert (canonical(one) == canonical(other)) == (one == other)
