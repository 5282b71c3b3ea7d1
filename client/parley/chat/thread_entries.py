"""The source of a row of a thread, and its place among the others."""

import time
from dataclasses import dataclass

from parley.model import LostMessage, LostOrigin, Message, MessageKind, Outgoing

RUN_MS = 5 * 60 * 1000
SHIFT = 80
"""Rows are in the order of their keys: an id, and below it time and number of a lost message that stood after it."""
NUMBER_BITS = 32


@dataclass(frozen=True, slots=True)
class Entry:
    """The source of a row: a row of the cluster (`message`), a lost one, or an own message without an id (`own`).

    `local_id` is that of the outbox if this device sent the message.
    """

    message_id: int
    local_id: int
    at_ms: int
    sender_id: int
    mine: bool
    message: Message | None = None
    own: Outgoing | None = None
    lost: LostMessage | None = None

    @property
    def key(self) -> int:
        """Return the place of a row that is not open."""
        if self.lost is None:
            return key_of_id(self.message_id)
        return key_of_id(self.lost.after_id) + (self.lost.sent_at_ms << NUMBER_BITS) + self.lost.id

    def is_removed(self, up_to: int) -> bool:
        """Return whether it is gone for an account that has removed the conversation up to a message.

        An own message stays that was lost and can be sent again.
        """
        if self.lost is not None:
            return 0 < up_to >= self.lost.after_id and self.lost.origin is not LostOrigin.THIS_DEVICE
        return 0 < self.message_id <= up_to

    @property
    def urgent(self) -> bool:
        """Return whether the message is urgent."""
        return any(one is not None and one.urgent for one in (self.message, self.own, self.lost))

    @property
    def body(self) -> str:
        """Return the text of an own or a lost message."""
        return next((one.body for one in (self.own, self.lost) if one is not None), "")

    @property
    def event(self) -> bool:
        """Return whether it is something that happened beside messages."""
        return self.message is not None and self.message.kind is not MessageKind.TEXT


def key_of_id(message_id: int) -> int:
    """Return the key of a row of the cluster."""
    return message_id << SHIFT


def lost_entry(one: LostMessage) -> Entry:
    """Return the source of a row for a lost message."""
    return Entry(0, 0, one.sent_at_ms, 0, one.origin is not LostOrigin.OTHERS, lost=one)


def are_one_run(earlier: Entry, later: Entry) -> bool:
    """Return whether two neighbours are by one sender and close in time."""
    if earlier.lost is not None or later.lost is not None:
        return False  # their senders are names
    same = earlier.sender_id == later.sender_id and earlier.mine == later.mine
    return same and not earlier.event and not later.event and later.at_ms - earlier.at_ms < RUN_MS


def day(at_ms: int) -> tuple[int, int]:
    """Return the day of a time, in the local time zone."""
    local = time.localtime(at_ms / 1000)
    return local.tm_year, local.tm_yday
