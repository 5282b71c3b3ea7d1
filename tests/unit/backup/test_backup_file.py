"""A backup is what was written, or it is refused: altered, cut short, extended, of another kind or release.

What can go wrong: a byte of any part changes; the file ends anywhere; bytes follow it; it is another file; it needs a
newer release; it announces less than it contains.
"""

from __future__ import annotations

import hashlib
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from parley_proto.v1.admin_pb2 import BackupHeader
from parleyd.backup.backup_file import END, FORMAT, BackupFile, encode
from parleyd.backup.errors import BackupDamagedError, BackupReleaseError
from parleyd.backup.verify import check_digests, verify
from parleyd.machine.levels import MAX_LEVEL
from parleyd.storage.data_directory import DataDirectory
from tests.unit.backup.helpers import IDENTITY, facts, files_in, history, make_backup, make_node

CONTENT = b"state " * 40_000 + os.urandom(300_000)


def header_of(content: bytes, **fields: int) -> BackupHeader:
    header = BackupHeader(
        release="9.9.9", content_bytes=len(content), content_sha256=hashlib.sha256(content).digest(), level=MAX_LEVEL
    )
    for name, value in fields.items():
        setattr(header, name, value)
    return header


def write(path: Path, header: BackupHeader, content: bytes = CONTENT) -> Path:
    parts = (content[start : start + 50_000] for start in range(0, len(content), 50_000))
    path.write_bytes(b"".join(piece.data for piece in encode(header, parts)))
    return path


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    return write(tmp_path / "one.backup", header_of(CONTENT))


def test_a_backup_returns_what_was_written_and_its_progress_ends_with_all_of_it(backup: Path) -> None:
    with BackupFile.open(backup) as file:
        assert b"".join(file.content()) == CONTENT
        assert file.header == header_of(CONTENT)
    assert [*encode(header_of(CONTENT), [CONTENT])][-1].content_bytes == len(CONTENT)


def parts_of(path: Path) -> dict[str, int]:
    """A byte of each part of the file."""
    content = path.read_bytes()
    header_bytes = int.from_bytes(content[12:16], "big")
    begins, ends = 16 + header_bytes + 32, len(content) - 48
    return {
        "mark": 3,
        "format": 11,
        "size of the header": 15,
        "header": 20,
        "digest of the header": begins - 1,
        "beginning of the content": begins + 2,
        "middle of the content": (begins + ends) // 2,
        "end of the content": ends - 1,
        "mark of the end": ends,
        "size": ends + 15,
        "digest": len(content) - 1,
    }


PARTS = (
    "mark",
    "format",
    "size of the header",
    "header",
    "digest of the header",
    "beginning of the content",
    "middle of the content",
    "end of the content",
    "mark of the end",
    "size",
    "digest",
)


@pytest.mark.parametrize("part", PARTS)
def test_a_byte_that_was_altered_is_found_in_every_part(backup: Path, part: str) -> None:
    place = parts_of(backup)[part]
    content = bytearray(backup.read_bytes())
    content[place] ^= 0x10
    backup.write_bytes(content)
    with pytest.raises(BackupDamagedError, match="Nothing was changed"):
        check_digests(backup)


@pytest.mark.parametrize("part", PARTS)
def test_a_file_that_ends_within_any_part_is_found(backup: Path, part: str) -> None:
    os.truncate(backup, parts_of(backup)[part])
    with pytest.raises(BackupDamagedError):
        check_digests(backup)


def test_bytes_after_the_end_are_found(backup: Path) -> None:
    with backup.open("ab") as file:
        file.write(b"\n")
    with pytest.raises(BackupDamagedError, match="bytes follow it"):
        check_digests(backup)


