"""Faults of a node's disk. A StorageError stops the node. It is never retried.

The data of a failed write or fsync may be stored or lost. A second fsync can report success for data that is lost,
because the kernel clears the error after it has reported it. So the node stops and starts again from what is on disk.
"""

from __future__ import annotations


class StorageError(Exception):
    """A disk operation failed: stop the node, and start it again when the disk works."""


class StorageDamagedError(StorageError):
    """The data on disk is not what was written: the node must not start from it."""


class DirectoryBusyError(StorageError):
    """Another process runs on this data directory."""


class IdentityError(StorageError):
    """The data directory belongs to another node or another cluster."""


class StorageInvariantError(StorageError):
    """A caller asked for something that contradicts what is durable. This is a bug; nothing was written."""


class CopyFailedError(Exception):
    """A copy of the state could not be made. Nothing else was changed, and the node works: try again later."""


class SnapshotTransferError(Exception):
    """One incoming snapshot is unusable (short, long, altered, or too large). Discard it; the node works."""


REJOIN = (
    "This node's copy cannot be trusted; the other members still hold the data. Do not copy files from another node. "
    "Remove this member from the cluster (parley cluster remove NAME), move the data directory away, and start the "
    "node with --join, and admit it (parley cluster add NAME HOST:PORT): it joins as a new member and receives "
    "everything from the leader."
)


def damaged(where: object, what: str) -> StorageDamagedError:
    """Build the error that refuses a start: the file, the fault, the effect on the data, and how to rejoin."""
    return StorageDamagedError(f"{where}: {what}. {REJOIN}")
