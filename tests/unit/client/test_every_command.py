"""Every command, with streams that are full, closed, narrow or without a reader, and with bytes that are no text.

The command line promises one block of text and an exit code, and never a traceback. The commands are those that the
program itself knows, so a new one is tried without a change here. One process imports the program and forks for each.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.core import TyperArgument, TyperGroup

from parley.cli import app
from parley.terminal.exits import ExitCode
from tests.support.node import InProcessCluster
from tests.unit.client.test_command import Parley, signed_in

NOT_UTF8 = "caf\udce9"
ROUNDS = {
    "output full": {"output": "full", "input": "closed"},
    "output closed": {"output": "closed", "input": "bytes"},
    "output without a reader": {"output": "left", "input": "bytes"},
    "ASCII": {"output": "ascii", "errors": "ascii"},
    "errors full": {"errors": "full"},
    "errors closed": {"errors": "closed", "input": "closed"},
}
ENDLESS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("listen",): ("--timeout", "0.1"),
    ("fetch",): ("--wait", "0"),
    ("outbox",): ("--timeout", "0.1"),
}
LAST: dict[tuple[str, ...], int] = {("logout",): 1, ("unregister",): 2}
"""After these the others would find no session."""
NEVER_ENDS = {("gateway",), ("gui",), ("filter", "serve")}
"""They serve until a signal ends them. Here they get a flag that they refuse."""
WORDS = {"name": "bob", "to": "bob", "where": "bob", "target": "bob", "channel": "#nowhere", "role": "member"}
CODES = frozenset(map(int, ExitCode))


def all_commands(group: TyperGroup, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Return all commands by the words that name them."""
    found: dict[tuple[str, ...], Any] = {}
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            found.update(all_commands(command, (*path, name)))
        else:
            found[(*path, name)] = command
    return found


ROOT = typer.main.get_command(app)
assert isinstance(ROOT, TyperGroup)
COMMANDS = all_commands(ROOT)


def line_of(path: tuple[str, ...], word: str = "") -> list[str]:
    """Return a line for a command with its required arguments, all of them `word` if one is given."""
    if path in NEVER_ENDS:
        return [*path, "--no-such-flag"]
    command = COMMANDS[path]
    arguments = [one for one in command.params if isinstance(one, TyperArgument) and (one.required or word)]
    return [*path, *(word or WORDS.get(one.name or "", "bob") for one in arguments), *ENDLESS.get(path, ())]


RUNNER = """
import json, os, sys, tempfile
from parley.cli import main

def run(case):
    report = tempfile.TemporaryFile()
    pid = os.fork()
    if not pid:
        streams(case, report.fileno())
        sys.argv = ["parley", *case["arguments"]]
        try:
            main()
        except SystemExit as end:
            os._exit(end.code or 0)
        except BaseException:
            import traceback
            os.write(report.fileno(), traceback.format_exc().encode())
            os._exit(99)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    report.seek(0)
    return {**case, "code": code, "err": report.read().decode(errors="replace")}

def streams(case, report):
    read, write = os.pipe()
    os.write(write, b"caf\\xff\\n")
    os.close(write)
    source = read if case["input"] == "bytes" else os.open(os.devnull, os.O_RDONLY)
    _, alone = os.pipe()
    os.close(_)
    outputs = {"full": os.open("/dev/full", os.O_WRONLY), "left": alone}
    out = outputs.get(case["output"], os.open(os.devnull, os.O_WRONLY))
    err = outputs.get(case["errors"], report)
    for number, descriptor in enumerate((source, out, err)):
        os.dup2(descriptor, number)
    encodings = {"ascii": "ascii"}
    sys.stdin = open(0, errors="surrogateescape", closefd=False)
    sys.stdout = open(1, "w", encoding=encodings.get(case["output"], "utf-8"), closefd=False)
    sys.stderr = open(2, "w", encoding=encodings.get(case["errors"], "utf-8"), closefd=False)
    if case["input"] == "closed":
        os.close(0); sys.stdin = None
    if case["output"] == "closed":
        os.close(1); sys.stdout = None
    if case["errors"] == "closed":
        os.close(2); sys.stderr = None

for line in sys.stdin.buffer:
    case = json.loads(line)
    done = run(case)
    sys.stdout.write(json.dumps(done) + "\\n")
    sys.stdout.flush()
"""