@pytest.mark.parametrize("content", [b"", b"PARLEYBK", b"PARLEY", b"SQLite format 3\0" + bytes(500)])
def test_another_file_is_no_backup(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(BackupDamagedError):
        check_digests(path)


def rewritten(path: Path, change: Callable[[bytearray], None]) -> None:
    """Change the head of a file, with the header's digest in order."""
    content = bytearray(path.read_bytes())
    change(content)
    ends = 16 + int.from_bytes(content[12:16], "big")
    content[ends : ends + 32] = hashlib.sha256(content[:ends]).digest()
    path.write_bytes(content)


def test_a_newer_format_names_its_release(backup: Path) -> None:
    def newer(content: bytearray) -> None:
        content[11] = FORMAT + 1

    rewritten(backup, newer)
    with pytest.raises(BackupReleaseError, match=r"9\.9\.9"):
        check_digests(backup)


@pytest.mark.parametrize("level", [0, MAX_LEVEL + 1])
def test_a_level_that_this_release_does_not_support_is_refused(tmp_path: Path, level: int) -> None:
    path = write(tmp_path / "newer.backup", header_of(CONTENT, level=level))
    with pytest.raises(BackupReleaseError, match="Nothing is wrong with the file"):
        check_digests(path)


def test_more_content_than_announced_is_not_returned(tmp_path: Path) -> None:
    path = write(tmp_path / "bomb.backup", header_of(CONTENT[:1000]), bytes(50_000_000))
    got: list[bytes] = []
    with BackupFile.open(path) as file, pytest.raises(BackupDamagedError, match="more than the 1000 bytes"):
        got.extend(file.content())
    assert len(b"".join(got)) <= 1000


def test_less_content_than_announced_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "short.backup", header_of(CONTENT), CONTENT[:-1])
    with pytest.raises(BackupDamagedError, match="not what its header announces"):
        check_digests(path)


def with_a_rest(path: Path, rest_bytes: int) -> Path:
    """A file with other bytes after the end of its compressed part; its size and its digest are right."""
    content = path.read_bytes()[: -8 - 8 - 32] + os.urandom(rest_bytes)
    content += END + (len(content) + 8 + 8 + 32).to_bytes(8, "big")
    path.write_bytes(content + hashlib.sha256(content).digest())
    return path


def kept_bytes(read: Callable[[], object]) -> int:
    """The most memory that reading needs at once."""
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_follows_the_compressed_part_is_refused_and_not_kept(backup: Path) -> None:
    path = with_a_rest(backup, 20_000_000)

    def read() -> None:
        with pytest.raises(BackupDamagedError, match="does not end where the file says"):
            check_digests(path)

    assert kept_bytes(read) < 5_000_000
    with pytest.raises(BackupDamagedError, match="does not end where the file says"):
        check_digests(with_a_rest(write(backup, header_of(CONTENT)), 1))


# ---- the deep check


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    make_node(tmp_path / "n1", history())
    with DataDirectory.open(tmp_path / "n1") as data:
        return make_backup(data, tmp_path / "backups")


def test_the_deep_check_of_a_sound_backup_says_what_it_is_and_leaves_nothing(sound: Path, tmp_path: Path) -> None:
    header = verify(sound, sound.parent)
    index, term, state_hash, generation = facts(tmp_path / "n1" / "state.sqlite")
    assert (header.index, header.term, header.state_hash, header.generation) == (index, term, state_hash, generation)
    assert (header.cluster_id, header.node_name, header.level) == (IDENTITY.cluster_id, "n1", MAX_LEVEL)
    assert header.is_current
    assert files_in(sound.parent) == {sound.name}
    assert sound.stat().st_mode & 0o777 == 0o600


def with_content(sound: Path, change: Callable[[bytearray], None], **fields: int) -> Path:
    """A backup with another content, with all digests in order."""
    with BackupFile.open(sound) as file:
        content = bytearray(b"".join(file.content()))
        header = file.header
    change(content)
    header.content_bytes, header.content_sha256 = len(content), hashlib.sha256(content).digest()
    for name, value in fields.items():
        setattr(header, name, value)
    return write(sound.with_name("changed.backup"), header, bytes(content))


def test_the_deep_check_finds_a_page_that_does_not_match_its_checksum(sound: Path) -> None:
    def flip(content: bytearray) -> None:
        content[3 * 4096 + 2000] ^= 1

    path = with_content(sound, flip)
    check_digests(path)
    with pytest.raises(BackupDamagedError, match="its state is damaged"):
        verify(path, path.parent)


def test_the_deep_check_finds_a_state_that_is_not_the_one_of_the_header(sound: Path) -> None:
    path = with_content(sound, lambda content: None, index=1)
    with pytest.raises(BackupDamagedError, match="not the one that its header describes"):
        verify(path, path.parent)
    assert files_in(path.parent) == {sound.name, path.name}
