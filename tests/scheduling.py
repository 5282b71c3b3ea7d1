"""How tests are handed to pytest-xdist's workers when one of them dies: what it ran has failed, the rest goes on.

As of 3.8, xdist runs the test that killed a worker again, and hands the new worker one test where it starts the first
only when it has two: the run would never end. It also hands tests to a worker that does not know them yet.
"""

from __future__ import annotations

import contextlib
from typing import Any

from xdist.scheduler import LoadGroupScheduling  # type: ignore[import-untyped]


class LastingGroupScheduling(LoadGroupScheduling):  # type: ignore[misc]
    """`--dist loadgroup` that outlives its workers."""

    def add_node_collection(self, node: Any, collection: Any) -> None:
        """End a worker that collected other tests than the first ones: nobody would hand it any, or end it."""
        super().add_node_collection(node, collection)
        if node not in self.registered_collections:
            node.shutdown()

    def remove_node(self, node: Any) -> str | None:
        """Take back what a worker has not done; returns the test it ran when it died."""
        if self.collection is None:
            self.registered_collections.pop(node, None)  # it is not there when the first tests are handed out
        units = self.assigned_work[node]
        crashed = next((test for unit in units.values() for test, done in unit.items() if not done), None)
        for scope, unit in list(units.items()):
            if crashed in unit:
                unit[crashed] = True
            if all(unit.values()):
                del units[scope]
        super().remove_node(node)
        return crashed

    def _reschedule(self, node: Any) -> None:
        """Leave out a worker that still collects: it cannot be told anything. `schedule` comes when it has."""
        if node in self.registered_collections:
            super()._reschedule(node)

    def _assign_work_unit(self, node: Any) -> None:
        """Give a worker its next tests. One that died a moment ago cannot be told: `remove_node` takes them back."""
        with contextlib.suppress(OSError):
            super()._assign_work_unit(node)

    def schedule(self) -> None:
        """Also give a new worker the second test it waits for, or tell it that there is none."""
        super().schedule()
        for node in self.nodes:
            if self._pending_of(self.assigned_work[node]) < 2:
                self._reschedule(node)
