"""An output of `parleyd` that cannot be written ends the command with one sentence, and makes no secret that is lost.

What can go wrong: a traceback, success without a result, or an administrator's code that is valid and that nobody saw.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from parleyd.exits import ExitCode
from parleyd.security.certificate_files import write_ca

FAILURES = {"full": "No space left on device", "closed": "Bad file descriptor", "pipe": "Broken pipe"}

pytestmark = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full and a shell")


def redirected(arguments: str, output: str = "", errors: str = "") -> subprocess.CompletedProcess[str]:
    """Run `parleyd` with a standard output or a standard error that is full, closed, or a pipe without a reader."""
    shell = {"full": ">/dev/full", "closed": ">&-"}
    streams = " ".join(
        descriptor + shell[state] for descriptor, state in (("1", output), ("2", errors)) if state in shell
    )
    reader, writer = os.pipe()
    if output == "pipe":
        os.close(reader)
    try:
        ended = subprocess.run(
            ["sh", "-c", f'exec "$0" "$@" {streams}', sys.executable, "-m", "parleyd", *arguments.split()],
            check=False,
            timeout=60,
            text=True,
            stdout=writer if output == "pipe" else subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if not name.startswith("PARLEYD_")},
        )
    finally:
        os.close(writer)
        if output != "pipe":
            os.close(reader)
    return ended


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a data directory, a settings file and a certificate."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "identity.json").touch()
    (tmp_path / "node.toml").write_text('name = "n1"\ndata_dir = "data"\ninsecure = true\n')
    write_ca(tmp_path, days=1, force=False)
    return tmp_path


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("version", "full"),
        ("version", "closed"),
        ("start --help", "full"),
        ("config --config {}/node.toml", "full"),
        ("cert show {}/ca.pem", "closed"),
    ],
)
def test_output_that_cannot_be_written_is_one_sentence(folder: Path, command: str, output: str) -> None:
    ended = redirected(command.format(folder), output)
    sentence = (
        f"parleyd: Standard output cannot be written: {FAILURES[output]}. What the command has done so far is not "
        "undone.\n"
    )
    assert (ended.returncode, ended.stderr) == (ExitCode.FAILED, sentence)


@pytest.mark.parametrize("command", ["version", "start --help", "config --config {}/node.toml", "cert show {}/ca.pem"])
def test_a_reader_that_has_read_enough_is_no_failure_of_a_command_that_prints(folder: Path, command: str) -> None:
    """`parleyd config | head -1` ended with 1, and `parley` with 0."""
    ended = redirected(command.format(folder), "pipe")
    assert (ended.returncode, ended.stderr) == (ExitCode.OK, "")


@pytest.mark.parametrize("output", FAILURES)
def test_a_code_that_nobody_saw_makes_nobody_an_administrator(folder: Path, output: str) -> None:
    """The code was valid, and `parleyd` exited with 0 if the output was closed."""
    before = sorted((folder / "data").iterdir())
    ended = redirected(f"admin create {folder}/data", output)
    assert (ended.returncode, FAILURES[output] in ended.stderr) == (ExitCode.FAILED, True), ended.stderr
    assert sorted((folder / "data").iterdir()) == before


@pytest.mark.parametrize("errors", ["full", "closed"])
def test_remarks_that_nobody_can_read_change_no_outcome(tmp_path: Path, errors: str) -> None:
    assert redirected(f"admin create {tmp_path}", errors=errors).returncode == ExitCode.USAGE
