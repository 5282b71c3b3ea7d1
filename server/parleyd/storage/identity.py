"""The identity of a node: drawn once with its data directory, never changed.

The Raft id *is* the incarnation. A wiped directory draws a new id and is therefore a different node. It has no vote and
no log, and it cannot be confused with the member whose disk was lost.

The file has a checksum over its whole content, including its format and the release that wrote it.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from parleyd.formats import (
    NO_LEVEL,
    UNRELEASED_FORMAT,
    Format,
    FormatRefusedError,
    newer_format,
    own_release,
    unreleased_format,
)
from parleyd.raft.types import NodeId
from parleyd.storage.errors import StorageDamagedError, damaged
from parleyd.storage.files import io_errors, write_durably

_FORMAT: Format[dict[str, Any]] = Format()


@dataclass(frozen=True, slots=True)
class PeerInfo:
    """The record of a node, as its peers need it."""

    node_id: NodeId
    name: str
    peer_address: str
    client_address: str
    min_level: int = 1  # of the replicated state, as its release supports them
    max_level: int = 1
    key_digest: bytes = b""  # SHA-256 of its certificate's public key info; not part of the identity


@dataclass(frozen=True, slots=True)
class NodeIdentity:
    """This node, and the cluster it belongs to once there is one."""

    node_id: NodeId
    name: str
    cluster_id: str = ""
    bootstrap_members: tuple[PeerInfo, ...] = ()

    @property
    def has_cluster(self) -> bool:
        """Return whether the node is part of a cluster yet."""
        return self.cluster_id != ""


def new_identity(name: str) -> NodeIdentity:
    """Draw a new incarnation: 63 random bits, never 0, so that it fits a signed column and is never NO_NODE."""
    return NodeIdentity(node_id=NodeId(secrets.randbelow(2**63 - 1) + 1), name=name)


def cluster_id_of(bootstrap_members: Iterable[PeerInfo]) -> str:
    """Compute the cluster id from the bootstrap members; it is the same on each of them.

    The levels are part of it, because the cluster's first level and first state follow from them.
    """
    parts = sorted((m.node_id, m.name, m.min_level, m.max_level) for m in bootstrap_members)
    return hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()[:32]


def save(path: Path, identity: NodeIdentity) -> None:
    """Write the identity. After a crash the file has the old identity or the new one."""
    body = {
        "format": _FORMAT.current,
        "release": own_release(),
        "node_id": identity.node_id,
        "name": identity.name,
        "cluster_id": identity.cluster_id,
        "bootstrap_members": [
            [f.node_id, f.name, f.peer_address, f.client_address, f.min_level, f.max_level]
            for f in identity.bootstrap_members
        ],
    }
    _write(path, body)


def load(path: Path, level: int = NO_LEVEL) -> NodeIdentity | None:
    """Read the identity; None if none was ever written.

    An older format is changed as far as the cluster's `level` allows. Raises FormatRefusedError for another release's
    file.
    """
    try:
        body = _read(path)
        if body is None:
            return None
        due = _FORMAT.due(int(body["format"]), level)
        for migration in due:
            migration.change(body)
        if due:
            body["format"], body["release"] = due[-1].version, own_release()
            _write(path, body)
        return NodeIdentity(
            node_id=NodeId(int(body["node_id"])),
            name=str(body["name"]),
            cluster_id=str(body["cluster_id"]),
            bootstrap_members=tuple(
                PeerInfo(NodeId(int(i)), str(n), str(p), str(c), int(low), int(high))
                for i, n, p, c, low, high in body["bootstrap_members"]
            ),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(path, f"the identity is unreadable ({type(error).__name__}: {error})") from error


def refuse_other_formats(path: Path) -> None:
    """Raise FormatRefusedError if another release wrote this identity; `load` reports damage."""
    try:
        _read(path)
    except FormatRefusedError:
        raise
    except (StorageDamagedError, ValueError, KeyError, TypeError):
        return


def _read(path: Path) -> dict[str, Any] | None:
    with io_errors(f"reading {path}"):
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
    document = json.loads(content)
    body: dict[str, Any] = document["identity"]
    if _digest(body) != document["sha256"]:
        raise damaged(path, "the identity does not match its checksum (edited by hand, or the disk altered it)")
    if body["format"] == UNRELEASED_FORMAT:
        raise unreleased_format(path)
    if body["format"] > _FORMAT.current:
        raise newer_format(path, str(body["release"]), body["format"], _FORMAT.current)
    return body


def _write(path: Path, body: dict[str, Any]) -> None:
    write_durably(path, json.dumps({"identity": body, "sha256": _digest(body)}, indent=2).encode() + b"\n")


def _digest(body: object) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
