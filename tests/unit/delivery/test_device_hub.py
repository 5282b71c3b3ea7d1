"""Who is told what: members of direct conversations and of channels, each message encoded once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from parley_proto.v1 import messaging_pb2 as pb
from parley_proto.v1 import model_pb2
from parleyd.delivery import device_hub, encoding, receipt_counts
from parleyd.delivery.device_hub import ACKNOWLEDGE_LATE_MS, MAX_COPIES, DeviceHub
from parleyd.delivery.device_stream import CloseReason, DeviceStream, Page
from parleyd.delivery.encoding import EncodedMessage, serialize_frame
from parleyd.machine.features.accounts import AccountChanged, AccountDeleted
from parleyd.machine.features.channel_counts import SenderCounts
from parleyd.machine.features.channel_members import MembersJoined, MembersLeft
from parleyd.machine.features.channels import ChannelChanged
from parleyd.machine.features.conversations import CHANNEL, DIRECT, ConversationCreated
from parleyd.machine.features.devices import DeviceClaimed
from parleyd.machine.features.memberships import EVERYONE_ID
from parleyd.machine.features.messages import MessageRecord, MessageStored
from parleyd.machine.features.receipts import ReceiptMoved
from parleyd.machine.features.sends import URGENT
from parleyd.machine.features.sessions import SessionsClosed
from tests.support.budgets import device_share, free_place

ANN, BEN, EVE = 1, 2, 3


class Nothing:
    """A source in which nothing is stored."""

    async def page(self, after_id: int, limit: int) -> Page:
        return Page([], after_id, more=False)

    async def directory(self, account_ids: set[int], conversation_ids: set[int]) -> pb.Directory:
        return pb.Directory()


async def joined(hub: DeviceHub, account_id: int, session_id: int, *, channels: Sequence[int] = ()) -> DeviceStream:
    """A device that has caught up."""
    device_id = session_id.to_bytes(16, "big")
    stream = DeviceStream(account_id, device_id, 0, Nothing(), generation=0, live=device_share(), place=free_place())
    hub.join(session_id, stream)
    hub.add_channels(stream, channels)
    await stream.next_frames()
    return stream


async def frames(stream: DeviceStream) -> list[pb.ServerFrame]:
    """What waits for the device; nothing where nothing does."""
    waiting = asyncio.ensure_future(stream.next_frames())
    for _ in range(10):
        await asyncio.sleep(0)
    if not waiting.done():
        waiting.cancel()
        return []
    return [pb.ServerFrame.FromString(serialize_frame(frame)) for frame in waiting.result()]


async def bodies(stream: DeviceStream) -> list[str]:
    return [message.body for frame in await frames(stream) for message in frame.messages.messages]


def stored(
    message_id: int, body: str, *, conversation_id: int = 7, pair: tuple[int, ...] = (ANN, BEN)
) -> MessageStored:
    return MessageStored(MessageRecord(conversation_id, message_id, 1, ANN, body, 0, b"", 0), pair)


async def test_a_message_is_encoded_once_for_all_who_are_told_it(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[EncodedMessage] = []

    def counted(record: MessageRecord, acknowledge_within_ms: int) -> EncodedMessage:
        encoded.append(encoding.encode_message(record, acknowledge_within_ms))
        return encoded[-1]

    monkeypatch.setattr(device_hub, "encode_message", counted)
    hub = DeviceHub()
    ann, ben = await joined(hub, ANN, 1), await joined(hub, BEN, 2)
    hub.publish([stored(1, "one"), stored(2, "two")])
    for_ann, for_ben = [
        [frame for frame in await stream.next_frames() if isinstance(frame, bytes)] for stream in (ann, ben)
    ]
    assert for_ann == for_ben
    assert [message.id for message in encoded] == [1, 2]
    [frame] = for_ann
    assert b"".join(message.entry for message in encoded) in frame
    hub.publish([stored(3, "nobody is here for it", pair=(EVE,))])
    assert len(encoded) == 2, "what nobody here is told is not encoded"


async def test_a_channels_message_reaches_its_members_here_and_nobody_else() -> None:
    hub = DeviceHub()
    ann = await joined(hub, ANN, 1, channels=[7, 8])
    ben = await joined(hub, BEN, 2, channels=[7])
    eve = await joined(hub, EVE, 3)
    hub.publish([stored(1, "to both", pair=()), stored(2, "to one", conversation_id=8, pair=())])
    assert await bodies(ann) == ["to both", "to one"]
    assert await bodies(ben) == ["to both"]
    assert await bodies(eve) == []


async def test_only_a_normal_message_of_a_large_channel_may_be_acknowledged_late() -> None:
    hub = DeviceHub()
    ben = await joined(hub, BEN, 2, channels=[7])
    normal = MessageRecord(7, 1, 1, ANN, "x", 0, b"", 0)
    urgent = normal._replace(id=2, priority=URGENT)
    for effect, within_ms in (
        (MessageStored(normal, (), is_large=True), ACKNOWLEDGE_LATE_MS),
        (MessageStored(urgent, (), is_large=True), 0),
        (MessageStored(normal._replace(id=3), ()), 0),
        (stored(4, "direct"), 0),
    ):
        hub.publish([effect])
        frame = (await frames(ben))[-1]
        assert frame.messages.acknowledge_within_ms == within_ms


async def test_a_channel_that_begins_while_its_members_are_connected_is_kept_current() -> None:
    hub = DeviceHub()
    ann, ben, eve = await joined(hub, ANN, 1), await joined(hub, BEN, 2), await joined(hub, EVE, 3)
    hub.publish([ConversationCreated(7, CHANNEL, (ANN, BEN)), stored(1, "Ward A", pair=())])
    for stream in (ann, ben):
        assert [frame.WhichOneof("frame") for frame in await frames(stream)] == ["directory", "messages"]
    assert await frames(eve) == []
    # A load of the channels that began before must not take away what the effect added.
    hub.add_channels(ann, [])
    hub.publish([stored(2, "still", pair=())])
    assert await bodies(ann) == ["still"]


async def test_who_joins_receives_and_who_leaves_receives_nothing_after_the_row_that_says_so() -> None:
    hub = DeviceHub()
    ann, ben = await joined(hub, ANN, 1, channels=[7]), await joined(hub, BEN, 2)
    hub.publish([MembersJoined(7, (BEN,)), stored(1, "ben joined", pair=()), ChannelChanged(7)])
    assert await bodies(ben) == ["ben joined"]
    hub.publish([stored(2, "ben left", pair=()), MembersLeft(7, (BEN,)), ChannelChanged(7)])
    hub.publish([stored(3, "without ben", pair=())])
    assert await bodies(ben) == ["ben left"]
    assert await bodies(ann) == ["ben joined", "ben left", "without ben"]
    assert hub._channel_members == {7: {ANN}}


async def test_a_load_of_channels_that_is_older_than_a_leave_does_not_undo_it() -> None:
    hub = DeviceHub()
    ben = DeviceStream(BEN, b"b" * 16, 0, Nothing(), generation=0, live=device_share(), place=free_place())
    hub.join(2, ben)
    hub.publish([MembersLeft(7, (BEN,))])
    hub.add_channels(ben, [7, 8])
    await ben.next_frames()
    hub.publish([stored(1, "not for ben", pair=())])
    assert await bodies(ben) == []
    assert hub._channel_members == {8: {BEN}}
    hub.leave(ben)
    assert not hub._left_meanwhile


async def test_what_members_see_of_a_channel_is_sent_to_them_again_when_it_changed() -> None:
    hub = DeviceHub()
    ann, ben = await joined(hub, ANN, 1, channels=[7]), await joined(hub, BEN, 2)
    hub.publish([stored(1, "x", pair=())])
    await frames(ann)
    hub.publish([ChannelChanged(7)])
    assert [frame.WhichOneof("frame") for frame in await frames(ann)] == ["directory"]
    hub.publish([ChannelChanged(7), ChannelChanged(7)])
    assert [frame.WhichOneof("frame") for frame in await frames(ann)] == ["directory"], "once for both"
    assert await frames(ben) == []


async def test_a_state_that_was_replaced_leaves_no_membership_behind() -> None:
    hub = DeviceHub()
    slow, other = await joined(hub, ANN, 1, channels=[7]), await joined(hub, ANN, 2, channels=[7])
    late = DeviceStream(ANN, b"l" * 16, 0, Nothing(), generation=0, live=device_share(), place=free_place())
    hub.join(3, late)
    hub.close_all(CloseReason.REPLACED)
    hub.add_channels(late, [7])
    hub.leave(other)
    again = await joined(hub, ANN, 4)
    hub.publish([stored(1, "not for ann any more", pair=())])
    assert await bodies(again) == []
    for stream in (slow, late, again):
        hub.leave(stream)
    assert not hub._streams


async def test_marks_of_who_left_are_not_sent_after_the_row_that_says_so() -> None:
    hub = DeviceHub()
    ann = await joined(hub, ANN, 1, channels=[7])
    hub.publish([ReceiptMoved(7, BEN, 1, 1, ()), stored(2, "ben left", pair=()), MembersLeft(7, (BEN,))])
    kinds = [frame.WhichOneof("frame") for frame in await frames(ann)]
    assert "receipts" not in kinds
    assert "messages" in kinds


async def test_a_direct_conversation_is_told_to_its_two_sides() -> None:
    hub = DeviceHub()
    ben, eve = await joined(hub, BEN, 2), await joined(hub, EVE, 3)
    hub.publish([ConversationCreated(7, DIRECT, (ANN, BEN))])
    assert [frame.WhichOneof("frame") for frame in await frames(ben)] == ["directory"]
    assert await frames(eve) == []
    hub.publish([stored(1, "not by the hub's channels", pair=())])
    assert await bodies(ben) == []


async def test_what_a_channel_holds_is_forgotten_with_the_last_device_of_an_account() -> None:
    hub = DeviceHub()
    one, other = await joined(hub, ANN, 1, channels=[7]), await joined(hub, ANN, 2)
    hub.leave(one)
    hub.publish([stored(1, "to the other device", pair=())])
    assert await bodies(other) == ["to the other device"]
    hub.leave(other)
    assert not hub._channel_members
    assert not hub._channels
    hub.add_channels(other, [7])
    assert not hub._channels, "a load that ends after the stream has left adds nothing"


async def test_marks_reach_the_other_members_only() -> None:
    hub = DeviceHub()
    ann = await joined(hub, ANN, 1, channels=[7])
    ben = await joined(hub, BEN, 2, channels=[7])
    eve = await joined(hub, EVE, 3)
    hub.publish([ReceiptMoved(7, BEN, 5, 4, ()), ReceiptMoved(9, ANN, 3, 2, (ANN, EVE))])
    [frame] = [frame for frame in await frames(ann) if frame.HasField("receipts")]
    assert list(frame.receipts.receipts) == [
        pb.Receipt(conversation_id=7, account_id=BEN, delivered_up_to=5, read_up_to=4)
    ]
    assert await frames(ben) == []
    [frame] = [frame for frame in await frames(eve) if frame.HasField("receipts")]
    assert [receipt.account_id for receipt in frame.receipts.receipts] == [ANN]


async def test_a_changed_account_is_told_again_to_those_who_were_told() -> None:
    hub = DeviceHub()
    ann, eve = await joined(hub, ANN, 1), await joined(hub, EVE, 3)
    hub.publish([stored(1, "hello")])
    await frames(ann)
    hub.publish([AccountChanged(ANN)])
    assert [frame.WhichOneof("frame") for frame in await frames(ann)] == ["directory"]
    assert await frames(eve) == []


async def test_a_changed_account_visits_only_the_streams_that_sent_it(monkeypatch: pytest.MonkeyPatch) -> None:
    visited: list[DeviceStream] = []
    visit = DeviceStream.account_changed

    def counted(stream: DeviceStream, account_id: int) -> None:
        visited.append(stream)
        visit(stream, account_id)

    monkeypatch.setattr(DeviceStream, "account_changed", counted)
    hub = DeviceHub()
    others = [await joined(hub, account_id, account_id) for account_id in range(100, 200)]
    ann = await joined(hub, ANN, 1)
    hub.publish([stored(1, "hello")])
    await frames(ann)
    for _ in range(10):
        hub.publish([AccountChanged(ANN)])
    assert visited == [ann] * 10
    hub.leave(ann)
    for stream in others:
        hub.leave(stream)
    hub.publish([AccountChanged(ANN)])
    assert visited == [ann] * 10
    assert not hub._watchers.watched, "nothing is kept of streams that have left"


async def test_a_change_while_a_stream_reads_names_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account is not known to be told yet, and what is being read may be older than the change."""
    hub = DeviceHub()
    ann = await joined(hub, ANN, 1)
    is_reading, may_go_on = asyncio.Event(), asyncio.Event()

    async def directory(account_ids: set[int], conversation_ids: set[int]) -> pb.Directory:
        is_reading.set()
        await may_go_on.wait()
        return pb.Directory(accounts=[model_pb2.AccountInfo(id=EVE, name="eve")])

    monkeypatch.setattr(ann._source, "directory", directory)
    hub.publish([stored(1, "hello")])
    reading = asyncio.ensure_future(ann.next_frames())
    await is_reading.wait()
    hub.publish([AccountChanged(EVE)])
    may_go_on.set()
    await reading
    assert [frame.WhichOneof("frame") for frame in await frames(ann)] == ["directory"]


