"""A device is told everything once and in order, however slow it is and whenever messages come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from parley_proto.v1 import messaging_pb2 as pb
from parley_proto.v1 import model_pb2
from parleyd.budgets import ByteBudget, DeviceShare, FairPlaces, Place, Shares
from parleyd.delivery import device_stream, small_frames
from parleyd.delivery.cursor import StreamCursor
from parleyd.delivery.device_stream import PAGE_MESSAGES, DeviceStream, Page
from parleyd.delivery.encoding import EncodedMessage, encode_message, serialize_frame
from parleyd.delivery.position import index_of, position
from parleyd.machine.features.messages import MessageRecord
from tests.support.budgets import device_share, free_place

OWN_DEVICE = b"d" * 16


class Stored:
    """What lies in the state, for the stream to read pages from."""

    def __init__(self, *ids: int, size: int = 1) -> None:
        self.ids = list(ids)
        self.body = "x" * size
        self.reads = 0
        self.asked: list[tuple[set[int], set[int]]] = []
        self.before_directory: Callable[[], None] = lambda: None
        self.before_answer: Callable[[], None] = lambda: None

    async def page(self, after_id: int, limit: int) -> Page:
        self.reads += 1
        above = [message(each, body=self.body) for each in self.ids if each > after_id]
        shown = above[:limit]
        page = Page(shown, shown[-1].id if shown else after_id, more=len(above) > limit)
        await asyncio.sleep(0)
        self.before_answer()
        return page

    async def directory(self, account_ids: set[int], conversation_ids: set[int]) -> pb.Directory:
        self.asked.append((account_ids, conversation_ids))
        await asyncio.sleep(0)
        self.before_directory()
        return pb.Directory(
            accounts=[model_pb2.AccountInfo(id=each) for each in sorted(account_ids)],
            conversations=[model_pb2.ConversationInfo(id=each) for each in sorted(conversation_ids)],
        )


def message(
    message_id: int, device_id: bytes = b"", *, conversation_id: int = 1, sender_id: int = 2, body: str = "x"
) -> EncodedMessage:
    return encode_message(MessageRecord(conversation_id, message_id, 1, sender_id, body, 0, device_id, 0))


def make(
    stored: Stored, cursor: int = 0, max_live_bytes: int = 1 << 20, page_messages: int = PAGE_MESSAGES
) -> DeviceStream:
    return DeviceStream(
        1,
        OWN_DEVICE,
        cursor,
        stored,
        generation=3,
        live=device_share(max_live_bytes),
        place=free_place(),
        page_messages=page_messages,
    )


async def next_frames(stream: DeviceStream) -> list[pb.ServerFrame]:
    """The next frames as the client reads them."""
    return [pb.ServerFrame.FromString(serialize_frame(frame)) for frame in await stream.next_frames()]


async def frames_until(stream: DeviceStream, done: Callable[[list[pb.ServerFrame]], bool]) -> list[pb.ServerFrame]:
    frames: list[pb.ServerFrame] = []
    async with asyncio.timeout(5):
        while not done(frames):
            frames += await next_frames(stream)
    return frames


async def catch_up(stream: DeviceStream) -> list[pb.ServerFrame]:
    return await frames_until(stream, lambda f: bool(f) and f[-1].WhichOneof("frame") == "caught_up")


def ids(frames: Sequence[pb.ServerFrame]) -> list[int]:
    return [each.id for frame in frames for each in frame.messages.messages]


def kinds(frames: Sequence[pb.ServerFrame]) -> list[str | None]:
    return [frame.WhichOneof("frame") for frame in frames]


def cursor_at(message_id: int) -> bytes:
    return StreamCursor.at(3, message_id).encode()


async def test_the_queue_comes_before_caught_up_and_live_messages_after() -> None:
    stored = Stored(3, 4, 7)
    stream = make(stored, cursor=3)
    frames = await catch_up(stream)
    assert ids(frames) == [4, 7]
    assert frames[-1].caught_up.cursor == cursor_at(7)
    stream.offer_message(message(9))
    assert ids(await next_frames(stream)) == [9]
    assert stored.reads == 1


async def test_a_message_stored_while_a_page_is_read_is_neither_lost_nor_doubled() -> None:
    stored = Stored(1)
    stream = make(stored)

    def another_arrives() -> None:
        stored.before_answer = lambda: None
        stored.ids.append(2)
        stream.offer_message(message(2))

    stored.before_answer = another_arrives
    frames = await frames_until(stream, lambda f: 2 in ids(f))
    stream.offer_message(message(3))
    frames += await frames_until(stream, lambda f: 3 in ids(f))
    assert ids(frames) == [1, 2, 3]


async def test_a_message_the_page_already_had_is_not_told_again_live() -> None:
    stored = Stored(1, 2)
    stream = make(stored)
    await frames_until(stream, lambda f: 2 in ids(f))
    stream.offer_message(message(2))
    stream.offer_message(message(3))
    assert ids(await next_frames(stream)) == [3]


async def test_a_slow_device_falls_back_to_what_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_stream, "RESERVED_BYTES", 1)
    stored = Stored()
    stream = make(stored, max_live_bytes=4 * (64 + len(message(1).entry)))
    await catch_up(stream)
    for message_id in range(1, 11):
        stored.ids.append(message_id)
        stream.offer_message(message(message_id))
    frames = await frames_until(stream, lambda f: 10 in ids(f))
    assert ids(frames) == list(range(1, 11))
    assert stored.reads > 1


async def test_live_messages_are_bounded_over_all_devices_of_an_account_and_room_is_given_back() -> None:
    budget = ByteBudget(Shares(node=1 << 30, account=2 * 64 << 10, device=1 << 20))
    stored = Stored()
    shares = [DeviceShare(budget, 1, device) for device in range(3)]
    streams = [DeviceStream(1, OWN_DEVICE, 0, stored, generation=3, live=s, place=free_place()) for s in shares]
    for stream in streams:
        await catch_up(stream)
    stored.ids.append(1)
    for stream in streams:
        stream.offer_message(message(1))
    assert [share.in_use > 0 for share in shares] == [True, True, False]
    for stream in streams:
        assert ids(await frames_until(stream, lambda f: 1 in ids(f))) == [1], "live or stored, it arrives"
    assert stored.reads == 3 + 1, "the third fell behind and read it"
    assert budget.in_use == 0
    streams[0].offer_message(message(2))
    streams[0].release()
    assert budget.in_use == 0, "nothing of a stream that ended stays in use"


def two_streams(size: int) -> tuple[FairPlaces, DeviceStream, DeviceStream]:
    """Streams of two accounts with one place, each with a message of this size to receive."""
    places = FairPlaces(1, (1,))
    one, two = (
        DeviceStream(
            account,
            OWN_DEVICE,
            0,
            Stored(1, size=size),
            generation=3,
            live=device_share(),
            place=Place(places, (account,)),
        )
        for account in (1, 2)
    )
    return places, one, two


async def test_large_pages_that_are_being_written_are_bounded_and_other_frames_are_not_held_up() -> None:
    places, one, two = two_streams(device_stream.SMALL_FRAME_BYTES)
    assert kinds(await next_frames(one)) == ["directory", "messages", "caught_up"]
    two.small_frames.offer_pong(7)
    assert kinds(await next_frames(two)) == ["pong"], "the first has not written its page yet"
    assert (one.is_page_wanted(), two.is_page_wanted()) == (True, False)
    waiting = asyncio.ensure_future(next_frames(two))
    await asyncio.sleep(0)
    one.small_frames.offer_pong(8)
    assert kinds(await next_frames(one)) == ["pong"]
    assert kinds(await waiting) == ["directory", "messages", "caught_up"]
    two.release()
    assert places.used == 0


async def test_a_small_page_needs_no_place() -> None:
    places, one, two = two_streams(10)
    for stream in (one, two):
        assert kinds(await next_frames(stream)) == ["directory", "messages", "caught_up"]
    assert places.used == 0


async def test_a_long_queue_comes_in_pages() -> None:
    stream = make(Stored(*range(1, 36)), page_messages=10)
    frames = await frames_until(stream, lambda f: 35 in ids(f))
    assert ids(frames) == list(range(1, 36))
    assert max(len(frame.messages.messages) for frame in frames) == 10


async def test_the_device_is_not_told_what_it_sent_itself() -> None:
    stream = make(Stored())
    await catch_up(stream)
    stream.offer_message(message(1, device_id=OWN_DEVICE))
    stream.offer_message(message(2, device_id=b"e" * 16))
    assert ids(await next_frames(stream)) == [2]


async def test_newer_receipts_and_news_replace_older_ones() -> None:
    stream = make(Stored())
    await catch_up(stream)
    for mark in (1, 2, 3):
        stream.small_frames.offer_receipt(pb.Receipt(conversation_id=1, account_id=2, delivered_up_to=mark))
        stream.small_frames.offer_status(pb.ClusterStatusUpdate(term=mark))
    frames = await next_frames(stream)
    assert [frame.status.term for frame in frames if frame.HasField("status")] == [3]
    [receipts] = [frame.receipts.receipts for frame in frames if frame.HasField("receipts")]
    assert [receipt.delivered_up_to for receipt in receipts] == [3]


async def test_marks_that_were_read_while_a_device_connects_replace_no_newer_ones() -> None:
    stream = make(Stored())
    await catch_up(stream)
    for delivered, read in ((12, 11), (10, 10), (9, 12)):
        mark = pb.Receipt(conversation_id=1, account_id=2, delivered_up_to=delivered, read_up_to=read)
        stream.small_frames.offer_receipt(mark)
    told = [mark for frame in await next_frames(stream) for mark in frame.receipts.receipts]
    assert [(mark.delivered_up_to, mark.read_up_to) for mark in told] == [(12, 12)]


async def test_every_result_is_told_and_the_latest_ping_answered() -> None:
    stream = make(Stored())
    await catch_up(stream)
    stream.small_frames.offer_results([pb.SendResult(number=1)], position(3, 8))
    stream.small_frames.offer_results([pb.SendResult(number=2)], position(3, 7))
    stream.small_frames.offer_pong(5)
    stream.small_frames.offer_pong(6)
    frames = await next_frames(stream)
    assert [each.number for frame in frames for each in frame.results.results] == [1, 2]
    assert [index_of(frame.results.position) for frame in frames if frame.HasField("results")] == [8]
    assert [frame.pong.nonce for frame in frames if frame.HasField("pong")] == [6], (
        "the answer to the latest question says it for all"
    )


async def test_a_cancelled_wait_loses_nothing() -> None:
    stream = make(Stored())
    await catch_up(stream)
    waiting = asyncio.ensure_future(next_frames(stream))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    stream.offer_message(message(1))
    assert ids(await next_frames(stream)) == [1]


async def test_what_a_frame_names_is_told_before_it_and_once() -> None:
    stored = Stored(5)
    stream = make(stored)
    frames = await catch_up(stream)
    assert kinds(frames) == ["directory", "messages", "caught_up"]
    assert stored.asked == [({2}, {1})], "one question for the batch"
    stream.offer_message(message(6))
    stream.small_frames.offer_results([pb.SendResult(number=1, conversation_id=1)], position(3, 1))
    assert kinds(await next_frames(stream)) == ["results", "messages"]
    stream.small_frames.offer_receipt(pb.Receipt(conversation_id=9, account_id=8))
    stream.offer_message(message(7, sender_id=7))
    stream.small_frames.offer_results(
        [pb.SendResult(number=2, conversation_id=4), pb.SendResult(number=3)], position(3, 2)
    )
    assert kinds(await next_frames(stream)) == ["directory", "results", "receipts", "messages"]
    assert stored.asked[1:] == [({7, 8}, {4, 9})]


async def test_what_changed_is_told_again_if_it_was_told() -> None:
    stored = Stored(5)
    stream = make(stored)
    await catch_up(stream)
    stream.account_changed(77)
    stream.account_changed(2)
    stream.conversation_changed(30)
    [frame] = await next_frames(stream)
    assert [account.id for account in frame.directory.accounts] == [2]
    assert [conversation.id for conversation in frame.directory.conversations] == [30]


async def test_a_change_while_a_directory_is_read_is_told_after_it() -> None:
    stored = Stored()
    stream = make(stored)
    await catch_up(stream)

    def renamed() -> None:
        stored.before_directory = lambda: None
        stream.account_changed(2)

    stored.before_directory = renamed
    stream.offer_message(message(1))
    assert kinds(await next_frames(stream)) == ["directory", "messages"]
    [again] = await next_frames(stream)
    assert [account.id for account in again.directory.accounts] == [2]


async def test_live_messages_come_in_frames_of_bounded_size_each_with_its_cursor() -> None:
    stream = make(Stored(), max_live_bytes=4 << 20)
    await catch_up(stream)
    for message_id in range(1, 6):
        stream.offer_message(message(message_id, body="y" * (100 << 10)))
    stream.offer_message(message(6, body="z" * (1 << 20)))
    frames = await frames_until(stream, lambda f: sum(len(each.messages.messages) for each in f) == 6)
    batches = [frame.messages for frame in frames if frame.HasField("messages")]
    assert [[each.id for each in batch.messages] for batch in batches] == [[1, 2], [3, 4], [5], [6]]
    assert [batch.cursor for batch in batches] == [cursor_at(2), cursor_at(4), cursor_at(5), cursor_at(6)]


async def test_live_batches_carry_the_cursor_after_them() -> None:
    stream = make(Stored())
    await catch_up(stream)
    for message_id in (4, 6):
        stream.offer_message(message(message_id))
    [_, frame] = await next_frames(stream)
    assert frame.messages.cursor == cursor_at(6)


async def test_many_receipts_come_in_frames_of_bounded_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(small_frames, "RECEIPTS_PER_FRAME", 10)
    stream = make(Stored())
    await catch_up(stream)
    for conversation_id in range(1, 26):
        stream.small_frames.offer_receipt(pb.Receipt(conversation_id=conversation_id, account_id=2))
    frames = await frames_until(stream, lambda f: sum(len(each.receipts.receipts) for each in f) == 25)
    assert max(len(frame.receipts.receipts) for frame in frames) == 10
