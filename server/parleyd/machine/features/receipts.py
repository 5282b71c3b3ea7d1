"""Receipts: two marks for each member of a conversation, which only grow.

A device's cursor moves the delivery marks of its account. Reading moves the read mark. It also moves the delivery mark,
because a read message has been delivered.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Final

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import NotAudited
from parleyd.machine.authorisation import Action
from parleyd.machine.feature import Feature, SignedInCommand, result
from parleyd.machine.features.channel_counts import MARKS_TOLD_UP_TO
from parleyd.machine.features.conversations import CHANNEL, latest
from parleyd.machine.features.memberships import CHANNELS_LEVEL, EVERYONE_ID, ROLE_MEMBER
from parleyd.machine.limits import MAX_ID
from parleyd.machine.rows import Rows

if TYPE_CHECKING:
    from parleyd.machine.features.sessions import Actor
    from parleyd.machine.reader import StateReader
    from parleyd.machine.state import State


_NO_CHANNEL: Final = 0
"""Stands for all channels that had their last message before the recording of messages began."""


@dataclass(frozen=True, slots=True)
class ReceiptMoved:
    """A member's marks grew. `pair` has the members of a direct conversation and is empty for a channel.

    A channel `is_large` if its members are not told each other's marks.
    """

    conversation_id: int
    account_id: int
    delivered_up_to: int
    read_up_to: int
    pair: tuple[int, ...]
    is_large: bool = False


@dataclass(slots=True)
class Marks:
    """The marks of a member."""

    conversation_id: int
    account_id: int
    delivered_up_to: int
    read_up_to: int


class Receipts:
    """The marks that a transaction touches, and the conversations with undelivered messages for an account.

    A message in a direct conversation concerns two accounts, so `_undelivered` has it at once. In a channel their
    number has no bound. So an account's channels are checked when it acknowledges, but only those with a message since
    it did so before.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._rows: Rows[tuple[int, int], Marks] = Rows(
            state.connection,
            select="SELECT conversation_id, account_id, delivered_up_to, read_up_to FROM members "
            "WHERE conversation_id = ? AND account_id = ?",
            make=Marks,
            update="UPDATE members SET delivered_up_to = ?, read_up_to = ? "
            "WHERE conversation_id = ? AND account_id = ?",
            values=lambda row: (row.delivered_up_to, row.read_up_to, row.conversation_id, row.account_id),
        )
        self._undelivered: dict[int, set[int]] = {}
        self._channels: dict[int, set[int]] = {}
        self._checked_up_to: dict[int, int] = {}  # account -> the newest message of the cluster at that time
        self._advanced: dict[int, int] = {}  # channel -> a message not before its last one, the latest channel last
        self.caches = (self._rows.known, self._undelivered, self._channels, self._checked_up_to, self._advanced)
        self._begin_recording()

    def _begin_recording(self) -> None:
        self._advanced[_NO_CHANNEL] = self._state.meta.last_message_id

    def joined(self, conversation_id: int, account_ids: Sequence[int]) -> None:
        """Record that accounts became members of a channel."""
        for account_id in account_ids:
            channels = self._channels.get(account_id)
            if channels is not None:
                channels.add(conversation_id)

    def left(self, conversation_id: int, account_ids: Sequence[int]) -> None:
        """Record that accounts are members of a channel no longer; what they changed is flushed."""
        self._rows.forget((conversation_id, account_id) for account_id in account_ids)
        for account_id in account_ids:
            for of_account in (self._undelivered.get(account_id), self._channels.get(account_id)):
                if of_account is not None:
                    of_account.discard(conversation_id)

    def marks(self, conversation_id: int, account_id: int) -> Marks | None:
        """Return a member's marks; None for an account that is no member."""
        if not 0 < conversation_id <= MAX_ID:
            return None
        found = self._rows.find((conversation_id, account_id))
        return self._implied(account_id) if found is None and conversation_id == EVERYONE_ID else found

    def _implied(self, account_id: int) -> Marks | None:
        """Return the marks of a member of everyone that has no row yet."""
        if self._state.level < CHANNELS_LEVEL:
            return None
        query = "SELECT first_message_id - 1 FROM accounts WHERE id = ?"
        before = self._state.connection.execute(query, (account_id,)).get
        return None if before is None else Marks(EVERYONE_ID, account_id, before, before)

    def message_added(self, conversation_id: int, pair: Sequence[int]) -> None:
        """Record that a message waits for both sides of a direct conversation, or that a channel has one."""
        if not pair:
            self._advanced.pop(conversation_id, None)
            self._advanced[conversation_id] = self._state.meta.last_message_id
        for account_id in pair:
            waiting = self._undelivered.get(account_id)
            if waiting is not None:
                waiting.add(conversation_id)

    def deliver(self, account_id: int, cursor: int) -> None:
        """Move the account's delivery marks to what its device has received."""
        waiting = self._waiting(account_id)
        for conversation_id in sorted(waiting):
            conversation = self._state.conversations.find(conversation_id)
            marks = self.marks(conversation_id, account_id)
            if conversation is None or marks is None:
                continue
            delivered_up_to = min(cursor, conversation.last_message_id)
            if delivered_up_to > marks.delivered_up_to:
                self.move(marks, delivered_up_to, marks.read_up_to)
            if marks.delivered_up_to >= conversation.last_message_id:
                waiting.discard(conversation_id)

    def move(self, marks: Marks, delivered_up_to: int, read_up_to: int) -> None:
        """Raise a member's marks to these values."""
        key = (marks.conversation_id, marks.account_id)
        if marks.conversation_id == EVERYONE_ID and self._rows.find(key) is None:
            self._state.connection.execute(
                "INSERT INTO members(conversation_id, account_id, role, joined_at_ms, first_message_id, "
                "delivered_up_to, read_up_to) VALUES(?, ?, ?, ?, ?, ?, ?)",
                (*key, ROLE_MEMBER, self._state.meta.now_ms, marks.delivered_up_to + 1, delivered_up_to, read_up_to),
            )
            self._rows.added(key, marks)
        marks.delivered_up_to = delivered_up_to
        marks.read_up_to = read_up_to
        self._rows.changed(key, marks)
        conversation = self._state.conversations.find(marks.conversation_id)
        pair = () if conversation is None else conversation.pair
        is_large = conversation is not None and conversation.is_large
        moved = ReceiptMoved(marks.conversation_id, marks.account_id, delivered_up_to, read_up_to, pair, is_large)
        self._state.effects.append(moved)

    def _waiting(self, account_id: int) -> set[int]:
        """Return the account's conversations with a message above its delivery mark;

        the caller removes those it has moved.
        """
        waiting = self._undelivered.get(account_id)
        if waiting is None:
            self._state.flush()
            waiting = self._undelivered[account_id] = set(
                self._state.ids(
                    "SELECT m.conversation_id FROM members m JOIN conversations c ON c.id = m.conversation_id "
                    "WHERE m.account_id = ? AND c.last_message_id > m.delivered_up_to",
                    (account_id,),
                )
            )
        else:
            waiting.update(self._advanced_channels(account_id, self._checked_up_to.get(account_id, 0)))
        self._checked_up_to[account_id] = self._state.meta.last_message_id
        waiting.add(EVERYONE_ID)
        return waiting

    def _advanced_channels(self, account_id: int, after_id: int) -> set[int]:
        """Return the account's channels with a message after this one; all of them if that takes less or is unknown."""
        channels = self.channels_of(account_id)
        advanced: set[int] = set()
        for channel_id, message_id in islice(reversed(self._advanced.items()), len(channels) + 1):
            if message_id <= after_id:
                return advanced
            if channel_id in channels:
                advanced.add(channel_id)
        return channels

    def channels_of(self, account_id: int) -> set[int]:
        """Return the channels that the account is in."""
        channels = self._channels.get(account_id)
        if channels is None:
            self._state.flush()
            channels = self._channels[account_id] = set(
                self._state.ids(
                    "SELECT m.conversation_id FROM members m JOIN conversations c ON c.id = m.conversation_id "
                    "WHERE m.account_id = ? AND c.kind = ?",
                    (account_id, CHANNEL),
                )
            )
        return channels

    def flush(self) -> None:
        """Write the changed marks."""
        self._rows.flush()

    def forget_all(self) -> None:
        """Read everything from the file again."""
        self._rows.forget_all()
        self._undelivered.clear()
        self._channels.clear()
        self._checked_up_to.clear()
        self._advanced.clear()
        self._begin_recording()