async def test_streams_end_with_their_session_their_account_and_the_node() -> None:
    hub = DeviceHub()
    one, two = await joined(hub, ANN, 1), await joined(hub, ANN, 2)
    ben = await joined(hub, BEN, 3)
    hub.publish([SessionsClosed(ANN, (1,))])
    assert (one.closed.done(), two.closed.done()) == (True, False)
    hub.publish([AccountDeleted(ANN)])
    assert two.closed.result() is CloseReason.SIGNED_OUT
    again = DeviceStream(BEN, ben.device_id, 0, Nothing(), generation=0, live=device_share(), place=free_place())
    hub.join(4, again)
    assert ben.closed.result() is CloseReason.TAKEN_OVER
    hub.shut(CloseReason.STOPPING)
    assert again.closed.result() is CloseReason.STOPPING
    late = DeviceStream(EVE, bytes(16), 0, Nothing(), generation=0, live=device_share(), place=free_place())
    hub.join(5, late)
    assert late.closed.result() is CloseReason.STOPPING


def copy_of_a_device(hub: DeviceHub, nonce: bytes) -> DeviceStream:
    """A stream of one device of ann, opened by a copy of its files with this claim."""
    stream = DeviceStream(
        ANN, bytes(16), 0, Nothing(), generation=0, live=device_share(), place=free_place(), claim=nonce
    )
    hub.join(1, stream)
    return stream


