"""A small world as numbers: how much may happen in it, what its servers can be, and what can happen to each.

A state is what every server is and a set of bits: one for each copy of each message on its way, for each fact that
was seen, for each unit of what may still happen. A step of a server depends on that server alone, so it is taken once
and remembered (`Servers.after`, `Space.moves`): a state then costs a few look-ups.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

from parleyd.raft.errors import InvariantError, PeerProtocolError
from parleyd.raft.membership import ConfChange
from parleyd.raft.messages import Message
from parleyd.raft.types import ConfState, NodeId, Role
from tests.simulation.cluster.checker import ViolationError, require
from tests.simulation.exhaustion.names import Look, Names
from tests.simulation.exhaustion.server import Fact, Kind, Outcome, Rules, Server, Step, Stimulus, conflict

NODES = (NodeId(1), NodeId(2), NodeId(3))


@dataclass(frozen=True, slots=True)
class Scope:
    """How much may happen in a world, and how it is set up.

    `doubles`: messages that arrive and stay on their way. `leaves`: requests to leave a joint membership. `logs`: the
    terms of what the servers have on disk at first, above the bootstrap entry. `bound`: how many states are looked at
    where there are more.
    """

    name: str
    campaigns: int = 0
    proposals: int = 0
    crashes: int = 0
    transfers: int = 0
    changes: int = 0
    leaves: int = 0
    ticks: int = 0
    reads: int = 0
    compactions: int = 0
    doubles: int = 0
    offered: tuple[ConfChange, ...] = ()
    bootstrap: ConfState = ConfState(voters=NODES)  # noqa: RUF009 (immutable)
    logs: tuple[tuple[int, ...], ...] = ((), (), ())
    pre_vote: bool = False
    check_quorum: bool = False
    bound: int = 10_000_000

    @property
    def last_term(self) -> int:
        """The term that all have reached at first."""
        return max((term for terms in self.logs for term in terms), default=0)


BUDGETS = (
    *("campaigns", "proposals", "crashes", "transfers", "changes"),
    *("leaves", "ticks", "reads", "compactions", "doubles"),
)


@dataclass(frozen=True, slots=True)
class Reductions:
    """Which of the reductions are on."""

    renaming: bool = True
    dominance: bool = True
    hollow_writes: bool = True


ALL = Reductions()


@dataclass(frozen=True, slots=True)
class Move:
    """One thing that can happen to a server: `stimulus` makes it `server`; the other fields are bits of the state.

    `sent` are the first copies of the messages it sends. Where one is on its way already, or is sent twice (`repeats`),
    `messages` says which they are, by their numbers.
    """

    stimulus: int
    server: int
    dropped: int
    sent: int
    messages: tuple[int, ...]
    facts: int
    repeats: bool


class Broken(Exception):  # noqa: N818 (not an error: a finding)
    """A property does not hold after `trace`, the shortest way there."""

    def __init__(self, text: str, trace: list[Stimulus]) -> None:
        super().__init__(text)
        self.trace = trace


class Servers:
    """All states of single servers that were met, each under a number, and what became of them."""

    def __init__(self, scope: Scope, rules: Rules, names: list[Names]) -> None:
        self.rules = rules
        self.names = names
        self.known: list[Server] = []
        self.orbits: list[int] = []
        self._numbers: dict[Look, int] = {}
        self._origins: list[tuple[int, Stimulus] | None] = []
        self._orbit_of: dict[Look, int] = {}
        self._outcomes: dict[tuple[int, Stimulus], tuple[int, Outcome]] = {}
        self._renamed: dict[tuple[int, int], int] = {}
        self.first = tuple(
            self._number(rules.bootstrapped(node, scope.bootstrap, terms, scope.last_term), None)
            for node, terms in zip(NODES, scope.logs, strict=True)
        )

    def _number(self, server: Server, origin: tuple[int, Stimulus] | None) -> int:
        look = self.names[0].look(server)
        number = self._numbers.get(look)
        if number is None:
            number = self._numbers[look] = len(self.known)
            self.known.append(server)
            self._origins.append(origin)
            orbit = self._orbit_of.get(look)
            if orbit is None:
                orbit = len(self._orbit_of)
                for names in self.names:
                    self._orbit_of.setdefault(names.look(server), orbit)
            self.orbits.append(orbit)
        return number

    def after(self, number: int, stimulus: Stimulus) -> tuple[int, Outcome]:
        """What `stimulus` makes of a server."""
        known = self._outcomes.get((number, stimulus))
        if known is None:
            outcome = Step(self.rules, self.known[number]).take(stimulus)
            known = self._outcomes[number, stimulus] = (self._number(outcome.server, (number, stimulus)), outcome)
        return known

    def renamed(self, number: int, by: int) -> int:
        """The server this one would be under renaming `by`: what the renamed stimuli made of a renamed first one."""
        known = self._renamed.get((number, by))
        if known is None:
            names, origin = self.names[by], self._origins[number]
            if origin is None:
                known = self.first[names.new[self.known[number].raft._core.id] - 1]
            else:
                known, _ = self.after(self.renamed(origin[0], by), names.stimulus(origin[1]))
            same = names.look(self.known[number]) == self.names[0].look(self.known[known])
            require(same, f"the core does not treat all servers alike: {origin}")
            self._renamed[number, by] = known
        return known


class Space:
    """One scope: its messages and facts as bits, the moves of its servers, its renamings."""

    def __init__(self, scope: Scope, reductions: Reductions = ALL) -> None:
        self.scope = scope
        self.reductions = reductions
        rules = Rules(scope.pre_vote, scope.check_quorum, reductions.hollow_writes)
        self.names = list(_renamings(scope)) if reductions.renaming else [Names({node: node for node in NODES})]
        self.servers = Servers(scope, rules, self.names)
        self._bits = 0
        self.budget: dict[str, int] = {}
        self.budgets = 0
        self.start = 0
        for name in BUDGETS:
            bits = 0
            for _ in range(getattr(scope, name)):
                bits |= self._bit()
            self.budget[name] = bits
            self.budgets |= bits
        self.start = self.budgets
        self.facts = 0
        self.fact_at: dict[int, Fact] = {}
        self._fact_bits: dict[Fact, int] = {}
        self._foes: dict[int, int] = {}
        self.messages: list[Message] = []
        self._message_numbers: dict[Message, int] = {}
        self.copies: list[list[int]] = []
        self._message_of_bit: dict[int, tuple[int, int]] = {}
        self.inbox = [0] * len(NODES)
        self.stimuli: list[Stimulus] = []
        self._stimulus_numbers: dict[Stimulus, int] = {}
        self._moves: dict[tuple[int, int], list[Move]] = {}
        self.triples: list[tuple[int, ...]] = []
        self._triple_numbers: dict[tuple[int, ...], int] = {}
        self.canonical_of: dict[tuple[int, ...], tuple[tuple[int, int], ...]] = {}
        self._renamed_parts: list[dict[int, int]] = [{} for _ in self.names]
        self._renamed_bits: list[dict[int, int]] = [{} for _ in self.names]
        self._sees_facts = scope.reads > 0

    def _bit(self) -> int:
        self._bits += 1
        return 1 << (self._bits - 1)

    # Bits

    def fact_bit(self, fact: Fact) -> int:
        """The bit that says that `fact` was seen."""
        bit = self._fact_bits.get(fact)
        if bit is None:
            bit = self._fact_bits[fact] = self._bit()
            self._foes[bit] = 0
            for other_bit, other in self.fact_at.items():
                if conflict(fact, other):
                    self._foes[bit] |= other_bit
                    self._foes[other_bit] |= bit
            self.fact_at[bit] = fact
            self.facts |= bit
        return bit

    def message_number(self, message: Message) -> int:
        """The number of a message, whatever copy."""
        number = self._message_numbers.get(message)
        if number is None:
            number = self._message_numbers[message] = len(self.messages)
            self.messages.append(message)
            self.copies.append([])
            self.copy_bit(number, 0)
        return number

    def copy_bit(self, number: int, copy: int) -> int:
        """The bit of one copy of a message; the copies on their way are always the first ones."""
        copies = self.copies[number]
        while len(copies) <= copy:
            bit = self._bit()
            self._message_of_bit[bit] = (number, len(copies))
            copies.append(bit)
            self.inbox[self.messages[number].to - 1] |= bit
        return copies[copy]

    def disagreement(self, mask: int, fresh: int) -> str:
        """What two facts of a state contradict each other, one of them among those just seen; or nothing."""
        for bit in bits_of(fresh):
            against = self._foes[bit] & (mask | fresh)
            if against:
                one, other = self.fact_at[next(bits_of(against))], self.fact_at[bit]
                return f"{conflict(one, other)}: {one.text}; {other.text}"
        return ""

    # Moves

    def moves(self, place: int, server: int, mask: int) -> list[Move]:
        """All that can happen to the server at `place`, which is in the state `server`."""
        visible = self.inbox[place] | self.budgets | (self.facts if self._sees_facts else 0)
        key = (server, mask & visible)
        known = self._moves.get(key)
        if known is None:
            known = self._moves[key] = list(self._find_moves(place, server, mask))
        return known

    def _find_moves(self, place: int, server: int, mask: int) -> Iterator[Move]:
        for stimulus, dropped in self.choices(place, server, mask):
            number, outcome = self._take(server, stimulus)
            sent = [self.message_number(message) for message in outcome.sent]
            facts = 0
            for fact in outcome.facts:
                facts |= self.fact_bit(fact)
            first = 0
            for message in sent:
                first |= self.copies[message][0]
            if self.reductions.dominance and number == server and not sent and not facts:
                continue  # nothing but a message, or a part of the budget, is used up
            repeats = len(set(sent)) < len(sent)
            yield Move(self._stimulus_number(stimulus), number, dropped, first, tuple(sent), facts, repeats)

    def _take(self, server: int, stimulus: Stimulus) -> tuple[int, Outcome]:
        try:
            return self.servers.after(server, stimulus)
        except (ViolationError, InvariantError, PeerProtocolError) as error:
            raise Broken(f"{type(error).__name__}: {error}", [stimulus]) from error

    def _stimulus_number(self, stimulus: Stimulus) -> int:
        number = self._stimulus_numbers.setdefault(stimulus, len(self.stimuli))
        if number == len(self.stimuli):
            self.stimuli.append(stimulus)
        return number

    def choices(self, place: int, number: int, mask: int) -> Iterator[tuple[Stimulus, int]]:
        """The stimuli that are possible here, each with the bits it uses up."""
        node = NODES[place]
        for bit in bits_of(mask & self.inbox[place]):
            message, copy = self._message_of_bit[bit]
            if copy:
                continue
            arrives = Stimulus(Kind.ARRIVES, node, self.messages[message])
            yield arrives, _last_of(self.copies[message], mask)
            if mask & self.budget["doubles"]:
                yield arrives, self._unit("doubles", mask)
        server = self.servers.known[number]
        if server.disk.queue:
            yield Stimulus(Kind.SYNCS, node), 0
        for stimulus, name in self._wishes(node, server, mask):
            if mask & self.budget[name]:
                yield stimulus, self._unit(name, mask)

    def _wishes(self, node: NodeId, server: Server, mask: int) -> Iterator[tuple[Stimulus, str]]:
        leads, core = server.raft.role is Role.LEADER, server.raft._core
        if not leads:
            yield Stimulus(Kind.CAMPAIGNS, node), "campaigns"
        yield Stimulus(Kind.TICKS, node), "ticks"
        if mask & self.budget["reads"]:
            yield Stimulus(Kind.READS, node, number=self._floor(mask)), "reads"
        if leads:
            left = (mask & self.budget["proposals"]).bit_count()
            yield Stimulus(Kind.PROPOSES, node, number=left), "proposals"
            for other in NODES:
                if other != node:
                    yield Stimulus(Kind.TRANSFERS, node, target=other), "transfers"
            for change in self.scope.offered:
                yield Stimulus(Kind.CHANGES, node, change=change), "changes"
            if core.conf_state.voters_outgoing:
                yield Stimulus(Kind.CHANGES, node, change=ConfChange()), "leaves"
        if core.log.applied_index > server.disk.start and not server.disk.queue:
            yield Stimulus(Kind.COMPACTS, node), "compactions"
        for kept in range(len(server.disk.cached) + 1):
            yield Stimulus(Kind.CRASHES, node, number=kept), "crashes"

    def _unit(self, name: str, mask: int) -> int:
        return 1 << ((mask & self.budget[name]).bit_length() - 1)

    def _floor(self, mask: int) -> int:
        seen = (self.fact_at[bit] for bit in bits_of(mask & self.facts))
        return max((fact.key[0] for fact in seen if fact.kind == "committed"), default=0)

    def sent_again(self, mask: int, messages: tuple[int, ...]) -> int:
        """`mask` with one more copy of each of `messages`."""
        for message in messages:
            copy = 0
            while mask & self.copy_bit(message, copy):
                copy += 1
            mask |= self.copy_bit(message, copy)
        return mask

    # Renaming

    def canonical(self, triple: tuple[int, ...]) -> tuple[tuple[int, int], ...]:
        """Which renamings give the standing form of these servers, and the number of that form."""
        known = self.canonical_of.get(triple)
        if known is None:
            forms: dict[tuple[int, ...], list[int]] = {}
            for by in self._orderly(triple):
                form = [0] * len(triple)
                for place, server in enumerate(triple):
                    form[self.names[by].new[NODES[place]] - 1] = self.servers.renamed(server, by)
                forms.setdefault(tuple(form), []).append(by)
            best = min(forms)
            number = self._triple_numbers.setdefault(best, len(self.triples))
            if number == len(self.triples):
                self.triples.append(best)
            known = self.canonical_of[triple] = tuple((by, number) for by in forms[best])
        return known

    def _orderly(self, triple: tuple[int, ...]) -> list[int]:
        """The renamings that put the servers into the order of their orbits; all that do are alike in that."""
        orders: dict[tuple[int, ...], list[int]] = {}
        for by, names in enumerate(self.names):
            order = [0] * len(triple)
            for place, server in enumerate(triple):
                order[names.new[NODES[place]] - 1] = self.servers.orbits[server]
            orders.setdefault(tuple(order), []).append(by)
        return orders[min(orders)]

    def renamed(self, mask: int, by: int) -> int:
        """The bits of a state under renaming `by`."""
        if by == 0:
            return mask
        known, result = self._renamed_parts[by], mask & self.budgets
        for part in (mask & self.facts, *(mask & inbox for inbox in self.inbox)):
            if part:
                new = known.get(part)
                if new is None:
                    new = 0
                    for bit in bits_of(part):
                        new |= self._renamed_bit(bit, by)
                    known[part] = new
                result |= new
        return result

    def _renamed_bit(self, bit: int, by: int) -> int:
        new = self._renamed_bits[by].get(bit)
        if new is None:
            if bit & self.facts:
                new = self.fact_bit(self.names[by].fact(self.fact_at[bit]))
            else:
                number, copy = self._message_of_bit[bit]
                new = self.copy_bit(self.message_number(self.names[by].message(self.messages[number])), copy)
            self._renamed_bits[by][bit] = new
        return new


def _renamings(scope: Scope) -> Iterator[Names]:
    """All that leave the bootstrap membership and what is offered as they are; first the one that changes nothing."""
    for order in permutations(NODES):
        names = Names(dict(zip(NODES, order, strict=True)))
        same_offer = {names.change(change) for change in scope.offered} == set(scope.offered)
        same_logs = all(scope.logs[old - 1] == scope.logs[new - 1] for old, new in zip(NODES, order, strict=True))
        if names.membership(scope.bootstrap) == scope.bootstrap and same_offer and same_logs:
            yield names


def bits_of(mask: int) -> Iterator[int]:
    while mask:
        bit = mask & -mask
        yield bit
        mask ^= bit


def _last_of(copies: list[int], mask: int) -> int:
    return max(bit for bit in copies if bit & mask)
