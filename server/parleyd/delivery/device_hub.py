"""Live fan-out: from applied changes to the streams of the devices connected to this node.

A message contains the members of a direct conversation. The hub keeps the members of channels itself, for the accounts
connected here. They are loaded after a stream is registered and kept current by effects, so no change is missed.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol, assert_never

from parley_proto.v1 import messaging_pb2 as pb
from parleyd.delivery.account_watchers import AccountWatchers
from parleyd.delivery.device_stream import CloseReason, DeviceStream
from parleyd.delivery.encoding import EncodedMessage, encode_message
from parleyd.delivery.receipt_counts import ReceiptCounts
from parleyd.delivery.records import receipt, receipt_count
from parleyd.machine.effects import Effect
from parleyd.machine.features.accounts import AccountChanged, AccountDeleted
from parleyd.machine.features.channel_counts import SenderCounts
from parleyd.machine.features.channel_members import MembersJoined, MembersLeft
from parleyd.machine.features.channels import ChannelChanged
from parleyd.machine.features.conversations import CHANNEL, ConversationCreated
from parleyd.machine.features.devices import DeviceClaimed
from parleyd.machine.features.levels import LevelRaised
from parleyd.machine.features.members import MembersChanged
from parleyd.machine.features.memberships import EVERYONE_ID
from parleyd.machine.features.messages import MessageRecord, MessageStored
from parleyd.machine.features.mutes import ConversationMuted
from parleyd.machine.features.put_away import ConversationPutAway
from parleyd.machine.features.receipts import ReceiptMoved
from parleyd.machine.features.removals import ConversationRemoved
from parleyd.machine.features.sends import URGENT
from parleyd.machine.features.sessions import SessionsClosed
from parleyd.machine.features.settings import SettingChanged

RATE_WINDOW_S = 5
_NO_STREAMS: Final[Mapping[DeviceStream, int]] = MappingProxyType({})
ACKNOWLEDGE_LATE_MS = 2_000
"""How long devices may wait with the acknowledgement of a message whose receipts are told as counts.

All receivers would acknowledge it while others still wait for it. Later they do so for several messages at once.
"""
MAX_COPIES = 4
"""Streams that copies of one device's files have here. Beyond that the oldest ends."""


class ClientObserver(Protocol):
    """What hears of each connected device."""

    def client_connected(self, account_id: int) -> None:
        """Report that a device of an account connected."""

    def client_away(self, account_id: int, *, away: bool) -> None:
        """Report that one of them is away, or no longer."""

    def client_gone(self, account_id: int, *, away: bool) -> None:
        """Report that one of them is gone. `away` is what it had said last."""


class NoObserver:
    """Takes no notice."""

    def client_connected(self, account_id: int) -> None:
        """Do nothing."""

    def client_away(self, account_id: int, *, away: bool) -> None:
        """Do nothing."""

    def client_gone(self, account_id: int, *, away: bool) -> None:
        """Do nothing."""


