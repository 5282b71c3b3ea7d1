"""What waits on this machine is seen and withdrawn without a chat, and every promise of when it goes out is kept.

What can go wrong: a message waits out of sight, a text names a command that does not send it, or one that was withdrawn
is sent.
"""

import json
import re
from pathlib import Path

import pytest

from parley.terminal.exits import ExitCode
from parley.terminal.text import SENT_LATER
from tests.support.node import InProcessCluster
from tests.unit.client.helpers import PASSWORD, make_client
from tests.unit.client.test_command import Parley, signed_in

SENDING = {
    "send": ("send", "bob", "later"),
    "listen": ("listen", "--count", "1", "--timeout", "30"),
    "fetch": ("fetch",),
    "chat": ("chat", "bob"),
    "outbox --send": ("outbox", "--send", "--timeout", "30"),
}


async def keep(cluster: InProcessCluster, parley: Parley, *bodies: str) -> None:
    """Send messages while no node is up."""
    await cluster.nodes[0].die()
    for body in bodies:
        assert (await parley("send", "bob", body, "--timeout", "0.1")).code == ExitCode.KEPT


async def test_what_waits_is_listed_and_withdrawn_without_a_node_and_the_rest_is_sent_once(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        assert (await parley("outbox")).err == "Nothing waits.\n"
        await keep(cluster, parley, "first", "second", "third")
        listed = await parley("outbox")
        assert listed.code == ExitCode.OK, listed
        assert [line.split()[0] for line in listed.out.splitlines()] == ["1", "2", "3"]
        assert "you → bob: second …" in listed.out
        assert listed.err == f"3 messages wait. {SENT_LATER} To withdraw one: parley outbox --cancel N.\n"
        records = json.loads((await parley("outbox", "--json")).out)
        assert [(one["local_id"], one["body"], one["status"]) for one in records] == [
            (1, "first", "waiting"),
            (2, "second", "waiting"),
            (3, "third", "waiting"),
        ]
        withdrawn = await parley("outbox", "--cancel", "2", "--cancel", "9")
        assert withdrawn.code == ExitCode.USAGE, "there is no 9"
        assert "Withdrawn. Nobody receives it: second" in withdrawn.err
        assert "9: There is no such message" in withdrawn.err
        await cluster.nodes[0].start()
        assert (await parley("outbox", "--send", "--timeout", "30")).code == ExitCode.OK
        assert (await parley("outbox", "--send")).err == "Nothing waits.\n"
        assert cluster.bodies_for("bob") == ["first", "third"]


async def test_all_that_waits_is_withdrawn_at_once(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        await keep(cluster, parley, "first", "second")
        done = await parley("outbox", "--cancel", "all")
        assert (done.code, done.err.count("Withdrawn.")) == (ExitCode.OK, 2), done
        assert (await parley("outbox", "--cancel", "all")).err == "Nothing waits.\n"
        for word in ("x", "0", "-1", "9" * 30):
            wrong = await parley("outbox", "--cancel", word)
            assert (wrong.code, "is not a number of a message" in wrong.err) == (ExitCode.USAGE, True), wrong
            assert "parley outbox lists the numbers" in wrong.err


async def test_however_many_wait_all_are_withdrawn(tmp_path: Path) -> None:
    """Those beyond the first thousand were sent later, and nothing said so."""
    async with signed_in(tmp_path) as (cluster, parley):
        await cluster.nodes[0].die()
        async with make_client(cluster, tmp_path / "state", "anna", connect=False) as client:
            await client.send_many([("bob", f"m{number}") for number in range(1_003)])
            done = await parley("outbox", "--cancel", "all")
            assert (done.code, done.err.count("Withdrawn.")) == (ExitCode.OK, 1_003)
            assert await client.waiting() == ()


async def test_a_refused_message_is_listed_and_sent_again(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        assert (await parley("send", "dora", "hello")).code == ExitCode.REFUSED
        listed = await parley("outbox")
        assert "you → dora: hello ✗" in listed.out
        assert "parley outbox --retry N" in listed.err
        cluster.add_account("dora", PASSWORD)
        again = await parley("outbox", "--retry", "1", "--send", "--timeout", "30")
        assert again.code == ExitCode.OK, again
        assert cluster.bodies_for("dora") == ["hello"]
        assert (await parley("outbox")).err == "Nothing waits.\n"


async def test_what_waits_is_seen_after_a_logout_and_sending_needs_a_session(tmp_path: Path) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        await keep(cluster, parley, "first")
        await cluster.nodes[0].start()
        cluster.nodes[0].faults.no_majority = True
        assert (await parley("outbox", "--send", "--timeout", "0.1")).code == ExitCode.KEPT
        cluster.nodes[0].faults.no_majority = False
        cluster.end_sessions()
        ended = await parley("outbox", "--send", "--timeout", "30")
        assert (ended.code, "parley login" in ended.err) == (ExitCode.NOT_SIGNED_IN, True), ended
        assert "first" in (await parley("outbox", "--account", "anna")).out
        nobody = await parley("outbox", "--account", "carl")
        assert nobody.code == ExitCode.NOT_SIGNED_IN, nobody
        assert cluster.bodies_for("bob") == []


def test_the_text_about_later_names_the_commands_that_send() -> None:
    named = re.sub(r"parley|sends what waits|The next|once|[.:]", "", SENT_LATER)
    assert re.split(r"\s*(?:,|\bor\b)\s*", named.strip())[:3] == ["send", "listen", "fetch"]
    assert all(name in SENT_LATER for name in SENDING)


@pytest.mark.parametrize("name", SENDING)
async def test_each_command_that_the_text_names_sends_what_waits(tmp_path: Path, name: str) -> None:
    async with signed_in(tmp_path) as (cluster, parley):
        await keep(cluster, parley, "kept")
        await cluster.nodes[0].start()
        cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], "hello")
        done = await parley(*SENDING[name])
        assert done.code == ExitCode.OK, done
        assert cluster.bodies_for("bob")[:1] == ["kept"]
