"""Frames joined from encoded messages are what protobuf would have written."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from parley_proto.v1 import messaging_pb2 as pb
from parleyd.delivery.encoding import encode_message, messages_frame, serialize_frame
from parleyd.delivery.records import message
from parleyd.delivery.stored_source import StoredSource
from parleyd.machine.features.messages import MessageRecord
from tests.support.node import InProcessCluster

NUMBERS = st.integers(0, (1 << 63) - 1)
RECORDS = st.builds(
    MessageRecord,
    conversation_id=NUMBERS,
    id=NUMBERS,
    kind=st.integers(1, 5),
    sender_id=NUMBERS,
    body=st.text(max_size=300),
    sent_at_ms=NUMBERS,
    device_id=st.binary(max_size=16),
    send_number=NUMBERS,
    subjects=st.lists(NUMBERS, max_size=4).map(tuple),
    priority=st.integers(0, 1),
)


@given(records=st.lists(RECORDS, max_size=4), cursor=st.binary(max_size=200))
def test_a_joined_frame_is_the_frame_that_protobuf_would_write(records: list[MessageRecord], cursor: bytes) -> None:
    frame = serialize_frame(messages_frame([encode_message(record) for record in records], cursor))
    batch = pb.MessageBatch(messages=[message(record) for record in records], cursor=cursor)
    assert pb.ServerFrame.FromString(frame) == pb.ServerFrame(messages=batch)
    if cursor:
        assert frame == pb.ServerFrame(messages=batch).SerializeToString()


@given(st.lists(st.integers(0, 4_000), max_size=4))
def test_a_frame_may_be_acknowledged_as_late_as_each_of_its_messages(late_ms: list[int]) -> None:
    record = MessageRecord(1, 2, 1, 3, "x", 4, b"", 5)
    frame = messages_frame([encode_message(record, each) for each in late_ms], b"c")
    assert pb.ServerFrame.FromString(frame).messages.acknowledge_within_ms == min(late_ms, default=0)


@given(RECORDS)
def test_an_encoded_message_names_its_accounts(record: MessageRecord) -> None:
    encoded = encode_message(record)
    assert encoded.account_ids == (record.sender_id, *record.subjects)
    assert (encoded.id, encoded.conversation_id) == (record.id, record.conversation_id)


async def test_a_page_of_the_state_is_encoded_without_the_devices_own_messages() -> None:
    cluster = InProcessCluster()
    try:
        ann, ben = cluster.add_account("ann"), cluster.add_account("ben")
        stored = [cluster.store(ann, ben, str(number)) for number in range(5)]
        source = StoredSource(cluster.readers, ben.id, b"d" * 16)
        page = await source.page(stored[0].id, 3)
        assert [each.id for each in page.messages] == [each.id for each in stored[1:4]]
        assert (page.more, page.up_to) == (True, stored[3].id)
        frame = pb.ServerFrame.FromString(messages_frame(page.messages, b"c"))
        assert list(frame.messages.messages) == stored[1:4]
        own = StoredSource(cluster.readers, ann.id, stored[0].device_id)
        assert (await own.page(0, 10)).messages == []
        told = await source.directory({ben.id, 99}, {stored[0].conversation_id, 99})
        assert [(each.id, each.name) for each in told.accounts] == [(1, "ann"), (2, "ben")]
        assert [each.id for each in told.conversations] == [stored[0].conversation_id]
    finally:
        await cluster.stop()
