"""Does something in a copy of this process, which may be killed in the middle of it."""

from __future__ import annotations

import gc
import multiprocessing
import os
from collections.abc import Callable

LONGEST_S = 60.0


def exit_code_of(work: Callable[[], object]) -> int:
    """Do `work` in a copy of this process. Return its exit code, which is negative for a signal.

    The copy has no thread but its own. So the garbage collector is off in it: an object of gRPC that it would free
    waits, without an end, for a thread that was not copied.
    """

    def run() -> None:
        work()
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=run)
    was_on = gc.isenabled()
    gc.disable()
    try:
        process.start()  # does not return in the copy
    finally:
        if was_on:
            gc.enable()
    process.join(LONGEST_S)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
        raise AssertionError(f"the copy did not end within {LONGEST_S:g} s and was killed")
    return code
