"""Who a node is survives crashes, and is refused when it was altered."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from parleyd.raft.types import NodeId
from parleyd.storage import identity as identities
from parleyd.storage.errors import StorageDamagedError, StorageError
from parleyd.storage.identity import NodeIdentity, PeerInfo, cluster_id_of, new_identity

BOOTSTRAP_MEMBERS = tuple(PeerInfo(NodeId(i), f"n{i}", f"10.0.0.{i}:7000", f"10.0.0.{i}:7001") for i in (3, 1, 2))


def test_identity_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    identity = NodeIdentity(NodeId(2**63 - 1), "n1", cluster_id_of(BOOTSTRAP_MEMBERS), BOOTSTRAP_MEMBERS)
    identities.save(path, identity)
    assert identities.load(path) == identity
    assert path.stat().st_mode & 0o077 == 0


def test_no_file_means_no_identity_yet(tmp_path: Path) -> None:
    assert identities.load(tmp_path / "identity.json") is None


def test_new_identity_has_no_cluster_and_fits_a_signed_number() -> None:
    drawn = {new_identity("n1").node_id for _ in range(500)}
    assert len(drawn) == 500
    assert all(0 < node_id < 2**63 for node_id in drawn)
    assert max(drawn) > 2**61
    assert not new_identity("n1").has_cluster


def test_bootstrapped_identity_has_a_cluster() -> None:
    assert NodeIdentity(NodeId(1), "n1", cluster_id_of(BOOTSTRAP_MEMBERS), BOOTSTRAP_MEMBERS).has_cluster


def test_cluster_id_does_not_depend_on_the_order_of_founders_or_their_addresses() -> None:
    moved = [PeerInfo(f.node_id, f.name, "elsewhere:1", "elsewhere:2") for f in reversed(BOOTSTRAP_MEMBERS)]
    assert cluster_id_of(moved) == cluster_id_of(BOOTSTRAP_MEMBERS)
    assert len(cluster_id_of(BOOTSTRAP_MEMBERS)) == 32
    assert int(cluster_id_of(BOOTSTRAP_MEMBERS), 16) > 0


def test_cluster_id_is_another_for_other_bootstrap_members() -> None:
    others = [*BOOTSTRAP_MEMBERS[:2], PeerInfo(NodeId(9), "n2", "", "")]
    renamed = [*BOOTSTRAP_MEMBERS[:2], PeerInfo(BOOTSTRAP_MEMBERS[2].node_id, "other", "", "")]
    newer = [*BOOTSTRAP_MEMBERS[:2], replace(BOOTSTRAP_MEMBERS[2], max_level=2)]
    groups = (BOOTSTRAP_MEMBERS, others, renamed, newer, BOOTSTRAP_MEMBERS[:2])
    assert len({cluster_id_of(group) for group in groups}) == 5


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"identity": {}, "sha256": ""}',
        b"\xff\xfe",
        b"null",
    ],
)
def test_unreadable_identity_is_damage(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "identity.json"
    path.write_bytes(content)
    with pytest.raises(StorageDamagedError, match="joins as a new member"):
        identities.load(path)


def test_identity_edited_by_hand_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "identity.json"
    identities.save(path, new_identity("n1"))
    document = json.loads(path.read_text())
    document["identity"]["node_id"] = 1
    path.write_text(json.dumps(document))
    with pytest.raises(StorageDamagedError, match="checksum"):
        identities.load(path)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_crash_while_saving_leaves_the_old_identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "identity.json"
    old = new_identity("n1")
    identities.save(path, old)

    def fail(*_: object) -> None:
        raise OSError("crash")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(StorageError):
        identities.save(path, NodeIdentity(old.node_id, "n1", cluster_id_of(BOOTSTRAP_MEMBERS), BOOTSTRAP_MEMBERS))
    monkeypatch.undo()
    assert identities.load(path) == old
