"""Judges whether this node should be restarted (/healthz) and whether it serves clients (/readyz). Pure.

A restart helps a process that hangs or has failed. It does not help a node without a leader, with a full disk, or
with a state that is not trusted. So those are matters of readiness alone.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass

READY_LAG_ENTRIES = 1_000
"""Committed entries that a ready node may have yet to apply. Under full load a node has some hundred of them."""
STOP_MARGIN_S = 30.0
"""What a stop may take besides the two waits for `shutdown_grace_s`: closing the files."""


class Phase(enum.Enum):
    """The phases of a node's life, in their order."""

    ENTERING = "entering"  # waits for the cluster's other first members, or to be admitted
    STARTING = "starting"  # brings log and state together
    SERVING = "serving"
    STOPPING = "stopping"
    FAILED = "failed"  # its work has ended with an error, and the process is about to


@dataclass(frozen=True, slots=True)
class Condition:
    """A serving node as monitoring sees it.

    `lag_entries` are committed and not applied here, as far as it knows. `is_receiving`: a copy of the state is on its
    way here, because the node lacks entries that are in no log any more.
    """

    has_leader: bool
    is_serving: bool
    has_majority: bool
    is_fenced: bool
    is_removed: bool
    is_disk_full: bool
    is_disk_low: bool
    is_receiving: bool
    lag_entries: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether all is well, and in plain English why not. `notes` do not count against it."""

    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Return whether there is no reason against it."""
        return not self.reasons


def judge_health(phase: Phase, since_s: float, shutdown_grace_s: float) -> Verdict:
    """Return whether the process may go on. It has been in `phase` for `since_s`."""
    most_s = 2 * shutdown_grace_s + STOP_MARGIN_S
    match phase:
        case Phase.FAILED:
            return Verdict(
                (
                    "The work of this node has ended with an error, which its log names. Restart the process. No "
                    "acknowledged data is lost.",
                )
            )
        case Phase.STOPPING if since_s > most_s:
            return Verdict(
                (
                    f"This node has been stopping for {since_s:.0f} s, and a stop takes {most_s:.0f} s at most. End "
                    "the process and start it again. No acknowledged data is lost.",
                )
            )
        case _:
            return Verdict()


def judge_readiness(phase: Phase, condition: Condition | None) -> Verdict:
    """Return whether clients should use this node. `condition` is None while it has no parts that serve."""
    if phase is not Phase.SERVING or condition is None:
        return Verdict((_NOT_SERVING[phase],))
    notes = ("This disk uses its reserve: the cluster may refuse new messages soon. Make room.",)
    return Verdict(tuple(_reasons(condition)), notes if condition.is_disk_low else ())


_NOT_SERVING = {
    Phase.ENTERING: "This node has no data of a cluster yet: it waits for the other first members, or to be admitted.",
    Phase.STARTING: "This node starts: it brings its log and its state together.",
    Phase.SERVING: "This node starts: its parts are being made.",
    Phase.STOPPING: "This node is stopping.",
    Phase.FAILED: "The work of this node has ended with an error, which its log names.",
}


def _reasons(condition: Condition) -> Iterator[str]:
    if condition.is_removed:
        yield "This node was removed from the cluster. Stop it."
    if condition.is_fenced:
        yield (
            "The state or the log of this node is not trusted, so it serves no clients. `parley cluster status` names "
            "the cause and the remedy."
        )
    if condition.is_disk_full:
        yield "The disk of this node is full, so it appends nothing. Make room."
    if not condition.has_leader:
        yield "This node knows no leader."
    elif not (condition.is_serving or condition.is_removed or condition.is_fenced or condition.is_disk_full):
        yield "The disk of this node does not answer in time: a write of the log has been waiting for too long."
    elif condition.is_serving and not condition.has_majority:
        yield "This node leads, but does not reach a majority of the members."
    if condition.is_receiving:
        yield "This node receives a copy of the state, because it was away for long. It catches up by itself."
    if condition.lag_entries > READY_LAG_ENTRIES:
        yield (
            f"This node has {condition.lag_entries} committed entries to apply, more than {READY_LAG_ENTRIES}. It "
            "catches up by itself."
        )
