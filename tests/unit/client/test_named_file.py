"""Files that a person names and a command writes: exports of the audit log and backups.

What can go wrong: a command that runs as root replaces a device by a file, and the machine no longer works. A link is
replaced by a file, and its target stays old. A program that reads from a pipe waits forever.
"""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from parley import AuditChain, AuditError, AuditFile, BackupError, ParleyError
from parley.audit_log import FIRST_HASH
from parley.backup_file import BackupWriter
from tests.unit.backup import test_backup_file as forms


def a_link(path: Path) -> None:
    target = path.with_name("target")
    target.write_text("kept")
    path.symlink_to(target)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


KINDS: dict[str, Callable[[Path], None]] = {
    "a symbolic link": a_link,
    "a named pipe": os.mkfifo,
    "a socket": a_socket,
    "a folder": Path.mkdir,
}


def export(path: Path, *, force: bool, meanwhile: Callable[[], None] = lambda: None) -> None:
    file = AuditFile(path, force=force)
    try:
        file.begin(FIRST_HASH, 0)
        meanwhile()
        file.finish(AuditChain(FIRST_HASH, 0))
    finally:
        file.discard()


def back_up(path: Path, *, force: bool, meanwhile: Callable[[], None] = lambda: None) -> None:
    writer = BackupWriter(path, force=force)
    try:
        writer.write(forms.write(path.parent / "whole", forms.header_of(forms.CONTENT)).read_bytes())
        (path.parent / "whole").unlink()
        meanwhile()
        writer.finish()
    finally:
        writer.discard()


WRITERS = [pytest.param(export, AuditError, id="export"), pytest.param(back_up, BackupError, id="backup")]
Write = Callable[..., None]


def shape(folder: Path) -> set[tuple[str, int]]:
    return {(path.name, path.lstat().st_ino) for path in folder.iterdir()}


@pytest.mark.parametrize(("write", "error"), WRITERS)
@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_only_a_regular_file_is_ever_replaced(
    tmp_path: Path, write: Write, error: type[ParleyError], kind: str, *, force: bool
) -> None:
    KINDS[kind](tmp_path / "named")
    before = shape(tmp_path)
    with pytest.raises(error, match=f"is {kind} and no regular file. It stays as it is"):
        write(tmp_path / "named", force=force)
    assert shape(tmp_path) == before


@pytest.mark.parametrize(("write", "error"), WRITERS)
def test_a_link_to_nothing_is_not_replaced_either(tmp_path: Path, write: Write, error: type[ParleyError]) -> None:
    (tmp_path / "named").symlink_to(tmp_path / "gone")
    for force in (True, False):
        with pytest.raises(error, match="is a symbolic link"):
            write(tmp_path / "named", force=force)
    assert (tmp_path / "named").is_symlink()


@pytest.mark.parametrize(("write", "error"), WRITERS)
def test_what_came_under_the_name_meanwhile_stays(tmp_path: Path, write: Write, error: type[ParleyError]) -> None:
    with pytest.raises(error, match="a named pipe"):
        write(tmp_path / "named", force=True, meanwhile=lambda: os.mkfifo(tmp_path / "named"))
    assert (tmp_path / "named").is_fifo()
    with pytest.raises(error, match="exists already"):
        write(tmp_path / "other", force=False, meanwhile=lambda: (tmp_path / "other").write_text("kept"))
    assert (tmp_path / "other").read_text() == "kept"
    assert {path.name for path in tmp_path.iterdir()} == {"named", "other"}


@pytest.mark.parametrize(("write", "error"), WRITERS)
def test_a_regular_file_is_replaced_by_force_alone(tmp_path: Path, write: Write, error: type[ParleyError]) -> None:
    (tmp_path / "named").write_text("old")
    with pytest.raises(error, match="exists already"):
        write(tmp_path / "named", force=False)
    assert (tmp_path / "named").read_text() == "old"
    write(tmp_path / "named", force=True)
    assert (tmp_path / "named").read_bytes().startswith((b'{"parley_audit"', b"PARLEYBK"))


@pytest.mark.parametrize(("write", "error"), WRITERS)
@pytest.mark.parametrize("name", [".", "/", "", "file/below", "x" * 300])
def test_a_name_that_no_file_can_have_is_refused_in_words(
    tmp_path: Path, write: Write, error: type[ParleyError], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("kept")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error):
        write(Path(name), force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_pipe_under_the_temporary_name_of_a_backup_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "named.tmp")
    with pytest.raises(BackupError, match="no unfinished backup"):
        BackupWriter(tmp_path / "named", force=True)
    assert (tmp_path / "named.tmp").is_fifo()
