"""Two releases of parleyd for tests, beside each other: `python -m tests.cluster.releases old|next start ...`.

The next release brings one level more than the product: a command that the old one does not have, and a column in one
of the tables. `create_channel` stands for that command: it is taken away from the old release, and belongs to the next
one's level. Nothing of this is in the product; it is patched before anything of it is used.
"""

from __future__ import annotations

import sys
from dataclasses import replace

from parleyd.machine import levels

OLD_LEVEL = levels.MAX_LEVEL
NEXT_LEVEL = OLD_LEVEL + 1
NEXT_RELEASE = "9.9.0"
NEW_COMMAND = "create_channel"

OLD = ("-m", "tests.cluster.releases", "old")
NEXT = ("-m", "tests.cluster.releases", "next")


def become_old() -> None:
    """Take the command away that only the next release has; its api lets it into the log all the same.

    So the log has the command at the old level, and every node, of whatever release, must answer it alike.
    """
    from parleyd.api import commands
    from parleyd.machine import registry

    del registry.COMMANDS[NEW_COMMAND]
    commands.check_level = lambda command, level: None


def become_next() -> None:
    """Add the next level: its release, its command and its tables."""
    levels.RELEASES[NEXT_LEVEL] = NEXT_RELEASE
    levels.MAX_LEVEL = NEXT_LEVEL  # type: ignore[misc]
    from parleyd.machine import registry
    from parleyd.machine.feature import Feature

    registry.COMMANDS[NEW_COMMAND] = replace(registry.COMMANDS[NEW_COMMAND], level=NEXT_LEVEL)
    column = "ALTER TABLE cluster_members ADD COLUMN next_release INTEGER NOT NULL DEFAULT 7;"
    registry.FEATURES = (*registry.FEATURES, Feature("next_release", tables={NEXT_LEVEL: column}))  # type: ignore[misc]


if __name__ == "__main__":
    {"old": become_old, "next": become_next}[sys.argv.pop(1)]()
    from parleyd.cli import main

    main()
