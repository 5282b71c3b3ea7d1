"""A command that gets nothing from the cluster says why, and ends with the code of the reason.

What can go wrong: silence, an exit code of success, or a text that sends the person to look at the wrong thing.
"""

import asyncio
import json
import time
from pathlib import Path

import pytest

from parley.terminal.exits import ExitCode
from tests.support.node import running_cluster
from tests.unit.client.certificates import Authority
from tests.unit.client.helpers import PASSWORD
from tests.unit.client.terminal import on_terminal
from tests.unit.client.test_command import Parley, signed_in

SOON_S = 9.0
"""The time in which a command gives up that waits for nothing. It gave up after 10 s at the earliest."""
WRONG_CA = "is not signed by a CA that this client trusts"
PLAIN = "speaks TLS, and this client does not encrypt (--insecure)"
COMMANDS = [
    ("cluster", "status"),
    ("ping",),
    ("login", "anna"),
    ("accounts",),
    ("fetch",),
    ("history", "bob"),
    ("send", "bob", "hello", "--timeout", "30"),
    ("listen", "--timeout", "30"),
    ("chat", "bob"),
    ("outbox", "--send", "--timeout", "30"),
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("fault", [WRONG_CA, PLAIN], ids=["wrong CA", "no TLS"])
async def test_tls_that_fails_with_every_node_ends_a_command_soon_with_the_reason(
    tmp_path: Path, arguments: tuple[str, ...], fault: str
) -> None:
    right, wrong = Authority("right"), Authority("wrong")
    (tmp_path / "right.pem").write_bytes(right.pem)
    (tmp_path / "wrong.pem").write_bytes(wrong.pem)
    async with running_cluster(credentials=right.server("127.0.0.1")) as cluster:
        cluster.add_account("anna", PASSWORD)
        cluster.add_account("bob", PASSWORD)
        parley, host = Parley(tmp_path), cluster.nodes[0].address
        good = ("--host", host, "--ca", str(tmp_path / "right.pem"))
        assert (await parley("login", "anna", *good, PARLEY_PASSWORD=PASSWORD)).code == ExitCode.OK
        bad = ("--ca", str(tmp_path / "wrong.pem")) if fault is WRONG_CA else ("--insecure",)
        if arguments[0] == "outbox":
            await parley("send", "bob", "hello", "--host", host, *bad, "--timeout", "0.1")
        began_at = time.monotonic()
        done = await parley(*arguments, "--host", host, *bad, stdin="hello\n", PARLEY_PASSWORD=PASSWORD)
        assert (done.code, fault in done.out + done.err) == (ExitCode.TLS, True), done
        assert "No node answers" not in done.out
        assert "Socket closed" not in done.out + done.err
        assert time.monotonic() - began_at < SOON_S, done


async def test_a_program_that_is_no_node_is_not_taken_for_one_with_tls(tmp_path: Path) -> None:
    async def close(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(close, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        done = await Parley(tmp_path)("cluster", "status", "--insecure", "--host", f"127.0.0.1:{port}")
        assert (done.code, "No node answers" in done.out) == (ExitCode.UNREACHABLE, True), done


async def test_listening_without_a_node_says_so_and_that_it_goes_on_and_when_it_is_connected(tmp_path: Path) -> None:
    """It waited without a word, and ended with 0."""
    async with signed_in(tmp_path) as (cluster, parley):
        await cluster.nodes[0].die()
        never = await parley("listen", "--timeout", "4")
        assert (never.code, never.err.count("Not connected: ")) == (ExitCode.UNREACHABLE, 2), never
        assert "goes on trying" in never.err
        async with on_terminal(parley.environment, "listen", "--count", "1") as terminal:
            await terminal.shows("goes on trying")
            await cluster.nodes[0].start()
            await terminal.shows("Connected to n1.")
            cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], "hello")
            assert await terminal.end() == ExitCode.OK
            assert "bob: hello" in terminal.shown
        cluster.nodes[0].faults.no_majority = True
        cluster.announce()
        without = await parley("listen", "--timeout", "8")
        assert (without.code, "No majority" in without.err) == (ExitCode.UNREACHABLE, True), without


async def test_closed_ports_of_a_range_are_no_nodes(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        host, _, port = cluster.nodes[0].address.rpartition(":")
        some = ("--host", f"{host}:{port}", "--host", f"{host}:1-4")
        status = await parley("cluster", "status", *some)
        assert "1 of 1 known nodes answer" in status.out, status
        assert f"Nothing answers at {host}:1 and 3 other addresses" in status.out
        listed = json.loads((await parley("cluster", "status", "--json", *some)).out)
        assert ([one["name"] for one in listed["nodes"]], len(listed["elsewhere"])) == (["n1"], 4)
        ping = await parley("ping", "--count", "1", *some)
        assert (ping.code, "1 of 1 known nodes answer" in ping.out) == (ExitCode.OK, True), ping
        assert "Nothing answers at" in ping.out
        nobody = await parley("cluster", "status", "--host", f"{host}:1-4")
        assert (nobody.code, "No node answers" in nobody.out) == (ExitCode.UNREACHABLE, True), nobody


async def test_a_member_that_is_down_is_a_node_whatever_address_was_given(tmp_path: Path) -> None:
    async with running_cluster(("n1", "n2")) as cluster:
        await cluster.nodes[1].die()
        parley = Parley(tmp_path, cluster)
        status = await parley("cluster", "status", "--host", cluster.nodes[0].address, "--host", "127.0.0.1:1")
        assert "1 of 2 known nodes answer" in status.out, status
        assert "Nothing answers at 127.0.0.1:1. " in status.out


async def test_a_logout_without_a_majority_says_that_the_person_is_still_signed_in(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        cluster.nodes[0].faults.no_majority = True
        done = await parley("logout")
        assert done.code == ExitCode.UNREACHABLE, done
        assert "anna is still signed in." in done.err
        assert "Waiting for a majority" in done.err
        cluster.nodes[0].faults.no_majority = False
        assert (await parley("logout")).code == ExitCode.OK


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("accounts", "z*"), ExitCode.FAILED, "No account has a name like z*."),
        (("history", "bob"), ExitCode.OK, "There are no messages with bob."),
        (("history", "bob", "--before", "1"), ExitCode.OK, "There are no messages with bob."),
        (("history", "nobody"), ExitCode.REFUSED, "There is no account nobody."),
        (("conversations",), ExitCode.OK, "There are no conversations yet."),
        (("conversations", "--unread"), ExitCode.OK, "Nothing new."),
        (("channels",), ExitCode.OK, "There are no channels yet."),
        (("receipts", "bob"), ExitCode.USAGE, "You have sent no message"),
        (("who", "nobody"), ExitCode.USAGE, "There is no account nobody."),
        (("outbox",), ExitCode.OK, "Nothing waits."),
        (("channel", "members", "#nowhere"), ExitCode.USAGE, "no channel of yours"),
    ],
    ids=str,
)
async def test_a_list_of_nothing_is_a_sentence(
    tmp_path: Path, arguments: tuple[str, ...], code: ExitCode, says: str
) -> None:
    async with signed_in(tmp_path) as (_, parley):
        done = await parley(*arguments)
        assert (done.code, done.out, says in done.err) == (code, "", True), done


async def test_sending_from_the_keyboard_says_so_and_one_ctrl_c_ends_it(tmp_path: Path) -> None:
    """The first Ctrl-C was ignored, because the read held up the loop."""
    async with signed_in(tmp_path) as (cluster, parley):
        async with on_terminal(parley.environment, "send", "bob") as terminal:
            await terminal.shows("Ctrl-D on an empty line sends it, Ctrl-C sends nothing.")
            terminal.type(b"half\r")
            await terminal.shows("half")
            terminal.type(b"\x03")
            assert await terminal.end() == ExitCode.INTERRUPTED
            assert "Nothing was sent." in terminal.shown
        async with on_terminal(parley.environment, "send", "bob") as terminal:
            await terminal.shows("Type the message.")
            terminal.type(b"whole\r\x04")
            assert await terminal.end() == ExitCode.OK
        assert cluster.bodies_for("bob") == ["whole"]
