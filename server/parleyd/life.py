"""The phase of a node's life, for monitoring."""

from __future__ import annotations

import time

from parleyd.console import ConsoleParts
from parleyd.http.health import Phase
from parleyd.node_figures import NodeFigures
from parleyd.status_reports import StatusReports


class Life:
    """The phase that a node is in, and its parts while it serves."""

    def __init__(self, cluster_id: str = "") -> None:
        """Begin the life of a node, with the cluster that it belongs to; empty: none yet."""
        self.figures: NodeFigures | None = None
        self.reports: StatusReports | None = None
        self.console: ConsoleParts | None = None
        self.cluster_id = cluster_id
        self._phase = Phase.STARTING if cluster_id else Phase.ENTERING
        self._since_s = time.monotonic()

    @property
    def phase(self) -> Phase:
        """Return the phase."""
        return self._phase

    def enter(self, phase: Phase) -> None:
        """Begin a phase."""
        self._phase, self._since_s = phase, time.monotonic()

    def since_s(self) -> float:
        """Return for how many seconds the phase has lasted."""
        return time.monotonic() - self._since_s
