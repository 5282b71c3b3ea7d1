"""The hand-out of tests to workers survives those that die, also while others begin or end."""

from __future__ import annotations

from collections import OrderedDict
from types import SimpleNamespace
from typing import Any

from tests.scheduling import LastingGroupScheduling

COLLECTION = ["one::test", "two::test"]


class Worker:
    """A worker that keeps what it is told."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.shutting_down = False
        self.gateway = SimpleNamespace(id="gw0")

    def send_runtest_some(self, indices: list[int]) -> None:
        self.given += [COLLECTION[index] for index in indices]

    def shutdown(self) -> None:
        self.shutting_down = True


class DeadWorker(Worker):
    """Nobody has noticed yet that it is dead."""

    def send_runtest_some(self, indices: list[int]) -> None:
        raise OSError("cannot send (already closed?)")


def scheduling_of(*workers: Worker) -> Any:
    """Workers that have collected, with all tests still to be handed out."""
    scheduling: Any = LastingGroupScheduling.__new__(LastingGroupScheduling)
    scheduling.log = lambda *_: None
    scheduling.numnodes = len(workers)
    scheduling.collection = COLLECTION
    scheduling.workqueue = OrderedDict((test.partition("::")[0], {test: False}) for test in COLLECTION)
    scheduling.assigned_work = {worker: OrderedDict() for worker in workers}
    scheduling.registered_collections = dict.fromkeys(workers, COLLECTION)
    return scheduling


def test_what_a_dead_worker_was_given_is_taken_back() -> None:
    worker = DeadWorker()
    scheduling = scheduling_of(worker)
    scheduling._assign_work_unit(worker)
    scheduling._assign_work_unit(worker)
    assert scheduling.remove_node(worker) == "one::test"
    assert list(scheduling.workqueue) == ["two"], "what it did not begin goes to another worker"


def test_a_worker_that_still_collects_is_given_nothing_when_another_one_dies() -> None:
    """It was given a test that it was never told: that one was lost, and its end was an error of the runner."""
    dies, begins = Worker(), Worker()
    scheduling = scheduling_of(dies)
    scheduling._assign_work_unit(dies)
    scheduling._assign_work_unit(dies)
    scheduling.add_node(begins)
    assert scheduling.remove_node(dies) == "one::test"
    assert not begins.shutting_down
    assert not scheduling.tests_finished
    scheduling.add_node_collection(begins, COLLECTION)
    scheduling.schedule()
    assert begins.given == ["two::test"]


def test_a_worker_that_collected_other_tests_is_ended() -> None:
    """It was left out without a word. As the last one it would have waited for tests for ever."""
    goes_on, differs = Worker(), Worker()
    scheduling = scheduling_of(goes_on)
    scheduling.add_node(differs)
    scheduling.add_node_collection(differs, [*COLLECTION, "three::test"])
    assert (differs.shutting_down, goes_on.shutting_down) == (True, False)


def test_a_worker_that_dies_before_the_first_tests_are_handed_out_is_not_waited_for_and_not_counted() -> None:
    """It counted as one that had collected. So tests were handed out while its successor was still collecting."""
    dies, collects, succeeds = Worker(), Worker(), Worker()
    scheduling = scheduling_of(dies, collects)
    scheduling.collection = None
    scheduling.registered_collections = {dies: COLLECTION}
    scheduling.workqueue.clear()
    assert scheduling.remove_node(dies) is None
    scheduling.add_node(succeeds)
    scheduling.add_node_collection(collects, COLLECTION)
    assert not scheduling.collection_is_completed
    scheduling.add_node_collection(succeeds, COLLECTION)
    assert scheduling.collection_is_completed
