"""The hand-out of tests to workers survives one that died a moment ago."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from tests.scheduling import LastingGroupScheduling


class DeadWorker:
    """Nobody has noticed yet that it is dead."""

    shutting_down = False

    def send_runtest_some(self, indices: list[int]) -> None:
        raise OSError("cannot send (already closed?)")


def test_what_a_dead_worker_was_given_is_taken_back() -> None:
    worker: Any = DeadWorker()
    scheduling = LastingGroupScheduling.__new__(LastingGroupScheduling)
    scheduling.workqueue = OrderedDict(one={"one::test": False}, two={"two::test": False})
    scheduling.assigned_work = {worker: OrderedDict()}
    scheduling.registered_collections = {worker: ["one::test", "two::test"]}
    scheduling._assign_work_unit(worker)
    scheduling._assign_work_unit(worker)
    assert scheduling.remove_node(worker) == "one::test"
    assert list(scheduling.workqueue) == ["two"], "what it did not begin goes to another worker"
