"""All targets. A new module of targets is one line here."""

from __future__ import annotations

from tests.fuzz import client_files, clients, peers, settings, snapshots
from tests.fuzz.engine import Target

TARGETS: tuple[Target, ...] = (
    *peers.TARGETS,
    *snapshots.TARGETS,
    *clients.TARGETS,
    *client_files.TARGETS,
    *settings.TARGETS,
)
