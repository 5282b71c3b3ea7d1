"""Elections and leaders are counted by what a node follows."""

from __future__ import annotations

import asyncio
from typing import cast

from parleyd.group.runner import GroupRunner
from parleyd.node_figures import RoleCounts
from parleyd.raft.types import NO_NODE, NodeId, Role, Term
from parleyd.raft.update import RoleChange

ME, OTHER = NodeId(1), NodeId(2)


class Replica:
    """A replica whose role the test changes."""

    def __init__(self) -> None:
        self.role = RoleChange(Role.FOLLOWER, Term(3), OTHER)
        self._changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def next_role_change(self) -> asyncio.Future[None]:
        return self._changed

    async def become(self, role: Role, term: int, leader: NodeId) -> None:
        self.role = RoleChange(role, Term(term), leader)
        changed, self._changed = self._changed, asyncio.get_running_loop().create_future()
        changed.set_result(None)
        await asyncio.sleep(0)


async def test_terms_leaders_and_won_elections_count_from_the_start_on() -> None:
    replica = Replica()
    counts = RoleCounts(cast(GroupRunner, replica))
    await replica.become(Role.FOLLOWER, 3, NO_NODE)
    await replica.become(Role.FOLLOWER, 3, OTHER)  # the same one again
    assert (counts.elections, counts.leader_changes, counts.leaderships) == (0, 0, 0)
    await replica.become(Role.CANDIDATE, 5, NO_NODE)  # a term passed unseen
    await replica.become(Role.LEADER, 5, ME)
    assert (counts.elections, counts.leader_changes, counts.leaderships) == (2, 1, 1)
    await replica.become(Role.FOLLOWER, 6, NO_NODE)
    await replica.become(Role.FOLLOWER, 6, OTHER)
    assert (counts.elections, counts.leader_changes, counts.leaderships) == (3, 2, 1)
