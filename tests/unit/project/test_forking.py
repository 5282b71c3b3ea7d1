"""A copy of a process of tests ends, whatever the process has."""

from __future__ import annotations

import gc
import os
import signal
import threading

import pytest

from tests.support import forking
from tests.support.forking import exit_code_of


class Waits:
    """As objects of gRPC do: freed in a copy of the process, it waits for a thread that is not there."""

    def __init__(self) -> None:
        self.itself = self
        self._process = os.getpid()

    def __del__(self) -> None:
        if os.getpid() != self._process:
            threading.Event().wait()


def test_a_copy_does_not_free_what_is_garbage_in_its_original() -> None:
    """Python did not end after the last test, because a copy had collected a channel of gRPC and waited for ever."""
    kept = [Waits()]

    def work() -> None:
        kept.clear()  # from here on it is garbage
        for _ in range(100_000):
            cycle: list[object] = []
            cycle.append(cycle)

    assert exit_code_of(work) == 0
    assert gc.isenabled()


def test_the_exit_code_tells_how_the_copy_ended() -> None:
    assert exit_code_of(lambda: os.kill(os.getpid(), signal.SIGKILL)) == -signal.SIGKILL
    assert exit_code_of(lambda: os._exit(3)) == 3
    assert exit_code_of(lambda: 1 / 0) == 1


def test_a_copy_that_does_not_end_is_killed_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forking, "LONGEST_S", 0.2)
    with pytest.raises(AssertionError, match="did not end within"):
        exit_code_of(signal.pause)
