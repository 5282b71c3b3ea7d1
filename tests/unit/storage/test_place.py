"""A data directory is told from a copy of it, whatever a person does with folders, and whatever is killed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from parleyd.storage import place
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.errors import DirectoryBusyError, IdentityError
from parleyd.storage.place import OriginalNotFoundError


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """The directory of a node that was started once."""
    folder = tmp_path / "old-disk" / "data"
    folder.mkdir(parents=True)
    for name in ("identity.json", "raft.sqlite", "raft.sqlite-wal", "state.sqlite"):
        (folder / name).write_text(f"{name} of n1")
    place.check(folder)
    return folder


def copy_of(original: Path) -> Path:
    copied = original.parent.parent / "new-disk"
    shutil.copytree(original, copied)
    return copied


def test_a_directory_is_started_again_also_under_another_name(original: Path) -> None:
    place.check(original)
    renamed = original.with_name("renamed")
    original.rename(renamed)
    place.check(renamed)
    place.check(renamed)
    assert place.settle(renamed) == "", "nothing is to be done"


def test_a_copy_is_refused_until_it_takes_the_place_of_its_original_which_is_refused_from_then_on(
    original: Path,
) -> None:
    copied = copy_of(original)
    with pytest.raises(IdentityError, match=r"is a copy of the data directory .*old-disk/data.*parleyd moved"):
        place.check(copied)
    place.check(original)
    assert place.settle(copied) == str(original)
    place.check(copied)
    with pytest.raises(IdentityError, match=r"was moved to .*new-disk"):
        place.check(original)
    with pytest.raises(IdentityError, match=r"was moved to .*new-disk"):
        place.settle(original, original_is_gone=True)
    assert place.settle(copied) == "", "again"


def test_an_old_copy_in_the_place_of_the_original_is_refused(original: Path) -> None:
    old = copy_of(original)
    shutil.rmtree(original)
    old.rename(original)
    with pytest.raises(IdentityError, match="old copy"):
        place.check(original)
    with pytest.raises(OriginalNotFoundError, match="--original-is-gone"):
        place.settle(original)


def test_a_copy_of_another_machine_needs_a_person_who_knows_that_the_original_is_gone(original: Path) -> None:
    copied = copy_of(original)
    shutil.rmtree(original)
    with pytest.raises(OriginalNotFoundError, match="give --original-is-gone"):
        place.settle(copied)
    with pytest.raises(IdentityError):
        place.check(copied)
    assert place.settle(copied, original_is_gone=True) == ""
    place.check(copied)


def test_another_node_in_the_folder_of_the_original_is_not_marked(original: Path) -> None:
    copied = copy_of(original)
    shutil.rmtree(original)
    original.mkdir()
    (original / "identity.json").write_text("of n2")
    place.check(original)
    with pytest.raises(OriginalNotFoundError):
        place.settle(copied)
    place.settle(copied, original_is_gone=True)
    place.check(original)


@pytest.mark.parametrize("name", ["raft.sqlite", "raft.sqlite-wal", "state.sqlite"])
def test_a_copy_that_is_not_what_the_original_has_now_is_refused(original: Path, name: str) -> None:
    copied = copy_of(original)
    (original / name).write_text(f"{name} of n1, and more")
    with pytest.raises(IdentityError, match=f"{name} in .* copy the whole directory again"):
        place.settle(copied)
    place.check(original)
    (copied / name).unlink()
    with pytest.raises(IdentityError, match=name):
        place.settle(copied)


def test_a_copy_is_not_taken_while_a_node_runs_on_the_original(original: Path) -> None:
    copied = copy_of(original)
    with DataDirectory.open(original), pytest.raises(DirectoryBusyError):
        place.settle(copied)
    place.check(original)


def test_a_move_that_is_killed_between_its_two_steps_is_repeated_and_nothing_starts_in_between(
    original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied = copy_of(original)
    write = place._write

    def killed(folder: Path, moved_to: str = "") -> None:
        if folder == copied:
            raise KeyboardInterrupt
        write(folder, moved_to)

    with monkeypatch.context() as patched:
        patched.setattr(place, "_write", killed)
        with pytest.raises(KeyboardInterrupt):
            place.settle(copied)
    for folder in (original, copied):
        with pytest.raises(IdentityError):
            place.check(folder)
    assert place.settle(copied) == str(original)
    place.check(copied)


def test_a_file_that_cannot_be_read_counts_as_a_copy(original: Path) -> None:
    (original / "place.json").write_text("{")
    with pytest.raises(IdentityError, match=r"place\.json cannot be read"):
        place.check(original)
    place.settle(original, original_is_gone=True)
    place.check(original)
