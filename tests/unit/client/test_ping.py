"""The round trip to each node: the SDK, `parley ping`, and the chat's /ping."""

from __future__ import annotations

import json
from pathlib import Path

from parley import ClusterPing, NodePing, NodeStatus
from parley.terminal.exits import ExitCode
from parley.terminal.ping_command import ping_lines
from tests.support.node import running_cluster
from tests.unit.client.helpers import make_client, signed_in
from tests.unit.client.test_chat import view
from tests.unit.client.test_command import Parley


def test_a_line_has_the_least_and_the_median_and_who_leads() -> None:
    n1 = NodePing(NodeStatus("a:1", name="n1", leader="n1"), (3.0, 1.0, 2.0, 4.0))
    n2 = NodePing(NodeStatus("b:10", error="b:10 cannot be reached (refused)."), ())
    assert (n1.min_ms, n1.median_ms, n2.min_ms, n2.median_ms) == (1.0, 2.5, 0.0, 0.0)
    assert ping_lines(ClusterPing((n1, n2))) == [
        "n1  a:1   min 1.00 ms, median 2.50 ms of 4 calls  leads",
        "?   b:10  no answer: b:10 cannot be reached (refused).",
        "1 of 2 known nodes answer, n1 leads.",
    ]


def test_names_that_a_node_sends_are_safe_to_show() -> None:
    node = NodePing(NodeStatus("a:1", name="n\x1b[31m", leader="n\x1b[31m"), (1.0,))
    assert not any("\x1b" in line for line in ping_lines(ClusterPing((node,))))


def test_nobody_leads_if_no_node_names_a_leader() -> None:
    node = NodePing(NodeStatus("a:1", name="n1"), (1.0,))
    [line, last] = ping_lines(ClusterPing((node,)))
    assert "leads" not in line
    assert last == "1 of 1 known nodes answer, nobody leads."


async def test_every_node_is_asked_as_often_as_told_with_a_session_or_without(tmp_path: Path) -> None:
    async with running_cluster(["n1", "n2", "n3"]) as cluster:
        cluster.lead("n2")
        async with make_client(cluster, tmp_path / "nobody", connect=False) as nobody:
            found = await nobody.ping(count=3)
        assert [(node.status.name, len(node.round_trips_ms)) for node in found.nodes] == [
            ("n1", 3),
            ("n2", 3),
            ("n3", 3),
        ]
        assert (found.leader, found.all_answered) == ("n2", True)
        assert all(0 < node.min_ms <= node.median_ms for node in found.nodes)
        async with signed_in(cluster, tmp_path / "anna") as anna:
            assert (await anna.ping()).leader == "n2"


async def test_the_command_names_a_node_that_does_not_answer_and_its_code_says_so(tmp_path: Path) -> None:
    async with running_cluster(["n1", "n2", "n3"]) as cluster:
        parley = Parley(tmp_path, cluster)
        done = await parley("ping", "--count", "2")
        assert (done.code, done.err) == (ExitCode.OK, "")
        assert done.out.splitlines()[-1] == "3 of 3 known nodes answer, n1 leads."
        dead = cluster.node("n3")
        await dead.die()
        done = await parley("ping", "--json")
        assert done.code == ExitCode.UNREACHABLE
        record = json.loads(done.out)
        silent = [node for node in record["nodes"] if node["error"]]
        assert [(node["address"], node["min_ms"], node["round_trips_ms"]) for node in silent] == [
            (dead.address, None, [])
        ]
        assert "cannot be reached" in silent[0]["error"]
        assert [node["leads"] for node in record["nodes"]].count(True) == 1
        assert (record["leader"], record["all_answered"]) == ("n1", False)


async def test_a_node_that_falls_silent_is_told_with_the_time_that_was_waited(tmp_path: Path) -> None:
    async with running_cluster(["n1", "n2"]) as cluster:
        cluster.node("n2").faults.hang = True
        done = await Parley(tmp_path, cluster)("ping", "-c", "1")
        assert done.code == ExitCode.UNREACHABLE
        assert "did not answer within" in done.out
        cluster.node("n2").release()


async def test_the_chat_shows_the_round_trips(tmp_path: Path) -> None:
    async with view(tmp_path, "") as shown:
        assert await shown.view.take("/ping")
        assert shown.has("median")
        assert shown.has("1 of 1 known nodes answer, n1 leads.")
