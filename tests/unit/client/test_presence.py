"""Who is connected, through the SDK, the command `parley who`, and the chat's /who."""

from __future__ import annotations

import json
from pathlib import Path

from parley import Account, ConnectedAccount, ConnectedAccounts, ConnectionState, NodeClients
from parley.terminal.presence_commands import HIDDEN_TEXT, who_lines, who_remarks
from tests.support.node import running_cluster
from tests.unit.client.helpers import PASSWORD, signed_in
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
        found = await anna.list_connected()
        assert [one.account.name for one in found.accounts] == ["anna", "zoe"]
        assert (found.clients, found.hidden, found.unheard) == (2, False, ())
        assert len((await anna.list_connected(limit=1)).accounts) == 1
        await (await zoe.own_account()).set_hidden(hidden=True)
        found = await anna.list_connected()
        assert ([one.account.name for one in found.accounts], found.clients) == (["anna"], 2)
        found = await zoe.list_connected()
        assert ([one.account.name for one in found.accounts], found.hidden) == (["anna", "zoe"], True)


async def test_the_command_lists_counts_and_hides(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        parley = Parley(tmp_path / "bob", cluster)
        assert (await parley("login", "bob", PARLEY_PASSWORD=PASSWORD)).code == 0
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
    assert who_remarks(found) == [
        "3 clients connected (n1 3).",
        "Not heard from: n2. Accounts that are connected only there are not listed.",
    ]
