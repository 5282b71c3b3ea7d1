"""What can go wrong with a node's disk. All of these stop the node; none of them is retried.

A write or fsync that failed may have been kept or lost, and asking again can report success for data that is gone
(the kernel forgets the error once it has told it). So the only honest reaction is to stop and to start over from
what is really on disk.
"""

from __future__ import annotations


class StorageError(Exception):
    """The disk did not do what it was asked to: stop the node, start it again when the disk is well."""


class StorageDamagedError(StorageError):
    """What is on disk is not what was written: the node must not start from it."""


class DirectoryBusyError(StorageError):
    """Another process runs on this data directory."""


class IdentityError(StorageError):
    """The data directory belongs to another node or another cluster."""


class StorageInvariantError(StorageError):
    """A caller asked for something that would break a promise already on disk: a bug, nothing was written."""


class SnapshotTransferError(Exception):
    """One incoming snapshot is unusable (short, long, altered, no room for it): drop it; the node is well."""


REJOIN = (
    "This node's copy cannot be trusted; the other members still hold the data. Do not copy files from another node. "
    "Remove this member from the cluster (parley cluster remove NAME), move the data directory away, and start the "
    "node with --join: it joins as a new member and receives everything from the leader."
)


def damaged(where: object, what: str) -> StorageDamagedError:
    """Build the error that refuses a start: where, what, what it means for the data, how to rejoin."""
    return StorageDamagedError(f"{where}: {what}. {REJOIN}")
