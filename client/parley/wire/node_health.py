"""Whether the node of a stream is alive (heartbeats), and whether it serves (health). Decided purely, time is given."""

from dataclasses import dataclass
from enum import Enum, auto
from random import Random


@dataclass(frozen=True, slots=True)
class MessageStreamSettings:
    """Times of a stream. A node is silent after `silent_ticks` pings without a word."""

    ping_interval_s: float = 0.25
    silent_ticks: int = 4
    majority_grace_s: float = 0.5
    probe_interval_s: float = 1.0
    acknowledge_interval_s: float = 0.02


class Beat(Enum):
    """What a moment asks for."""

    NOTHING = auto()
    PING = auto()
    SILENT = auto()


class Heart:
    """Pings, and counts the ticks in which nothing was heard."""

    def __init__(self, settings: MessageStreamSettings) -> None:
        self._settings = settings
        self._silent_ticks = 0
        self.beat_at: float | None = None

    def start(self, now: float) -> None:
        """Begin to ping."""
        self.beat_at = now + self._settings.ping_interval_s

    def heard(self) -> None:
        """Take in that the node said something."""
        self._silent_ticks = 0

    def beat(self, now: float, *, listening: bool) -> Beat:
        """Return what is due. Without `listening` the tick does not count: a slow disk of ours is not silence."""
        if self.beat_at is None or now < self.beat_at:
            return Beat.NOTHING
        self.beat_at = now + self._settings.ping_interval_s
        self._silent_ticks += listening
        return Beat.SILENT if self._silent_ticks > self._settings.silent_ticks else Beat.PING


class Health:
    """Whether commits flow, and when to look for another node: alive but without a majority is left for a better."""

    def __init__(self, settings: MessageStreamSettings, rng: Random) -> None:
        self._settings = settings
        self._rng = rng
        self._healthy: bool | None = None
        self._probing = False
        self.has_majority = False
        self.probe_at: float | None = None

    def judge(self, now: float, *, stuck: bool) -> bool | None:
        """Return the new health, or None where it is as before."""
        healthy = self.has_majority and not stuck
        if healthy is self._healthy:
            return None
        self._healthy = healthy
        self.probe_at = None if healthy or self._probing else now + self._settings.majority_grace_s
        return healthy

    def probe_is_due(self, now: float) -> bool:
        """Return true once when another node should be looked for."""
        if self.probe_at is None or now < self.probe_at:
            return False
        self.probe_at, self._probing = None, True
        return True

    def probed(self, now: float, *, found: bool) -> bool:
        """Return whether to leave for the node found; otherwise look again later while commits do not flow."""
        self._probing = False
        if self._healthy:
            return False
        if not found:
            pause_s = self._settings.probe_interval_s * self._rng.uniform(0.5, 1.0)
            self.probe_at = now + pause_s + self._settings.majority_grace_s
        return found
