"""Who is new needs one password and no second command, and finds the version, the help and the way out of a mistake."""

import asyncio
import sys
from pathlib import Path

import pytest

from parley.terminal import commands, outage
from parley.terminal.exits import ExitCode
from parley.terminal.options import ConnectionOptions
from tests.support.node import running_cluster
from tests.unit.client.helpers import PASSWORD
from tests.unit.client.terminal import on_terminal
from tests.unit.client.test_command import Parley, signed_in


async def test_who_registers_is_signed_in(tmp_path: Path) -> None:
    """`parley login` asked for name, password, hosts and CA again."""
    async with running_cluster() as cluster:
        parley = Parley(tmp_path, cluster)
        done = await parley("register", "Anna", PARLEY_PASSWORD=PASSWORD)
        assert (done.code, done.err) == (0, "The account Anna was created.\nSigned in as Anna.\n")
        del parley.environment["PARLEY_HOSTS"], parley.environment["PARLEY_INSECURE"]
        assert (await parley("send", "anna", "hello")).code == ExitCode.OK
        assert cluster.rows("SELECT body FROM messages") == [("hello",)]


async def test_a_cluster_that_answers_late_is_told_before_it_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a majority, `parley register`, `login` and `join` said nothing for ten seconds."""
    monkeypatch.setattr(outage, "SLOW_S", 0.0)
    monkeypatch.setenv("PARLEY_PASSWORD", PASSWORD)
    async with running_cluster() as cluster:
        cluster.nodes[0].faults.delay_s = 0.05
        options = ConnectionOptions((cluster.nodes[0].address,), None, True, "", tmp_path)
        await commands.register(options, "anna", code="", password_stdin=False)
    told = capsys.readouterr().err
    assert told.index("Waiting for the cluster") < told.index("The account anna was created.")


async def test_registering_takes_nobody_elses_place_on_this_machine(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        done = await parley("register", "carl", PARLEY_PASSWORD=PASSWORD)
        assert done.code == ExitCode.OK
        assert "anna is still in use here. To change that: parley login carl" in done.err
        assert (await parley("send", "bob", "hello")).code == ExitCode.OK
        [(sender,)] = cluster.rows("SELECT sender_id FROM messages")
        assert sender == cluster.accounts["anna"].id


async def test_a_chat_that_makes_accounts_asks_for_the_password_of_one_that_was_made_elsewhere(tmp_path: Path) -> None:
    """`make chat` gives a password that it made. An account of the window or of `parley register` has another one."""
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        parley = Parley(tmp_path, cluster)
        environment = {**parley.environment, "PARLEY_PASSWORD": "made by make chat"}
        async with on_terminal(environment, "chat", "--register", "--account", "bob") as terminal:
            await terminal.shows("The account bob exists, with another password.")
            await terminal.shows("Password of bob:")  # what is typed before it is thrown away
            terminal.type(PASSWORD.encode() + b"\r")
            await terminal.shows("Connected to")
            terminal.type(b"/quit\r")
            assert await terminal.end() == ExitCode.OK
        piped = await Parley(tmp_path / "other", cluster)(
            "chat", "--register", "--account", "bob", PARLEY_PASSWORD="made by make chat"
        )
        assert piped.code == ExitCode.NOT_SIGNED_IN


@pytest.mark.parametrize("arguments", [("--version",), ("version",)])
async def test_the_version_is_printed(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = await Parley(tmp_path)(*arguments)
    assert (done.code, done.out.startswith("parley ")) == (ExitCode.OK, True)


COMPLETED = "import sys; sys.argv[0] = 'parley'; from parley.cli import main; main()"


async def completed(parley: Parley, *words: str) -> list[str]:
    """Return what the shell offers for the last word."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        COMPLETED,
        env={
            **parley.environment,
            "_PARLEY_COMPLETE": "complete_bash",
            "COMP_WORDS": " ".join(["parley", *words]),
            "COMP_CWORD": str(len(words)),
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert err == b"", err
    return out.decode().split()


async def test_the_shell_completes_the_names_that_this_machine_has_met_and_asks_no_node(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        for name in ("carl", "carla"):
            cluster.add_account(name, PASSWORD)
        assert (await parley("accounts")).code == ExitCode.OK
        assert (await parley("fetch")).code == ExitCode.OK
        await cluster.nodes[0].die()
        for command in ("send", "history", "chat"):
            assert await completed(parley, command, "car") == ["carl", "carla"], command
        assert await completed(parley, "send", "ev") == ["everyone"]
        assert await completed(Parley(tmp_path / "nobody"), "send", "car") == []


@pytest.mark.parametrize("command", ["send", "dm", "all"])
async def test_a_text_that_begins_with_a_hyphen_is_told_how_to_be_sent(tmp_path: Path, command: str) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        to = () if command == "all" else ("bob",)
        refused = await parley(command, *to, "-5 degrees")
        assert (refused.code, "put -- before it" in refused.err) == (ExitCode.USAGE, True), refused
        sent = await parley(command, *to, "--", "-5 degrees")
        assert sent.code == ExitCode.OK, sent
        assert [body for (body,) in cluster.rows("SELECT body FROM messages")] == ["-5 degrees"]