async def test_copies_of_a_device_read_beside_each_other_and_a_new_stream_replaces_that_of_its_own_copy() -> None:
    hub = DeviceHub()
    one, other = copy_of_a_device(hub, b"one"), copy_of_a_device(hub, b"other")
    again = copy_of_a_device(hub, b"one")
    assert (await one.closed, other.closed.done(), again.closed.done()) == (CloseReason.TAKEN_OVER, False, False)


async def test_a_device_has_a_bounded_number_of_streams_whatever_its_claims() -> None:
    hub = DeviceHub()
    streams = [copy_of_a_device(hub, bytes([number])) for number in range(10)]
    assert [stream.closed.done() for stream in streams] == [True] * (10 - MAX_COPIES) + [False] * MAX_COPIES


async def test_a_new_claim_ends_the_streams_of_other_copies_of_that_device_alone() -> None:
    hub = DeviceHub()
    older, newer = copy_of_a_device(hub, b"older"), copy_of_a_device(hub, b"newer")
    elsewhere = await joined(hub, ANN, 2)
    hub.publish([DeviceClaimed(ANN, bytes(16), b"newer")])
    assert await older.closed is CloseReason.SUPERSEDED
    assert not newer.closed.done()
    assert not elsewhere.closed.done()


class Observer:
    """Counts the devices it hears of."""

    def __init__(self) -> None:
        self.devices: list[int] = []
        self.away: list[tuple[int, bool]] = []
        self.gone_away: list[bool] = []

    def client_connected(self, account_id: int) -> None:
        self.devices.append(account_id)

    def client_away(self, account_id: int, *, away: bool) -> None:
        self.away.append((account_id, away))

    def client_gone(self, account_id: int, *, away: bool) -> None:
        self.devices.remove(account_id)
        self.gone_away.append(away)


