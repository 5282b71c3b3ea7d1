"""A device is told everything once and in order, however slow it is and whenever messages come."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import pytest

from parley_proto.v1 import messaging_pb2 as pb
from parleyd.delivery import device_stream
from parleyd.delivery.device_stream import DeviceStream, Page

OWN_DEVICE = b"d" * 16


class Stored:
    """What lies in the state, for the stream to read pages from."""

    def __init__(self, *ids: int) -> None:
        self.ids = list(ids)
        self.reads = 0
        self.before_answer: Callable[[], None] = lambda: None

    async def fetch(self, after_id: int, limit: int) -> Page:
        self.reads += 1
        above = [message(each) for each in self.ids if each > after_id]
        shown = above[:limit]
        page = Page(shown, shown[-1].id if shown else after_id, more=len(above) > limit)
        await asyncio.sleep(0)
        self.before_answer()
        return page


def message(message_id: int, device_id: bytes = b"") -> pb.Message:
    return pb.Message(id=message_id, body="x", device_id=device_id)


def make(stored: Stored, cursor: int = 0, max_live_bytes: int = 1 << 20) -> DeviceStream:
    return DeviceStream(1, OWN_DEVICE, cursor, stored.fetch, max_live_bytes=max_live_bytes)


async def frames_until(stream: DeviceStream, done: Callable[[list[pb.ServerFrame]], bool]) -> list[pb.ServerFrame]:
    frames: list[pb.ServerFrame] = []
    async with asyncio.timeout(5):
        while not done(frames):
            frames += await stream.next_frames()
    return frames


def ids(frames: Sequence[pb.ServerFrame]) -> list[int]:
    return [each.id for frame in frames for each in frame.messages.messages]


async def test_the_queue_comes_before_caught_up_and_live_messages_after() -> None:
    stored = Stored(3, 4, 7)
    stream = make(stored, cursor=3)
    frames = await frames_until(stream, lambda f: bool(f) and f[-1].WhichOneof("frame") == "caught_up")
    assert ids(frames) == [4, 7]
    assert frames[-1].caught_up.up_to == 7
    stream.offer_message(message(9))
    assert ids(await stream.next_frames()) == [9]
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
    assert ids(await stream.next_frames()) == [3]


async def test_a_slow_device_falls_back_to_what_is_stored() -> None:
    stored = Stored()
    stream = make(stored, max_live_bytes=4 * 257)
    await frames_until(stream, lambda f: bool(f) and f[-1].WhichOneof("frame") == "caught_up")
    for message_id in range(1, 11):
        stored.ids.append(message_id)
        stream.offer_message(message(message_id))
    frames = await frames_until(stream, lambda f: 10 in ids(f))
    assert ids(frames) == list(range(1, 11))
    assert stored.reads > 1


async def test_a_long_queue_comes_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device_stream, "PAGE_MESSAGES", 10)
    stream = make(Stored(*range(1, 36)))
    frames = await frames_until(stream, lambda f: 35 in ids(f))
    assert ids(frames) == list(range(1, 36))
    assert max(len(frame.messages.messages) for frame in frames) == 10


async def test_the_device_is_not_told_what_it_sent_itself() -> None:
    stream = make(Stored())
    await frames_until(stream, lambda f: bool(f) and f[-1].WhichOneof("frame") == "caught_up")
    stream.offer_message(message(1, device_id=OWN_DEVICE))
    stream.offer_message(message(2, device_id=b"e" * 16))
    assert ids(await stream.next_frames()) == [2]


async def test_newer_receipts_and_news_replace_older_ones() -> None:
    stream = make(Stored())
    await frames_until(stream, lambda f: bool(f) and f[-1].WhichOneof("frame") == "caught_up")
    for mark in (1, 2, 3):
        stream.offer_receipt(pb.Receipt(conversation_id=1, account_id=2, delivered_up_to=mark))
        stream.offer_status(pb.ClusterStatusUpdate(term=mark))
    frames = await stream.next_frames()
    assert [frame.status.term for frame in frames if frame.HasField("status")] == [3]
    [receipts] = [frame.receipts.receipts for frame in frames if frame.HasField("receipts")]
    assert [receipt.delivered_up_to for receipt in receipts] == [3]


async def test_every_result_is_told_and_the_latest_ping_answered() -> None:
    stream = make(Stored())
    await frames_until(stream, lambda f: bool(f) and f[-1].WhichOneof("frame") == "caught_up")
    stream.offer_result([pb.SendResult(number=1)])
    stream.offer_result([pb.SendResult(number=2)])
    stream.offer_pong(5)
    stream.offer_pong(6)
    frames = await stream.next_frames()
    assert [each.number for frame in frames for each in frame.results.results] == [1, 2]
    assert [frame.pong.nonce for frame in frames if frame.HasField("pong")] == [6], (
        "the answer to the latest question says it for all"
    )


async def test_a_cancelled_wait_loses_nothing() -> None:
    stream = make(Stored())
    await frames_until(stream, lambda f: bool(f) and f[-1].WhichOneof("frame") == "caught_up")
    waiting = asyncio.ensure_future(stream.next_frames())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    stream.offer_message(message(1))
    assert ids(await stream.next_frames()) == [1]
