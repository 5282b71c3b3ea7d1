"""What the window asks about the cluster, over the services of nodes: who administers it, and what the nodes tell."""

from __future__ import annotations

from pathlib import Path

import structlog

from parley.chat import node_rows, people_note
from parley.gui import cluster_requests
from parley.gui.events import ClusterTold, RightsTold
from tests.unit.client.helpers import PASSWORD, administrator, make_client


async def test_the_cluster_tells_who_is_an_administrator_and_logs_nothing_of_the_question(tmp_path: Path) -> None:
    async with administrator(tmp_path) as (cluster, boss):
        cluster.add_account("kim", PASSWORD)
        async with make_client(cluster, tmp_path / "kim") as kim:
            await kim.login("kim", PASSWORD)
            with structlog.testing.capture_logs() as logs:
                assert await cluster_requests.ask_rights(boss) == RightsTold(administrator=True)
                assert await cluster_requests.ask_rights(kim) == RightsTold(administrator=False)
    assert [line for line in logs if line["event"].startswith("admin_action")] == []


async def test_rows_of_real_nodes_and_of_one_that_is_down(tmp_path: Path) -> None:
    async with administrator(tmp_path, ("n1", "n2", "n3")) as (cluster, boss):
        told = await cluster_requests.ask_status(boss)
        assert isinstance(told, ClusterTold)
        rows = node_rows(told.status)
        assert [(row.name, row.behind, row.reaches) for row in rows] == [
            (name, "0", "all others") for name in ("n1", "n2", "n3")
        ]
        assert sorted(row.role for row in rows) == ["follower", "follower", "leader"]
        assert all(row.release and row.levels for row in rows)
        administration = await boss.administration()
        here = await administration.node_status(cluster.nodes[0].address)
        assert (here.error, here.name, people_note(here)) == ("", "n1", "")
        down = next(node for node in cluster.nodes if node.name != cluster.leader)
        await down.die()
        again = await cluster_requests.ask_status(boss)
        assert isinstance(again, ClusterTold)
        silent = next(row for row in node_rows(again.status) if not row.answers)
        assert (silent.name, silent.address) == (down.name, down.address)
        assert (await administration.node_status(down.address)).error
