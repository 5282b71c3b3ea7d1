"""Decides whether the node of a stream is alive (heartbeats) and whether it serves (health).

The streams of one connection share a pulse: what one of them hears proves to all that the node is alive, and one ping
that is answered is enough for all. A stream whose ping has no answer may be stuck itself: then the next one sends one.
A stream that hears nothing itself sends its own ping from time to time.

The caller passes the time.
"""

from dataclasses import dataclass, field
from enum import Enum, auto
from random import Random

from parley.wire.node_doubt import DoubtPause, DoubtSettings, Look, NodeDoubt

OWN_PING_TICKS = 16
"""After so many ticks without a frame of its own, a stream sends its own pings, whatever the other streams hear."""


@dataclass(frozen=True, slots=True)
class MessageStreamSettings:
    """The times of a stream. A node is silent after `silent_ticks` pings without a frame from it."""

    ping_interval_s: float = 0.25
    silent_ticks: int = 4
    majority_grace_s: float = 0.5
    probe_interval_s: float = 1.0
    acknowledge_interval_s: float = 0.02
    doubt: DoubtSettings = field(default_factory=DoubtSettings)


class Pulse:
    """The life of one connection, for all streams that share it."""

    def __init__(self) -> None:
        self.heard = 0
        """How many frames came."""
        self._heard_at_ping = -1
        self._pinged_at = float("-inf")

    def takes_ping(self, now: float, interval_s: float) -> bool:
        """Return whether a ping is due, which the caller sends then. The beats of many streams do not coincide."""
        if self.heard != self._heard_at_ping and now - self._pinged_at < interval_s / 2:
            return False
        self._heard_at_ping, self._pinged_at = self.heard, now
        return True


class Beat(Enum):
    """What is due at a given time."""

    NOTHING = auto()
    PING = auto()
    ASK_ANOTHER = auto()
    SILENT = auto()


_BEATS = {Look.NOTHING: Beat.NOTHING, Look.PING: Beat.PING, Look.ASK_ANOTHER: Beat.ASK_ANOTHER}


class Heart:
    """Sends pings, and counts the ticks in which nothing was received."""

    def __init__(self, settings: MessageStreamSettings, pause: DoubtPause, pulse: Pulse) -> None:
        self.doubt = NodeDoubt(settings.doubt, pause)
        self._settings = settings
        self._pulse = pulse
        self._pulse_heard = 0
        self._silent_ticks = 0
        self._own_silent_ticks = 0
        self.beat_at: float | None = None

    def start(self, now: float) -> None:
        """Begin to send pings."""
        self.beat_at = now + self._settings.ping_interval_s

    @property
    def due_at(self) -> float | None:
        """Return when something is due, or None."""
        times = [time for time in (self.beat_at, self.doubt.look_at) if time is not None]
        return min(times, default=None)

    def heard(self) -> None:
        """Record that the node sent something."""
        self._pulse.heard += 1
        self._own_silent_ticks = 0
        self.doubt.heard()

    def beat(self, now: float, *, listening: bool) -> Beat:
        """Return what is due.

        Without `listening` the tick does not count, because a slow local disk is not silence of the node.
        """
        look = self.doubt.look(now, listening=listening)
        if self.beat_at is None or now < self.beat_at:
            return _BEATS[look]
        self.beat_at = now + self._settings.ping_interval_s
        if self._pulse_heard != self._pulse.heard:
            self._pulse_heard, self._silent_ticks = self._pulse.heard, 0
        self._silent_ticks += listening
        self._own_silent_ticks += listening
        most = self._settings.silent_ticks
        if self._silent_ticks > most or self._own_silent_ticks > OWN_PING_TICKS + most:
            return Beat.SILENT
        if look is not Look.NOTHING:
            return _BEATS[look]
        is_due = self._pulse.takes_ping(now, self._settings.ping_interval_s)
        return Beat.PING if is_due or self._own_silent_ticks > OWN_PING_TICKS else Beat.NOTHING


class Health:
    """Whether commits succeed, and when to look for another node.

    The client leaves a node without a majority if another node serves.
    """

    def __init__(self, settings: MessageStreamSettings, rng: Random) -> None:
        self._settings = settings
        self._rng = rng
        self._healthy: bool | None = None
        self._probing = False
        self.has_majority = False
        self.probe_at: float | None = None

    @property
    def is_good(self) -> bool:
        """Return whether commits succeed."""
        return self._healthy is True

    def judge(self, now: float, *, stuck: bool) -> bool | None:
        """Return the new health, or None if it is unchanged."""
        healthy = self.has_majority and not stuck
        if healthy is self._healthy:
            return None
        self._healthy = healthy
        self.probe_at = None if healthy or self._probing else now + self._settings.majority_grace_s
        return healthy

    def probe_is_due(self, now: float) -> bool:
        """Return true once when it is time to look for another node."""
        if self.probe_at is None or now < self.probe_at:
            return False
        self.probe_at, self._probing = None, True
        return True

    def probed(self, now: float, *, found: bool) -> bool:
        """Return whether to move to the node found. If not, another search follows while commits do not succeed."""
        self._probing = False
        if self._healthy:
            return False
        if not found:
            pause_s = self._settings.probe_interval_s * self._rng.uniform(0.5, 1.0)
            self.probe_at = now + pause_s + self._settings.majority_grace_s
        return found
