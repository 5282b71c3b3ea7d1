"""The stream's decisions as dialogues: a frame or an answer goes in, actions and frames come out; no connection."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from random import Random

import pytest

from parley import Account, Message, MessageKind, MessageStatus, Outgoing, Receipt, ReceiptCounts, Target
from parley.presence_model import Typing
from parley.wire.actions import (
    Action,
    BeginOutbox,
    ClaimSends,
    Close,
    FindAnother,
    FindServing,
    NoteReadSent,
    ReturnSends,
    SettleSends,
    StoreDirectory,
    StoreMessages,
    StoreReceipts,
    Storing,
    StreamCloseReason,
    TellCaughtUp,
    TellHealth,
    TellNoRoom,
    TellStatus,
    TellSuperseded,
    TellTyping,
    TellWelcome,
    WithdrawClaim,
)
from parley.wire.claim import Claim
from parley.wire.endpoints import Endpoint
from parley.wire.node_doubt import DoubtPause, DoubtSettings
from parley.wire.node_health import OWN_PING_TICKS, MessageStreamSettings, Pulse
from parley.wire.position import Position
from parley.wire.stream import (
    GAP_ROUNDS_MEAN_OUT_OF_STEP,
    MAX_BATCHES_BEING_STORED,
    STUCK_ROUNDS,
    StreamProtocol,
)
from parley_proto.v1 import messaging_pb2 as pb
from parley_proto.v1 import model_pb2
from tests.unit.client.records import accepted, direct, outgoing, refused

DEVICE = b"d" * 16
SEEN = Position(1, ((0, 40),))
CLAIM = Claim(3, b"n" * 16)
SETTINGS = MessageStreamSettings(
    ping_interval_s=1.0,
    silent_ticks=3,
    majority_grace_s=5.0,
    probe_interval_s=10.0,
    acknowledge_interval_s=0.5,
    doubt=DoubtSettings(answer_due_s=600.0),
)
DOUBTING = replace(SETTINGS, doubt=DoubtSettings(answer_due_s=0.25, first_pause_s=2.0, max_pause_s=5.0))


def stream_at(
    pulse: Pulse,
    *,
    cursor: bytes = b"c0",
    settings: MessageStreamSettings = SETTINGS,
    pause: DoubtPause | None = None,
    seed: int = 1,
) -> StreamProtocol:
    """A stream of a connection."""
    doubts = pause or DoubtPause(settings.doubt)
    return StreamProtocol("n1", DEVICE, cursor, SEEN, CLAIM, settings, Random(seed), doubts, pulse)


@dataclass(eq=False)
class Dialogue:
    """One stream and its clock; frames and answers are said in few words."""

    protocol: StreamProtocol = field(default_factory=lambda: stream_at(Pulse()))
    now: float = 100.0
    closed: list[Close] = field(default_factory=list)

    def hears(self, **frame: object) -> list[Action]:
        """The node sends a frame."""
        return self.protocol.frame_received(pb.ServerFrame(**frame), self.now)  # type: ignore[arg-type]

    def says(self) -> pb.ClientFrame | None:
        """The next frame up."""
        return self.protocol.next_frame(self.now)

    def says_all(self) -> list[pb.ClientFrame]:
        """All frames that go up now."""
        frames = []
        while (frame := self.says()) is not None:
            frames.append(frame)
        return frames

    def waits(self, seconds: float) -> list[Action]:
        """Time passes; the protocol is called whenever it asked for it."""
        until = self.now + seconds
        actions: list[Action] = []
        while (due := self.protocol.deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            actions += self.protocol.advance(self.now)
            self.says_all()
        self.now = until
        return actions

    def acknowledges(self, until: float) -> tuple[float, bytes] | None:
        """Time passes until a cursor is acknowledged; the time and the cursor, None if none is."""
        while (due := self.protocol.deadline()) is not None and due <= until:
            self.now = max(self.now, due)
            self.protocol.advance(self.now)
            self.hears(pong=pb.Pong())
            for frame in self.says_all():
                if frame.HasField("delivered"):
                    return self.now, frame.delivered.cursor
        self.now = until
        return None

    def began(self, unanswered: Iterable[Outgoing] = (), *, majority: bool = True, window: int = 8) -> list[Action]:
        """Both greet each other and the outbox begins."""
        assert self.says() is not None
        self.hears(welcome=welcome(majority=majority, window=window))
        actions = self.protocol.outbox_begun(unanswered, self.now)
        for action in actions:
            if isinstance(action, StoreDirectory):
                self.protocol.stored(action)
        return actions


def welcome(*, majority: bool = True, window: int = 8) -> pb.Welcome:
    return pb.Welcome(
        account=model_pb2.AccountInfo(id=1, name="anna"),
        last_send_number=4,
        cursor=b"c0",
        node_name="n1",
        status=status(majority=majority),
        max_message_bytes=500,
        max_sends_in_flight=window,
    )


def status(*, majority: bool = True) -> pb.ClusterStatusUpdate:
    position = model_pb2.Position(generation=1, groups=[model_pb2.GroupIndex(group=0, index=41)])
    return pb.ClusterStatusUpdate(leader="n1", has_majority=majority, position=position)


def results(*numbers: int, code: pb.SendStatus.ValueType = pb.SEND_STATUS_ACCEPTED) -> pb.SendResultBatch:
    position = model_pb2.Position(generation=1, groups=[model_pb2.GroupIndex(group=0, index=50)])
    taken = code == pb.SEND_STATUS_ACCEPTED
    return pb.SendResultBatch(
        results=[
            pb.SendResult(number=n, status=code, message_id=n * 10, conversation_id=7, sent_at_ms=5)
            if taken
            else pb.SendResult(number=n, status=code, detail="no")
            for n in numbers
        ],
        position=position,
    )


def batch(cursor: bytes, *ids: int, sender: int = 2, number: int = 0) -> pb.MessageBatch:
    return pb.MessageBatch(
        messages=[
            model_pb2.Message(
                conversation_id=7,
                id=i,
                kind=model_pb2.MESSAGE_KIND_TEXT,
                sender_id=sender,
                body="hi",
                device_id=DEVICE if number else b"",
                send_number=number,
            )
            for i in ids
        ],
        cursor=cursor,
    )


def numbers(frame: pb.ClientFrame | None) -> list[int]:
    assert frame is not None
    return [send.number for send in frame.sends.sends]


# ---- beginning


def test_the_first_frame_says_what_is_stored_and_seen() -> None:
    talk = Dialogue()
    assert talk.says() == pb.ClientFrame(hello=pb.Hello(cursor=b"c0", seen=SEEN.to_wire(), claim=CLAIM.to_wire()))
    assert talk.says() is None


def test_nothing_is_read_and_nothing_sent_until_the_outbox_has_begun() -> None:
    talk = Dialogue()
    talk.says()
    assert talk.hears(welcome=welcome()) == [BeginOutbox(4, 500)]
    reads_before = talk.protocol.can_receive
    actions = talk.protocol.outbox_begun([outgoing(3), outgoing(4)], talk.now)
    assert actions == [
        TellWelcome("n1", Account(1, "anna"), 500),
        StoreDirectory((Account(1, "anna"),), ()),
        TellHealth(True),
        TellStatus("n1", True, (), Position(1, ((0, 41),))),
        ClaimSends(6),
    ]
    assert (reads_before, talk.protocol.can_receive) == (False, True)
    assert numbers(talk.says()) == [3, 4], "what has no known outcome is sent again first"


def test_a_node_is_told_once_when_the_person_is_away_or_back_and_only_if_it_takes_that() -> None:
    def kinds(talk: Dialogue) -> list[str | None]:
        return [frame.WhichOneof("frame") for frame in talk.says_all()]

    old, new = Dialogue(), Dialogue()
    old.began()
    new.began()
    assert new.protocol._welcome is not None
    new.protocol._welcome.takes_away = True
    for talk in (old, new):
        talk.says_all()
        talk.protocol.set_away(away=False)
        assert kinds(talk) == [], "a stream begins with it"
        talk.protocol.set_away(away=True)
        talk.protocol.set_away(away=True)
    assert kinds(old) == []
    assert [frame.away.away for frame in new.says_all()] == [True]
    for away in (False, True, False):
        new.protocol.set_away(away=away)
    assert [frame.away.away for frame in new.says_all()] == [False], "only the newest is told"
    assert kinds(new) == []


def test_typing_is_told_at_once_then_every_three_seconds_and_only_to_a_node_that_takes_it() -> None:
    def told(talk: Dialogue) -> list[int]:
        return [frame.typist.conversation_id for frame in talk.says_all() if frame.HasField("typist")]

    old, talk = Dialogue(), Dialogue()
    for each in (old, talk):
        each.began()
        each.says_all()
    assert talk.protocol._welcome is not None
    talk.protocol._welcome.takes_typing = True
    old.protocol.types(7, old.now)
    assert told(old) == []
    for _ in range(3):
        talk.protocol.types(7, talk.now)
    assert told(talk) == [7]
    talk.protocol.types(7, talk.now + 2.9)
    assert told(talk) == []
    talk.protocol.types(8, talk.now + 2.9)
    assert told(talk) == [8], "another conversation"
    talk.protocol.types(8, talk.now + 5.9)
    assert told(talk) == [8]


def test_what_is_typed_after_a_message_is_told_at_once_and_what_was_not_told_before_it_is_old() -> None:
    talk = Dialogue()
    talk.began()
    talk.says_all()
    assert talk.protocol._welcome is not None
    talk.protocol._welcome.takes_typing = True
    talk.protocol.types(7, talk.now)
    talk.says_all()
    talk.protocol.claimed([outgoing(1)])
    talk.says_all()
    talk.protocol.types(7, talk.now)
    assert [frame.WhichOneof("frame") for frame in talk.says_all()] == ["typist"]


def test_a_member_that_types_is_told_on() -> None:
    talk = Dialogue()
    talk.began()
    assert talk.hears(typist=pb.Typing(conversation_id=7, account_id=2)) == [TellTyping(Typing(7, 2))]


def test_something_else_than_a_welcome_is_another_protocol() -> None:
    talk = Dialogue()
    (closed,) = talk.hears(pong=pb.Pong())
    assert isinstance(closed, Close)
    assert closed.reason is StreamCloseReason.REFUSED


# ---- up


def test_a_send_goes_up_only_after_it_was_claimed_and_with_the_target_it_was_stored_with() -> None:
    talk = Dialogue()
    assert ClaimSends(8) in talk.began()
    assert talk.says_all() == []
    targets = (Target(account="bob"), Target(account_id=2), Target(conversation_id=7))
    assert talk.protocol.claimed([outgoing(i + 5, target=t) for i, t in enumerate(targets)]) == [ClaimSends(5)]
    (frame,) = talk.says_all()
    assert [(s.WhichOneof("target"), s.number) for s in frame.sends.sends] == [
        ("account_name", 5),
        ("account_id", 6),
        ("conversation_id", 7),
    ]


def test_a_full_window_claims_nothing_until_a_result_makes_room() -> None:
    talk = Dialogue()
    talk.began(window=2)
    assert talk.protocol.claimed([outgoing(5), outgoing(6)]) == []
    assert talk.hears(results=results(5)) == [
        SettleSends((accepted(5, 50),), Position(1, ((0, 50),))),
        ClaimSends(1),
    ]


def test_a_refusal_is_final_and_a_second_result_says_nothing() -> None:
    talk = Dialogue()
    talk.began([outgoing(5)])
    (settled,) = talk.hears(results=results(5, code=pb.SEND_STATUS_REJECTED))
    assert settled == SettleSends((refused(5),), Position(1, ((0, 50),)))
    assert settled.messages[0].status is MessageStatus.FAILED
    assert talk.hears(results=results(5)) == []


def test_what_was_not_taken_goes_up_again_after_a_delay_before_anything_new() -> None:
    talk = Dialogue()
    talk.began([outgoing(5), outgoing(6)])
    assert numbers(talk.says()) == [5, 6]
    assert talk.hears(results=results(5, code=pb.SEND_STATUS_RETRY)) == []
    talk.protocol.claimed([outgoing(7)])
    assert talk.says_all() == []
    due = talk.protocol.deadline()
    assert due is not None
    assert 0 < due - talk.now <= 0.02
    talk.now = due
    talk.protocol.advance(talk.now)
    assert numbers(talk.says()) == [5, 6, 7]


def test_a_gap_at_the_lowest_number_that_stays_means_that_the_cluster_forgot() -> None:
    talk = Dialogue()
    talk.began([outgoing(5)])
    actions: list[Action] = []
    for _ in range(GAP_ROUNDS_MEAN_OUT_OF_STEP):
        talk.says_all()
        talk.protocol._resume_at = None
        talk.protocol._window.resume()
        actions = talk.hears(results=results(5, code=pb.SEND_STATUS_GAP))
    assert [type(a) for a in actions] == [Close]
    assert isinstance(actions[0], Close)
    assert actions[0].reason is StreamCloseReason.OUT_OF_STEP
    assert talk.says() is None
    assert talk.hears(results=results(5)) == []


def test_a_read_position_is_noted_as_told_once_it_is_written() -> None:
    talk = Dialogue()
    talk.began()
    talk.protocol.reads_found([(7, 30)])
    frame = talk.says()
    assert frame == pb.ClientFrame(read=pb.Read(conversation_id=7, up_to=30))
    assert talk.protocol.frame_written(frame) == [NoteReadSent(7, 30)]
    assert talk.protocol.reads_told == (7,)


def test_a_superseded_copy_reads_and_sends_nothing_and_acknowledges_nothing() -> None:
    talk = Dialogue()
    talk.says()
    greeting = welcome()
    greeting.superseded, greeting.cursor = True, b"newer"
    assert talk.hears(welcome=greeting) == [BeginOutbox(0, 500)], "its numbers stay as they are"
    actions = talk.protocol.outbox_begun([outgoing(3)], talk.now)
    assert TellSuperseded() in actions
    assert not any(isinstance(action, ClaimSends) for action in actions)
    talk.protocol.reads_found([(7, 30)])
    assert [frame.WhichOneof("frame") for frame in talk.says_all()] == ["read"]
    (stored,) = talk.hears(messages=batch(b"c1", 10))
    assert isinstance(stored, StoreMessages)
    assert talk.protocol.stored(stored) == []
    assert talk.says_all() == []


def test_an_outcome_that_the_cluster_no_longer_has_is_final_and_no_acceptance() -> None:
    talk = Dialogue()
    talk.began([outgoing(5)])
    (settled,) = talk.hears(results=results(5, code=pb.SEND_STATUS_UNKNOWN))
    assert isinstance(settled, SettleSends)
    assert settled.messages[0].status is MessageStatus.UNKNOWN


# ---- down


def test_each_batch_is_stored_on_top_of_the_cursor_before_it() -> None:
    talk = Dialogue()
    talk.began()
    (first,) = talk.hears(messages=batch(b"c1", 10))
    (second,) = talk.hears(messages=batch(b"c2", 11))
    assert first == StoreMessages((Message(7, 10, MessageKind.TEXT, 2, "hi", 0, False),), b"c0", b"c1")
    assert isinstance(second, StoreMessages)
    assert (second.before, second.after) == (b"c1", b"c2")


def test_the_echo_of_an_own_send_carries_its_number() -> None:
    talk = Dialogue()
    talk.began()
    (stored,) = talk.hears(messages=batch(b"c1", 10, sender=1, number=3))
    assert isinstance(stored, StoreMessages)
    assert [(m.mine, m.number) for m in stored.messages] == [(True, 3)]


def test_only_what_is_stored_is_acknowledged_and_not_too_often() -> None:
    talk = Dialogue()
    talk.began()
    batches: list[Storing] = []
    for cursor in (b"c1", b"c2", b"c3"):
        (stored,) = talk.hears(messages=batch(cursor, 10))
        assert isinstance(stored, StoreMessages)
        batches.append(stored)
    assert talk.says_all() == []
    talk.protocol.stored(batches[0])
    assert talk.says_all() == [pb.ClientFrame(delivered=pb.Delivered(cursor=b"c1"))]
    talk.protocol.stored(batches[1])
    talk.protocol.stored(batches[2])
    assert talk.says_all() == []
    assert talk.protocol.deadline() == talk.now + SETTINGS.acknowledge_interval_s
    talk.now += SETTINGS.acknowledge_interval_s
    assert talk.says_all() == [pb.ClientFrame(delivered=pb.Delivered(cursor=b"c3"))]


def late(cursor: bytes, within_ms: int) -> pb.MessageBatch:
    """A batch whose acknowledgement may wait."""
    made = batch(cursor, 10)
    made.acknowledge_within_ms = within_ms
    return made


def store(talk: Dialogue, messages: pb.MessageBatch) -> None:
    (stored,) = talk.hears(messages=messages)
    assert isinstance(stored, StoreMessages)
    talk.protocol.stored(stored)


def test_a_batch_that_may_wait_is_acknowledged_with_those_after_it() -> None:
    talk = Dialogue()
    talk.began()
    began = talk.now
    store(talk, late(b"c1", 2_000))
    assert talk.says_all() == []
    talk.now += 0.2
    store(talk, late(b"c2", 2_000))
    assert talk.says_all() == []
    first = talk.acknowledges(began + 3)
    assert first is not None
    at, cursor = first
    assert (cursor, 1.0 <= at - began <= 2.0) == (b"c2", True)
    assert talk.acknowledges(began + 6) is None, "one acknowledgement is enough"


def test_a_batch_that_may_wait_waits_for_nothing_once_another_one_is_wanted_at_once() -> None:
    talk = Dialogue()
    talk.began()
    store(talk, late(b"c1", 2_000))
    store(talk, batch(b"c2", 10))
    assert talk.says_all() == [pb.ClientFrame(delivered=pb.Delivered(cursor=b"c2"))]
    store(talk, late(b"c3", 2_000))
    assert talk.says_all() == []


def test_devices_acknowledge_a_message_for_many_at_different_times() -> None:
    times = set()
    for seed in range(8):
        talk = Dialogue(protocol=stream_at(Pulse(), seed=seed))
        talk.began()
        store(talk, late(b"c1", 2_000))
        acknowledged = talk.acknowledges(talk.now + 2)
        assert acknowledged is not None
        times.add(acknowledged[0])
    assert len(times) == 8


def test_a_node_cannot_make_a_device_wait_for_ever_with_its_acknowledgement() -> None:
    talk = Dialogue()
    talk.began()
    store(talk, late(b"c1", 4_000_000_000))
    assert talk.acknowledges(talk.now + 10) is not None


def test_caught_up_is_told_after_all_before_it_is_stored_and_moves_the_cursor() -> None:
    talk = Dialogue()
    talk.began()
    (stored,) = talk.hears(caught_up=pb.CaughtUp(cursor=b"c5"))
    assert stored == StoreMessages((), b"c0", b"c5", caught_up=True)
    assert talk.protocol.stored(stored) == [TellCaughtUp()]
    assert talk.says_all() == [pb.ClientFrame(delivered=pb.Delivered(cursor=b"c5"))]


def test_a_cursor_the_cluster_knows_is_not_acknowledged() -> None:
    talk = Dialogue()
    talk.began()
    (stored,) = talk.hears(caught_up=pb.CaughtUp(cursor=b"c0"))
    assert isinstance(stored, StoreMessages)
    talk.protocol.stored(stored)
    assert talk.says_all() == []


def test_what_the_device_holds_is_acknowledged_after_the_welcome_where_the_cluster_has_another_cursor() -> None:
    talk = Dialogue()
    assert talk.says() is not None
    greeting = welcome()
    greeting.cursor = b"older"
    talk.hears(welcome=greeting)
    talk.protocol.outbox_begun((), talk.now)
    assert talk.says_all() == [pb.ClientFrame(delivered=pb.Delivered(cursor=b"c0"))]


def test_a_device_that_holds_nothing_acknowledges_nothing() -> None:
    talk = Dialogue(stream_at(Pulse(), cursor=b""))
    talk.began()
    assert talk.says_all() == []


def test_a_slow_disk_stops_the_reading_and_is_not_taken_for_silence() -> None:
    talk = Dialogue()
    talk.began()
    stored: list[Storing] = []
    for i in range(MAX_BATCHES_BEING_STORED):
        assert talk.protocol.can_receive
        (work,) = talk.hears(messages=batch(b"c%d" % i, 10 + i))
        assert isinstance(work, StoreMessages)
        stored.append(work)
    assert not talk.protocol.can_receive
    assert talk.waits(60) == []
    talk.protocol.stored(stored[0])
    assert talk.protocol.can_receive


def test_accounts_and_conversations_are_stored_before_what_names_them() -> None:
    talk = Dialogue()
    talk.began()
    info = model_pb2.ConversationInfo(
        id=7,
        kind=model_pb2.CONVERSATION_KIND_DIRECT,
        member_count=2,
        members=[model_pb2.MemberInfo(account_id=i, role=model_pb2.MEMBER_ROLE_MEMBER) for i in (1, 2)],
    )
    told = pb.Directory(accounts=[model_pb2.AccountInfo(id=2, name="bob", display_name="Ben")], conversations=[info])
    assert talk.hears(directory=told) == [StoreDirectory((Account(2, "bob", "Ben"),), (direct(),))]


def test_receipts_of_others_are_stored_and_the_own_ones_are_not() -> None:
    talk = Dialogue()
    talk.began()
    receipts = [pb.Receipt(conversation_id=7, account_id=a, delivered_up_to=5, read_up_to=4) for a in (1, 2)]
    assert talk.hears(receipts=pb.ReceiptBatch(receipts=receipts)) == [StoreReceipts((Receipt(7, 2, 5, 4),))]
    count = pb.ReceiptCount(
        conversation_id=8,
        message_id=6,
        others=99,
        delivered=3,
        read=2,
        delivered_to_all_up_to=5,
        read_by_all_up_to=4,
        sent_from=1,
    )
    counted = (8, ReceiptCounts(6, 99, 3, 2, delivered_to_all=5, read_by_all=4, sent_from=1))
    assert talk.hears(receipts=pb.ReceiptBatch(counts=[count])) == [StoreReceipts((), (counted,))]


def test_what_a_later_release_says_is_left_out() -> None:
    talk = Dialogue()
    talk.began()
    (stored,) = talk.hears(
        messages=pb.MessageBatch(messages=[model_pb2.Message(conversation_id=7, id=1, kind=99)], cursor=b"c1")  # type: ignore[arg-type]
    )
    assert isinstance(stored, StoreMessages)
    assert stored.messages[0].kind is MessageKind.UNKNOWN
    assert talk.protocol.frame_received(pb.ServerFrame(), talk.now) == []


# ---- is the node alive, and does it serve?


def test_a_node_that_says_nothing_for_some_ticks_is_left() -> None:
    talk = Dialogue()
    talk.began()
    assert talk.waits(3.5) == []
    talk.hears(pong=pb.Pong())
    assert talk.waits(3.0) == []
    (closed,) = talk.waits(1.0)
    assert isinstance(closed, Close)
    assert closed.reason is StreamCloseReason.SILENT


OTHER = Endpoint("other", 1)


def crowd(count: int, spread: float = 1.0) -> list[Dialogue]:
    """Streams that share a connection, with beats at different times of this part of an interval."""
    pulse = Pulse()
    talks = [Dialogue(stream_at(pulse)) for _ in range(count)]
    for number, talk in enumerate(talks):
        talk.now += SETTINGS.ping_interval_s * spread * number / count
        talk.began()
        talk.says_all()
    return talks


def pings_in(talks: list[Dialogue], intervals: float, *, answers: Iterable[Dialogue]) -> list[Dialogue]:
    """Time passes for all streams at once; return who sent pings. Those of `answers` get pongs."""
    pinged: list[Dialogue] = []
    now = max(talk.now for talk in talks)
    until = now + intervals * SETTINGS.ping_interval_s
    while now < until:
        now += SETTINGS.ping_interval_s / 100
        for talk in talks:
            talk.now = now
            talk.closed += [action for action in talk.protocol.advance(now) if isinstance(action, Close)]
            if any(frame.HasField("ping") for frame in talk.says_all()):
                pinged.append(talk)
                if talk in answers:
                    talk.hears(pong=pb.Pong())
    return pinged


def test_streams_of_one_connection_send_as_many_pings_as_a_few_however_many_there_are() -> None:
    talks = crowd(100)
    assert 8 <= len(pings_in(talks, 8, answers=talks)) <= 16
    assert not any(talk.closed for talk in talks)


def test_all_streams_of_a_connection_leave_a_node_that_says_nothing() -> None:
    talks = crowd(100)
    pings_in(talks, SETTINGS.silent_ticks + 2, answers=())
    assert all(talk.closed[0].reason is StreamCloseReason.SILENT for talk in talks)


def test_a_stream_that_hears_nothing_pings_itself_and_is_left_whatever_the_others_hear() -> None:
    talks = crowd(3)
    deaf, *others = talks
    pinged = pings_in(talks, OWN_PING_TICKS + SETTINGS.silent_ticks + 3, answers=others)
    assert pinged.count(deaf) >= SETTINGS.silent_ticks
    assert deaf.closed[0].reason is StreamCloseReason.SILENT
    assert not any(talk.closed for talk in others)


@pytest.mark.parametrize("spread", [0.4, 1.0])
@pytest.mark.parametrize("count", [2, 3, 5, 20])
def test_a_stream_that_is_stuck_makes_no_other_one_leave_the_node(count: int, spread: float) -> None:
    """Its pings have no answer, wherever its beat lies among those of the others."""
    for place in range(count):
        talks = crowd(count, spread)
        others = [talk for number, talk in enumerate(talks) if number != place]
        pings_in(talks, 3 * SETTINGS.silent_ticks, answers=others)
        assert not any(talk.closed for talk in others), place


def doubting(pause: DoubtPause | None = None) -> Dialogue:
    """A stream that has sent a message and has no answer yet."""
    pause = pause or DoubtPause(DOUBTING.doubt)
    talk = Dialogue(stream_at(Pulse(), settings=DOUBTING, pause=pause))
    talk.began([outgoing(5)])
    talk.says_all()
    return talk


def test_a_node_that_owes_an_answer_gets_a_ping_and_then_another_node_is_asked() -> None:
    talk = doubting()
    assert talk.protocol.deadline() == talk.now + 0.25
    talk.now += 0.25
    assert talk.protocol.advance(talk.now) == []
    assert [frame.WhichOneof("frame") for frame in talk.says_all()] == ["ping"]
    assert talk.waits(0.25) == [FindAnother()]
    assert talk.waits(0.5) == [], "one is asked at a time"
    assert talk.protocol.another_found(OTHER, talk.now) == [
        Close(StreamCloseReason.SILENT, "n1 stopped answering. Another node answers.", OTHER)
    ]


def test_a_node_that_answers_pings_is_kept_however_long_a_send_takes() -> None:
    talk = doubting()
    for _ in range(20):
        assert talk.waits(0.4) == []
        talk.hears(pong=pb.Pong())


def test_a_node_that_is_heard_while_another_is_asked_is_kept_and_the_next_doubt_waits_longer() -> None:
    talk = doubting()
    pauses_s = []
    assert talk.waits(0.5) == [FindAnother()]
    for _ in range(3):
        talk.hears(pong=pb.Pong())
        assert talk.protocol.another_found(OTHER, talk.now) == []
        since = talk.now
        while not (actions := talk.waits(0.25)):
            if talk.now - since < 1.75:
                talk.hears(pong=pb.Pong())
        assert actions == [FindAnother()]
        pauses_s.append(talk.now - since)
        if talk.now - since > 4:
            break
    assert pauses_s[0] >= 2.0
    assert pauses_s[1] >= 4.0


def test_a_node_without_an_answering_other_is_kept_until_it_is_silent() -> None:
    talk = doubting()
    assert talk.waits(0.5) == [FindAnother()]
    assert talk.protocol.another_found(None, talk.now) == []


def test_a_look_that_comes_late_doubts_nobody() -> None:
    talk = doubting()
    for _ in range(2):
        talk.now += 0.75
        assert FindAnother() not in talk.protocol.advance(talk.now)
        talk.says_all()


def test_a_slow_disk_of_the_device_doubts_no_node() -> None:
    talk = doubting()
    for number in range(MAX_BATCHES_BEING_STORED):
        talk.hears(messages=pb.MessageBatch(cursor=b"c%d" % (number + 1)))
    talk.protocol._heart.doubt.asked(talk.now)
    assert not talk.protocol.can_receive
    assert FindAnother() not in talk.waits(2.0)


def test_one_late_look_at_the_clock_is_one_tick_however_late() -> None:
    talk = Dialogue()
    talk.began()
    for _ in range(3):
        talk.now += 60
        assert talk.protocol.advance(talk.now) == []
        assert talk.says() is not None


@pytest.mark.parametrize("found", [None, Endpoint("other", 1)])
def test_a_node_without_majority_is_left_as_soon_as_another_one_serves(found: Endpoint | None) -> None:
    talk = Dialogue()
    assert TellHealth(False) in talk.began(majority=False)
    talk.protocol._heart.beat_at = None
    assert talk.waits(SETTINGS.majority_grace_s) == [FindServing()]
    actions = talk.protocol.serving_found(found, talk.now)
    if found is None:
        assert actions == []
        assert talk.waits(SETTINGS.probe_interval_s + SETTINGS.majority_grace_s) == [FindServing()]
    else:
        assert actions == [Close(StreamCloseReason.NOT_SERVING, "n1 has no majority. Another node has one.", found)]


def test_a_node_that_serves_again_is_kept_whatever_was_found() -> None:
    talk = Dialogue()
    talk.began(majority=False)
    talk.protocol._heart.beat_at = None
    assert talk.waits(SETTINGS.majority_grace_s) == [FindServing()]
    assert TellHealth(True) in talk.hears(status=status())
    assert talk.protocol.serving_found(Endpoint("other", 1), talk.now) == []
    assert talk.waits(60) == []


def test_sends_that_are_never_taken_count_as_no_majority_until_one_is() -> None:
    talk = Dialogue()
    talk.began([outgoing(5)])
    told: list[Action] = []
    for _ in range(STUCK_ROUNDS):
        talk.says_all()
        told += talk.hears(results=results(5, code=pb.SEND_STATUS_RETRY))
        talk.now += 2.0
        talk.protocol.advance(talk.now)
    assert told == [TellHealth(False), WithdrawClaim()]
    assert TellHealth(True) in talk.hears(results=results(5))


def test_without_room_for_messages_the_stream_stays_says_why_and_asks_rarely() -> None:
    """Every node would refuse: to look for another one would end the session again and again."""
    talk = Dialogue()
    talk.began([outgoing(5)])
    told: list[Action] = []
    for _ in range(2 * STUCK_ROUNDS):
        assert [numbers(frame) for frame in talk.says_all() if frame.HasField("sends")] == [[5]]
        told += talk.hears(results=results(5, code=pb.SEND_STATUS_NO_ROOM))
        due = talk.protocol._resume_at
        assert due is not None
        assert 2 < due - talk.now <= 5
        talk.now = due
        told += talk.protocol.advance(talk.now)
    assert [action for action in told if not isinstance(action, FindServing)] == [TellNoRoom("no")]
    talk.says_all()
    assert TellNoRoom("") in talk.hears(results=results(5))


# ---- no majority: what no node has got stays here, where it can still be changed


def test_without_a_majority_nothing_new_is_claimed_until_there_is_one() -> None:
    talk = Dialogue()
    begun = talk.began([outgoing(3)], majority=False)
    assert not any(isinstance(action, ClaimSends) for action in begun)
    assert [numbers(frame) for frame in talk.says_all()] == [[3]], "what a node may have got is sent again"
    assert not any(isinstance(action, ClaimSends) for action in talk.hears(results=results(3)))
    assert ClaimSends(8) in talk.hears(status=status())


def test_a_claim_that_waits_for_messages_is_withdrawn_when_the_majority_is_lost() -> None:
    talk = Dialogue()
    assert ClaimSends(8) in talk.began()
    told = talk.hears(status=status(majority=False))
    assert [action for action in told if not isinstance(action, TellStatus)] == [TellHealth(False), WithdrawClaim()]
    assert talk.protocol.claimed([]) == []
    assert ClaimSends(8) in talk.hears(status=status())


def test_messages_that_were_claimed_as_the_majority_was_lost_go_back_and_none_goes_up() -> None:
    talk = Dialogue()
    talk.began()
    talk.hears(status=status(majority=False))
    claimed = [outgoing(5), outgoing(6)]
    assert talk.protocol.claimed(claimed) == [ReturnSends(tuple(claimed))]
    assert talk.says_all() == []
    assert ClaimSends(8) in talk.hears(status=status())


def test_of_claimed_messages_only_those_that_were_in_no_frame_go_back() -> None:
    talk = Dialogue()
    talk.began(window=4)
    talk.protocol.claimed([outgoing(5)])
    assert [numbers(frame) for frame in talk.says_all()] == [[5]]
    talk.hears(results=results(5, code=pb.SEND_STATUS_RETRY))  # holds back what comes next
    talk.protocol.claimed([outgoing(6), outgoing(7)])
    assert talk.says_all() == []
    told = talk.hears(status=status(majority=False))
    assert ReturnSends((outgoing(6), outgoing(7))) in told
    talk.waits(0.1)
    assert TellHealth(True) in talk.hears(status=status())
    assert talk.protocol._window.unanswered == 1, "the one that a node may have got stays under way"


def test_a_stream_that_sends_again_what_an_earlier_one_sent_gives_none_of_it_back() -> None:
    talk = Dialogue()
    told = talk.began([outgoing(3), outgoing(4)], majority=False)
    assert not any(isinstance(action, ReturnSends) for action in told)
    assert [numbers(frame) for frame in talk.says_all()] == [[3, 4]]
