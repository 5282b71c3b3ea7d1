"""What no request can hold is one sentence and an exit code, whatever command it was given to."""

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from parley import BadInputError, HistoryStart, Target
from parley.terminal.exits import ExitCode
from parley.wire.requests import build
from parley_proto.v1 import admin_pb2
from tests.support.node import running_cluster
from tests.unit.client import helpers
from tests.unit.client.helpers import PASSWORD
from tests.unit.client.terminal import on_terminal
from tests.unit.client.test_command import Parley, signed_in

NOT_UTF8 = os.fsdecode(b"caf\xe9")
TOO_LARGE = "99999999999999999999999"


async def test_arguments_that_no_request_can_hold_are_a_sentence(tmp_path: Path) -> None:
    """Each was a traceback of protobuf."""
    async with signed_in(tmp_path) as (cluster, parley):
        before = cluster.machine.applied_index
        for arguments in (
            ("cluster", "settings", f"max_message_bytes={TOO_LARGE}"),
            ("cluster", "claim", NOT_UTF8),
            ("history", "bob", "--before", TOO_LARGE),
            ("history", "bob", "--before", str(2**63)),
            ("display-name", NOT_UTF8),
            ("channel", "create", "Ward", NOT_UTF8),
            ("accounts", NOT_UTF8),
            ("accounts", "--host", NOT_UTF8),
            ("register", "zed", "--code", NOT_UTF8, "--password-stdin"),
        ):
            done = await parley(*arguments, stdin=PASSWORD + "\n")
            assert done.code == ExitCode.USAGE, (arguments, done)
        assert cluster.machine.applied_index == before


@pytest.mark.parametrize("command", [("register", "zed"), ("password",)])
async def test_a_password_that_is_not_utf8_is_a_sentence_without_the_password(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    async with signed_in(tmp_path) as (_, parley):
        process = await parley.start(*command, "--password-stdin")
        out, err = await process.communicate(b"\xff\xfe12345678\n" * 2)
        assert (process.returncode, out) == (ExitCode.USAGE, b""), err
        assert b"not valid UTF-8" in err
        assert b"12345678" not in err


async def test_a_typed_password_that_is_not_utf8_is_a_sentence(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (_, parley), on_terminal(parley.environment, "login", "anna") as terminal:
        await terminal.shows("Password of anna:")
        terminal.type(b"\xff\xfe12345678\r")
        assert await terminal.end() == ExitCode.USAGE
        assert "not valid UTF-8" in terminal.shown
        assert terminal.as_before


async def test_what_no_request_can_hold_does_not_end_a_chat(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        process = await parley.start("chat", "bob")
        typed = (b"/accounts \xff", b"/to \xff", b"/history " + TOO_LARGE.encode(), b"\xff", b"/to bob", b"hello", b"")
        _, err = await process.communicate(b"\n".join(typed))
        assert process.returncode == ExitCode.USAGE, "that of the first line that failed"
        assert b"Traceback" not in err
        assert cluster.bodies_for("bob") == ["hello"]


def test_a_request_is_built_only_from_what_it_can_hold() -> None:
    assert build(admin_pb2.ChangeSettingRequest, name="x", value=2**63 - 1).value == 2**63 - 1
    for name, value in (("x", 2**63), ("x", -1), ("\udce4", 1)):
        with pytest.raises(BadInputError, match="Nothing was sent"):
            build(admin_pb2.ChangeSettingRequest, name=name, value=value)


async def test_ctrl_c_while_the_program_is_imported_is_no_traceback(tmp_path: Path) -> None:
    """A module that is imported early stands for the second that the imports take."""
    blocked = tmp_path / "blocked"
    (blocked / "grpc").mkdir(parents=True)
    (blocked / "grpc" / "__init__.py").write_text("import sys; print('importing', flush=True); sys.stdin.read()")
    environment = Parley(tmp_path).environment
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "parley_command",
        "accounts",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**environment, "PYTHONPATH": f"{blocked}{os.pathsep}{environment['PYTHONPATH']}"},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(40):
            assert await process.stdout.readline() == b"importing\n"
            process.send_signal(signal.SIGINT)
            _, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, err) == (ExitCode.INTERRUPTED, b"")


async def test_an_id_that_no_cluster_assigns_is_a_sentence_and_damages_nothing(tmp_path: Path) -> None:
    """The file of the device was called damaged, with the advice to move it away."""
    async with signed_in(tmp_path) as (_, parley):
        for number in (str(2**63), TOO_LARGE):
            for arguments in (("send", f"#{number}", "hello"), ("history", f"#{number}"), ("retry", number)):
                done = await parley(*arguments)
                assert done.code in (ExitCode.USAGE, ExitCode.REFUSED), (arguments, done)
                assert "damaged" not in done.err, (arguments, done)


async def test_a_number_of_a_caller_that_no_file_holds_is_bad_input(tmp_path: Path) -> None:
    """It was a damaged file, to all whose work was in the same transaction."""
    async with running_cluster() as cluster, helpers.signed_in(cluster, tmp_path) as client:
        calls: tuple[Callable[[], Awaitable[object]], ...] = (
            lambda: client.cached_history("bob", HistoryStart(2**63)),
            lambda: client.history("bob", limit=2**63),
            lambda: client.edit(2**64, "hello"),
            lambda: client.cancel(-1),
            lambda: client.retry(2**64),
            lambda: client.outgoing(limit=2**70),
            lambda: client.cached_history(Target(conversation_id=2**63)),
            lambda: client.send(Target(account_id=-1), "hello"),
        )
        for call in calls:
            with pytest.raises(BadInputError, match="Nothing was sent"):
                await call()
        assert (await client.cached_history("bob", limit=2**63 - 1)).messages == ()


def test_a_target_that_a_damaged_file_names_is_no_bad_input_of_a_person() -> None:
    """Fuzzing a device's file found it: the text said that nothing was sent, and asked for an id."""
    with pytest.raises(BadInputError):
        Target.of(Target(conversation_id=-128))
    assert str(Target(conversation_id=-128)) == "conversation -128"
