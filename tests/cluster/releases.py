"""Other releases of parleyd for tests, beside this one: `python -m tests.cluster.releases old|next start ...`.

The next release brings one level more than the product: a command that the old one does not have, and a column in one
of the tables. `create_channel` stands for that command: it is taken away from the old release, and belongs to the next
one's level. Nothing of this is in the product; it is patched before anything of it is used.

`previous` is this release without its newest level: it has no tables, commands and rules of that level in any state.
`installed=FILE` runs the release that FILE names, `this` among them, so a node that starts itself again takes the
release that was installed meanwhile.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from parleyd.machine import levels

OLD_LEVEL = levels.MAX_LEVEL
NEXT_LEVEL = OLD_LEVEL + 1
NEXT_RELEASE = "9.9.0"
NEW_COMMAND = "create_channel"

OLD = ("-m", "tests.cluster.releases", "old")
NEXT = ("-m", "tests.cluster.releases", "next")
PREVIOUS_LEVEL = levels.MAX_LEVEL - 1


def become_old() -> None:
    """Take the command away that only the next release has; its api lets it into the log all the same.

    So the log has the command at the old level, and every node, of whatever release, must answer it alike.
    """
    from parleyd.api import commands
    from parleyd.machine import registry

    del registry.COMMANDS[NEW_COMMAND]
    commands.check_level = lambda command, level: None


def installed(file: Path) -> tuple[str, ...]:
    """Return what Python runs as a node whose release is named in a file: `previous`, `this`."""
    return ("-m", "tests.cluster.releases", f"installed={file}")


def become_previous() -> None:
    """Take the newest level away."""
    levels.MAX_LEVEL = PREVIOUS_LEVEL  # type: ignore[misc]


def become_this() -> None:
    """Be the product as it is."""


def become_next() -> None:
    """Add the next level: its release, its command and its tables."""
    levels.RELEASES[NEXT_LEVEL] = NEXT_RELEASE
    levels.MAX_LEVEL = NEXT_LEVEL  # type: ignore[misc]
    from parleyd.machine import registry
    from parleyd.machine.feature import Feature

    registry.COMMANDS[NEW_COMMAND] = replace(registry.COMMANDS[NEW_COMMAND], level=NEXT_LEVEL)
    column = "ALTER TABLE cluster_members ADD COLUMN next_release INTEGER NOT NULL DEFAULT 7;"
    registry.FEATURES = (*registry.FEATURES, Feature("next_release", tables={NEXT_LEVEL: column}))  # type: ignore[misc]


BECOME = {"old": become_old, "previous": become_previous, "this": become_this, "next": become_next}

if __name__ == "__main__":
    release = sys.argv.pop(1)
    if release.startswith("installed="):
        release = Path(release.partition("=")[2]).read_text().strip()
    BECOME[release]()
    from parleyd.cli import main

    main()
