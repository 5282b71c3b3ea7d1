"""`parley cluster replace`: it removes only what is lost, and goes on from where an earlier run ended."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest

from parley import ClusterMember, ClusterStatus, NodeStatus, RefusedError, UnreachableError
from parley.terminal.replace_command import LOOKS, Replacement

N1, N2, N3 = (ClusterMember(f"n{i}", i, f"h{i}:1", f"h{i}:2", voter=True, connected=True) for i in (1, 2, 3))
LOST = replace(N3, connected=False)
LEARNER = replace(N3, node_id=33, voter=False, learner=True, match_index=50)
NEW = replace(N3, node_id=33)


def status(*members: ClusterMember) -> ClusterStatus:
    leader = NodeStatus(
        "h1:1", name="n1", role="leader", leader="n1", serving=True, version="1", members=members, commit_index=200
    )
    follower = NodeStatus("h2:1", name="n2", role="follower", leader="n1", serving=True, version="1", members=members)
    return ClusterStatus((follower, leader))


SILENT = [status(N1, N2, LOST)] * (1 + LOOKS)
NO_LEADER = ClusterStatus((NodeStatus("h2:1", name="n2", role="follower", version="1"),))


class Cluster:
    """What the cluster says, look by look, and what it was asked for."""

    def __init__(self, *looks: ClusterStatus) -> None:
        self._looks = iter(looks)
        self.asked: list[str] = []
        self.told: list[str] = []
        self.tokens: list[str] = []

    async def look(self) -> ClusterStatus:
        return next(self._looks)

    async def remove_member(self, name: str, *, force: bool) -> None:
        assert not force
        self.asked.append(f"remove {name}")

    async def invite_node(self, valid_s: int) -> str:
        self.asked.append("invite")
        return "token"

    async def run(self, name: str = "n3") -> None:
        async def at_once() -> None:
            pass

        pause: Callable[[], Awaitable[None]] = at_once
        await Replacement(name, self.look, self, pause, self.tokens.append, self.told.append).run()


async def test_a_lost_node_is_removed_and_its_successor_is_waited_for_with_progress() -> None:
    cluster = Cluster(*SILENT, status(N1, N2), status(N1, N2), status(N1, N2, LEARNER), status(N1, N2, NEW))
    await cluster.run()
    assert cluster.asked == ["remove n3", "invite"]
    assert cluster.tokens == ["token"]
    assert [text for text in cluster.told if "Waiting" in text] == ["Waiting for n3 to join."]
    assert "n3 is a learner and has 25% of the entries." in cluster.told
    [to_do] = [text for text in cluster.told if "[join]" in text]
    assert 'a line for each: n1 = "h1:2", n2 = "h2:2". Then start it.' in to_do, "a node that joins is not in [join]"
    assert cluster.told[-1] == "n3 is a voter now."


@pytest.mark.parametrize(
    ("looks", "asked"),
    [
        ([status(N1, N2), status(N1, N2, NEW)], ["invite"]),  # it was removed before
        ([status(N1, N2, LEARNER), status(N1, N2, LEARNER), status(N1, N2, NEW)], []),  # the new one has joined
    ],
)
async def test_a_repeated_run_does_only_what_is_left(looks: Sequence[ClusterStatus], asked: list[str]) -> None:
    cluster = Cluster(*looks)
    await cluster.run()
    assert cluster.asked == asked


async def test_a_name_that_is_mistyped_is_shown_beside_the_members() -> None:
    cluster = Cluster(status(N1, N2, N3), status(N1, N2, N3, replace(NEW, name="n33")))
    await cluster.run("n33")
    assert cluster.told[0] == "n33 is no member now, of n1, n2, n3. A new node of this name can join."


async def test_a_node_that_works_is_not_replaced() -> None:
    cluster = Cluster(status(N1, N2, N3))
    with pytest.raises(RefusedError, match="answers and is a voter"):
        await cluster.run()
    assert cluster.asked == []


async def test_a_node_that_comes_back_meanwhile_is_not_replaced() -> None:
    cluster = Cluster(*SILENT[: LOOKS - 1], status(N1, N2, N3))
    with pytest.raises(RefusedError, match="answers and is a voter"):
        await cluster.run()
    assert cluster.asked == []


async def test_a_learner_that_is_silent_for_a_moment_is_waited_for_and_not_removed() -> None:
    silent = status(N1, N2, replace(LEARNER, connected=False))
    cluster = Cluster(silent, silent, status(N1, N2, NEW))
    await cluster.run()
    assert cluster.asked == []
    assert "does not answer now" in cluster.told[0]


async def test_nothing_is_removed_while_too_few_others_answer() -> None:
    cluster = Cluster(*[status(N1, replace(N2, connected=False), LOST)] * (1 + LOOKS))
    with pytest.raises(RefusedError, match="n2 do not"):
        await cluster.run()
    assert cluster.asked == []


async def test_without_a_leader_nothing_begins_and_a_wait_goes_on() -> None:
    with pytest.raises(UnreachableError, match="No leader answers"):
        await Cluster(NO_LEADER).run()
    cluster = Cluster(*SILENT, NO_LEADER, status(N1, N2, NEW))
    await cluster.run()
    assert cluster.told[-1] == "n3 is a voter now."
