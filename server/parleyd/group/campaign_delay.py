"""The order in which followers campaign after the connection to their leader broke.

All followers notice a dead leader within a millisecond of each other. If their delays were random in a short range, two
would often campaign together, split the vote and lose an election timeout. So the delays follow the order of the ids.
Each follower waits one step longer than the one before, with some jitter. A step is long enough for an election. A
follower whose log is too old is refused by pre-vote and costs only its step.
"""

from __future__ import annotations

import random
from collections.abc import Collection

from parleyd.raft.types import NodeId

STEP_MS = 30.0
JITTER_MS = (5.0, 15.0)


def campaign_delay_ms(
    voters: Collection[NodeId], me: NodeId, lost_leader: NodeId, rng: random.Random, step_ms: float = STEP_MS
) -> float:
    """Return the delay of `me` before its pre-vote: 5 to 15 ms, and a step more for each candidate before it."""
    in_line = sorted(voter for voter in voters if voter != lost_leader)
    place = in_line.index(me) if me in in_line else len(in_line)
    return place * step_ms + rng.uniform(*JITTER_MS)
