"""Who tries first to succeed a leader whose connection broke.

All followers notice a dead leader within a millisecond of each other. Were their delays drawn freely from a short
range, two would often start together, split the vote and lose a whole election timeout. So they line up by id: each
waits a step longer than the one before it, with some jitter, long enough for an election before it to have been won.
One whose log is too old is refused by pre-vote and costs nothing but its step.
"""

from __future__ import annotations

import random
from collections.abc import Collection

from parleyd.raft.types import NodeId

STEP_MS = 30.0
JITTER_MS = (5.0, 15.0)


def campaign_delay_ms(voters: Collection[NodeId], me: NodeId, lost_leader: NodeId, rng: random.Random) -> float:
    """How long `me` waits before it asks for pre-votes: 5 to 15 ms, and 30 ms more for each candidate before it."""
    in_line = sorted(voter for voter in voters if voter != lost_leader)
    place = in_line.index(me) if me in in_line else len(in_line)
    return place * STEP_MS + rng.uniform(*JITTER_MS)