# ---- commands


def mark_delivered(state: State, actor: Actor, command: pb.MarkDelivered) -> pb.CommandResult:
    """Move the device's cursor, and the account's delivery marks in conversations with waiting messages."""
    device = state.devices.get(actor.device_id)
    # Otherwise a copy would make the cluster skip, for the device, what only the copy has received.
    refused = state.devices.claim(device, command.claim)
    if refused != pb.RESULT_CODE_OK:
        return result(refused)
    cursor = min(command.up_to, state.meta.last_message_id)
    if cursor > device.delivered_up_to:
        state.devices.move_cursor(device, cursor)
        state.receipts.deliver(actor.account.id, cursor)
    delivered = pb.MarkDeliveredResult(delivered_up_to=device.delivered_up_to)
    return pb.CommandResult(code=pb.RESULT_CODE_OK, mark_delivered=delivered)


def mark_read(state: State, actor: Actor, command: pb.MarkRead) -> pb.CommandResult:
    """Move the account's read mark of a conversation; a read message has been delivered."""
    conversation = state.conversations.find(command.conversation_id)
    marks = state.receipts.marks(command.conversation_id, actor.account.id)
    if conversation is None or marks is None:
        return result(pb.RESULT_CODE_NO_SUCH_CONVERSATION)
    read_up_to = min(command.up_to, conversation.last_message_id)
    if read_up_to > marks.read_up_to:
        state.receipts.move(marks, max(marks.delivered_up_to, read_up_to), read_up_to)
    return result(pb.RESULT_CODE_OK)


