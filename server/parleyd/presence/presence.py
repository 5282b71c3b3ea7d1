"""Who is connected to which node, without I/O and without a clock: what to send, what was heard, what still counts.

No part of it is in the log. Each node sends each other member its own accounts (reports.py) and believes what that
member reports of itself, for SILENT_AFTER_S. A member that is silent for longer, or whose link is down, keeps its set
here, but nobody sees it: a member that was only slow needs no new set.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from parley_proto.v1 import peer_pb2 as pb
from parleyd.presence.last_seen import LastSeen
from parleyd.presence.own import OwnClients
from parleyd.presence.reports import ReportsFrom, ReportsTo
from parleyd.presence.typists import Typing
from parleyd.raft.types import NodeId

MAX_LISTED = 10_000
"""Accounts of one node that others see. Those above it show only in the counts."""
SILENT_AFTER_S = 1.7
"""Members send a report each second. One that is 0.7 s late hides nobody, and the dead are gone within two seconds."""


class Peers(Protocol):
    """What is known of the other nodes."""

    def is_member(self, node: NodeId) -> bool:
        """Return whether the cluster has this member."""

    def connected(self, node: NodeId) -> bool:
        """Return whether this node's link to `node` is up."""


@dataclass(frozen=True, slots=True)
class Connected:
    """An account with a connected device, and since when. `away`: it is away from all of them."""

    account_id: int
    since_s: float
    away: bool = False


class Presence:
    """This node's own accounts, and those of the other members."""

    def __init__(self, node: NodeId, epoch: int, peers: Peers, max_listed: int = MAX_LISTED) -> None:
        """`epoch` is a random number of this process. Times are those of one clock that never goes back."""
        self._node = node
        self._epoch = epoch
        self._peers = peers
        self._max_listed = max_listed
        self._own = OwnClients(max_listed)
        self._last_seen = LastSeen(4 * max_listed)
        self._sent: dict[NodeId, ReportsTo] = {}
        self._heard: dict[NodeId, ReportsFrom] = {}

    @property
    def own_clients(self) -> int:
        """Return how many devices are connected to this node."""
        return self._own.count

    @property
    def has_more(self) -> bool:
        """Return whether some member lacks something that fitted into no report."""
        return any(reports.has_more for node, reports in self._sent.items() if self._is_reached(node))

    # ---- this node's clients

    def client_connected(self, account_id: int, now_s: float) -> None:
        """Count a device of an account."""
        self._last_seen.connected((account_id,))
        self._own_changed(self._own.connected(account_id, now_s))

    def client_away(self, account_id: int, *, away: bool) -> None:
        """Note that a device of an account is away, or no longer. The caller tells each change once."""
        self._own_changed(self._own.set_away(account_id, away=away))

    def client_gone(self, account_id: int, now_s: float, *, away: bool = False) -> None:
        """Take a device of an account off the count, which was `away`."""
        changed = self._own.gone(account_id, away=away)
        if not self._own.has(account_id):
            self._last_seen.note(account_id, now_s)
        self._own_changed(changed)

    def client_types(self, typing: Typing, now_s: float) -> None:
        """Tell the other nodes that an account types."""
        for reports in self._sent.values():
            reports.typists.add(typing, now_s)

    def _own_changed(self, account_ids: Iterable[int]) -> None:
        for reports in self._sent.values():
            reports.changed(account_ids)

    # ---- the other nodes

    def link_began(self, node: NodeId) -> None:
        """Send the whole set again: what the link had sent before may be lost.

        What `node` has reported counts again with its next report, because another process may be behind the link now.
        """
        if node in self._sent:
            self._sent[node].begin()
        if node in self._heard:
            self._heard[node].wait_for_report()

    def next_report(self, node: NodeId, now_s: float) -> pb.PresenceReport | None:
        """Return what `node` has to know next; None if it is no member."""
        if not self._peers.is_member(node):
            return None
        reports = self._sent.get(node)
        if reports is None:
            self._forget_others()
            reports = self._sent[node] = ReportsTo(self._epoch, self._own, self._last_seen, self._max_listed)
            reports.again = node in self._heard and self._heard[node].lacks_report
        return reports.next_report(now_s)

    def received(self, node: NodeId, report: pb.PresenceReport, now_s: float) -> bool:
        """Take a member's report. Return whether it waits for an answer: one side lacks something."""
        if not self._peers.is_member(node):
            return False
        heard = self._heard.get(node)
        if heard is None:
            self._forget_others()
            heard = self._heard[node] = ReportsFrom(self._max_listed, self._last_seen)
        former = heard.take(report, now_s)
        sent = self._sent.get(node)
        if sent is not None:
            sent.again = heard.lacks_report
            sent.changed(former)
            if report.again:
                sent.begin()
        return heard.lacks_report or report.again or bool(former)

    def is_believed(self, node: NodeId) -> bool:
        """Return whether what a node says of its clients counts."""
        return self._peers.is_member(node)

    def _forget_others(self) -> None:
        """Forget nodes that are members no more."""
        for node in [node for node in self._sent if not self._peers.is_member(node)]:
            del self._sent[node]
        for node in [node for node in self._heard if not self._peers.is_member(node)]:
            self._heard.pop(node).forget()

    # ---- what clients may ask

    def clients_of(self, node: NodeId, now_s: float) -> int | None:
        """Return how many devices are connected to a node; None if it was not heard from."""
        if node == self._node:
            return self._own.count
        return self._heard[node].clients if self._is_heard(node, now_s) else None

    def page(self, after_account_id: int, limit: int, now_s: float) -> list[Connected]:
        """Return at most `limit` connected accounts with greater ids, ascending, each once, since it came first."""
        sources = self._sources(now_s)
        ascending = heapq.merge(*(one.after(after_account_id) for one in sources))
        return [_joined(account_id, sources) for account_id in itertools.islice(_each_once(ascending), limit)]

    def connected(self, account_id: int, now_s: float) -> Connected | None:
        """Return since when an account is connected; None if it is not, or is not listed."""
        sources = [one for one in self._sources(now_s) if one.since_s(account_id) is not None]
        return _joined(account_id, sources) if sources else None

    def last_seen_s(self, account_id: int, now_s: float) -> float | None:
        """Return when an account that is not connected was last; None if this node does not know it."""
        ends = [
            reports.heard_s
            for node, reports in self._heard.items()
            if reports.since_s(account_id) is not None and not self._is_heard(node, now_s)
        ]
        noted = self._last_seen.at_s(account_id)
        return max(ends if noted is None else [noted, *ends], default=None)

    def _sources(self, now_s: float) -> list[OwnClients | ReportsFrom]:
        return [self._own, *(reports for node, reports in self._heard.items() if self._is_heard(node, now_s))]

    def _is_heard(self, node: NodeId, now_s: float) -> bool:
        heard = self._heard.get(node)
        return heard is not None and heard.silent_for_s(now_s) <= SILENT_AFTER_S and self._is_reached(node)

    def _is_reached(self, node: NodeId) -> bool:
        return self._peers.is_member(node) and self._peers.connected(node)


def _each_once(ascending: Iterable[int]) -> Iterator[int]:
    last = 0
    for one in ascending:
        if one != last:
            last = one
            yield one


def _joined(account_id: int, sources: Sequence[OwnClients | ReportsFrom]) -> Connected:
    """Return what those of the sources that have the account know of it. At least one of them has it."""
    having = [(since_s, one) for one in sources if (since_s := one.since_s(account_id)) is not None]
    away = all(one.is_away(account_id) for _, one in having)
    return Connected(account_id, min(since_s for since_s, _ in having), away)
