"""The unanswered sends of one stream: decides, without I/O, which are sent next.

Numbers are sent in order. Every unanswered number is kept until its final result. RETRY and GAP report that a send was
not accepted. Then no new send follows. After a delay, everything unanswered is sent again from the lowest number.
If a number was applied already, the cluster returns its first result. So sending too much again is safe, and sending
too little is not. What was in no frame of this stream, and is no message of an earlier one, no node has. It can be
taken back.
"""

from collections import deque
from collections.abc import Iterable
from random import Random

from parley.model import Outgoing

MAX_SENDS_PER_FRAME = 1024
MAX_FRAME_BYTES = 256 * 1024
FIRST_RESEND_S = 0.02
MAX_RESEND_S = 1.0
NO_ROOM_RESEND_S = 5.0
OVERHEAD_BYTES = 80


class SendWindow:
    """The unanswered sends of one stream, at most `limit` of them."""

    def __init__(self, limit: int, unanswered: Iterable[Outgoing], rng: Random) -> None:
        """`unanswered` comes from the outbox, in the order of the numbers, and is sent first."""
        self._limit = max(1, limit)
        self._open: dict[int, Outgoing] = {message.number: message for message in unanswered}
        self._unsent: deque[Outgoing] = deque(self._open.values())
        self._highest_framed = max(self._open, default=0)  # an earlier stream may have sent them
        self._rng = rng
        self._held_back = False
        self._rounds = 0
        self._gap_rounds = 0

    @property
    def capacity(self) -> int:
        """Return how many new sends may be claimed now."""
        return 0 if self._held_back else max(0, self._limit - len(self._open))

    @property
    def unanswered(self) -> int:
        """Return how many sends have no final result."""
        return len(self._open)

    @property
    def gap_rounds(self) -> int:
        """Return how many times in a row the lowest unanswered number was called a gap."""
        return self._gap_rounds

    @property
    def rounds(self) -> int:
        """Return how many times in a row resending was requested without a final result in between."""
        return self._rounds

    def add(self, claimed: Iterable[Outgoing]) -> None:
        """Add newly numbered sends."""
        for message in claimed:
            self._open[message.number] = message
            self._unsent.append(message)

    def next_frame(self) -> list[Outgoing]:
        """Return the sends of the next frame, or an empty list."""
        frame: list[Outgoing] = []
        size_bytes = 0
        while not self._held_back and self._unsent and len(frame) < MAX_SENDS_PER_FRAME:
            message = self._unsent[0]
            size_bytes += len(message.body.encode()) + OVERHEAD_BYTES
            if frame and size_bytes > MAX_FRAME_BYTES:
                break
            self._unsent.popleft()
            if message.number in self._open:
                frame.append(message)
                self._highest_framed = max(self._highest_framed, message.number)
        return frame

    def take_back(self) -> list[Outgoing]:
        """Remove and return the sends that no node can have, in the order of their numbers, which are the newest."""
        unframed = [message for number, message in self._open.items() if number > self._highest_framed]
        for message in unframed:
            del self._open[message.number]
        # Their numbers are given to other messages, so they must not be found here under them.
        self._unsent = deque(message for message in self._unsent if message.number in self._open)
        return unframed

    def settle(self, number: int) -> Outgoing | None:
        """Record a final result. Return the message, or None if it had a result before."""
        message = self._open.pop(number, None)
        if message is not None:
            self._rounds = self._gap_rounds = 0
        return message

    def push_back(self, number: int, *, gap: bool, no_room: bool = False) -> float | None:
        """Record that a send was not accepted. Return the delay before resume(), or None if one is running already.

        The delay doubles with every round without a final result, with jitter, up to a second. Without room for
        messages it is longer, and the round does not count: no other node has more.
        """
        if number not in self._open:
            return None
        if gap and number == next(iter(self._open)):
            self._gap_rounds += 1
        if self._held_back:
            return None
        self._held_back = True
        if no_room:
            return self._rng.uniform(NO_ROOM_RESEND_S / 2, NO_ROOM_RESEND_S)
        self._rounds += 1
        cap = min(MAX_RESEND_S, FIRST_RESEND_S * 2.0 ** min(self._rounds - 1, 16))
        return self._rng.uniform(cap / 2, cap)

    def resume(self) -> None:
        """Send everything unanswered again, from the lowest number."""
        self._held_back = False
        self._unsent = deque(self._open.values())