FEATURE = Feature(
    "receipts",
    commands={
        "mark_delivered": SignedInCommand(mark_delivered, Action.MARK_MESSAGES, audits=NotAudited.CONTENT),
        "mark_read": SignedInCommand(mark_read, Action.MARK_MESSAGES, audits=NotAudited.CONTENT),
    },
)


# ---- queries


def of_others(reader: StateReader, account_id: int, limit: int) -> tuple[Marks, ...]:
    """Return others' marks in the account's latest conversations, `limit` at most, for a device that missed them.

    None of a large channel, whose senders are told counts.
    """
    query = (
        "SELECT m.conversation_id, m.account_id, m.delivered_up_to, m.read_up_to FROM conversations c "
        "JOIN members m ON m.conversation_id = c.id "
        "WHERE c.id = ? AND m.account_id <> ? AND c.member_count <= ? LIMIT ?"
    )
    found: list[Marks] = []
    with reader.consistent():
        for conversation_id, _, _ in latest(reader, account_id, 0, limit):
            if conversation_id == EVERYONE_ID:
                continue  # ListMembers has them, for who looks
            rows = reader.rows(query, (conversation_id, account_id, MARKS_TOLD_UP_TO, limit - len(found)))
            found.extend(Marks(*row) for row in rows)
            if len(found) >= limit:
                break
    return tuple(found)


@dataclass(frozen=True, slots=True)
class ReadState:
    """The end of a conversation, and up to where one member has read it."""

    last_message_id: int
    read_up_to: int

    def is_moved_by(self, up_to: int) -> bool:
        """Return whether a read mark raises the stored one. No mark goes beyond the end of the conversation."""
        return min(up_to, self.last_message_id) > self.read_up_to


@dataclass(frozen=True, slots=True)
class MarkedStates:
    """What the state has of conversations that are marked. `beyond` are those that a newer state may have more of."""

    known: dict[int, ReadState]
    beyond: frozenset[int]


_IMPLIED = (
    "SELECT c.last_message_id, a.first_message_id - 1 FROM accounts a JOIN conversations c ON c.id = ? WHERE a.id = ?"
)


def read_states(reader: StateReader, account_id: int, marks: Mapping[int, int]) -> MarkedStates:
    """Look up the conversations of these read marks, of which the account is a member.

    Ids rise. So a mark of a message or a conversation above the highest id that was given out may name a newer one, and
    is not looked up. Another one names what this state has, or nothing: who joins later has no mark below the joining.
    """
    # One row with everything: as a statement for each conversation, or as rows, it would take ten times as long.
    query = (
        "SELECT json_group_array(json_array(m.conversation_id, c.last_message_id, m.read_up_to)) "
        "FROM json_each(?) asked "
        "CROSS JOIN members m ON m.conversation_id = asked.value AND m.account_id = ? "
        "CROSS JOIN conversations c ON c.id = m.conversation_id"
    )
    with reader.consistent():
        [(newest_message, newest)] = reader.rows("SELECT last_message_id, last_conversation_id FROM meta")
        asked = [
            one for one, up_to in marks.items() if up_to <= newest_message and (one <= newest or one == EVERYONE_ID)
        ]
        [(found,)] = reader.rows(query, (json.dumps(asked), account_id))
        known = {one: ReadState(last, read_up_to) for one, last, read_up_to in json.loads(found)}
        if EVERYONE_ID in asked and EVERYONE_ID not in known and reader.level() >= CHANNELS_LEVEL:
            for last, read_up_to in reader.rows(_IMPLIED, (EVERYONE_ID, account_id)):
                known[EVERYONE_ID] = ReadState(last, read_up_to)
    return MarkedStates(known, frozenset(marks.keys() - set(asked)))
