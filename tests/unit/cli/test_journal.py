"""`parleyd journal`: what an operator sees of a node's history, with the node stopped, and when something is wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from parleyd import cli
from parleyd.events.event import Event
from parleyd.events.journal import MIN_BYTES, SLOT_BYTES, JournalFile, encode_header
from parleyd.exits import ExitCode

EVENTS = (
    Event(5, 1, 1_700_000_000_000, "node_started", {"release": "0.1", "process": 7}),
    Event(5, 2, 1_700_000_001_500, "election_started", {"term": 3, "reason": "the leader was silent"}),
    Event(5, 3, 1_699_999_999_000, "role_changed", {"role": "leader", "term": 4, "leader": "n1", "is_new": True}),
)


def journal(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, ["journal", *map(str, arguments)], prog_name="parleyd")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data directory with a journal."""
    file = JournalFile.open(tmp_path / "journal.ring", MIN_BYTES)
    for event in EVENTS:
        file.append(event)
    file.close()
    return tmp_path


def test_each_record_is_a_line_in_the_order_of_what_happened(folder: Path) -> None:
    shown = journal("--data-dir", folder)
    assert shown.exit_code == 0
    assert shown.stderr == ""
    assert shown.stdout.splitlines() == [
        "2023-11-14 22:13:20.000  node_started  release=0.1  process=7",
        '2023-11-14 22:13:21.500  election_started  term=3  reason="the leader was silent"',
        "2023-11-14 22:13:19.000  role_changed  role=leader  term=4  leader=n1  is_new=True",
    ]


def test_the_folder_may_come_from_the_settings_file(folder: Path) -> None:
    config = folder / "node.toml"
    config.write_text(f'name = "n1"\ndata_dir = "{folder}"\ninsecure = true\n')
    assert journal("--config", config).stdout == journal("--data-dir", folder).stdout


def test_since_keeps_what_follows_also_if_the_clock_jumped_back(folder: Path) -> None:
    shown = journal("--data-dir", folder, "--since", "2023-11-14T22:13:21", "--json")
    assert [one["number"] for one in json.loads(shown.stdout)["records"]] == [2, 3]
    assert journal("--data-dir", folder, "--since", "1h").stdout == ""


def test_programs_get_one_document_with_typed_fields(folder: Path) -> None:
    found = json.loads(journal("--data-dir", folder, "--json").stdout)
    assert (found["file"], found["unreadable_records"]) == (str(folder / "journal.ring"), 0)
    assert found["records"][2] == {
        "sequence": 3,
        "start": 5,
        "number": 3,
        "at_ms": 1_699_999_999_000,
        "event": "role_changed",
        "fields": {"role": "leader", "term": 4, "leader": "n1", "is_new": True},
    }


def test_a_torn_record_is_left_out_and_said(folder: Path) -> None:
    path = folder / "journal.ring"
    content = bytearray(path.read_bytes())
    content[4 * SLOT_BYTES + 50 : 5 * SLOT_BYTES] = b"\0" * (SLOT_BYTES - 50)
    path.write_bytes(content)
    shown = journal("--data-dir", folder)
    assert shown.exit_code == 0
    assert len(shown.stdout.splitlines()) == 2
    assert "1 record could not be read and is left out" in shown.stderr
    assert json.loads(journal("--data-dir", folder, "--json").stdout)["unreadable_records"] == 1


def test_what_cannot_be_read_is_refused_with_the_reason_and_a_code(tmp_path: Path) -> None:
    path = tmp_path / "journal.ring"
    missing = journal("--data-dir", tmp_path)
    assert (missing.exit_code, "does not exist" in missing.stderr) == (ExitCode.USAGE, True)
    path.write_bytes(b"something else" * 100)
    foreign = journal("--data-dir", tmp_path)
    assert (foreign.exit_code, "no journal of a node" in foreign.stderr) == (ExitCode.STORAGE, True)
    path.write_bytes(encode_header(31, version=9, release="8.0"))
    newer = journal("--data-dir", tmp_path)
    assert (newer.exit_code, "Start with 8.0 or newer" in newer.stderr) == (ExitCode.RELEASE, True)
    path.unlink()
    path.mkdir()
    assert journal("--data-dir", tmp_path).exit_code == ExitCode.USAGE


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path: Path, kind: str) -> None:
    """The open of a pipe waited for a writer for ever."""
    path = tmp_path / "journal.ring"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/null")
    shown = journal("--data-dir", tmp_path)
    assert (shown.exit_code, shown.stdout) == (ExitCode.USAGE, "")
    assert shown.stderr.startswith(f"parleyd: {path} is no regular file. ")


def test_a_journal_that_shows_nothing_says_why(folder: Path) -> None:
    path = folder / "journal.ring"
    later = journal("--data-dir", folder, "--since", "1h")
    assert (later.exit_code, later.stdout) == (0, "")
    assert later.stderr == "parleyd: there is no record since 1h. The last one is from 2023-11-14 22:13:19.000.\n"
    for content, words in (
        (b"", "the file is empty, or holds zeros only"),
        (b"\0" * SLOT_BYTES * 8, "the file is empty, or holds zeros only"),
        (encode_header(31) + b"\0" * SLOT_BYTES * 31, "the node has written none yet"),
    ):
        path.write_bytes(content)
        empty = journal("--data-dir", folder)
        assert (empty.exit_code, empty.stdout) == (0, "")
        assert empty.stderr.startswith(f"parleyd: {path} has no records: {words}")
        assert json.loads(journal("--data-dir", folder, "--json").stdout)["records"] == []


@pytest.mark.parametrize("text", ["yesterday", "2h3m", "", "99999999999d", "999999999d", "2023-13-01"])
def test_a_moment_that_is_none_is_refused_with_what_is_allowed(folder: Path, text: str) -> None:
    shown = journal("--data-dir", folder, "--since", text)
    assert shown.exit_code == ExitCode.USAGE
    assert "15m, 2h, 3d" in shown.stderr