async def test_an_observer_hears_once_that_a_device_is_away_and_what_it_was_when_it_went() -> None:
    observer = Observer()
    hub = DeviceHub(observer)
    one, other = await joined(hub, ANN, 1), await joined(hub, ANN, 2)
    for away in (False, True, True, False, True):
        hub.set_away(one, away=away)
    assert observer.away == [(ANN, True), (ANN, False), (ANN, True)]
    hub.leave(one)
    hub.leave(other)
    assert observer.gone_away == [True, False]
    hub.set_away(one, away=True)
    assert len(observer.away) == 3, "it is gone"


async def test_an_observer_hears_nothing_of_a_stream_that_shows_no_presence(monkeypatch: pytest.MonkeyPatch) -> None:
    observer = Observer()
    hub = DeviceHub(observer)
    monkeypatch.setattr(DeviceStream, "shows_presence", False)
    hub.leave(await joined(hub, ANN, 1))
    assert observer.devices == []


async def test_an_observer_hears_of_each_device_once_also_when_one_replaces_another() -> None:
    observer = Observer()
    hub = DeviceHub(observer)
    first = await joined(hub, ANN, 1)
    second = await joined(hub, ANN, 1)
    assert observer.devices == [ANN, ANN], "the older one ends, and is there until it has left"
    hub.leave(first)
    hub.leave(first)
    assert observer.devices == [ANN]
    hub.leave(second)
    assert observer.devices == []


