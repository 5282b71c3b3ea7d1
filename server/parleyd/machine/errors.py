"""Errors that stop a node's state machine. A refused command is a result, never one of these."""

from __future__ import annotations

from parleyd.formats import FormatRefusedError


class MachineError(Exception):
    """The state machine cannot go on: stop the node."""


class MachineDamagedError(MachineError):
    """state.sqlite is not what was written, or not a state of this program: do not start from it."""


class MachineReleaseError(MachineError, FormatRefusedError):
    """The state or an entry is of a level that this release does not support. The data is intact."""


class MachineStorageError(MachineError):
    """The disk failed during an apply. Nothing is retried, because the log has everything."""


class MachineInvariantError(MachineError):
    """The caller violated the contract of apply. This is a bug; nothing was applied."""
