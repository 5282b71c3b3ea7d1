"""Bounds of nodes and of this client, told as what they are."""

from pathlib import Path

import pytest

from parley import BadInputError, TooLargeError
from parley.net import channel as channels
from parley.terminal.text import from_this_device
from tests.support.node import running_cluster
from tests.unit.client.helpers import PASSWORD, make_client


async def test_the_bound_of_a_message_is_known_from_the_log_in_on_before_any_stream(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("boss", PASSWORD)
        cluster.add_account("anna", PASSWORD)
        cluster.change_setting("max_message_bytes", 1 << 20)
        async with make_client(cluster, tmp_path, connect=False) as client:
            await client.login("anna", PASSWORD)
            assert client.state.max_message_bytes == 1 << 20
            await client.send("boss", "x" * (1 << 20))
            with pytest.raises(BadInputError):
                await client.send("boss", "x" * ((1 << 20) + 1))
        async with make_client(cluster, tmp_path, "anna", connect=False) as again:
            assert again.state.max_message_bytes == 1 << 20


async def test_an_answer_above_the_bound_of_this_client_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [pair for pair in channels._OPTIONS if pair[0] != "grpc.max_receive_message_length"]
    monkeypatch.setattr(channels, "_OPTIONS", (*options, ("grpc.max_receive_message_length", 100_000)))
    async with running_cluster() as cluster:
        bob = cluster.add_account("bob", PASSWORD)
        async with make_client(cluster, tmp_path, connect=False) as anna:
            cluster.add_account("anna", PASSWORD)
            await anna.login("anna", PASSWORD)
            for _ in range(3):
                cluster.store(bob, cluster.accounts["anna"], "x" * 60_000)
            with pytest.raises(TooLargeError, match="larger than this client accepts"):
                await anna.history("bob")
            assert len((await anna.history("bob", limit=1)).messages) == 1


async def test_what_comes_from_this_device_says_why_no_node_answered(tmp_path: Path) -> None:
    async with running_cluster() as cluster, make_client(cluster, tmp_path, connect=False, deadline_s=2) as anna:
        cluster.add_account("anna", PASSWORD)
        await anna.login("anna", PASSWORD)
        cluster.nodes[0].faults.unavailable = "this node is tired"
        page = await anna.history("anna")
        assert page.cached
        assert "this node is tired" in from_this_device(page)