class DeviceHub:
    """The connected devices, and what is sent to them. Used from the event loop only."""

    def __init__(self, observer: ClientObserver | None = None) -> None:
        self._observer = observer or NoObserver()
        self._streams: dict[int, dict[DeviceStream, int]] = {}  # account id -> stream -> session id
        self._channel_members: dict[int, set[int]] = {}  # channel id -> accounts connected here
        # Channels that the account left after the stream joined, and maybe after its channels were read.
        self._left_meanwhile: dict[DeviceStream, set[int]] = {}
        self._channels: dict[int, set[int]] = {}  # account connected here -> channel ids
        self._away: set[DeviceStream] = set()
        self._watchers = AccountWatchers()
        self.receipt_counts = ReceiptCounts()
        self._status = pb.ClusterStatusUpdate()
        self._shut: CloseReason | None = None
        self.stored = 0  # messages since this start
        self._stored_per_second: deque[tuple[int, int]] = deque(maxlen=RATE_WINDOW_S + 1)

    @property
    def connected(self) -> int:
        """Return how many devices are connected to this node."""
        return sum(len(streams) for streams in self._streams.values())

    @property
    def status(self) -> pb.ClusterStatusUpdate:
        """Return the last announced condition of the cluster."""
        return self._status

    def messages_per_second(self) -> float:
        """Return the messages stored here per second, the mean of the last five whole seconds."""
        now = int(time.monotonic())
        counted = sum(count for second, count in self._stored_per_second if now - RATE_WINDOW_S <= second < now)
        return counted / RATE_WINDOW_S

    def join(self, session_id: int, stream: DeviceStream) -> None:
        """Add a connected device. An older stream of the same device ends, because each would receive only a part.

        Two copies of a device's files have different claims. Each has files of its own, so both may read.
        """
        if self._shut is not None:
            stream.close(self._shut)
        streams = self._streams.setdefault(stream.account_id, {})
        copies = [other for other in streams if other.device_id == stream.device_id and not other.closed.done()]
        too_many = copies[: max(0, len(copies) + 1 - MAX_COPIES)]
        for other in copies:
            if other.claim == stream.claim or other in too_many:
                other.close(CloseReason.TAKEN_OVER)
        streams[stream] = session_id
        self._left_meanwhile[stream] = set()
        stream.watch_accounts(self._watchers)
        if stream.shows_presence:
            self._observer.client_connected(stream.account_id)

    def set_away(self, stream: DeviceStream, *, away: bool) -> None:
        """Note whether the person is away from a device."""
        is_here = stream in self._streams.get(stream.account_id, {}) and stream.shows_presence
        if is_here and away != (stream in self._away):
            (self._away.add if away else self._away.discard)(stream)
            self._observer.client_away(stream.account_id, away=away)

    def add_channels(self, stream: DeviceStream, channel_ids: Iterable[int]) -> None:
        """Add the channels of the stream's account, as read after it joined and before it reads its first page."""
        left_meanwhile = self._left_meanwhile.pop(stream, set())
        if stream.closed.done():
            return  # what was read may be of a state that was replaced
        for channel_id in channel_ids:
            if channel_id not in left_meanwhile:
                self._enter(channel_id, stream.account_id)

    def _enter(self, channel_id: int, account_id: int) -> None:
        if account_id in self._streams:
            self._channels.setdefault(account_id, set()).add(channel_id)
            self._channel_members.setdefault(channel_id, set()).add(account_id)

    def _exit(self, channel_id: int, account_id: int) -> None:
        for stream in self._streams.get(account_id, ()):
            if stream in self._left_meanwhile:
                self._left_meanwhile[stream].add(channel_id)
        if channel_id in self._channels.get(account_id, ()):
            self._channels[account_id].remove(channel_id)
            self._remove_member(channel_id, account_id)

    def leave(self, stream: DeviceStream) -> None:
        """Remove a device that disconnected, and what waited for it."""
        stream.release()
        self._left_meanwhile.pop(stream, None)
        streams = self._streams.get(stream.account_id, {})
        away = stream in self._away
        self._away.discard(stream)
        if streams.pop(stream, None) is not None and stream.shows_presence:
            self._observer.client_gone(stream.account_id, away=away)
        if not streams:
            self._streams.pop(stream.account_id, None)
            self.receipt_counts.gone(stream.account_id)
            self._forget_channels(stream.account_id)

    def announce(self, status: pb.ClusterStatusUpdate) -> None:
        """Send the cluster's condition to every connected device."""
        self._status = status
        for stream in self._all():
            stream.small_frames.offer_status(status)

    def shut(self, reason: CloseReason) -> None:
        """End all streams, and every later one: this node serves no clients any more."""
        self._shut = reason
        self.close_all(reason)

    def close_all(self, reason: CloseReason) -> None:
        """End the present streams, and forget their channels; their devices may connect again."""
        for stream in list(self._all()):
            stream.close(reason)
        # Streams of the same accounts may begin before the last of these has left.
        self._channels.clear()
        self._channel_members.clear()

    def publish(self, effects: Sequence[Effect]) -> None:
        """Pass on the changes of one apply."""
        stored = 0
        for effect in effects:
            match effect:
                case MessageStored():
                    stored += 1
                    self._message(effect)
                case ReceiptMoved():
                    self._receipt(effect)
                case ConversationCreated():
                    self._conversation(effect)
                case ConversationMuted() | ConversationPutAway() | ConversationRemoved():
                    self._own_view(effect)
                case MembersJoined() | MembersLeft() | ChannelChanged():
                    self._channel_changed(effect)
                case AccountChanged():
                    self._watchers.changed(effect.account_id)
                case SessionsClosed() | DeviceClaimed() | AccountDeleted():
                    self._end_streams(effect)
                case MembersChanged() | SettingChanged() | LevelRaised():
                    pass
                case _:
                    assert_never(effect)
        if stored:
            self._count(stored)

    def _message(self, effect: MessageStored) -> None:
        """Offer a message to the connected devices of its members. Runs for every message on every node."""
        record = effect.message
        message: EncodedMessage | None = None
        may_wait = effect.is_large and record.priority != URGENT
        if record.device_id and not effect.pair and record.sender_id in self._streams:
            self._sent(record, is_large=effect.is_large)
        for account_id in self._members(record.conversation_id, effect.pair):
            for stream in self._streams.get(account_id, _NO_STREAMS):
                # The device that sent it has it: where no other one is connected, nothing is encoded.
                if stream.device_id != record.device_id:
                    message = message or encode_message(record, ACKNOWLEDGE_LATE_MS if may_wait else 0)
                    stream.offer_message(message)

    def _sent(self, record: MessageRecord, *, is_large: bool) -> None:
        if record.conversation_id != EVERYONE_ID:
            self.receipt_counts.sent(record.conversation_id, record.sender_id, record.id, is_large=is_large)

    def offer_counts(self, counted: Sequence[SenderCounts]) -> None:
        """Tell senders how many members of large channels have their newest messages."""
        for counts in counted:
            if self.receipt_counts.is_news(counts):
                for stream in self._of((counts.account_id,)):
                    stream.small_frames.offer_count(receipt_count(counts))

    def _receipt(self, effect: ReceiptMoved) -> None:
        if effect.conversation_id == EVERYONE_ID:
            return  # each mark of each account to each account: too many. ListMembers has them, for who looks
        if effect.is_large:
            self.receipt_counts.moved(effect.conversation_id)
            return
        others = [each for each in self._members(effect.conversation_id, effect.pair) if each != effect.account_id]
        streams = list(self._of(others))
        if streams:
            moved = receipt(effect.conversation_id, effect.account_id, effect.delivered_up_to, effect.read_up_to)
            for stream in streams:
                stream.small_frames.offer_receipt(moved)

    def show_typing(self, conversation_id: int, account_id: int, to: int) -> None:
        """Tell account `to` that another one types, or if it is 0, the members of that channel that are connected."""
        members = (to,) if to else self._channel_members.get(conversation_id, ())
        for stream in self._of(each for each in members if each != account_id):
            stream.small_frames.offer_typing(conversation_id, account_id)

    def _conversation(self, effect: ConversationCreated) -> None:
        if effect.kind == CHANNEL:
            for account_id in effect.members:
                self._enter(effect.conversation_id, account_id)
        for stream in self._of(effect.members):
            stream.conversation_changed(effect.conversation_id)

    def _own_view(self, effect: ConversationMuted | ConversationPutAway | ConversationRemoved) -> None:
        for stream in self._of((effect.account_id,)):
            if isinstance(effect, ConversationRemoved):
                stream.conversation_removed(effect.conversation_id, effect.up_to)
            else:
                stream.conversation_changed(effect.conversation_id)

    def _channel_changed(self, effect: MembersJoined | MembersLeft | ChannelChanged) -> None:
        channel_id = effect.conversation_id
        match effect:
            case MembersJoined(_, account_ids):
                for account_id in account_ids:
                    self._enter(channel_id, account_id)
            case MembersLeft(_, account_ids):
                for account_id in account_ids:
                    self._exit(channel_id, account_id)
                for stream in self._of(account_ids):
                    stream.conversation_changed(channel_id)
                for stream in self._of(self._channel_members.get(channel_id, ())):
                    stream.small_frames.drop_members(channel_id, account_ids)
                self.receipt_counts.moved(channel_id)
            case ChannelChanged():
                for stream in self._of(self._channel_members.get(channel_id, ())):
                    stream.conversation_changed(channel_id)
            case _:
                assert_never(effect)

    def _end_streams(self, effect: SessionsClosed | DeviceClaimed | AccountDeleted) -> None:
        for stream, session_id in list(self._streams.get(effect.account_id, {}).items()):
            match effect:
                case SessionsClosed(_, session_ids) if session_id not in session_ids:
                    continue
                case DeviceClaimed(_, device_id, nonce):
                    # Older copies. They may connect again to read.
                    if stream.device_id == device_id and stream.claim != nonce:
                        stream.close(CloseReason.SUPERSEDED)
                case SessionsClosed() | AccountDeleted():
                    stream.close(CloseReason.SIGNED_OUT)
                case _:
                    assert_never(effect)

    def _members(self, conversation_id: int, pair: Sequence[int]) -> Iterable[int]:
        """Return the members of a conversation; of a channel and of everyone, only those connected here."""
        if conversation_id == EVERYONE_ID:
            return self._streams.keys()
        return pair or self._channel_members.get(conversation_id, ())

    def _of(self, account_ids: Iterable[int]) -> Iterator[DeviceStream]:
        for account_id in account_ids:
            yield from self._streams.get(account_id, {})

    def _forget_channels(self, account_id: int) -> None:
        for channel_id in self._channels.pop(account_id, ()):
            self._remove_member(channel_id, account_id)

    def _remove_member(self, channel_id: int, account_id: int) -> None:
        members = self._channel_members[channel_id]
        members.discard(account_id)
        if not members:
            del self._channel_members[channel_id]

    def _count(self, stored: int) -> None:
        self.stored += stored
        second = int(time.monotonic())
        if self._stored_per_second and self._stored_per_second[-1][0] == second:
            stored += self._stored_per_second.pop()[1]
        self._stored_per_second.append((second, stored))

    def _all(self) -> Iterator[DeviceStream]:
        for streams in self._streams.values():
            yield from streams
