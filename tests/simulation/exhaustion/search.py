"""Breadth first through all states of a small world, until all are seen or one is wrong.

What keeps the number of states small:

- Renaming. States that differ only by the names of the servers are one (`Space.canonical`).
- Dominance. A lost message is one that never arrives, so a state with the same servers as another and no message, fact
  or budget that the other lacks can do nothing that the other cannot: it is dropped. So is a step that changes nothing
  but uses a message up.
- Hollow writes are done at once (`Rules.syncs_at_once`). The promise is then on the network, which may hold it back as
  long as the disk could have, or lose it as a crash would have; nothing else comes of such a write.

None of them changes what a server can come to be, or how long the shortest way to a broken property is. All can be
switched off; the tests compare.
"""

from __future__ import annotations

import gc
import time
from array import array
from dataclasses import dataclass, field

from tests.simulation.exhaustion.names import Names
from tests.simulation.exhaustion.server import Stimulus
from tests.simulation.exhaustion.space import ALL, NODES, Broken, Reductions, Scope, Space, bits_of


@dataclass
class Report:
    """What came of one scope; `complete` when nothing was left to try.

    `leaders` and `committed` are the most that any state had: where they are 0, the properties had nothing to say.
    """

    scope: str
    states: int = 0
    steps: int = 0
    depth: int = 0
    servers: int = 0
    leaders: int = 0
    committed: int = 0
    complete: bool = False
    seconds: float = 0.0
    violation: str = ""
    trace: list[str] = field(default_factory=list)


@dataclass
class Search:
    """The states seen so far, and how each was reached.

    `seen`: by the number of the three servers, the masks, none of which is part of another. `found` is the way to a
    broken property.
    """

    space: Space
    seen: dict[int, list[int]] = field(default_factory=dict)
    parents: array[int] = field(default_factory=lambda: array("q"))
    stimuli: array[int] = field(default_factory=lambda: array("i"))
    renamings: array[int] = field(default_factory=lambda: array("b"))
    steps: int = 0
    found: list[Stimulus] = field(default_factory=list)

    def run(self, max_states: int, deadline: float) -> tuple[int, bool]:
        """Go on until all is seen (True), or a bound is reached; the depth up to which all is seen. Broken: found."""
        space = self.space
        ((first_by, first),) = space.canonical(space.servers.first)[:1]
        layer = [(first, space.renamed(space.start, first_by), 0)]
        self._note(first, layer[0][1], -1, -1, first_by)
        depth = 0
        while layer:
            following: list[tuple[int, int, int]] = []
            for done, (number, mask, at) in enumerate(layer):
                if not done & 255 and (len(self.parents) > max_states or time.monotonic() > deadline):
                    return depth, False
                if mask in self.seen[number]:  # else one that can do more has come meanwhile
                    self._expand(number, mask, at, following)
            layer = following
            depth += bool(layer)
        return depth, True

    def _note(self, number: int, mask: int, parent: int, stimulus: int, by: int) -> int:
        self.seen.setdefault(number, []).append(mask)
        self.parents.append(parent)
        self.stimuli.append(stimulus)
        self.renamings.append(by)
        return len(self.parents) - 1

    def _expand(self, number: int, mask: int, at: int, following: list[tuple[int, int, int]]) -> None:
        space, seen = self.space, self.seen
        canonical_of, dominance = space.canonical_of, space.reductions.dominance
        triple = space.triples[number]
        for place, server in enumerate(triple):
            try:
                moves = space.moves(place, server, mask)
            except Broken as broken:
                raise Broken(str(broken), self.path(at, *broken.trace)) from broken
            before, behind = triple[:place], triple[place + 1 :]
            self.steps += len(moves)
            for move in moves:
                new = mask & ~move.dropped
                if move.facts & ~mask:
                    if text := space.disagreement(mask, move.facts & ~mask):
                        raise Broken(text, self.path(at, space.stimuli[move.stimulus]))
                    new |= move.facts
                if move.repeats or new & move.sent:
                    new = space.sent_again(new, move.messages)
                else:
                    new |= move.sent
                after = (*before, move.server, *behind)
                forms = canonical_of.get(after) or space.canonical(after)
                by, form = forms[0]
                if by or len(forms) > 1:
                    new, by = min((space.renamed(new, by), by) for by, _ in forms)
                masks = seen.get(form)
                if masks is None:
                    seen[form] = []
                elif dominance:
                    for known in masks:
                        if not new & ~known:
                            break
                    else:
                        masks[:] = [known for known in masks if known & ~new]
                        following.append((form, new, self._note(form, new, at, move.stimulus, by)))
                    continue
                elif new in masks:
                    continue
                following.append((form, new, self._note(form, new, at, move.stimulus, by)))

    def most_seen(self) -> tuple[int, int]:
        """The most terms with a leader, and the most committed entries, that any state knows of."""
        space, leaders, committed = self.space, 0, 0
        for facts in {mask & space.facts for masks in self.seen.values() for mask in masks}:
            known = [space.fact_at[bit] for bit in bits_of(facts)]
            leaders = max(leaders, sum(fact.kind == "leader" for fact in known))
            committed = max(committed, len({fact.key[0] for fact in known if fact.kind == "committed"}))
        return leaders, committed

    def path(self, at: int, *last: Stimulus) -> list[Stimulus]:
        """How state `at` was reached, and what `last` happens in it, in the names that the servers had at first."""
        way = []
        while at >= 0:
            way.append(at)
            at = self.parents[at]
        told: list[Stimulus] = []
        now = {node: node for node in NODES}  # by the name in the standing form, the first name
        for state in reversed(way):
            if self.stimuli[state] >= 0:
                told.append(Names(now).stimulus(self.space.stimuli[self.stimuli[state]]))
            new = self.space.names[self.renamings[state]].new
            now = {new[name]: first for name, first in now.items()}
        return [*told, *map(Names(now).stimulus, last)]


def explore(
    scope: Scope, *, max_states: int | None = None, max_seconds: float = 600.0, reductions: Reductions = ALL
) -> tuple[Report, Search]:
    """Go through all states of `scope` until all are seen, one is wrong, or a bound is reached."""
    started = time.monotonic()
    search, report = Search(Space(scope, reductions)), Report(scope.name)
    collects = gc.isenabled()
    gc.disable()  # nothing here is ever given up, and the collector would go through all of it again and again
    try:
        report.depth, report.complete = search.run(max_states or scope.bound, started + max_seconds)
    except Broken as broken:
        search.found = broken.trace
        report.violation, report.trace = str(broken), [str(stimulus) for stimulus in broken.trace]
        report.depth = len(broken.trace) - 1  # all states up to there were seen and are right
    finally:
        if collects:
            gc.enable()
    report.states, report.steps = len(search.parents), search.steps
    report.servers = len(search.space.servers.known)
    report.leaders, report.committed = search.most_seen()
    report.seconds = round(time.monotonic() - started, 2)
    return report, search
