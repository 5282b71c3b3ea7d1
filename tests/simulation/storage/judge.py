"""Holds what a node knows after a crash against what it had promised."""

from __future__ import annotations

from parleyd.storage.raft_storage import LogContents
from parleyd.storage.recovery import Recovered
from tests.simulation.storage.history import term_at
from tests.simulation.storage.promises import Promises, outline
from tests.simulation.storage.start import Observation


def judge(seen: Observation, promises: Promises, *, killed: bool) -> str:
    """What is broken, in words; '' where nothing is. `killed`: all calls were kept, only the process is gone."""
    if seen.refused:
        return f"the node does not start, though only what was not synced is lost: {seen.refused}"
    if seen.problem:
        return seen.problem
    if seen.identity not in promises.identities:
        return f"the identity is {seen.identity}, allowed: {promises.identities}"
    log, recovered = seen.log, seen.recovered
    if seen.identity is None or log is None or recovered is None or not seen.identity.has_cluster:
        return ""  # nothing was promised yet, and the bootstrap was done again
    differences = [version.difference(log) for version in promises.logs]
    if all(differences):
        return "the log is none that was promised: " + " / ".join(differences)
    allowed = promises.states_if_killed if killed else promises.states
    if seen.applied not in allowed:
        return f"the state is as of entry {seen.applied}, allowed: {sorted(allowed)}"
    return _recovered(seen, log, recovered)


def _recovered(seen: Observation, log: LogContents, recovered: Recovered) -> str:
    """What the start made of a right log and a right state: both together cover what was appended."""
    hard, was = recovered.hard_state, log.hard_state
    if hard.current_term < was.current_term:
        return f"term {hard.current_term} after term {was.current_term}"
    if hard.current_term == was.current_term and hard.voted_for != was.voted_for:
        return f"in term {was.current_term} there was a vote for {was.voted_for}, now for {hard.voted_for}"
    if recovered.snapshot.index > seen.applied:
        return f"between the state, {seen.applied}, and the log, {recovered.snapshot.index}, entries are gone"
    if recovered.repair is None:
        return "" if recovered.entries == log.entries else f"entries {outline(recovered.entries)} of the log are left"
    # Starting over is right where the log ends before the state, or has a stale tail there.
    term = log.term_at(recovered.applied_index)
    if term is not None and term >= term_at(seen.applied):
        return f"the log was thrown away, though it has entry {seen.applied} as the state has it"
    return ""
