"""What goes up a stream beside sends, and when: greeting, pings, acknowledgements, read positions."""

from parley_proto.v1 import messaging_pb2 as pb


class FramesUp:
    """The frames of one stream. `reads` are told next, `reads_told` went up already; both by conversation."""

    def __init__(self, hello: pb.Hello, acknowledge_interval_s: float) -> None:
        """Acknowledgements go up at most once in `acknowledge_interval_s`."""
        self.reads: dict[int, int] = {}
        self.reads_told: dict[int, int] = {}
        self._hello: pb.Hello | None = hello
        self._interval_s = acknowledge_interval_s
        self._stored: bytes | None = None
        self._acknowledged: bytes = b""
        self._next_at = float("-inf")
        self._ping_due = False
        self._nonce = 0

    def ping(self) -> None:
        """Let the next frame be a ping."""
        self._ping_due = True

    def acknowledged(self, cursor: bytes) -> None:
        """Take in that the cluster knows this cursor: it needs no acknowledgement."""
        self._acknowledged = cursor

    def acknowledge(self, cursor: bytes) -> None:
        """Let the cluster know that everything up to this cursor is stored."""
        self._stored = None if cursor == self._acknowledged else cursor

    def acknowledge_due(self) -> float | None:
        """Return when the next acknowledgement may go up; None where there is none to send."""
        return None if self._stored is None else self._next_at

    def next(self, now: float) -> pb.ClientFrame | None:
        """Return the next frame, or None while there is nothing to say."""
        if self._hello is not None:
            hello, self._hello = self._hello, None
            return pb.ClientFrame(hello=hello)
        if self._ping_due:
            self._ping_due = False
            self._nonce += 1
            return pb.ClientFrame(ping=pb.Ping(nonce=self._nonce))
        if self._stored is not None and now >= self._next_at:
            self._acknowledged, self._stored = self._stored, None
            self._next_at = now + self._interval_s
            return pb.ClientFrame(delivered=pb.Delivered(cursor=self._acknowledged))
        if self.reads:
            conversation_id, up_to = self.reads.popitem()
            self.reads_told[conversation_id] = up_to
            return pb.ClientFrame(read=pb.Read(conversation_id=conversation_id, up_to=up_to))
        return None
