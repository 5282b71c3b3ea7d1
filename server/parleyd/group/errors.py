"""What can become of a proposal besides being applied; each says whether trying again is safe."""

from __future__ import annotations


class ProposalError(Exception):
    """A proposal that has no result."""


class NotLeaderError(ProposalError):
    """This node does not lead, so nothing was proposed: safe to try elsewhere."""


class OverloadedError(ProposalError):
    """The bound on entries waiting for a majority is reached, so nothing was proposed: safe to try later."""


class ChangePendingError(ProposalError):
    """Another membership change is not applied yet, so this one was not proposed: safe to try later."""


class LostError(ProposalError):
    """Another leader's entry took the place of the proposed one: certainly not applied, safe to try again."""


class OutcomeUnknownError(ProposalError):
    """Proposed, and nobody here can say whether it will be applied; only an idempotent command may be tried again."""


class UnavailableError(Exception):
    """No leader, no majority, or the node is stopping: nothing can be promised before the deadline."""
