"""Makes a new cluster of one node from a backup: new node id, new cluster id, next generation.

The steps, each durable before the next:

1. The whole file is read once, and its digests are compared. Nothing is written before that.
2. The mark `restore-unfinished` is written. No node starts with it.
3. The state is extracted, checked, and changed to the beginning of the next generation, under a temporary name.
4. It is installed as state.sqlite, and the log is begun at exactly its position.
5. The identity is written, and the mark is removed.

A restore that is killed is repeated with the same command. It begins at 1 again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from parley_proto.v1.admin_pb2 import BackupHeader
from parleyd.backup.backup_file import BackupFile
from parleyd.backup.errors import BackupError
from parleyd.backup.verify import Progress, check_digests, check_state, extract, no_progress
from parleyd.machine.features.generations import GenerationKind
from parleyd.machine.new_generation import Begun, NewGeneration, begin_generation
from parleyd.machine.records import MemberRow
from parleyd.raft.types import NO_NODE, ConfState, HardState, Index, SnapshotMeta, Term
from parleyd.raft.update import Persist
from parleyd.storage import identity as identities
from parleyd.storage import restore_mark
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.identity import NodeIdentity, PeerInfo, cluster_id_of
from parleyd.storage.raft_storage import RaftStorage
from parleyd.storage.snapshots import TEMPORARY_SUFFIX, install
from parleyd.transport.codec import encode_membership

# What a directory may contain before a restore: a file system's own folder, and what a lock leaves.
_NOTHING = frozenset({"lock", "snapshots", "lost+found"})


@dataclass(frozen=True, slots=True)
class Restored:
    """What was made."""

    backup: BackupHeader
    identity: NodeIdentity
    begun: Begun


def restore(
    path: Path, folder: Path, own: PeerInfo, now_ms: Callable[[], int], progress: Progress = no_progress
) -> Restored:
    """Restore a backup into an empty or missing data directory, as the only node of a new cluster.

    Raises BackupError for an unusable file and a directory that is not empty, StorageError for a fault of the disk, and
    OSError if the file cannot be read.
    """
    check_digests(path, progress)
    _refuse_used(folder)
    with DataDirectory.open(folder, restoring=True) as data:
        _refuse_used(folder)  # the lock is held now
        restore_mark.save(data.restore_mark, path.absolute())
        data.discard_incomplete_bootstrap()
        try:
            header, begun = _make_files(path, data, own, now_ms(), progress)
        except Exception:
            data.discard_incomplete_bootstrap()
            restore_mark.clear(data.restore_mark)
            raise
        # From here on an error leaves the mark, because the identity may be written or not. A start finds out.
        member = replace(own, key_digest=b"")
        identity = NodeIdentity(own.node_id, own.name, cluster_id_of((member,)), (member,))
        identities.save(data.identity, identity)
        restore_mark.clear(data.restore_mark)
        return Restored(header, identity, begun)


def _refuse_used(folder: Path) -> None:
    found = {path.name for path in folder.iterdir() if path.suffix != TEMPORARY_SUFFIX} if folder.exists() else set()
    if "identity.json" in found:
        raise BackupError(
            f"{folder} is the data directory of a node. Nothing was changed. A restore needs an empty or a missing "
            "one. If an earlier restore has made this one, start the node"
        )
    if found - _NOTHING and not (folder / "restore-unfinished").exists():
        names = ", ".join(sorted(found - _NOTHING)[:5])
        raise BackupError(
            f"{folder} is not empty: {names}. Nothing was changed. A restore needs an empty or a missing directory"
        )


def _make_files(
    path: Path, data: DataDirectory, own: PeerInfo, now_ms: int, progress: Progress
) -> tuple[BackupHeader, Begun]:
    """Make state and log."""
    with BackupFile.open(path) as backup:
        header = backup.header
        state = data.snapshots / "restoring.sqlite"
        extract(backup, state, progress)
        check_state(backup, state)
    row = MemberRow(*astuple(own))
    alone = ConfState(voters=(own.node_id,))
    kind = GenerationKind.RESTORED
    begun = begin_generation(state, NewGeneration(kind, row, encode_membership(alone), header.term + 1, now_ms))
    install(state, data.state_db)
    position = SnapshotMeta(Index(begun.index), Term(begun.term), alone)
    log = RaftStorage.open(data.raft_db, level=header.level)
    try:
        log.append([Persist(hard_state=HardState(Term(begun.term), NO_NODE, Index(begun.index)), snapshot=position)])
    finally:
        log.close()
    return header, begun
