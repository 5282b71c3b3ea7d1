"""Which callers wait for which log entry.

A caller's commands enter the log in one entry together with those of others who came at the same time. The entry is
known by (term, index). When the applier reaches that index, the entry there either has that term, and every caller
gets its share of the results, or it has another, and the proposal is certainly lost (Raft §5.4: at most one leader
per term, and a committed entry never changes).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from parley_proto.v1 import state_pb2
from parleyd.group.errors import LostError, OutcomeUnknownError, ProposalError
from parleyd.raft.types import Index, Term


@dataclass(frozen=True, slots=True)
class AppliedCommands:
    """What became of one caller's commands."""

    index: Index
    results: tuple[state_pb2.CommandResult, ...]


@dataclass(slots=True)
class Proposal:
    """One caller's commands on their way; `size_bytes` counts against the size of a log entry."""

    commands: Sequence[state_pb2.Command]
    outcome: asyncio.Future[AppliedCommands]
    size_bytes: int

    def fail(self, error: ProposalError) -> None:
        """Tell the caller, unless it has gone."""
        if not self.outcome.done():
            self.outcome.set_exception(error)


@dataclass(slots=True)
class _EntryInFlight:
    term: Term
    proposals: list[Proposal]


@dataclass(slots=True)
class ProposalTable:
    """Proposals gathered for the next entry, and entries proposed but not yet applied here."""

    max_entry_bytes: int
    gathered: list[Proposal] = field(default_factory=list)
    _in_flight: dict[Index, _EntryInFlight] = field(default_factory=dict)

    @property
    def in_flight(self) -> int:
        """Entries proposed by this node and not yet applied here."""
        return len(self._in_flight)

    def take_entries(self, proposed_at_ms: int, level: int) -> list[tuple[bytes, list[Proposal]]]:
        """Turn what was gathered into entry payloads of the cluster's `level`.

        Each has at most `max_entry_bytes`, unless one caller's commands alone are more.
        """
        entries: list[tuple[bytes, list[Proposal]]] = []
        for proposals in self._split():
            batch = state_pb2.CommandBatch(level=level, proposed_at_ms=proposed_at_ms)
            for proposal in proposals:
                batch.commands.extend(proposal.commands)
            entries.append((batch.SerializeToString(), proposals))
        return entries

    def _split(self) -> list[list[Proposal]]:
        groups: list[list[Proposal]] = []
        room = 0
        for proposal in self.gathered:
            if proposal.outcome.done():  # the caller has gone before anything was promised
                continue
            if not groups or proposal.size_bytes > room:
                groups.append([])
                room = self.max_entry_bytes
            groups[-1].append(proposal)
            room -= proposal.size_bytes
        self.gathered = []
        return groups

    def proposed(self, index: Index, term: Term, proposals: list[Proposal]) -> None:
        """Remember who waits for the entry at `index`; an entry this node once had there is certainly lost."""
        self._lose(index)
        self._in_flight[index] = _EntryInFlight(term, proposals)

    def applied(self, index: Index, term: Term, results: Sequence[state_pb2.CommandResult]) -> None:
        """Hand each caller its results, in the order the commands stand in the entry."""
        entry = self._in_flight.get(index)
        if entry is None:
            return
        if entry.term != term:
            self._lose(index)
            return
        del self._in_flight[index]
        start = 0
        for proposal in entry.proposals:
            end = start + len(proposal.commands)
            if not proposal.outcome.done():
                proposal.outcome.set_result(AppliedCommands(index, tuple(results[start:end])))
            start = end

    def skipped_to(self, index: Index) -> None:
        """A snapshot replaced the state up to `index`: what stood in those entries was never seen here."""
        for skipped in [known for known in self._in_flight if known <= index]:
            for proposal in self._in_flight.pop(skipped).proposals:
                proposal.fail(OutcomeUnknownError("a snapshot replaced the log entry before it was applied here"))

    def fail_all(self, make_error: Callable[[], ProposalError]) -> None:
        """Tell everyone who waits, gathered or in flight."""
        for proposal in self.gathered:
            proposal.fail(make_error())
        self.gathered = []
        for entry in self._in_flight.values():
            for proposal in entry.proposals:
                proposal.fail(make_error())
        self._in_flight = {}

    def _lose(self, index: Index) -> None:
        entry = self._in_flight.pop(index, None)
        for proposal in entry.proposals if entry else ():
            proposal.fail(LostError(f"another leader's entry stands at index {index}"))
