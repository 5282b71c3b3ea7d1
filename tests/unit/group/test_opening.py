"""A start opens a node's files by the cluster's level, which the state contains."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from parleyd.formats import FIRST_FORMAT, Format, Migration
from parleyd.group.opening import create_files, open_files
from parleyd.machine.levels import MIN_LEVEL
from parleyd.raft.types import NodeId
from parleyd.storage import identity as identities
from parleyd.storage import log_file
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.errors import StorageDamagedError
from parleyd.storage.format_table import read_format
from parleyd.storage.identity import NodeIdentity, PeerInfo, cluster_id_of

MEMBERS = (PeerInfo(NodeId(1), "n1", "127.0.0.1:7000", "127.0.0.1:7001"),)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[DataDirectory]:
    """The files of a new cluster's node, in the formats of this release."""
    with DataDirectory.open(tmp_path / "data") as data:
        bootstrapped = NodeIdentity(NodeId(1), "n1", cluster_id_of(MEMBERS), MEMBERS)
        create_files(data, bootstrapped)
        identities.save(data.identity, bootstrapped)
        yield data


def formats_of(data: DataDirectory) -> tuple[int, int]:
    """The formats of log and identity."""
    with closing(apsw.Connection(str(data.raft_db))) as connection:
        log = read_format(connection, data.raft_db).version
    identity: int = json.loads(data.identity.read_bytes())["identity"]["format"]
    return log, identity


def nothing(_: Any) -> None:
    """A change of a format that changes nothing."""


@pytest.mark.parametrize(("needed", "expected"), [(MIN_LEVEL, FIRST_FORMAT + 1), (MIN_LEVEL + 1, FIRST_FORMAT)])
def test_log_and_identity_change_with_the_level_of_the_state(
    data: DataDirectory, needed: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    later: Format[Any] = Format(migrations=(Migration(FIRST_FORMAT + 1, needed, nothing),))
    monkeypatch.setattr(log_file, "_FORMAT", later)
    monkeypatch.setattr(identities, "_FORMAT", later)
    log, machine = open_files(data)
    log.close()
    machine.close()
    assert formats_of(data) == (expected, expected)


def test_a_log_that_cannot_be_opened_leaves_the_state_closed(data: DataDirectory) -> None:
    data.raft_db.write_bytes(b"not a database, but as long as one" * 200)
    with pytest.raises(StorageDamagedError):
        open_files(data)
    with closing(apsw.Connection(str(data.state_db))) as connection:
        connection.execute("BEGIN EXCLUSIVE")


def test_the_state_keeps_as_many_pages_in_memory_as_the_setting_says(data: DataDirectory) -> None:
    log, machine = open_files(data, 2 << 20)
    log.close()
    assert machine._connection.pragma("cache_size") == -2048
    machine.close()
