"""A closed or full standard input or output ends a command with a sentence or quietly, and loses no message.

What can go wrong: a traceback, a command that waits for ever, or a message marked as shown that nobody saw.
"""

import asyncio
import contextlib
import os
import shlex
import sys
from pathlib import Path

import pytest

from parley.terminal.exits import ExitCode
from tests.unit.client.helpers import PASSWORD
from tests.unit.client.test_command import Done, Parley, signed_in

CANNOT_WRITE = "parley: Standard output cannot be written: "
CANNOT_READ = "parley: Standard input cannot be read: Bad file descriptor."

pytestmark = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full and a shell")


async def in_shell(parley: Parley, arguments: str, **environment: str) -> Done:
    """Run `parley` with redirections of the shell."""
    process = await asyncio.create_subprocess_exec(
        "bash",
        "-o",
        "pipefail",
        "-c",
        f"{shlex.quote(sys.executable)} -m parley.cli {arguments}",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**parley.environment, **environment},
        start_new_session=True,
    )
    try:
        async with asyncio.timeout(40):
            out, err = await process.communicate()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
    assert process.returncode is not None
    assert b"Traceback" not in err, err.decode()
    assert b"Exception" not in err, err.decode()
    return Done(process.returncode, out.decode(), err.decode())


async def test_a_reader_that_leaves_ends_listening_quietly_and_what_it_did_not_read_comes_again(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        bob, anna = cluster.accounts["bob"], cluster.accounts["anna"]
        for number in range(3):
            cluster.store(bob, anna, f"message {number} {'x' * 60_000}")  # a pipe holds one of them
        left = await in_shell(parley, "listen | head -c 10")
        assert (left.code, left.err) == (ExitCode.OK, "")
        again = await parley("listen", "--count", "2", "--timeout", "20")
        assert [word for word in again.out.split() if word.isdigit()] == ["1", "2"]


@pytest.mark.parametrize("output", [">/dev/full", ">&-"], ids=["full", "closed"])
async def test_output_that_cannot_be_written_is_a_sentence_and_marks_nothing(tmp_path: Path, output: str) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], "hello")
        for command in ("listen", "fetch", "history bob --read", "conversations", "accounts", "cluster status"):
            done = await in_shell(parley, f"{command} {output}")
            assert (done.code, done.err.startswith(CANNOT_WRITE)) == (ExitCode.FAILED, True), (command, done)
            assert done.err.count("\n") == 1
        chat = await in_shell(parley, f"chat bob < <(echo /conversations) {output}")
        assert (chat.code, CANNOT_WRITE in chat.err) == (ExitCode.FAILED, True), chat
        assert "hello" in (await parley("listen", "--count", "1", "--timeout", "20")).out
        assert "1 new" in (await parley("conversations")).out


@pytest.mark.parametrize("command", ["--help", "send --help", "version"])
async def test_help_that_cannot_be_written_is_a_sentence(tmp_path: Path, command: str) -> None:
    parley = Parley(tmp_path)
    for output in (">/dev/full", ">&-"):
        done = await in_shell(parley, f"{command} {output}")
        assert (done.code, done.err.startswith(CANNOT_WRITE)) == (ExitCode.FAILED, True), done
    left = await in_shell(parley, f"{command} | true")
    assert (left.code, left.err) == (ExitCode.OK, "")


async def test_a_closed_standard_input_is_a_sentence(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        for command in ("send bob", "chat bob", "login bob --password-stdin"):
            done = await in_shell(parley, f"{command} <&-")
            assert (done.code, CANNOT_READ in done.err) == (ExitCode.FAILED, True), (command, done)
        assert (await in_shell(parley, "send bob hello <&-")).code == ExitCode.OK
        assert (await in_shell(parley, "login bob <&-", PARLEY_PASSWORD=PASSWORD)).code == ExitCode.OK
        assert cluster.bodies_for("bob") == ["hello"]


@pytest.mark.parametrize("errors", ["2>/dev/full", "2>&-"], ids=["full", "closed"])
async def test_remarks_that_nobody_can_read_change_no_outcome(tmp_path: Path, errors: str) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        assert (await in_shell(parley, f"send bob hello {errors}")).code == ExitCode.OK
        assert (await in_shell(parley, f"send ghost hello {errors}")).code == ExitCode.REFUSED
        assert cluster.bodies_for("bob") == ["hello"]


async def test_bytes_that_are_no_text_and_characters_that_the_output_lacks_are_no_traceback(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        for command in ("send bob", "chat bob"):
            done = await in_shell(parley, rf"{command} < <(printf 'a\377b\n')")
            assert "invalid characters" in done.err, (command, done)
        assert cluster.bodies_for("bob") == []
        cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], "caf\u00e9")
        done = await in_shell(parley, "listen --count 1", PYTHONUTF8="0", PYTHONIOENCODING="ascii")
        assert (done.code, r"caf\xe9" in done.out) == (ExitCode.OK, True), done
