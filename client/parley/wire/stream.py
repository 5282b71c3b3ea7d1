"""One stream with one node, without I/O. Frames and answers are inputs, actions and frames are outputs.

The caller (net/message_stream.py) passes the time with each event. It carries out the returned actions in order and
answers those that ask for an answer. It writes the result of next_frame() whenever the connection accepts a frame,
reads while can_receive is true, and calls advance() at deadline().

Order of effects. A send is sent only after its number is durable (claimed). A batch is acknowledged and shown only
after it is stored. Each batch is stored on top of the one before it. The result of a send is reported at once. Silence
is counted in calls of advance(), not in seconds, so a busy client does not take its own delay for silence of the node.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import assert_never

from parley.model import Message, MessageStatus, Outgoing
from parley.presence_model import Typing
from parley.wire import convert
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
from parley.wire.frames_up import FramesUp
from parley.wire.node_doubt import DoubtPause
from parley.wire.node_health import Beat, Health, Heart, MessageStreamSettings, Pulse
from parley.wire.position import Life, Position, was_restored
from parley.wire.send_window import SendWindow
from parley_proto.v1 import messaging_pb2 as pb

GAP_ROUNDS_MEAN_OUT_OF_STEP = 6
STUCK_ROUNDS = 4
MAX_CLAIM = 1024
MAX_BATCHES_BEING_STORED = 32
MAX_LATE_S = 10.0
"""A node may allow more, but what it has in doubt for long it sends again after a failure."""
RESTORED_TEXT = "The cluster was restored from a backup. This device compares what it holds with what the cluster has."
OUTCOMES = {
    pb.SEND_STATUS_ACCEPTED: MessageStatus.ACCEPTED,
    pb.SEND_STATUS_REJECTED: MessageStatus.FAILED,
    pb.SEND_STATUS_UNKNOWN: MessageStatus.UNKNOWN,
}


_ANSWERED = frozenset({"ping", "sends"})
"""Frames that the node answers at once, or as soon as a majority has what they bring."""


class StreamProtocol:
    """The state of one stream. Every connection makes a new one."""

    def __init__(
        self,
        where: str,
        device_id: bytes,
        cursor: bytes,
        seen: Position,
        claim: Claim,
        settings: MessageStreamSettings,
        rng: Random,
        doubt_pause: DoubtPause,
        pulse: Pulse,
    ) -> None:
        """`where` is the name of the node. `cursor`, `seen` and `claim` are those stored on the device.

        `pulse` is the one of the connection, which other streams may share.
        """
        self._where = where
        self._device_id = device_id
        self._cursor = cursor
        self._seen = seen
        self._rng = rng
        self._welcome: pb.Welcome | None = None
        self._begun = False
        self._closed = False
        self._no_room = ""
        self._frames = FramesUp(
            pb.Hello(cursor=cursor, seen=seen.to_wire(), claim=claim.to_wire()), settings.acknowledge_interval_s
        )
        self._window = SendWindow(1, (), rng)
        self._claiming = False
        self._resume_at: float | None = None
        self._being_stored = 0
        self._heart = Heart(settings, doubt_pause, pulse)
        self._health = Health(settings, rng)

    # ---- what the caller asks

    @property
    def can_receive(self) -> bool:
        """Return false while the device has to finish its own work before it reads the next frame."""
        return self._welcome is None or (self._begun and self._being_stored < MAX_BATCHES_BEING_STORED)

    @property
    def _may_send(self) -> bool:
        """Return true once the outbox has begun, unless another copy of this device's files sends."""
        return self._begun and self._welcome is not None and not self._welcome.superseded

    @property
    def reads_told(self) -> tuple[int, ...]:
        """Return the conversations whose read position was sent on this stream. The stream may have lost it."""
        return tuple(self._frames.reads_told)

    def deadline(self) -> float | None:
        """Return when advance() has to be called, even if nothing else happens. None means never."""
        times = (self._resume_at, self._heart.due_at, self._health.probe_at, self._frames.acknowledge_due())
        return min((time for time in times if time is not None), default=None)

    def next_frame(self, now: float) -> pb.ClientFrame | None:
        """Return the frame to write next, or None if there is none."""
        if self._closed:
            return None
        frame = self._frames.next(now)
        if frame is None and self._may_send and (sends := self._window.next_frame()):
            self._frames.sent()
            frame = pb.ClientFrame(sends=pb.SendBatch(sends=map(convert.send, sends)))
        if frame is not None and self._begun and frame.WhichOneof("frame") in _ANSWERED:
            self._heart.doubt.asked(now)
        return frame

    # ---- events

    def frame_written(self, frame: pb.ClientFrame) -> list[Action]:
        """Record that the connection accepted a frame of next_frame()."""
        if frame.WhichOneof("frame") == "read":
            return [NoteReadSent(frame.read.conversation_id, frame.read.up_to)]
        return []

    def frame_received(self, frame: pb.ServerFrame, now: float) -> list[Action]:
        """Handle a frame of the node."""
        if self._closed:
            return []
        self._heart.heard()
        if self._welcome is None:
            return self._take_welcome(frame)
        match frame.WhichOneof("frame"):
            case "results":
                return self._take_results(frame.results, now)
            case "messages":
                return self._store(self._messages(frame.messages, now))
            case "caught_up":
                return self._store(self._move_cursor((), frame.caught_up.cursor, caught_up=True))
            case "directory":
                conversations = tuple(map(convert.conversation, frame.directory.conversations))
                removed = convert.removals(frame.directory.removed)
                return self._store(StoreDirectory(convert.accounts(frame.directory.accounts), conversations, removed))
            case "receipts":
                return self._take_receipts(frame.receipts)
            case "status":
                return self._take_status(frame.status, now)
            case "typist":
                return [TellTyping(Typing(frame.typist.conversation_id, frame.typist.account_id))]
            case _:
                return []  # pong: hearing it was its purpose; frames of a later version: not for us

    def outbox_begun(self, unanswered: Iterable[Outgoing], now: float) -> list[Action]:
        """Handle the answer to BeginOutbox. From now on frames are read and messages are sent."""
        welcome = self._welcome
        if welcome is None or self._closed:
            return []
        self._window = SendWindow(welcome.max_sends_in_flight or MAX_CLAIM, unanswered, self._rng)
        self._begun = True
        self._heart.start(now)
        account = convert.account(welcome.account)
        return [
            TellWelcome(welcome.node_name, account, welcome.max_message_bytes),
            *([TellSuperseded()] if welcome.superseded else []),
            *self._store(StoreDirectory((account,), ())),
            *self._take_status(welcome.status, now),
        ]

    def claimed(self, messages: Sequence[Outgoing]) -> list[Action]:
        """Record newly numbered sends, which are durable now. They are sent with the next frames.

        If the majority was lost meanwhile, they are returned instead.
        """
        self._claiming = False
        self._window.add(messages)
        return self._claim() if self._health.is_good else self._return_unsent()

    def stored(self, done: Storing) -> list[Action]:
        """Record that something is durable here."""
        self._being_stored -= 1
        match done:
            case StoreMessages():
                if self._may_send:  # what a superseded copy has received is not what the device has
                    self._frames.acknowledge(done.after, done.acknowledge_at)
                return [TellCaughtUp()] if done.caught_up else []
            case StoreDirectory() | StoreReceipts():
                return []
            case other:
                assert_never(other)

    @property
    def reads_waiting(self) -> int:
        """Return how many read positions wait to be sent."""
        return len(self._frames.reads)

    def reads_found(self, reads: Iterable[tuple[int, int]]) -> None:
        """Record (conversation, message id) of read positions that the cluster does not have yet."""
        self._frames.reads.update(reads)

    def set_away(self, *, away: bool) -> None:
        """Tell the node whether the person is away, if its release takes that. For after the Welcome."""
        self._frames.away = away and self._welcome is not None and self._welcome.takes_away

    def types(self, conversation_id: int, now: float) -> None:
        """Tell the node that the person types, if its release takes that. For after the Welcome."""
        if self._welcome is not None and self._welcome.takes_typing:
            self._frames.types(conversation_id, now)

    def serving_found(self, better: Endpoint | None, now: float) -> list[Action]:
        """Handle the answer to FindServing."""
        if self._closed or not self._health.probed(now, found=better is not None):
            return []
        return self._close(
            StreamCloseReason.NOT_SERVING, f"{self._where} has no majority. Another node has one.", better=better
        )

    def another_found(self, other: Endpoint | None, now: float) -> list[Action]:
        """Handle the answer to FindAnother."""
        if self._closed or not self._heart.doubt.answered(now, found=other is not None):
            return []
        return self._close(
            StreamCloseReason.SILENT, f"{self._where} stopped answering. Another node answers.", better=other
        )

    def advance(self, now: float) -> list[Action]:
        """Carry out everything that is due."""
        if self._closed:
            return []
        actions: list[Action] = []
        if self._resume_at is not None and now >= self._resume_at:
            self._resume_at = None
            self._window.resume()
            actions += self._claim()
        if self._health.probe_is_due(now):
            actions.append(FindServing())
        match self._heart.beat(now, listening=self.can_receive):
            case Beat.PING:
                self._frames.ping()
            case Beat.ASK_ANOTHER:
                self._frames.ping()
                actions.append(FindAnother())
            case Beat.SILENT:
                return self._close(StreamCloseReason.SILENT, f"{self._where} stopped answering.")
            case Beat.NOTHING:
                pass
        return actions

    # ---- inside

    def _close(
        self, reason: StreamCloseReason, text: str, *, better: Endpoint | None = None, life: Life | None = None
    ) -> list[Action]:
        self._closed = True
        return [Close(reason, text, better, life)]

    def _take_welcome(self, frame: pb.ServerFrame) -> list[Action]:
        if frame.WhichOneof("frame") != "welcome":
            return self._close(
                StreamCloseReason.REFUSED, f"{self._where} does not speak Parley's protocol. Check the address."
            )
        if was_restored(self._seen, frame.welcome.generation):
            life = Life.of(frame.welcome)
            return self._close(StreamCloseReason.CLUSTER_RESTORED, RESTORED_TEXT, life=life)
        self._welcome = frame.welcome
        self._frames.acknowledged(frame.welcome.cursor)
        if frame.welcome.superseded:
            return [BeginOutbox(0, frame.welcome.max_message_bytes)]
        if self._cursor:
            # An acknowledgement may have been lost with an earlier stream. The node drops one that it knows.
            self._frames.acknowledge(self._cursor)
        return [BeginOutbox(frame.welcome.last_send_number, frame.welcome.max_message_bytes)]

    def _claim(self) -> list[Action]:
        """Return at most one claim at a time. A new one follows when there is room for more sends.

        Without a majority nothing is claimed: what no node has can be changed and withdrawn.
        """
        if self._claiming or not self._may_send or not self._health.is_good or self._window.capacity == 0:
            return []
        self._claiming = True
        return [ClaimSends(min(self._window.capacity, MAX_CLAIM))]

    def _return_unsent(self) -> list[Action]:
        """Return what no node has. A claim that waits is answered first: its numbers follow."""
        if self._claiming:
            return [WithdrawClaim()]
        unsent = self._window.take_back()
        return [ReturnSends(tuple(unsent))] if unsent else []

    def _store(self, work: Storing) -> list[Action]:
        self._being_stored += 1
        return [work]

    def _messages(self, batch: pb.MessageBatch, now: float) -> StoreMessages:
        own_id = self._welcome.account.id if self._welcome is not None else 0
        messages = tuple(convert.message(wire, own_id, self._device_id) for wire in batch.messages)
        stored = self._move_cursor(messages, batch.cursor)
        if not batch.acknowledge_within_ms:
            return stored
        # The devices of a large channel must not acknowledge a message all at once.
        within_s = min(batch.acknowledge_within_ms / 1000, MAX_LATE_S) * self._rng.uniform(0.5, 1)
        return replace(stored, acknowledge_at=now + within_s)

    def _move_cursor(self, messages: tuple[Message, ...], after: bytes, *, caught_up: bool = False) -> StoreMessages:
        before, self._cursor = self._cursor, after
        return StoreMessages(messages, before, after, caught_up)

    def _take_receipts(self, batch: pb.ReceiptBatch) -> list[Action]:
        own_id = self._welcome.account.id if self._welcome is not None else 0
        receipts = tuple(convert.receipt(r) for r in batch.receipts if r.account_id != own_id)
        counts = tuple((count.conversation_id, convert.receipt_counts(count)) for count in batch.counts)
        return self._store(StoreReceipts(receipts, counts)) if receipts or counts else []

    def _take_results(self, batch: pb.SendResultBatch, now: float) -> list[Action]:
        settled: list[Outgoing] = []
        actions: list[Action] = []
        no_room = ""
        for result in batch.results:
            if result.status in OUTCOMES:
                message = self._window.settle(result.number)
                if message is not None:
                    settled.append(with_outcome(message, result))
            elif result.status == pb.SEND_STATUS_NO_ROOM:
                self._push_back(result.number, now, gap=False, no_room=True)
                no_room = result.detail
            elif not self._push_back(result.number, now, gap=result.status == pb.SEND_STATUS_GAP):
                return self._close(
                    StreamCloseReason.OUT_OF_STEP,
                    "The cluster no longer has messages that it had accepted from this device. It may have been "
                    "restored from a backup. Waiting messages are kept. Sign in again (parley login NAME) to send "
                    "them.",
                )
        if settled:
            actions.append(SettleSends(tuple(settled), Position.from_wire(batch.position)))
        if no_room != self._no_room and (no_room or settled):
            self._no_room = no_room
            actions.append(TellNoRoom(no_room))
        return [*actions, *self._judge(now), *self._claim()]

    def _push_back(self, number: int, now: float, *, gap: bool, no_room: bool = False) -> bool:
        """Send again after a delay, because a send was not accepted.

        Return false if the cluster's numbers are permanently behind.
        """
        delay_s = self._window.push_back(number, gap=gap, no_room=no_room)
        if delay_s is not None:
            self._resume_at = now + delay_s
        return self._window.gap_rounds < GAP_ROUNDS_MEAN_OUT_OF_STEP

    def _take_status(self, status: pb.ClusterStatusUpdate, now: float) -> list[Action]:
        self._health.has_majority = status.has_majority
        position = Position.from_wire(status.position)
        told = TellStatus(status.leader, status.has_majority, convert.nodes(status), position)
        return [*self._judge(now), told, *self._claim()]

    def _judge(self, now: float) -> list[Action]:
        healthy = self._health.judge(now, stuck=self._window.rounds >= STUCK_ROUNDS)
        if healthy is None:
            return []
        return [TellHealth(healthy), *([] if healthy else self._return_unsent())]


def with_outcome(message: Outgoing, result: pb.SendResult) -> Outgoing:
    """Return the message with its final result, whose status is in OUTCOMES."""
    return replace(
        message,
        status=OUTCOMES[result.status],
        message_id=result.message_id,
        conversation_id=result.conversation_id,
        sent_at_ms=result.sent_at_ms,
        detail=result.detail,
    )