class Runner:
    """Runs commands one after the other, each in a fork."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def __call__(self, arguments: list[str], **streams: str) -> dict[str, Any]:
        case = {"arguments": arguments, "input": "", "output": "", "errors": "", **streams}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(case).encode() + b"\n")
        async with asyncio.timeout(60):
            line = await self._process.stdout.readline()
        done: dict[str, Any] = json.loads(line)
        assert "Traceback" not in done["err"], done
        assert "Exception ignored" not in done["err"], done
        assert done["code"] in CODES, done
        return done


@contextlib.asynccontextmanager
async def runner(parley: Parley) -> AsyncIterator[Runner]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        RUNNER,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=parley.environment,
        limit=2**20,
    )
    try:
        yield Runner(process)
    finally:
        process.kill()
        await process.wait()


async def make_something_to_show(cluster: InProcessCluster, parley: Parley) -> None:
    """Make every list non-empty, with characters that ASCII lacks."""
    anna, bob = cluster.accounts["anna"], cluster.accounts["bob"]
    cluster.store(bob, anna, "caf\u00e9 \u2713")
    cluster.create_channel(anna, "Caf\u00e9", [bob])
    assert (await parley("display-name", "Ann\u00e9")).code == ExitCode.OK
    assert (await parley("send", "bob", "caf\u00e9")).code == ExitCode.OK


def in_order() -> list[tuple[str, ...]]:
    return sorted(COMMANDS, key=lambda path: LAST.get(path, 0))


@pytest.mark.parametrize("streams", ROUNDS.values(), ids=ROUNDS)
async def test_no_command_ends_in_a_traceback_whatever_its_streams_are(tmp_path: Path, streams: dict[str, str]) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        await make_something_to_show(cluster, parley)
        parley.environment["PARLEY_PASSWORD"] = "not the right one"
        async with runner(parley) as run:
            for path in in_order():
                done = await run(line_of(path), **streams)
                is_lost = streams.get("output") in ("full", "closed")  # otherwise the result may say what is wrong
                told = not is_lost or done["code"] == ExitCode.OK or done["err"]
                assert told, f"{done} ends without a word"


async def test_no_command_ends_in_a_traceback_for_arguments_and_input_that_are_no_text(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        before = cluster.machine.applied_index
        async with runner(parley) as run:
            for path in in_order():
                if COMMANDS[path].params and path not in LAST:
                    done = await run(line_of(path, NOT_UTF8), input="bytes")
                    has_word = NOT_UTF8 in line_of(path, NOT_UTF8)
                    assert done["code"] != ExitCode.OK or not has_word, done
            for path in in_order():
                option = next((one for one in COMMANDS[path].params if one.name == "password_stdin"), None)
                if option is not None:
                    done = await run([*line_of(path), "--password-stdin"], input="bytes")
                    assert done["code"] == ExitCode.USAGE, done
        assert cluster.bodies_for("bob") == []
        assert cluster.machine.applied_index == before


async def test_help_of_every_command_is_written_to_narrow_streams(tmp_path: Path) -> None:
    async with runner(Parley(tmp_path)) as run:
        for path in COMMANDS:
            assert (await run([*path, "-h"], output="ascii", errors="ascii"))["code"] == ExitCode.OK


def test_the_flags_of_all_commands_are_shown_once_and_taken_by_each() -> None:
    shared = {one.name for one in ROOT.params} & {"host", "ca", "account", "state_dir", "config", "filter_ca", "ports"}
    assert len(shared) == 7
    with_flags = 0
    for path, command in COMMANDS.items():
        flags = {one.name: one for one in command.params if one.name in shared}
        assert not flags or flags.keys() == shared, path
        assert all(one.hidden for one in flags.values()), path
        assert not flags or path == ("dm",) or "parley --help" in command.help, path
        with_flags += bool(flags)
    assert with_flags > 40
    assert not any(getattr(one, "hidden", False) for one in ROOT.params)
