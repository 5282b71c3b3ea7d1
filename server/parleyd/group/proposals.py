"""The callers of each log entry.

A caller's commands enter the log in one entry together with those of other callers. The entry has a term and an index.
When this node applies that index, the entry there either has that term or another one. With that term, every caller
gets its share of the results. With another term, the proposal is lost (Raft §5.4: at most one leader per term, and a
committed entry never changes).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from parley_proto.v1 import state_pb2
from parleyd.group.errors import ProposalFailure
from parleyd.group.fair_order import FairOrder
from parleyd.raft.types import NO_TERM, Index, Term


@dataclass(frozen=True, slots=True)
class AppliedCommands:
    """The results of one caller's commands.

    `after_unknown` is true if an earlier attempt has no known outcome: a refusal is then true of the last one only.
    """

    index: Index
    results: tuple[state_pb2.CommandResult, ...]
    after_unknown: bool = False


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
    size_bytes: int = 0


@dataclass(slots=True)
class ProposalTable:
    """Proposals gathered for the next entry, and entries proposed but not yet applied here.

    At most `max_waiting` callers and `max_waiting_bytes` of their commands wait for the next entry, but always one.
    Nothing more is proposed while `max_pipeline_bytes` of this term are proposed and not applied here. So what waits,
    waits here, in the order of fair queueing by bytes: the commands of a session that sends much wait for each other,
    and do not hold up those of others.

    Less than `enough_bytes` wait until the entries before them are applied, as small segments do in TCP (Nagle, RFC
    896): an entry costs all nodes much more than a command in it.
    """

    max_entry_bytes: int
    max_waiting: int = 16_384
    max_waiting_bytes: int = 16 << 20
    max_pipeline_bytes: int = 1 << 20
    enough_bytes: int = 0
    _waiting_bytes: int = 0
    _order: FairOrder = field(default_factory=FairOrder)
    _gathered: dict[int, Proposal] = field(default_factory=dict)
    _in_flight: dict[Index, _EntryInFlight] = field(default_factory=dict)

    @property
    def waiting(self) -> int:
        """Return how many callers wait for the next entry."""
        return len(self._gathered)

    @property
    def waiting_bytes(self) -> int:
        """Return the size of the commands that wait for the next entry."""
        return self._waiting_bytes

    @property
    def in_flight(self) -> int:
        """Return how many entries of this node are proposed and not yet applied here."""
        return len(self._in_flight)

    def gather(self, token: int, commands: Sequence[state_pb2.Command]) -> bool:
        """Keep commands for the next entry; return False if too much waits already."""
        size_bytes = sum(command.ByteSize() for command in commands)
        is_full = len(self._gathered) >= self.max_waiting or self._waiting_bytes + size_bytes > self.max_waiting_bytes
        if self._gathered and is_full:
            return False
        self._gathered[token] = Proposal(token, commands, size_bytes)
        self._waiting_bytes += size_bytes
        self._order.add(_source_of(token, commands), token, size_bytes)
        return True

    def withdraw(self, token: int) -> None:
        """Remove a caller; commands that are not in the log yet are not proposed."""
        proposal = self._gathered.pop(token, None)
        if proposal is not None:
            self._waiting_bytes -= proposal.size_bytes

    def take_entries(self, proposed_at_ms: int, level: int, term: Term = NO_TERM) -> list[tuple[bytes, list[Proposal]]]:
        """Turn gathered commands into entry payloads of the cluster's `level`, as far as the pipeline has room.

        Each has at most `max_entry_bytes`, unless one caller's commands alone are larger.
        """
        entries: list[tuple[bytes, list[Proposal]]] = []
        # Entries of an earlier term may never be applied here, so they do not count.
        proposed = [entry.size_bytes for entry in self._in_flight.values() if entry.term == term]
        if proposed and self._waiting_bytes < self.enough_bytes:
            return entries
        for proposals in self._split(self._take_fairly(self.max_pipeline_bytes - sum(proposed))):
            batch = state_pb2.CommandBatch(level=level, proposed_at_ms=proposed_at_ms)
            for proposal in proposals:
                batch.commands.extend(proposal.commands)
            entries.append((batch.SerializeToString(), proposals))
        return entries

    def _take_fairly(self, room: int) -> list[Proposal]:
        taken: list[Proposal] = []
        while self._order and room > 0:
            proposal = self._gathered.pop(self._order.next(), None)
            if proposal is not None:  # its caller has not left
                taken.append(proposal)
                room -= proposal.size_bytes
                self._waiting_bytes -= proposal.size_bytes
        return taken

    def _split(self, taken: Sequence[Proposal]) -> list[list[Proposal]]:
        groups: list[list[Proposal]] = []
        room = 0
        for proposal in taken:
            if not groups or proposal.size_bytes > room:
                groups.append([])
                room = self.max_entry_bytes
            groups[-1].append(proposal)
            room -= proposal.size_bytes
        return groups

    def proposed(self, index: Index, term: Term, proposals: Sequence[Proposal]) -> Iterator[Outcome]:
        """Record the callers of the entry at `index`; an earlier entry of this node at that index is lost."""
        lost = self._in_flight.get(index)
        size_bytes = sum(proposal.size_bytes for proposal in proposals)
        self._in_flight[index] = _EntryInFlight(term, proposals, size_bytes)
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
        yield from self.fail_gathered(failure)
        in_flight, self._in_flight = self._in_flight, {}
        for entry in in_flight.values():
            yield from _all_of(entry, failure)

    def fail_gathered(self, failure: ProposalFailure) -> Iterator[Outcome]:
        """Fail every caller whose commands are not in the log."""
        gathered, self._gathered = self._gathered, {}
        self._waiting_bytes = 0
        self._order = FairOrder()
        for token in gathered:
            yield token, failure


def _source_of(token: int, commands: Sequence[state_pb2.Command]) -> Hashable:
    """Return the session of these commands; commands of none, or of several, take turns by themselves."""
    sessions = {_session_of(command) for command in commands}
    return sessions.pop() or (token,) if len(sessions) == 1 else (token,)


def _session_of(command: state_pb2.Command) -> int:
    kind = command.WhichOneof("command")
    return getattr(getattr(command, kind), "session_id", 0) if kind is not None else 0


def _shares(index: Index, entry: _EntryInFlight, results: Sequence[state_pb2.CommandResult]) -> Iterator[Outcome]:
    start = 0
    for proposal in entry.proposals:
        end = start + len(proposal.commands)
        yield proposal.token, AppliedCommands(index, tuple(results[start:end]))
        start = end


def _all_of(entry: _EntryInFlight | None, failure: ProposalFailure) -> Iterator[Outcome]:
    for proposal in entry.proposals if entry is not None else ():
        yield proposal.token, failure
