"""Versions of files on disk: the text for data of another release, and the order in which old files are changed.

Formats that only this node reads (log, identity) are changed when they are opened, but only if the cluster's level
forbids going back to a release without the new format. Until then a release opens the older format and leaves it
unchanged. The state machine's format belongs to the replicated level and is changed in the log, never here.

Every release keeps the following, so that an older one can name a newer one: the `format` table and the page size of
raft.sqlite, the outer form of identity.json, and the checksummed header of state.sqlite.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from typing import Generic, TypeVar

T = TypeVar("T")

UNRELEASED_FORMAT = 1  # of Parley 0.1
FIRST_FORMAT = 2
NO_LEVEL = 0  # no cluster level is known: nothing that forbids going back is changed


class FormatRefusedError(Exception):
    """The data is not damaged, but this release must not open it: stop the node."""


def own_release() -> str:
    """Return this release's number, as files contain it."""
    try:
        return metadata.version("parley")
    except metadata.PackageNotFoundError:  # run from a source tree
        return "unknown"


def newer_format(where: object, release: str, found: int, known: int) -> FormatRefusedError:
    """Build the refusal of data of a newer release; an empty `release` means that the data does not name it."""
    writer, needed = (f"release {release}", release) if release else ("a newer release", "that release")
    return FormatRefusedError(
        f"{where}: written by {writer} (format {found}; release {own_release()} knows formats up to {known}). Nothing "
        f"is wrong with the data, and nothing was changed. Start with {needed} or newer."
    )


def unreleased_format(where: object) -> FormatRefusedError:
    """Build the refusal of data of Parley 0.1."""
    return FormatRefusedError(
        f"{where}: written by Parley 0.1, which was never released; this release does not open it. Nothing was "
        "changed. Start with an empty directory: move this one away or name another one."
    )


@dataclass(frozen=True, slots=True)
class Migration(Generic[T]):
    """One change of a file's content; `level` is the cluster level from which no member may go back behind it."""

    version: int  # the format afterwards
    level: int
    change: Callable[[T], None]


@dataclass(frozen=True, slots=True)
class Format(Generic[T]):
    """One kind of file: the oldest format that this release opens, and the changes since, in order."""

    first: int = FIRST_FORMAT
    migrations: tuple[Migration[T], ...] = ()

    def __post_init__(self) -> None:
        """Refuse a table with a gap, or with a level that falls."""
        versions = [migration.version for migration in self.migrations]
        levels = [migration.level for migration in self.migrations]
        if versions != [*range(self.first + 1, self.current + 1)] or levels != sorted(levels):
            raise ValueError(f"migrations lead to formats {versions} at levels {levels}, the first is {self.first}")

    @property
    def current(self) -> int:
        """Return the newest format that this release has; new files use it."""
        return self.first + len(self.migrations)

    def due(self, found: int, level: int) -> tuple[Migration[T], ...]:
        """Return the changes to make, in order, to a file of format `found` at this cluster level."""
        return tuple(m for m in self.migrations if found < m.version and m.level <= level)
