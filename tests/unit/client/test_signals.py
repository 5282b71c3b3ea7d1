"""A command that a signal or a key ends leaves the terminal as it was, with the exit code of that signal."""

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from parley.terminal.exits import ExitCode
from tests.unit.client.terminal import on_terminal
from tests.unit.client.test_command import Parley, signed_in

ENDS = [(signal.SIGTERM, ExitCode.TERMINATED), (signal.SIGHUP, ExitCode.HUNG_UP)]


@pytest.mark.parametrize(("number", "code"), ENDS)
async def test_a_chat_that_a_signal_ends_leaves_the_terminal_as_it_was(
    tmp_path: Path, number: signal.Signals, code: ExitCode
) -> None:
    async with (
        signed_in(tmp_path) as (_, parley),
        on_terminal(parley.environment, "chat", "bob", "--lines") as terminal,
    ):
        await terminal.shows("anna → bob>")
        terminal.type(b"half typed")
        await terminal.shows("half typed")
        assert not terminal.as_before
        terminal.process.send_signal(number)
        assert await terminal.end() == code
        assert terminal.as_before


@pytest.mark.parametrize(("number", "code"), [*ENDS, (signal.SIGINT, ExitCode.INTERRUPTED)])
async def test_a_signal_at_a_password_prompt_turns_echo_on_again(
    tmp_path: Path, number: signal.Signals, code: ExitCode
) -> None:
    async with signed_in(tmp_path) as (_, parley), on_terminal(parley.environment, "login", "anna") as terminal:
        await terminal.shows("Password of anna:")
        assert not terminal.as_before
        terminal.process.send_signal(number)
        assert await terminal.end() == code
        assert terminal.as_before


@pytest.mark.parametrize(("number", "code"), [*ENDS, (signal.SIGINT, ExitCode.INTERRUPTED)])
async def test_a_signal_ends_the_check_of_a_long_backup_at_once(
    tmp_path: Path, number: signal.Signals, code: ExitCode
) -> None:
    os.mkfifo(tmp_path / "backup")
    async with Parley(tmp_path).running("backup", "verify", str(tmp_path / "backup")) as checking:
        writing = await asyncio.to_thread(os.open, tmp_path / "backup", os.O_WRONLY)  # until the command reads
        try:
            # Python takes no note of a signal that comes in the instant before it begins to read. People press again.
            for _ in range(6):
                checking.send_signal(number)
                with suppress(TimeoutError):
                    async with asyncio.timeout(5):
                        await checking.wait()
                        break
            assert checking.returncode == code
        finally:
            os.close(writing)


async def test_ctrl_d_at_a_password_prompt_is_a_sentence(tmp_path: Path) -> None:
    """It was a bare "Aborted." with exit code 1."""
    async with signed_in(tmp_path) as (_, parley), on_terminal(parley.environment, "login", "anna") as terminal:
        await terminal.shows("Password of anna:")
        terminal.type(b"\x04")
        assert await terminal.end() == ExitCode.USAGE
        assert "Nothing was done" in terminal.shown


@pytest.mark.parametrize(("number", "code"), ENDS)
async def test_listening_ends_with_the_code_of_the_signal(
    tmp_path: Path, number: signal.Signals, code: ExitCode
) -> None:
    async with signed_in(tmp_path) as (cluster, parley), parley.running("listen") as listening:
        cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], "hello")
        assert listening.stdout is not None
        assert b"hello" in await listening.stdout.readline()
        listening.send_signal(number)
        assert await listening.wait() == code
