"""What stops a node's state machine. A command that is merely refused is a result, never one of these."""

from __future__ import annotations

from parleyd.formats import FormatRefusedError


class MachineError(Exception):
    """The state machine cannot go on: stop the node."""


class MachineDamagedError(MachineError):
    """state.sqlite is not what was written, or not ours: do not start from it."""


class MachineReleaseError(MachineError, FormatRefusedError):
    """The state or an entry is of a level that this release does not support; nothing is wrong with the data."""


class MachineStorageError(MachineError):
    """The disk failed under an apply; nothing is retried, the log has everything."""


class MachineInvariantError(MachineError):
    """The caller broke the contract of apply: a bug, nothing was applied."""
