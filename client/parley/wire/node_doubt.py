"""Decides when a node that owes an answer is doubted, so that another one is asked beside it.

After the first missing answer the node gets a ping, which it answers without its leader. When that has no answer
either, one other node is asked. The stream stays until the other node has answered. If the doubted node is heard first,
nothing changes, and the next doubt has to wait longer. So a cluster that is only slow gets few of these calls.

A look that comes late proves nothing: the answers may be in the socket.
"""

from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True, slots=True)
class DoubtSettings:
    """The times of a doubt. An answer is missed after `answer_due_s`."""

    answer_due_s: float = 0.1
    first_pause_s: float = 1.0
    max_pause_s: float = 30.0


class DoubtPause:
    """The time between two doubts, for all streams of a client."""

    def __init__(self, settings: DoubtSettings) -> None:
        self._settings = settings
        self._pause_s = settings.first_pause_s
        self._next_at = float("-inf")

    def may_doubt(self, now: float) -> bool:
        """Return whether another node may be asked now."""
        return now >= self._next_at

    def ended(self, now: float, *, was_right: bool) -> None:
        """Record the end of a doubt. The pause doubles after each wrong one."""
        self._pause_s = self._settings.first_pause_s if was_right else self._pause_s
        self._next_at = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, self._settings.max_pause_s)


class Look(Enum):
    """What is due when an answer is looked for."""

    NOTHING = auto()
    PING = auto()
    ASK_ANOTHER = auto()


class NodeDoubt:
    """What the node of one stream owes."""

    def __init__(self, settings: DoubtSettings, pause: DoubtPause) -> None:
        self._settings = settings
        self._pause = pause
        self._was_pinged = False
        self._is_asking = False
        self._was_heard = False
        self.look_at: float | None = None

    def asked(self, now: float) -> None:
        """Record that a frame was sent that the node answers."""
        if self.look_at is None:
            self.look_at = now + self._settings.answer_due_s

    def heard(self) -> None:
        """Record that the node sent something."""
        self.look_at, self._was_pinged, self._was_heard = None, False, True

    def look(self, now: float, *, listening: bool) -> Look:
        """Return what is due. Without `listening` the device itself reads no answers."""
        if self.look_at is None or now < self.look_at:
            return Look.NOTHING
        late_s = now - self.look_at
        self.look_at = now + self._settings.answer_due_s
        if not listening or late_s > self._settings.answer_due_s / 2:
            return Look.NOTHING
        if not self._was_pinged:
            self._was_pinged = True
            return Look.PING
        if self._is_asking or not self._pause.may_doubt(now):
            return Look.NOTHING
        self._is_asking, self._was_heard = True, False
        return Look.ASK_ANOTHER

    def answered(self, now: float, *, found: bool) -> bool:
        """Record the answer of the other node; return whether to move there."""
        self._is_asking = False
        was_right = found and not self._was_heard
        self._pause.ended(now, was_right=was_right)
        return was_right
