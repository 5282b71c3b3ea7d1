"""The callers of each log entry.

A caller's commands enter the log in one entry together with those of other callers. The entry has a term and an index.
When this node applies that index, the entry there either has that term or another one. With that term, every caller
gets its share of the results. With another term, the proposal is lost (Raft §5.4: at most one leader per term, and a
committed entry never changes).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from parley_proto.v1 import state_pb2
from parleyd.group.errors import ProposalFailure
from parleyd.raft.types import Index, Term


@dataclass(frozen=True, slots=True)
class AppliedCommands:
    """The results of one caller's commands."""

    index: Index
    results: tuple[state_pb2.CommandResult, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """One caller's commands; `size_bytes` counts towards the size of a log entry."""

    token: int
    commands: Sequence[state_pb2.Command]
    size_bytes: int


Outcome = tuple[int, AppliedCommands | ProposalFailure]
"""A caller's token, and what became of its proposal."""


@dataclass(frozen=True, slots=True)
class _EntryInFlight:
    term: Term
    proposals: Sequence[Proposal]


@dataclass(slots=True)
class ProposalTable:
    """Proposals gathered for the next entry, and entries proposed but not yet applied here."""

    max_entry_bytes: int
    _gathered: dict[int, Proposal] = field(default_factory=dict)
    _in_flight: dict[Index, _EntryInFlight] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        """Return how many callers wait for the next entry."""
        return len(self._gathered)

    @property
    def in_flight(self) -> int:
        """Return how many entries of this node are proposed and not yet applied here."""
        return len(self._in_flight)

    def gather(self, token: int, commands: Sequence[state_pb2.Command]) -> None:
        """Keep commands for the next entry."""
        self._gathered[token] = Proposal(token, commands, sum(command.ByteSize() for command in commands))

    def withdraw(self, token: int) -> None:
        """Remove a caller; commands that are not in the log yet are not proposed."""
        self._gathered.pop(token, None)

    def take_entries(self, proposed_at_ms: int, level: int) -> list[tuple[bytes, list[Proposal]]]:
        """Turn the gathered commands into entry payloads of the cluster's `level`.

        Each has at most `max_entry_bytes`, unless one caller's commands alone are larger.
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
        for proposal in self._gathered.values():
            if not groups or proposal.size_bytes > room:
                groups.append([])
                room = self.max_entry_bytes
            groups[-1].append(proposal)
            room -= proposal.size_bytes
        self._gathered.clear()
        return groups

    def proposed(self, index: Index, term: Term, proposals: Sequence[Proposal]) -> Iterator[Outcome]:
        """Record the callers of the entry at `index`; an earlier entry of this node at that index is lost."""
        lost = self._in_flight.get(index)
        self._in_flight[index] = _EntryInFlight(term, proposals)
        return _all_of(lost, ProposalFailure.LOST)

    def applied(self, index: Index, term: Term, results: Sequence[state_pb2.CommandResult]) -> Iterator[Outcome]:
        """Return each caller's results, in the order of the commands in the entry."""
        entry = self._in_flight.pop(index, None)
        if entry is None:
            return iter(())
        if entry.term != term:
            return _all_of(entry, ProposalFailure.LOST)
        return _shares(index, entry, results)

    def skipped_to(self, index: Index) -> Iterator[Outcome]:
        """Fail the callers of entries up to `index`: a snapshot replaced the state, so the results are unknown."""
        for skipped in [known for known in self._in_flight if known <= index]:
            yield from _all_of(self._in_flight.pop(skipped), ProposalFailure.SKIPPED)

    def fail_all(self, failure: ProposalFailure) -> Iterator[Outcome]:
        """Fail every caller, gathered or in flight."""
        gathered, in_flight = self._gathered, self._in_flight
        self._gathered, self._in_flight = {}, {}
        for token in gathered:
            yield token, failure
        for entry in in_flight.values():
            yield from _all_of(entry, failure)


def _shares(index: Index, entry: _EntryInFlight, results: Sequence[state_pb2.CommandResult]) -> Iterator[Outcome]:
    start = 0
    for proposal in entry.proposals:
        end = start + len(proposal.commands)
        yield proposal.token, AppliedCommands(index, tuple(results[start:end]))
        start = end


def _all_of(entry: _EntryInFlight | None, failure: ProposalFailure) -> Iterator[Outcome]:
    for proposal in entry.proposals if entry is not None else ():
        yield proposal.token, failure
