"""A message that was kept and is refused later is told by the next command that connects, once, and by name.

What can go wrong: a command promised to send it, the cluster refused it, and nobody learns of it.
"""

import shutil
from pathlib import Path

import pytest

from parley.terminal.exits import ExitCode
from tests.support.node import InProcessCluster
from tests.unit.client.helpers import make_client, until
from tests.unit.client.test_command import Parley, signed_in


async def keep(cluster: InProcessCluster, parley: Parley, name: str, body: str) -> None:
    """Send a message while no node is up."""
    await cluster.nodes[0].die()
    kept = await parley("send", name, body, "--timeout", "0.3")
    assert kept.code == ExitCode.KEPT
    await cluster.nodes[0].start()


@pytest.mark.parametrize(
    "command",
    [("send", "bob", "again"), ("history", "bob", "--read"), ("listen", "--timeout", "3", "--count", "9"), ("chat",)],
    ids=lambda command: command[0],
)
async def test_the_next_command_that_connects_tells_whom_and_why_once(tmp_path: Path, command: tuple[str, ...]) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], "hello")
        await keep(cluster, parley, "ghost", "boo")
        stdin = "/to bob\nagain\n" if command == ("chat",) else ""
        first = await parley(*command, stdin=stdin)
        again = await parley("send", "bob", "once more")
        # A command that only marks as read may end before the result comes. Then the next one tells it.
        told = first.err + again.err if command[0] == "history" else first.err
        for part in ("no such account", "to ghost", "boo"):
            assert part in told, (first, again)
        assert (again.code, (first.err + again.err).count("to ghost")) == (ExitCode.OK, 1)


async def test_the_refusal_of_a_message_that_is_waited_for_is_told_once(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (_, parley):
        refused = await parley("send", "ghost", "boo")
        assert (refused.code, refused.err.count("no such account")) == (ExitCode.REFUSED, 1)
        in_chat = await parley("chat", "ghost", stdin="boo\n")
        assert (in_chat.out + in_chat.err).count("no such account") == 1
        assert "no such account" not in (await parley("send", "bob", "hi")).err


async def test_many_refused_messages_are_counted_and_not_all_listed(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        async with make_client(cluster, tmp_path / "state", "anna", connect=False) as client:
            await client.send_many([("ghost", f"boo {number}") for number in range(30)])
        done = await parley("send", "bob", "hi")
        assert done.err.count("no such account") < 30
        assert "more" in done.err
        assert "no such account" not in (await parley("send", "bob", "hi")).err


async def test_a_superseded_copy_says_that_a_log_in_sends_what_it_keeps(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        assert (await parley("send", "bob", "before")).code == 0
        [device] = cluster.devices.values()
        async with make_client(cluster, tmp_path / "state", "anna"):
            await until(lambda: device.delivered_up_to == 1, "nothing is left to acknowledge")
        shutil.copytree(tmp_path, tmp_path / "copy", ignore=lambda folder, names: {"copy"} & set(names))
        other = Parley(tmp_path / "copy", cluster)
        assert (await parley("send", "bob", "from the first")).code == 0
        assert (await parley("send", "bob", "again from the first")).code == 0
        kept = await other("send", "bob", "from the copy", "--timeout", "30")
        assert (kept.code, "parley login anna" in kept.err) == (ExitCode.KEPT, True), kept
        assert "connects sends it" not in kept.err
        chat = await other("chat", "bob", stdin="from its chat\n")
        assert (chat.code, "parley login anna" in chat.err) == (ExitCode.KEPT, True), chat
