"""The chat on the whole screen and its terminal: stopped and continued, resized, stuck, closed.

What can go wrong: the shell gets a terminal without echo or on the other screen, the screen is not drawn again, a
terminal that takes nothing stops the client or its end, and what was half typed gets lost.
"""

import asyncio
import os
import re
import signal
from pathlib import Path

from parley.terminal.exits import ExitCode
from tests.support.node import InProcessCluster
from tests.unit.client.helpers import make_client, until
from tests.unit.client.terminal import Watched, on_terminal
from tests.unit.client.test_command import signed_in

ALTERNATE, NORMAL = "\x1b[?1049h", "\x1b[?1049l"
STUCK_AFTER = 100
FRAMES = 100_000


def store(cluster: InProcessCluster, body: str) -> None:
    cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], body)


def delivered_up_to(cluster: InProcessCluster) -> int:
    query = "SELECT max(delivered_up_to) FROM members WHERE account_id = ?"
    [(mark,)] = cluster.rows(query, (cluster.accounts["anna"].id,))
    return int(mark or 0)


async def test_a_stopped_chat_leaves_the_terminal_and_takes_it_again_and_a_closed_one_keeps_the_draft(
    tmp_path: Path,
) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        async with on_terminal(parley.environment, "chat", "bob", in_shell=True) as terminal:
            await terminal.shows("Connected to")
            terminal.type(b"half typed")
            await terminal.shows("half typed")
            watched = Watched(terminal)
            terminal.type(b"\x1a")
            await watched.shows("stopped")
            assert watched.text.index(NORMAL) < watched.text.index("stopped")
            assert terminal.as_before
            store(cluster, "meanwhile")
            watched = Watched(terminal)
            terminal.type(b"\n")
            await watched.shows(ALTERNATE, "half typed", "meanwhile")
            assert [terminal.as_before] == [False]

            chat = int(re.findall(r"stopped (\d+)\.", terminal.shown)[-1])
            for how in (signal.SIGTSTP, signal.SIGSTOP):
                watched = Watched(terminal)
                os.kill(chat, how)
                await watched.shows("stopped")
                assert terminal.as_before == (how is signal.SIGTSTP), "no program can do anything about SIGSTOP"
                watched = Watched(terminal)
                terminal.type(b"\n")
                await watched.shows(ALTERNATE, "half typed", "meanwhile")

            for columns, rows in ((20, 5), (3, 2), (1, 1), (300, 2)):
                watched = Watched(terminal)
                terminal.resize(columns, rows)
                await until(lambda: bool(watched.text), "it is drawn")  # noqa: B023
            watched = Watched(terminal)
            terminal.resize(100, 30)
            await watched.shows("half typed", "meanwhile", "Connected to")

            cluster.nodes[0].faults.no_majority = True
            cluster.announce()
            await terminal.shows("knows no leader")
            terminal.type(b", then sent\r")
            await terminal.shows("waiting")
            terminal.type(b"half of the next")
            await terminal.shows("half of the next")
            terminal.close()
            assert await terminal.end() == ExitCode.KEPT
        async with make_client(cluster, tmp_path / "state", "anna", connect=False) as client:
            assert await client.draft("bob") == "half of the next"
            assert [view.body for view in await client.outgoing()] == ["half typed, then sent"]


async def test_ctrl_z_stops_the_chat_in_lines_too_and_sends_no_character(tmp_path: Path) -> None:
    async with (
        signed_in(tmp_path) as (cluster, parley),
        on_terminal(parley.environment, "chat", "--lines", "bob", in_shell=True) as terminal,
    ):
        await terminal.shows("anna → bob>")
        await terminal.shows("There are no messages")
        terminal.type(b"half typed")
        await terminal.shows("half typed")
        watched = Watched(terminal)
        terminal.type(b"\x1a")
        await watched.shows("stopped")
        assert terminal.echoes
        store(cluster, "meanwhile")
        watched = Watched(terminal)
        terminal.type(b"\n")
        await watched.shows("half typed", "meanwhile")
        terminal.type(b", then sent\r")
        await terminal.shows("half typed, then sent ✓")
        assert cluster.bodies_for("bob") == ["half typed, then sent"]
        terminal.type(b"\x04")
        assert await terminal.end() == ExitCode.OK


async def test_a_terminal_that_takes_nothing_stops_neither_the_client_nor_its_end(tmp_path: Path) -> None:
    async with (
        signed_in(tmp_path) as (cluster, parley),
        on_terminal(parley.environment, "chat", "bob") as terminal,
    ):
        await terminal.shows("Connected to")
        terminal.take_nothing()
        watched = Watched(terminal)
        for number in range(STUCK_AFTER):
            store(cluster, f"{'-x'[number % 2] * 60} {number}")
            if number % 10 == 0:
                drawn = delivered_up_to(cluster)
                await until(lambda: delivered_up_to(cluster) > drawn, "the client goes on to receive")  # noqa: B023
        await until(lambda: delivered_up_to(cluster) == STUCK_AFTER, "the client has received and stored everything")
        terminal.type(b"typed without seeing it\r")
        await until(lambda: cluster.bodies_for("bob") == ["typed without seeing it"], "it went out")
        assert watched.text == ""
        terminal.take_again()
        await watched.shows(f" {STUCK_AFTER - 1}", "typed without seeing it")
        assert len(watched.text) < FRAMES, "what was drawn meanwhile is not shown late"

        terminal.take_nothing()
        cluster.nodes[0].faults.no_majority = True
        cluster.announce()
        terminal.type(b"it waits\r")
        for _ in range(STUCK_AFTER):
            terminal.type(b"\x0c")  # Ctrl-L draws everything again
            await asyncio.sleep(0)
        terminal.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(40):
            assert await terminal.process.wait() == ExitCode.TERMINATED
        assert terminal.as_before
