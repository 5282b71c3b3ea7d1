"""The frames from the client except sends: greeting, pings, acknowledgements, read positions, the person's presence."""

from parley_proto.v1 import messaging_pb2 as pb

TYPING_EVERY_S = 3.0
"""Typing is told at most so often. The others show it for six seconds."""


class FramesUp:
    """The frames of one stream. `reads` are sent next, `reads_told` were sent already, both by conversation."""

    def __init__(self, hello: pb.Hello, acknowledge_interval_s: float) -> None:
        """At most one acknowledgement is sent per `acknowledge_interval_s`, and fewer where the node allows it."""
        self.reads: dict[int, int] = {}
        self.reads_told: dict[int, int] = {}
        self._hello: pb.Hello | None = hello
        self._interval_s = acknowledge_interval_s
        self._stored: bytes | None = None
        self._acknowledged: bytes = b""
        self._next_at = float("-inf")
        self._wanted_at = float("inf")
        self._ping_due = False
        self._nonce = 0
        self.away = False
        """Whether the person is away. The node is told when it changes."""
        self._away_told = False
        self._typing = 0
        self._typing_told = (0, float("-inf"))

    def ping(self) -> None:
        """Make the next frame a ping."""
        self._ping_due = True

    def acknowledged(self, cursor: bytes) -> None:
        """Record that the cluster has this cursor, so it needs no acknowledgement."""
        self._acknowledged = cursor

    def acknowledge(self, cursor: bytes, wanted_at: float = float("-inf")) -> None:
        """Acknowledge that everything up to this cursor is stored. The node wants to know it at `wanted_at`."""
        self._stored = None if cursor == self._acknowledged else cursor
        self._wanted_at = float("inf") if self._stored is None else min(self._wanted_at, wanted_at)

    def acknowledge_due(self) -> float | None:
        """Return when the next acknowledgement is to be sent, or None if there is none to send."""
        return None if self._stored is None else max(self._next_at, self._wanted_at)

    def types(self, conversation_id: int, now: float) -> None:
        """Tell that the person types there, unless that was told a moment ago."""
        told, at = self._typing_told
        if conversation_id != told or now >= at + TYPING_EVERY_S:
            self._typing, self._typing_told = conversation_id, (conversation_id, now)

    def sent(self) -> None:
        """Record that a message is sent: what is typed next is told at once."""
        self._typing_told = (0, float("-inf"))

    def next(self, now: float) -> pb.ClientFrame | None:
        """Return the next frame, or None if there is none."""
        if self._hello is not None:
            hello, self._hello = self._hello, None
            return pb.ClientFrame(hello=hello)
        if self._ping_due:
            self._ping_due = False
            self._nonce += 1
            return pb.ClientFrame(ping=pb.Ping(nonce=self._nonce))
        if self.away != self._away_told:
            self._away_told = self.away
            return pb.ClientFrame(away=pb.Away(away=self.away))
        due = self.acknowledge_due()
        if self._stored is not None and due is not None and now >= due:
            self._acknowledged, self._stored, self._wanted_at = self._stored, None, float("inf")
            self._next_at = now + self._interval_s
            return pb.ClientFrame(delivered=pb.Delivered(cursor=self._acknowledged))
        if self._typing:
            typing, self._typing = self._typing, 0
            return pb.ClientFrame(typist=pb.Typing(conversation_id=typing))
        if self.reads:
            conversation_id, up_to = self.reads.popitem()
            self.reads_told[conversation_id] = up_to
            return pb.ClientFrame(read=pb.Read(conversation_id=conversation_id, up_to=up_to))
        return None
