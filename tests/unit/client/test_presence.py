"""Who is connected, through the SDK, the command `parley who`, and the chat's /who."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from parley import (
    Account,
    AccountPresence,
    BadInputError,
    ConnectedAccount,
    ConnectedAccounts,
    ConnectionState,
    NodeClients,
    ParleyClient,
    Presence,
    PresenceState,
    Typing,
)
from parley.terminal.presence_commands import HIDDEN_TEXT, who_lines, who_remarks
from parleyd.api import stream_person
from tests.support.node import InProcessCluster, running_cluster
from tests.support.raw import until_true
from tests.unit.client.helpers import PASSWORD, make_client, signed_in
from tests.unit.client.test_chat import view
from tests.unit.client.test_command import Parley


async def test_the_sdk_lists_who_is_connected_by_name_and_hides_the_own_account(tmp_path: Path) -> None:
    async with (
        running_cluster() as cluster,
        signed_in(cluster, tmp_path / "zoe", name="zoe") as zoe,
        signed_in(cluster, tmp_path / "anna") as anna,
    ):
        for client in (anna, zoe):
            await client.wait_until(ConnectionState.CONNECTED, timeout=10)
        found = await anna.presence.connected()
        assert [one.account.name for one in found.accounts] == ["anna", "zoe"]
        assert (found.clients, found.hidden, found.unheard) == (2, False, ())
        assert len((await anna.presence.connected(limit=1)).accounts) == 1
        await (await zoe.own_account()).set_hidden(hidden=True)
        found = await anna.presence.connected()
        assert ([one.account.name for one in found.accounts], found.clients) == (["anna"], 2)
        found = await zoe.presence.connected()
        assert ([one.account.name for one in found.accounts], found.hidden) == (["anna", "zoe"], True)


async def command_of_bob(tmp_path: Path, cluster: InProcessCluster) -> Parley:
    """The command line of bob, who has logged in."""
    cluster.add_account("bob", PASSWORD)
    parley = Parley(tmp_path / "bob", cluster)
    assert (await parley("login", "bob", PARLEY_PASSWORD=PASSWORD)).code == 0
    return parley


async def test_the_command_lists_counts_and_hides(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        parley = await command_of_bob(tmp_path, cluster)
        async with signed_in(cluster, tmp_path / "anna") as anna:
            await anna.wait_until(ConnectionState.CONNECTED, timeout=10)
            listed = await parley("who")
            assert listed.out.endswith("  anna\n")
            assert "1 client connected (n1 1)." in listed.err
            record = json.loads((await parley("who", "--json")).out)
            assert [account["name"] for account in record["accounts"]] == ["anna"]
            assert record["nodes"] == [{"name": "n1", "clients": 1, "heard": True}]
            assert (record["clients"], record["hidden"]) == (1, False)
        hidden = await parley("presence", "hidden")
        assert (hidden.code, "Others do not see" in hidden.err) == (0, True)
        assert HIDDEN_TEXT in (await parley("who")).err
        assert (await parley("presence", "shown")).code == 0
        assert HIDDEN_TEXT not in (await parley("who")).err
        assert (await parley("presence", "away")).code != 0


async def test_away_is_seen_by_others_goes_along_to_the_next_node_and_ends_with_the_client(tmp_path: Path) -> None:
    async with running_cluster(["n1", "n2"]) as cluster, AsyncExitStack() as stack:
        anna = await stack.enter_async_context(signed_in(cluster, tmp_path / "anna"))
        anna.presence.set_away(away=True)
        await anna.wait_until(ConnectionState.CONNECTED, timeout=10)
        first = anna.state.node
        other = "n2" if first == "n1" else "n1"
        zoe = await stack.enter_async_context(
            signed_in(cluster, tmp_path / "zoe", name="zoe", nodes=[int(other[1:]) - 1])
        )
        await zoe.wait_until(ConnectionState.CONNECTED, timeout=10)

        async def until_away(*expected: bool) -> None:
            async def check() -> None:
                found = (await zoe.presence.connected()).accounts
                assert [one.away for one in found if one.account.name == "anna"] == [*expected]

            await until_true(check)

        await cluster.node(first).die()
        await until_away(True)
        assert (anna.state.node, anna.state.away) == (other, True)
        anna.presence.set_away(away=False)
        await until_away(False)
        anna.presence.set_away(away=True)
        await until_away(True)
        async with signed_in(cluster, tmp_path / "again", nodes=[int(other[1:]) - 1]) as again:
            assert not again.state.away
            await until_away(False)
        await until_away(True)


async def test_a_process_without_the_connection_cannot_say_that_the_person_is_away(tmp_path: Path) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path) as first:
        await first.wait_until(ConnectionState.CONNECTED, timeout=10)
        async with make_client(cluster, tmp_path, "anna") as second:
            await second.wait_until(ConnectionState.SHARED, timeout=10)
            with pytest.raises(BadInputError, match="Set it there"):
                second.presence.set_away(away=True)


async def test_the_chat_says_that_one_is_away_and_back(tmp_path: Path) -> None:
    async with view(tmp_path, "") as shown:
        for line, ending in (("/away", "anna (away)"), ("/back", "anna")):
            assert await shown.view.take(line)

            async def check(ending: str = ending) -> None:
                shown.lines.clear()
                await shown.view.take("/who")
                assert shown.lines[0].endswith(f"  {ending}")

            await until_true(check)


async def test_the_sdk_tells_who_types_and_when_somebody_was_last_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_person, "INTERVAL_S", 0.0)
    async with (
        running_cluster() as cluster,
        signed_in(cluster, tmp_path / "zoe", name="zoe") as zoe,
        signed_in(cluster, tmp_path / "anna") as anna,
    ):
        await (await anna.send("zoe", "hello")).accepted()
        incoming = await anext(aiter(await zoe.messages()))
        watching = anna.watch()
        await anext(watching)
        zoe.presence.types(incoming.conversation_id)
        async with asyncio.timeout(10):
            while not (change := await anext(watching)).typing:
                pass
        assert anna.me is not None
        assert zoe.me is not None
        zoe_id = zoe.me.id
        assert change.typing == (Typing(incoming.conversation_id, zoe_id),)
        [here] = await anna.presence.of([zoe_id])
        assert here.state is PresenceState.ONLINE
        await zoe.logout()
        [gone] = await until_offline(anna, zoe_id)
        assert gone.last_seen_ms >= here.since_ms
        assert len(await anna.presence.of([zoe_id] * 300)) == 300
        with pytest.raises(BadInputError):
            await anna.presence.of([-1])
        await watching.aclose()


async def until_offline(client: ParleyClient, account_id: int) -> tuple[AccountPresence, ...]:
    async with asyncio.timeout(10):
        while (found := await client.presence.of([account_id]))[0].state is not PresenceState.OFFLINE:
            pass  # each look is a call, which gives way
    return found


async def test_typing_without_a_connection_is_dropped(tmp_path: Path) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path) as anna:
        await anna.wait_until(ConnectionState.CONNECTED, timeout=10)
        await cluster.node("n1").die()
        await anna.wait_until(ConnectionState.SEARCHING, timeout=20)
        anna.presence.types(5)
        with pytest.raises(BadInputError):
            anna.presence.types(-1)


async def test_the_chat_says_in_its_status_line_who_types_until_a_message_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("parley.chat.typists.AFTER_MESSAGE_S", 0.0)  # the test types at once after a message
    async with view(tmp_path) as shown, signed_in(shown.cluster, tmp_path / "b", "bob") as bob:
        drawn = asyncio.Event()
        shown.view.changed = drawn.set
        await (await bob.send("anna", "hello")).accepted()
        await shown.expect("bob: hello")
        [conversation] = await bob.conversations()

        async def until_line(says: bool) -> None:
            async with asyncio.timeout(10):
                while ("bob is typing…" in shown.view.status_line) is not says:
                    drawn.clear()
                    await drawn.wait()

        bob.presence.types(conversation.id)
        await until_line(True)
        await (await bob.send("anna", "world")).accepted()
        await shown.expect("bob: world")
        assert "is typing" not in shown.view.status_line


async def test_the_chat_tells_typing_of_messages_and_not_of_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with view(tmp_path) as shown:
        told: list[int] = []
        monkeypatch.setattr(Presence, "types", lambda _, conversation_id: told.append(conversation_id))
        shown.view.types("hello")
        assert told == [], "there is no conversation yet"
        await shown.view.take("hello")
        await shown.expect("you → bob: hello", "✓")
        for line in ("", "   ", "/who", "  /who", "h", "//h"):
            shown.view.types(line)
        assert told == [shown.view._open_id()] * 2


async def test_who_with_names_tells_when_they_were_last_here(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        parley = await command_of_bob(tmp_path, cluster)
        async with signed_in(cluster, tmp_path / "anna") as anna:
            await anna.wait_until(ConnectionState.CONNECTED, timeout=10)
            assert (await parley("who", "anna", "bob")).out == "anna: online\nbob: offline\n"
        told = await parley("who", "anna")
        assert told.out.startswith("anna: last seen at ")
        [record] = json.loads((await parley("who", "anna", "--json")).out)
        assert (record["name"], record["state"], record["since_ms"], record["all_heard"]) == (
            "anna", "offline", None, True,
        )  # fmt: skip
        assert record["last_seen_ms"] > 0
        unknown = await parley("who", "nobody")
        assert (unknown.code, "There is no account nobody" in unknown.err) == (2, True)


async def test_the_chat_tells_of_one_account_when_it_was_last_here(tmp_path: Path) -> None:
    async with view(tmp_path, "") as shown:
        await shown.view.take("/who bob")
        await shown.expect("bob: offline")
        await shown.view.take("/who anna")
        await shown.expect("anna: online")


async def test_the_chat_lists_who_is_connected(tmp_path: Path) -> None:
    async with view(tmp_path, "") as shown:
        assert await shown.view.take("/who")
        assert any(line.endswith("  anna") for line in shown.lines)
        assert shown.has("connected (n1 ")


def test_a_node_that_was_not_heard_from_is_named_and_names_are_safe_to_show() -> None:
    found = ConnectedAccounts(
        (ConnectedAccount(Account(1, "ben", "Ben\x1b[31m"), 0),),
        (NodeClients("n1", 3, True), NodeClients("n2", 0, False)),
        3,
        hidden=False,
    )
    assert "\x1b" not in who_lines(found)[0]
    assert not who_lines(found)[0].endswith("(away)")
    assert who_remarks(found) == [
        "3 clients connected (n1 3).",
        "Not heard from: n2. Accounts that are connected only there are not listed.",
    ]
