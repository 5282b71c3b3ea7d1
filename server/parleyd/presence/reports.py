"""What one other node is sent about this node's accounts, and what this node has heard from one other node.

A report has at most MAX_REPORTED accounts. The reports to one receiver count up, so the receiver sees that one is
missing. It asks for the set anew in its own next report, and the sender begins again.

The sender keeps no report. It keeps which accounts the receiver has not been sent in their present state, and makes a
report of them when the link takes one. So a slow receiver costs this set, and gets the newest state.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator

from parley_proto.v1 import peer_pb2 as pb
from parleyd.presence.ids import MAX_ID, SortedIds
from parleyd.presence.last_seen import LastSeen
from parleyd.presence.own import OwnClients
from parleyd.presence.typists import TypistsTo

MAX_REPORTED = 4096
"""Accounts in a report: at most 64 KiB, and 8 KiB of who types."""


class ReportsTo:
    """What one other node is sent."""

    def __init__(self, epoch: int, own: OwnClients, last_seen: LastSeen, max_listed: int) -> None:
        self.again = False  # a report of that node is missing here
        self.typists = TypistsTo()
        self._epoch = epoch
        self._own = own
        self._last_seen = last_seen
        self._max_listed = max_listed
        self._sequence = 0
        self._begins = True
        self._pending: dict[int, None] = {}

    @property
    def has_more(self) -> bool:
        """Return whether the last report lacked something."""
        return self._begins or bool(self._pending)

    def begin(self) -> None:
        """Send the whole set with the next report."""
        self._begins = True
        self._pending.clear()

    def changed(self, account_ids: Iterable[int]) -> None:
        """Note that these accounts came or went."""
        if self._begins:
            return
        self._pending.update(dict.fromkeys(account_ids))
        if len(self._pending) > 2 * self._max_listed:
            self.begin()

    def next_report(self, now_s: float) -> pb.PresenceReport:
        """Return what the node has to know next, and that this one is alive."""
        self._sequence += 1
        report = pb.PresenceReport(
            epoch=self._epoch,
            sequence=self._sequence,
            begins=self._begins,
            clients=self._own.count,
            again=self.again,
            typists=self.typists.take(now_s),
        )
        if self._begins:
            self._pending = dict.fromkeys((*self._own.listed, *self._last_seen.newest(self._max_listed)))
            self._begins = False
        forgotten = []
        for account_id in list(itertools.islice(self._pending, MAX_REPORTED)):
            del self._pending[account_id]
            since_s, seen_s = self._own.since_s(account_id), self._last_seen.at_s(account_id)
            if since_s is not None:
                report.online.append(account_id)
                report.online_s.append(max(0, int(now_s - since_s)))
                if self._own.is_away(account_id):
                    report.away.append(account_id)
            elif seen_s is not None:
                report.gone.append(account_id)
                # Rounded up: if it were down, each report back and forth would make the time later.
                report.gone_s.append(max(0, math.ceil(now_s - seen_s)))
            else:
                forgotten.append(account_id)
        report.gone.extend(forgotten)  # behind those with a time
        return report


class ReportsFrom:
    """What this node has heard from one other node, while that one's process lives."""

    def __init__(self, max_listed: int, last_seen: LastSeen) -> None:
        """`last_seen` is told of each account that goes."""
        self.clients = 0
        self.lacks_report = False
        self.heard_s = float("-inf")
        """When the last report came."""
        self._max_listed = max_listed
        self._last_seen = last_seen
        self._waits = False
        self._epoch = 0
        self._sequence = 0
        self._since: dict[int, float] = {}
        self._away: set[int] = set()
        self._ids = SortedIds()

    def take(self, report: pb.PresenceReport, now_s: float) -> tuple[int, ...]:
        """Take the next report; one that is older than the last is of no use.

        Return the accounts that were seen with the last report of a former process, which its new one cannot know.
        """
        is_same = report.epoch == self._epoch
        if is_same and report.sequence <= self._sequence:
            return ()
        former = () if is_same else tuple(self._since)
        if report.begins or not is_same:
            self.forget()
        follows = is_same and report.sequence == self._sequence + 1
        self.lacks_report = not report.begins and (self.lacks_report or not follows)
        self._epoch, self._sequence = report.epoch, report.sequence
        self.heard_s, self._waits = now_s, False
        self.clients = report.clients
        self._remove(report.gone[:MAX_REPORTED])
        for account_id, age_s in zip(report.gone[:MAX_REPORTED], report.gone_s, strict=False):
            if 0 < account_id <= MAX_ID:
                self._last_seen.note(account_id, now_s - age_s)
        online = report.online[:MAX_REPORTED]
        self._add(zip(online, report.online_s, strict=False), now_s)
        self._last_seen.connected(online)
        self._away.difference_update(online)
        self._away.update(self._since.keys() & report.away[:MAX_REPORTED])
        return former

    def forget(self) -> None:
        """Empty the set. Its accounts were last seen with the last report, as far as is known."""
        for account_id in self._since:
            self._last_seen.note(account_id, self.heard_s)
        self._since.clear()
        self._away.clear()
        self._ids.clear()

    def wait_for_report(self) -> None:
        """Count as silent until the next report comes."""
        self._waits = True

    def silent_for_s(self, now_s: float) -> float:
        """Return how long ago the last report came that counts."""
        return float("inf") if self._waits else now_s - self.heard_s

    def since_s(self, account_id: int) -> float | None:
        """Return since when an account is connected there; None for one that is not."""
        return self._since.get(account_id)

    def is_away(self, account_id: int) -> bool:
        """Return whether an account is away at all its devices there."""
        return account_id in self._away

    def after(self, account_id: int) -> Iterator[int]:
        """Return the accounts with greater ids, ascending."""
        return self._ids.after(account_id)

    def _add(self, online: Iterable[tuple[int, int]], now_s: float) -> None:
        new = []
        for account_id, age_s in online:
            if not 0 < account_id <= MAX_ID:
                continue
            if account_id not in self._since:
                if len(self._since) >= self._max_listed:
                    continue
                new.append(account_id)
            self._since[account_id] = now_s - age_s
        self._ids.add(new)

    def _remove(self, gone: Iterable[int]) -> None:
        self._away.difference_update(gone)
        self._ids.remove([account_id for account_id in gone if self._since.pop(account_id, None) is not None])
