"""`parley cluster rolling-restart`: the order, what it waits for, and where it stops; without a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from parley import (
    BadInputError,
    ClusterMember,
    ClusterStatus,
    NodeStatus,
    OutcomeUnknownError,
    RefusedError,
    UnreachableError,
)
from parley.terminal import rolling_restart
from parley.terminal.rolling_restart import RollingRestart


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rolling_restart, "POLL_S", 0)
    monkeypatch.setattr(rolling_restart, "RETRY_S", 0)


@dataclass
class Cluster:
    """Three nodes that answer. One that restarts is away for two looks, then lacks entries for one."""

    leader: str = "n1"
    log: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    not_yet: list[str] = field(default_factory=list)
    fails: dict[str, Exception] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    silent: set[str] = field(default_factory=set)
    looks: dict[str, int] = field(default_factory=dict)
    restarted: set[str] = field(default_factory=set)

    async def restart_node(self, name: str) -> str:
        if self.not_yet:
            return self.not_yet.pop()
        assert not self.looks, "two nodes at once"
        assert name != self.leader, "the leader was asked"
        self.log.append(name)
        self.looks[name] = 0
        if name in self.fails:
            raise self.fails[name]
        return ""

    async def transfer_leadership(self, name: str) -> str:
        if "leadership" in self.fails:
            raise self.fails["leadership"]
        self.leader = "n3" if self.leader != "n3" else "n2"
        self.log.append(f"{self.leader} leads")
        return self.leader

    async def status(self) -> ClusterStatus:
        return ClusterStatus(tuple(map(self._node, ("n1", "n2", "n3"))))

    def _node(self, name: str) -> NodeStatus:
        members = tuple(
            ClusterMember(other, number, "", "", True, other not in self.silent and other not in self.looks)
            for number, other in enumerate(("n1", "n2", "n3"), start=1)
        )
        whole = NodeStatus(
            f"{name}:1", "", "c", name, term=1, leader=self.leader, commit_index=100, applied_index=100, serving=True,
            uptime_s=-1.0 if name in self.restarted else 1000.0, members=members,
        )  # fmt: skip
        if name in self.silent:
            return NodeStatus(f"{name}:1", error="did not answer")
        if name not in self.looks:
            return whole
        self.looks[name] += 1
        if self.looks[name] <= 2 or name in self.lost:
            return NodeStatus(f"{name}:1", error="did not answer")
        self.restarted.add(name)
        if self.looks[name] == 3:
            return replace(whole, uptime_s=-1.0, applied_index=99)
        del self.looks[name]
        return replace(whole, uptime_s=-1.0)


async def run(cluster: Cluster, *names: str, timeout_s: float = 5) -> None:
    await RollingRestart(cluster.status, cluster, timeout_s, cluster.said.append).run(names)


async def test_the_leader_comes_last_and_leads_no_more_then() -> None:
    cluster = Cluster(leader="n2")
    await run(cluster)
    assert cluster.log == ["n1", "n3", "n3 leads", "n2"]
    assert [line.split()[0] for line in cluster.said] == ["n1", "n3", "n3", "n2"]


async def test_only_the_named_nodes_are_restarted() -> None:
    cluster = Cluster()
    await run(cluster, "n3", "n3")
    assert cluster.log == ["n3"]
    await run(cluster, "n1")
    assert cluster.log == ["n3", "n3 leads", "n1"]


async def test_it_asks_again_while_the_leader_does_not_permit_it_yet() -> None:
    cluster = Cluster(not_yet=["n3 lacked entries", "n3 lacked entries"])
    await run(cluster)
    assert len(cluster.log) == 4


async def test_it_stops_where_a_node_does_not_come_back_and_says_how_to_go_on() -> None:
    cluster = Cluster(lost={"n3"})
    with pytest.raises(UnreachableError) as caught:
        await run(cluster, timeout_s=0.05)
    assert cluster.log == ["n2", "n3"], "n1 is not touched"
    text = caught.value.text
    assert "Stopped at n3" in text
    assert "n2 was restarted" in text
    assert text.endswith("start n3 if it does not run, then go on with: parley cluster rolling-restart n1 n3")


async def test_it_stops_where_the_leader_never_permits_it() -> None:
    cluster = Cluster(not_yet=["n3 lacked entries of the log"] * 100_000)
    with pytest.raises(UnreachableError, match="not permitted to restart: n3 lacked entries"):
        await run(cluster, timeout_s=0.05)
    assert cluster.log == []


async def test_a_refusal_for_good_ends_it_at_once() -> None:
    cluster = Cluster(fails={"n2": RefusedError("only an administrator may do that.")})
    with pytest.raises(RefusedError, match="Stopped at n2: only an administrator") as caught:
        await run(cluster, timeout_s=60)
    assert cluster.log == ["n2"]
    assert caught.value.text.endswith(
        "n2 was not restarted and runs as before. When it is permitted, go on with: "
        "parley cluster rolling-restart n1 n2 n3"
    )
    assert "  " not in caught.value.text
    assert "log of" not in caught.value.text, "no node is the cause"


async def test_it_tells_what_was_restarted_also_if_the_last_leader_stays() -> None:
    cluster = Cluster(fails={"leadership": RefusedError("No other voter can lead.")})
    with pytest.raises(
        RefusedError, match=r"^Stopped at n1: No other voter can lead\. n2, n3 were restarted\. n1 was not"
    ):
        await run(cluster)


async def test_a_lost_answer_is_no_reason_to_ask_twice() -> None:
    cluster = Cluster(fails={"n2": OutcomeUnknownError("the answer was lost.")})
    await run(cluster)
    assert cluster.log == ["n2", "n3", "n3 leads", "n1"]


async def test_nothing_is_restarted_while_a_member_does_not_answer_or_a_name_is_wrong() -> None:
    cluster = Cluster(silent={"n3"})
    with pytest.raises(UnreachableError, match=r"n3 did not answer\. Nothing was restarted"):
        await run(cluster)
    with pytest.raises(BadInputError, match="n9: no such member"):
        await run(Cluster(), "n2", "n9")
    assert cluster.log == []
