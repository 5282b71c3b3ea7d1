"""The prompt of a chat: always there, whole, and in order, on terminals that can move their cursor and on others.

What can go wrong: a command that asks the cluster takes the prompt away for seconds, a line that comes sticks to it, or
a line that was typed meanwhile reaches somebody else or gets lost.
"""

import asyncio
import signal
from pathlib import Path

import pytest

from parley.terminal.exits import ExitCode
from tests.support.node import InProcessCluster, running_cluster
from tests.unit.client import terminal as terminals
from tests.unit.client.helpers import PASSWORD, until
from tests.unit.client.terminal import on_terminal
from tests.unit.client.test_chat import terminal
from tests.unit.client.test_command import signed_in

SLOW = "/accounts"


def make_accounts(cluster: InProcessCluster) -> None:
    for name in ("bob", "carl", "anna"):
        cluster.add_account(name, PASSWORD)


async def test_a_command_that_asks_the_cluster_does_not_take_the_prompt_away_and_the_order_stays(
    tmp_path: Path,
) -> None:
    async with running_cluster() as cluster:
        make_accounts(cluster)
        async with terminal(tmp_path, cluster) as (keys, task, shown):
            keys.send_text("first\r")
            await until(lambda: cluster.bodies_for("bob") == ["first"], "it arrived")
            cluster.nodes[0].faults.hang = True
            keys.send_text(f"{SLOW}\r/to carl\rfor carl\r")
            keys.send_text("half of a line\x03")
            await until(lambda: any("/quit leaves" in line for line in shown), "the prompt is there")
            assert not any("carl" in line for line in shown)
            cluster.nodes[0].release()
            await until(lambda: cluster.bodies_for("carl") == ["for carl"], "the lines were taken in order")
            await until(lambda: any("✓" in line and "carl" in line for line in shown), "its result came")
            keys.send_text("/quit\r")
            assert await asyncio.wait_for(task, 30) == ExitCode.OK
        assert (cluster.bodies_for("bob"), cluster.bodies_for("carl")) == (["first"], ["for carl"])


async def test_a_line_that_was_not_taken_when_the_chat_was_ended_is_told(tmp_path: Path) -> None:
    async with (
        signed_in(tmp_path) as (cluster, parley),
        on_terminal(parley.environment, "chat", "bob", "--lines") as screen,
    ):
        await screen.shows("anna → bob>")
        cluster.nodes[0].faults.hang = True
        screen.type(f"{SLOW}\r".encode())
        screen.type(b"half of the story\r")
        screen.type(b"\x04")
        await screen.shows("waiting for the cluster")
        screen.process.send_signal(signal.SIGTERM)
        assert await screen.end() == ExitCode.TERMINATED
        assert "Not taken any more: half of the story" in screen.shown
        cluster.nodes[0].release()
        assert cluster.bodies_for("bob") == []


async def test_on_a_terminal_without_a_cursor_nothing_sticks_to_the_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(terminals, "TERM", "dumb")
    async with signed_in(tmp_path) as (cluster, parley), on_terminal(parley.environment, "chat", "bob") as screen:
        await screen.shows("anna → bob> ")
        cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], "one")
        await screen.shows("bob: one\r\nanna → bob> ")
        screen.type(b"half")
        await screen.shows("> half")
        cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], "two")
        await screen.shows("bob: two\r\nanna → bob> ")
        screen.type(b" typed\r")
        await until(lambda: cluster.bodies_for("bob") == ["half typed"], "the line stayed whole")
        await screen.shows("you → bob: half typed ✓\r\nanna → bob> ")
        screen.type(b"/to ghost\r")
        await screen.shows("There is no account ghost.")
        await screen.shows("\r\nanna> ")
        screen.type(b"/quit\r")
        assert await screen.end() == ExitCode.OK
        for line in screen.shown.split("\r\n"):
            assert line.count("bob: ") + line.count("> ") <= 1 or line.startswith("anna"), screen.shown
        assert "\x1b" not in screen.shown
