"""Outcomes of a proposal that is not applied, or not known to be; each contains whether a retry is safe."""

from __future__ import annotations

import enum
from typing import assert_never

from parleyd.raft.update import Refusal

NO_ROOM_TEXT = "the disks of a majority of the nodes are nearly full"


class ProposalFailure(enum.Enum):
    """Why a proposal has no result. The pure group decides it and a shell raises it as an error."""

    NOT_LEADER = "not-leader"
    TRANSFERRING = "transferring"
    OVERLOADED = "overloaded"  # too many entries wait for a majority
    TOO_MANY_WAITING = "too-many-waiting"  # too many callers wait for the next entry
    NO_ROOM = "no-room"  # the disks of a majority are nearly full
    CHANGE_PENDING = "change-pending"
    LOST = "lost"  # another leader's entry stands at its index
    SKIPPED = "skipped"  # a snapshot replaced the entry before it was applied here
    STOPPED = "stopped"  # the node stopped before the outcome was known


class ProposalError(Exception):
    """A proposal that has no result."""


class NotLeaderError(ProposalError):
    """This node does not lead, so nothing was proposed: safe to try elsewhere."""


class OverloadedError(ProposalError):
    """The limit of entries that wait for a majority is reached, so nothing was proposed: safe to try later."""


class TooManyReadsError(OverloadedError):
    """A read of this node's state got no turn in time, or too many wait: safe to try later, or at another node."""


class NoRoomError(OverloadedError):
    """The disks of a majority are nearly full, so nothing was proposed: safe to try when there is room."""


class ChangePendingError(ProposalError):
    """Another membership change is not applied yet, so this one was not proposed: safe to try later."""


class LostError(ProposalError):
    """Another leader's entry replaced the proposed one. It is not applied: safe to try again."""


class OutcomeUnknownError(ProposalError):
    """Proposed, and the outcome is unknown. Only an idempotent command may be tried again."""


class UnavailableError(Exception):
    """No leader, no majority, or the node is stopping.

    If `may_have_happened` is false, nothing was proposed and nothing will be.
    """

    def __init__(self, reason: str, *, may_have_happened: bool = False) -> None:
        super().__init__(reason)
        self.may_have_happened = may_have_happened


def failure_of(refusal: Refusal) -> ProposalFailure:
    """Return the failure that follows from a refusal of the core."""
    match refusal:
        case Refusal.NOT_LEADER:
            return ProposalFailure.NOT_LEADER
        case Refusal.TRANSFERRING:
            return ProposalFailure.TRANSFERRING
        case Refusal.OVERLOADED:
            return ProposalFailure.OVERLOADED
        case Refusal.CONF_CHANGE_PENDING:
            return ProposalFailure.CHANGE_PENDING
        case _:
            assert_never(refusal)


def error_of(failure: ProposalFailure) -> ProposalError:
    """Build the error for a caller from `failure`."""
    match failure:
        case ProposalFailure.NOT_LEADER:
            return NotLeaderError("this node does not lead")
        case ProposalFailure.TRANSFERRING:
            return NotLeaderError("this node is transferring leadership")
        case ProposalFailure.OVERLOADED:
            return OverloadedError("too many entries wait for a majority")
        case ProposalFailure.TOO_MANY_WAITING:
            return OverloadedError("too many requests are waiting for the log")
        case ProposalFailure.NO_ROOM:
            return NoRoomError(NO_ROOM_TEXT)
        case ProposalFailure.CHANGE_PENDING:
            return ChangePendingError("another membership change is under way")
        case ProposalFailure.LOST:
            return LostError("another leader's entry stands at the index of the proposed one")
        case ProposalFailure.SKIPPED:
            return OutcomeUnknownError("a snapshot replaced the log entry before it was applied here")
        case ProposalFailure.STOPPED:
            return OutcomeUnknownError("the node stopped before the outcome was known")
        case _:
            assert_never(failure)
