"""Files of other releases are refused by name and left alone; older formats change once the cluster cannot go back."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest

from parleyd.formats import FIRST_FORMAT, NO_LEVEL, Format, FormatRefusedError, Migration, own_release
from parleyd.storage import format_table, identity, log_file
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.errors import StorageDamagedError
from parleyd.storage.format_table import FileFormat, read_format
from parleyd.storage.raft_storage import RaftStorage
from tests.unit.storage.log_helpers import BOOTSTRAP_MEMBERS, write

NEWER = r"written by release 9\.1\.0 \(format 7; .*Nothing is wrong with the data.*Start with 9\.1\.0 or newer"
UNRELEASED = r"Parley 0\.1, which was never released.*Start with an empty directory"
LEVEL = 4


def add_column(connection: apsw.Connection) -> None:
    connection.execute("ALTER TABLE entries ADD COLUMN note TEXT NOT NULL DEFAULT ''")


def add_table(connection: apsw.Connection) -> None:
    connection.execute("CREATE TABLE notes(id INTEGER PRIMARY KEY) STRICT")


def rename_host(body: dict[str, Any]) -> None:
    body["machine"] = "here"


LATER_LOG: Format[apsw.Connection] = Format(
    migrations=(Migration(FIRST_FORMAT + 1, LEVEL, add_column), Migration(FIRST_FORMAT + 2, LEVEL + 1, add_table))
)
LATER_IDENTITY: Format[dict[str, Any]] = Format(migrations=(Migration(FIRST_FORMAT + 1, LEVEL, rename_host),))


@pytest.fixture
def log_path(tmp_path: Path) -> Path:
    """A log with three entries."""
    path = tmp_path / "raft.sqlite"
    log = RaftStorage.open(path)
    log.initialize(BOOTSTRAP_MEMBERS)
    for index in (1, 2, 3):
        log.append([write(1, index, index)])
    log.close()
    return path


@pytest.fixture
def identity_path(tmp_path: Path) -> Path:
    """An identity."""
    path = tmp_path / "identity.json"
    identity.save(path, identity.new_identity("n1"))
    return path


def execute(path: Path, statement: str) -> None:
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute(statement)


def format_of(path: Path) -> FileFormat:
    with closing(apsw.Connection(str(path))) as connection:
        return read_format(connection, path)


def rewrite(path: Path, **changes: object) -> None:
    """Change what an identity says, with a checksum that fits."""
    body = {**json.loads(path.read_bytes())["identity"], **changes}
    path.write_text(json.dumps({"identity": body, "sha256": identity._digest(body)}))


def body_of(path: Path) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(path.read_bytes())["identity"]
    return body


# ---- what is written


def test_files_name_their_format_and_the_release_that_wrote_it(log_path: Path, identity_path: Path) -> None:
    assert format_of(log_path) == FileFormat(FIRST_FORMAT, own_release())
    assert (body_of(identity_path)["format"], body_of(identity_path)["release"]) == (FIRST_FORMAT, own_release())


# ---- other releases


def test_the_log_of_a_newer_release_is_refused_by_name_and_left_alone(log_path: Path) -> None:
    checksum = zlib.crc32(b"7 9.1.0")
    execute(log_path, f"UPDATE format SET version = 7, release = '9.1.0', checksum = {checksum}")
    before = log_path.read_bytes()
    with pytest.raises(FormatRefusedError, match=NEWER):
        RaftStorage.open(log_path)
    assert log_path.read_bytes() == before


@pytest.mark.parametrize("mark", [3, 99])
def test_the_log_of_a_newer_release_with_a_mark_of_its_own_is_no_damage(mark: int, log_path: Path) -> None:
    """Called damage, with the advice to remove the node, an update followed everywhere would wipe the cluster."""
    checksum = zlib.crc32(b"7 9.1.0")
    execute(log_path, f"UPDATE format SET version = 7, release = '9.1.0', checksum = {checksum}")
    execute(log_path, f"PRAGMA user_version = {mark}")
    with pytest.raises(FormatRefusedError, match=NEWER) as refused:
        RaftStorage.open(log_path)
    assert "remove" not in str(refused.value).lower()


def test_the_log_of_parley_0_1_is_refused_by_name(log_path: Path) -> None:
    execute(log_path, "DROP TABLE format; PRAGMA user_version = 1")
    with pytest.raises(FormatRefusedError, match=UNRELEASED):
        RaftStorage.open(log_path)


def test_an_altered_mark_is_damage_and_no_newer_release(log_path: Path) -> None:
    execute(log_path, "UPDATE format SET version = 6")
    with pytest.raises(StorageDamagedError, match="does not match its checksum"):
        RaftStorage.open(log_path)


def test_a_mark_that_lost_one_bit_is_not_taken_for_parley_0_1(log_path: Path) -> None:
    for bit in range(4):
        execute(log_path, f"PRAGMA user_version = {format_table.HAS_FORMAT_TABLE ^ 1 << bit}")
        with pytest.raises(StorageDamagedError):
            RaftStorage.open(log_path)


def test_the_identity_of_a_newer_release_is_refused_by_name(identity_path: Path) -> None:
    rewrite(identity_path, format=7, release="9.1.0", node_id=["in", "another", "form"])
    with pytest.raises(FormatRefusedError, match=NEWER):
        identity.load(identity_path)


def test_the_identity_of_parley_0_1_is_refused_by_name(identity_path: Path) -> None:
    rewrite(identity_path, format=1)
    with pytest.raises(FormatRefusedError, match=UNRELEASED):
        identity.load(identity_path)


def test_an_altered_identity_is_damage_whatever_format_it_names(identity_path: Path) -> None:
    content = identity_path.read_text()
    identity_path.write_text(content.replace(f'"format": {FIRST_FORMAT}', '"format": 7'))
    with pytest.raises(StorageDamagedError):
        identity.load(identity_path)


def test_nothing_is_tidied_away_in_the_directory_of_a_newer_release(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path / "data") as data:
        identity.save(data.identity, identity.new_identity("n1"))
        rewrite(data.identity, format=7, release="9.1.0")
        kept = data.snapshots / "what a newer release keeps here"
        kept.touch()
    with pytest.raises(FormatRefusedError, match=NEWER):
        DataDirectory.open(tmp_path / "data")
    assert kept.exists()


def test_a_damaged_identity_leaves_the_directory_openable(tmp_path: Path) -> None:
    """What is wrong with it is reported where it is read."""
    with DataDirectory.open(tmp_path / "data") as data:
        data.identity.write_text("{")
    with DataDirectory.open(tmp_path / "data") as data, pytest.raises(StorageDamagedError):
        identity.load(data.identity)


# ---- older formats


@pytest.mark.parametrize(
    ("level", "version"),
    [
        (NO_LEVEL, FIRST_FORMAT),
        (LEVEL - 1, FIRST_FORMAT),
        (LEVEL, FIRST_FORMAT + 1),
        (LEVEL + 1, FIRST_FORMAT + 2),
        (LEVEL + 9, FIRST_FORMAT + 2),
    ],
)
def test_a_log_changes_as_far_as_the_level_allows_and_keeps_its_entries(
    log_path: Path, level: int, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_file, "_FORMAT", LATER_LOG)
    for _ in range(2):  # the second start finds nothing to do
        log = RaftStorage.open(log_path, level=level)
        assert log.load().last_index == 3
        log.close()
        assert format_of(log_path).version == version


def test_a_new_log_has_the_newest_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "_FORMAT", LATER_LOG)
    RaftStorage.open(tmp_path / "new.sqlite").close()
    assert format_of(tmp_path / "new.sqlite").version == LATER_LOG.current


def test_a_change_that_fails_leaves_the_old_log(log_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(connection: apsw.Connection) -> None:
        add_table(connection)
        raise apsw.FullError("no room")

    later: Format[apsw.Connection] = Format(
        migrations=(*LATER_LOG.migrations[:1], Migration(FIRST_FORMAT + 2, LEVEL, fail))
    )
    with monkeypatch.context() as patched:
        patched.setattr(log_file, "_FORMAT", later)
        with pytest.raises(Exception, match="no room"):
            RaftStorage.open(log_path, level=LEVEL)
    assert format_of(log_path).version == FIRST_FORMAT
    log = RaftStorage.open(log_path)
    assert log.load().last_index == 3
    log.close()


@pytest.mark.parametrize(("level", "version"), [(LEVEL - 1, FIRST_FORMAT), (LEVEL, FIRST_FORMAT + 1)])
def test_an_identity_changes_as_far_as_the_level_allows(
    identity_path: Path, level: int, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = identity.load(identity_path)
    monkeypatch.setattr(identity, "_FORMAT", LATER_IDENTITY)
    for _ in range(2):
        assert identity.load(identity_path, level) == before
        assert body_of(identity_path)["format"] == version
        assert body_of(identity_path).get("machine") == ("here" if version > FIRST_FORMAT else None)


@pytest.mark.parametrize("versions", [(4,), (3, 5), (3, 3)])
def test_a_table_of_changes_with_a_gap_is_refused(versions: tuple[int, ...]) -> None:
    change: Callable[[apsw.Connection], None] = add_table
    with pytest.raises(ValueError, match="migrations lead to"):
        Format(migrations=tuple(Migration(version, 1, change) for version in versions))


def test_a_level_that_falls_is_refused() -> None:
    with pytest.raises(ValueError, match="migrations lead to"):
        Format(migrations=(Migration(3, 2, add_table), Migration(4, 1, add_column)))
