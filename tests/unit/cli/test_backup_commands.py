"""`parleyd backup verify`, `restore`, `recover`: exit codes, texts, and what they ask before they change anything."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from parleyd import cli, cli_backup
from parleyd.exits import ExitCode
from parleyd.storage import fence as fences
from parleyd.storage import identity as identities
from parleyd.storage.data_directory import DataDirectory
from parleyd.storage.fence import Fence
from tests.unit.backup.helpers import IDENTITY, files_in, history, make_backup, make_node
from tests.unit.backup.test_recover import COMMITTED, LATE, check_recovered


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("PARLEYD_"):
            monkeypatch.delenv(name)


def parleyd(*arguments: str, answer: str = "") -> Result:
    return CliRunner().invoke(cli.app, list(arguments), input=answer)


def node_flags(folder: Path) -> tuple[str, ...]:
    return ("--name", "n1", "--data-dir", str(folder), "--insecure", "--peer-listen", "127.0.0.1:7799")


@pytest.fixture
def backup(tmp_path: Path) -> Path:
    make_node(tmp_path / "old", history())
    with DataDirectory.open(tmp_path / "old") as data:
        return make_backup(data, tmp_path / "backups")


def test_verify_says_what_a_backup_is_and_what_was_checked(backup: Path, tmp_path: Path) -> None:
    done = parleyd("backup", "verify", str(backup))
    assert done.exit_code == 0, done.output
    assert IDENTITY.cluster_id in done.stdout
    assert "every page of the state" in done.stdout
    record = json.loads(parleyd("backup", "verify", str(backup), "--json", "--scratch", str(tmp_path)).stdout)
    assert (record["index"], record["node"]) == (len(history()), "n1")
    assert len(record["checked"]) == 4


@pytest.mark.parametrize("kind", ["damaged", "missing"])
def test_verify_ends_with_a_code_and_a_text(backup: Path, kind: str) -> None:
    if kind == "damaged":
        os.truncate(backup, 500)
    done = parleyd("backup", "verify", str(backup if kind == "damaged" else backup.with_name("none")))
    assert done.exit_code == (ExitCode.STORAGE if kind == "damaged" else ExitCode.USAGE)
    assert done.stderr.startswith("parleyd: ")
    assert "Nothing was changed" in done.stderr


def test_restore_makes_a_node_of_the_settings_and_says_what_to_do_next(backup: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    done = parleyd("restore", str(backup), *node_flags(folder))
    assert done.exit_code == 0, done.output
    assert "generation 1" in done.stdout, "the second in which it began"
    assert "Never start a node of the old cluster again" in done.stdout
    identity = identities.load(folder / "identity.json")
    assert identity is not None
    assert identity.name == "n1"
    assert identity.bootstrap_members[0].peer_address == "127.0.0.1:7799"
    again = parleyd("restore", str(backup), *node_flags(folder))
    assert again.exit_code == ExitCode.STORAGE
    assert "Nothing was changed" in again.stderr


def test_restore_takes_a_settings_file(backup: Path, tmp_path: Path) -> None:
    config = tmp_path / "n1.toml"
    config.write_text(
        'name = "n1"\ndata_dir = "data"\ninsecure = true\n[peers]\nn1 = "127.0.0.1:7700"\nn2 = "127.0.0.1:7701"\n'
    )
    done = parleyd("restore", str(backup), "--config", str(config))
    assert done.exit_code == 0, done.output
    assert "identity.json" in files_in(tmp_path / "data")


def test_restore_of_a_damaged_file_makes_no_directory(backup: Path, tmp_path: Path) -> None:
    os.truncate(backup, backup.stat().st_size - 3)
    done = parleyd("restore", str(backup), *node_flags(tmp_path / "new"))
    assert done.exit_code == ExitCode.STORAGE
    assert not (tmp_path / "new").exists()


# ---- recover


@pytest.fixture
def lost(tmp_path: Path) -> Path:
    """One of three nodes whose others are gone."""
    make_node(tmp_path / "n1", [*history(), *LATE], commit=COMMITTED)
    return tmp_path / "n1"


def unchanged(folder: Path) -> bool:
    return parleyd("recover", *node_flags(folder)).exit_code == ExitCode.USAGE


def test_recover_without_the_flag_shows_what_there_is_and_changes_nothing(lost: Path) -> None:
    done = parleyd("recover", *node_flags(lost))
    assert done.exit_code == ExitCode.USAGE
    assert "n3  10.0.0.3:7700" in done.stdout
    assert "--force-new-cluster" in done.stderr


def test_recover_asks_on_a_terminal_only(lost: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = parleyd("recover", "--force-new-cluster", *node_flags(lost))
    assert done.exit_code == ExitCode.USAGE
    assert "--yes" in done.stderr
    monkeypatch.setattr(cli_backup, "_is_terminal", lambda: True)
    done = parleyd("recover", "--force-new-cluster", *node_flags(lost), answer="n\n")
    assert done.exit_code == ExitCode.USAGE
    assert unchanged(lost)
    done = parleyd("recover", "--force-new-cluster", *node_flags(lost), answer="y\n")
    assert done.exit_code == 0, done.output


def test_recover_makes_the_node_the_only_member_once(lost: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_backup, "_now_ms", lambda: 1_700_000_000_000)
    done = parleyd("recover", "--force-new-cluster", "--yes", *node_flags(lost))
    assert done.exit_code == 0, done.output
    assert "n1 is the only member, generation 1" in done.stdout
    check_recovered(lost)
    again = parleyd("recover", "--force-new-cluster", "--yes", *node_flags(lost))
    assert again.exit_code == ExitCode.USAGE
    assert "no majority is lost" in again.stderr


def test_recover_of_an_untrusted_state_needs_a_flag_of_its_own(lost: Path) -> None:
    fences.save(lost / "fenced.json", Fence("outvoted at entry 7"))
    done = parleyd("recover", "--force-new-cluster", "--yes", *node_flags(lost))
    assert done.exit_code == ExitCode.USAGE
    assert "outvoted at entry 7" in done.stdout
    done = parleyd("recover", "--force-new-cluster", "--yes", "--accept-untrusted-state", *node_flags(lost))
    assert done.exit_code == 0, done.output


def test_recover_refuses_a_running_node_and_a_folder_that_is_none(lost: Path, tmp_path: Path) -> None:
    with DataDirectory.open(lost):
        done = parleyd("recover", "--force-new-cluster", "--yes", *node_flags(lost))
    assert done.exit_code == ExitCode.STORAGE
    assert "another parleyd" in done.stderr
    done = parleyd("recover", "--force-new-cluster", "--yes", *node_flags(tmp_path / "none"))
    assert done.exit_code == ExitCode.USAGE
    assert not (tmp_path / "none").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
@pytest.mark.parametrize("command", ["recover", "restore"])
def test_root_changes_nothing_in_the_directory_of_another_user(lost: Path, backup: Path, command: str) -> None:
    """The service, which runs as that user, did not start any more: it could not read the new state."""
    os.chown(lost, 54321, -1)
    arguments = ("--force-new-cluster", "--yes") if command == "recover" else (str(backup),)
    before = files_in(lost)
    done = parleyd(command, *arguments, *node_flags(lost))
    assert (done.exit_code, files_in(lost)) == (ExitCode.USAGE, before)
    assert "sudo -u '#54321'" in done.stderr
    os.chown(lost, 0, -1)
    assert parleyd("recover", *node_flags(lost)).stdout.startswith("This node is n1")
