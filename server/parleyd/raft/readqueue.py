"""Reads that wait to be linearizable: pure bookkeeping (thesis §6.4).

A round is one read that waits for a majority to confirm its leader. The leader makes the token from its term and a
counter, so an answer to an old token or an earlier leader confirms nothing. Rounds are confirmed in order: a
confirmation of one confirms all that began before it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

from parleyd.raft.types import Index, NodeId, Term

_TOKEN = struct.Struct(">QQ")


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """A read `context` requested by `requester`, which may be another server."""

    requester: NodeId
    context: bytes


@dataclass(slots=True)
class ReadRound:
    """A read that is linearizable at `index` as soon as `acks` are a majority."""

    request: ReadRequest
    index: Index
    acks: dict[NodeId, bool] = field(default_factory=dict)


class ReadQueue:
    """All reads of this server, bounded by `capacity` in each of the three kinds.

    `rounds`: begun by this leader. `postponed`: held back until this leader commits in its term. `forwarded`: sent to
    the leader by this follower.
    """

    __slots__ = ("_capacity", "_sequence", "forwarded", "postponed", "rounds")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._sequence = 0
        self.rounds: dict[bytes, ReadRound] = {}
        self.postponed: list[ReadRequest] = []
        self.forwarded: dict[bytes, None] = {}

    def has_room(self) -> bool:
        """Return whether this leader may accept another read."""
        return len(self.rounds) < self._capacity and len(self.postponed) < self._capacity

    def forget_oldest_forwarded(self) -> list[bytes]:
        """Make space for one more forwarded read; return what was removed."""
        forgotten = []
        while len(self.forwarded) >= self._capacity:
            oldest = next(iter(self.forwarded))
            del self.forwarded[oldest]
            forgotten.append(oldest)
        return forgotten

    def begin(self, request: ReadRequest, term: Term, index: Index) -> tuple[bytes, ReadRound]:
        """Start a round for `request` at `index`; returns its token."""
        self._sequence += 1
        token = _TOKEN.pack(term, self._sequence)
        started = ReadRound(request, index)
        self.rounds[token] = started
        return token, started

    def last_token(self) -> bytes:
        """Return the token of the latest round, empty if there is none; heartbeats repeat it until it is confirmed."""
        return next(reversed(self.rounds), b"")

    def confirm(self, token: bytes) -> list[ReadRound]:
        """Remove and return the round of `token` and all before it."""
        confirmed = []
        for known in list(self.rounds):
            confirmed.append(self.rounds.pop(known))
            if known == token:
                break
        return confirmed

    def abandon(self, own: NodeId) -> list[bytes]:
        """Forget rounds and postponed reads after a change of leadership; return the contexts of this server's own."""
        requests = [started.request for started in self.rounds.values()] + self.postponed
        self.rounds.clear()
        self.postponed.clear()
        return [request.context for request in requests if request.requester == own]

    def abandon_forwarded(self) -> list[bytes]:
        """Forget the forwarded reads, because their leader does not lead any more."""
        contexts = list(self.forwarded)
        self.forwarded.clear()
        return contexts
