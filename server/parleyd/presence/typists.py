"""Who types, on its way from the node of the typist to the nodes of those who are told.

It is kept nowhere and may be lost: a client repeats it while the person types, and the shown text ends by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from parley_proto.v1 import peer_pb2 as pb
from parleyd.presence.ids import MAX_ID

MAX_TYPING = 256
"""Accounts that type, in a report. What more do is not told."""
FRESH_S = 2.0
"""What waits for longer, because a link was down or slow, is of no use any more."""


@dataclass(frozen=True, slots=True)
class Typing:
    """An account types in a conversation. `to` is the other member of a direct one, 0 in a channel."""

    conversation_id: int
    account_id: int
    to: int = 0


class TypistsTo:
    """What one other node has yet to be told."""

    def __init__(self) -> None:
        self._waiting: dict[Typing, float] = {}

    def add(self, typing: Typing, now_s: float) -> None:
        """Tell it with the next report, unless too much waits."""
        if typing in self._waiting or len(self._waiting) < MAX_TYPING:
            self._waiting[typing] = now_s

    def take(self, now_s: float) -> list[pb.TypingReport]:
        """Return what is still of use."""
        waiting, self._waiting = self._waiting, {}
        return [
            pb.TypingReport(conversation_id=one.conversation_id, account_id=one.account_id, to=one.to)
            for one, since_s in waiting.items()
            if now_s - since_s <= FRESH_S
        ]


def typing_in(report: pb.PresenceReport) -> Iterator[Typing]:
    """Return who types by a report, without what no node sends."""
    for one in report.typists[:MAX_TYPING]:
        if 0 < one.conversation_id <= MAX_ID and 0 < one.account_id <= MAX_ID and one.to <= MAX_ID:
            yield Typing(one.conversation_id, one.account_id, one.to)
