"""Generations: the lives of the cluster that a restore or a recovery began, with when and at which entry.

No command changes this table. A node that is restored or recovered writes its row before it starts
(machine/new_generation.py), and the others receive it with the state. A state below level 3 has only the number.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import apsw

from parleyd.machine.feature import Feature

if TYPE_CHECKING:
    from parleyd.machine.reader import StateReader

GENERATIONS_LEVEL: Final = 3

TABLES = """
CREATE TABLE generations(
    generation INTEGER PRIMARY KEY,
    kind INTEGER NOT NULL,
    began_at_ms INTEGER NOT NULL,
    after_index INTEGER NOT NULL
) STRICT;
"""
_SELECT = "SELECT generation, kind, began_at_ms, after_index FROM generations ORDER BY generation"


class GenerationKind(IntEnum):
    """How a generation began; the numbers are stored."""

    RESTORED = 1
    RECOVERED = 2


@dataclass(frozen=True, slots=True)
class GenerationRow:
    """A generation. `after_index` is the last entry of the one before that is in it."""

    generation: int
    kind: int
    began_at_ms: int
    after_index: int


def insert(connection: apsw.Connection, row: GenerationRow) -> None:
    """Store a generation."""
    connection.execute(
        "INSERT INTO generations(generation, kind, began_at_ms, after_index) VALUES(?, ?, ?, ?)",
        (row.generation, row.kind, row.began_at_ms, row.after_index),
    )


FEATURE = Feature("generations", tables={GENERATIONS_LEVEL: TABLES})


# ---- queries


def all_of(reader: StateReader) -> tuple[GenerationRow, ...]:
    """Return the known generations, the oldest first."""
    with reader.consistent():
        if reader.level() < GENERATIONS_LEVEL:
            return ()
        return tuple(GenerationRow(*row) for row in reader.rows(_SELECT))