async def test_a_message_to_everyone_reaches_all_accounts_connected_here_and_their_marks_nobody() -> None:
    hub = DeviceHub()
    ann, ben, bens_other = await joined(hub, ANN, 1), await joined(hub, BEN, 2), await joined(hub, BEN, 3)
    record = MessageRecord(EVERYONE_ID, 5, 1, ANN, "fire drill", 0, (1).to_bytes(16, "big"), 1)
    hub.publish([MessageStored(record, ())])
    assert [await bodies(one) for one in (ann, ben, bens_other)] == [[], ["fire drill"], ["fire drill"]]
    hub.publish([ReceiptMoved(EVERYONE_ID, BEN, 5, 5, ())])
    assert [await frames(one) for one in (ann, ben, bens_other)] == [[], [], []]


def sent(message_id: int, sender_id: int = ANN, *, channel: int = 7, is_large: bool = True) -> MessageStored:
    """A message in a channel, from the only device of its sender."""
    device_id = sender_id.to_bytes(16, "big")
    return MessageStored(MessageRecord(channel, message_id, 1, sender_id, "x", 0, device_id, 1), (), is_large)


def large(account_id: int, up_to: int, *, channel: int = 7) -> ReceiptMoved:
    return ReceiptMoved(channel, account_id, up_to, up_to, (), is_large=True)


def counted(message_id: int, delivered: int, read: int, *, sender_id: int = ANN, others: int = 99) -> SenderCounts:
    return SenderCounts(7, sender_id, message_id, others, delivered, read, 3, 2, 0)


async def told(stream: DeviceStream) -> list[tuple[int, int, int]]:
    """The counts that wait for a device: message, delivered, read. No mark comes with them."""
    batches = [frame.receipts for frame in await frames(stream)]
    assert not [one for batch in batches for one in batch.receipts]
    return [(one.message_id, one.delivered, one.read) for batch in batches for one in batch.counts]


async def test_marks_of_a_large_channel_reach_nobody_and_its_senders_are_told_counts() -> None:
    hub = DeviceHub()
    ann, ben = await joined(hub, ANN, 1, channels=[7]), await joined(hub, BEN, 2, channels=[7])
    hub.publish([sent(5), large(BEN, 5), large(EVE, 5)])
    assert await told(ann) == await told(ben) == []
    assert hub.receipt_counts.take(10) == [(7, {ANN: 5})]
    hub.offer_counts([counted(5, 40, 7)])
    assert await told(ann) == [(5, 40, 7)]
    assert await told(ben) == []
    hub.offer_counts([counted(5, 40, 7)])
    assert await told(ann) == [], "it is no news"
    hub.offer_counts([counted(5, 41, 7), counted(5, 42, 8)])
    assert await told(ann) == [(5, 42, 8)], "the newest counts replace older ones"


