"""The levels of the replicated state: what every member must support before any member may use it.

A cluster has one level, stored in the state and raised through the log. Every entry carries the level it was proposed
at, and is applied by that level's rules on every node, whatever release the node runs. Tables and the form of the state
hash belong to a level and change only inside the transaction of the entry that raises it. A new command, field or rule
needs a new level; the table below names the release that brought each.
"""

from __future__ import annotations

from typing import Final

# level -> the first release that supports it
RELEASES: Final[dict[int, str]] = {1: "0.2.0", 2: "0.2.0", 3: "0.2.0"}
# From here on members publish their keys, and an administrator or a join token admits each new node.
NODE_KEYS_LEVEL: Final = 3
MIN_LEVEL: Final = min(RELEASES)
MAX_LEVEL: Final = max(RELEASES)


def release_of(level: int) -> str:
    """Name the first release that supports `level`; empty for a level that this release does not know."""
    return RELEASES.get(level, "")