async def test_a_channel_is_counted_only_while_a_sender_that_is_connected_here_waits_for_it() -> None:
    hub = DeviceHub()
    ann = await joined(hub, ANN, 1, channels=[7])
    hub.publish([large(BEN, 4), sent(5, EVE), large(BEN, 5)])
    assert hub.receipt_counts.take(10) == [], "ann has sent nothing, and eve is not connected here"
    hub.publish([sent(6), large(BEN, 6)])
    assert hub.receipt_counts.take(10) == [(7, {ANN: 6})]
    hub.offer_counts([counted(6, 99, 99)])
    assert await told(ann) == [(6, 99, 99)]
    hub.publish([large(BEN, 7)])
    assert hub.receipt_counts.take(10) == [], "all have read it"
    hub.publish([sent(8), large(BEN, 8)])
    hub.leave(ann)
    assert hub.receipt_counts.take(10) == []
    assert not hub.receipt_counts._newest
    assert not hub.receipt_counts._channels
    assert not hub.receipt_counts._told
    assert not hub.receipt_counts._senders


async def test_counts_of_an_older_message_do_not_end_the_wait_for_a_newer_one() -> None:
    hub = DeviceHub()
    await joined(hub, ANN, 1, channels=[7])
    hub.publish([sent(5), large(BEN, 5)])
    hub.receipt_counts.take(10)
    hub.publish([sent(6)])
    hub.offer_counts([counted(5, 99, 99)])
    hub.publish([large(BEN, 6)])
    assert hub.receipt_counts.take(10) == [(7, {ANN: 6})]


async def test_who_leaves_a_large_channel_changes_its_counts() -> None:
    hub = DeviceHub()
    await joined(hub, ANN, 1, channels=[7])
    hub.publish([sent(5), MembersLeft(7, (BEN,))])
    assert hub.receipt_counts.take(10) == [(7, {ANN: 5})]


async def test_a_device_that_connects_is_told_again_how_far_its_messages_have_come() -> None:
    hub = DeviceHub()
    ann = await joined(hub, ANN, 1, channels=[7])
    hub.publish([sent(5), large(BEN, 5)])
    hub.receipt_counts.take(10)
    hub.offer_counts([counted(5, 40, 7)])
    await told(ann)
    hub.receipt_counts.connected(ANN, {7: 4, 8: 2})
    assert hub.receipt_counts.take(10) == [(7, {ANN: 5}), (8, {ANN: 2})]
    hub.offer_counts([counted(5, 40, 7)])
    assert await told(ann) == [(5, 40, 7)]


async def test_channels_are_counted_in_turn_and_the_senders_of_a_node_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hub = DeviceHub()
    await joined(hub, ANN, 1, channels=[7, 8, 9])
    hub.publish([sent(1, channel=7), sent(2, channel=8), sent(3, channel=9)])
    hub.publish([large(BEN, 3, channel=channel) for channel in (9, 7, 8, 7)])
    assert hub.receipt_counts.take(2) == [(9, {ANN: 3}), (7, {ANN: 1})]
    assert hub.receipt_counts.take(2) == [(8, {ANN: 2})]
    assert hub.receipt_counts.take(2) == []
    monkeypatch.setattr(receipt_counts, "MAX_SENDERS", 3)
    hub.publish([sent(4, channel=10), large(BEN, 4, channel=10), sent(5, channel=9), large(BEN, 5, channel=9)])
    assert hub.receipt_counts.take(2) == [(9, {ANN: 5})], "one beyond the bound is told nothing, and may ask"


async def test_senders_in_small_channels_leave_room_for_those_in_large_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receipt_counts, "MAX_SENDERS", 4)
    hub = DeviceHub()
    await joined(hub, ANN, 1, channels=[1, 2, 3, 7])
    hub.publish([sent(number, channel=number, is_large=False) for number in (1, 2, 3)])
    hub.publish([sent(4), large(BEN, 4)])
    assert hub.receipt_counts.take(10) == [(7, {ANN: 4})]
    hub.publish([sent(5, channel=8), sent(6, channel=9), large(BEN, 5, channel=8), large(BEN, 6, channel=9)])
    assert hub.receipt_counts.take(10) == [(8, {ANN: 5})], "one beyond the bound is told nothing"


async def test_a_message_is_counted_also_if_its_channel_has_grown_large_since() -> None:
    hub = DeviceHub()
    await joined(hub, ANN, 1, channels=[7])
    hub.publish([sent(5, is_large=False), MembersJoined(7, (EVE,)), large(BEN, 5)])
    assert hub.receipt_counts.take(10) == [(7, {ANN: 5})]


def test_counting_takes_a_bounded_share_of_the_time_of_a_node() -> None:
    assert receipt_counts.pause_s(0.003) == receipt_counts.INTERVAL_S
    assert receipt_counts.pause_s(0.5) == 10.0
