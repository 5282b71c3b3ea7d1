"""What a signal does to a command: it ends it, and the terminal is as it was before.

While the command waits on its loop, the signal cancels it, so every `finally` runs. While it reads from a person, the
loop stands still. Then the signal raises SystemExit at the read. A signal that is ignored, as by nohup, stays ignored.
"""

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from parley.terminal.exits import ExitCode

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
AT_A_PROMPT = (signal.SIGINT, *ENDING, *(getattr(signal, name) for name in ("SIGQUIT",) if hasattr(signal, name)))


def run_until_signal(work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run the work on a new loop. Return its exit code, or 128 and the number of the signal that ended it."""
    ended_by: list[int] = []
    if callable(signal.getsignal(signal.SIGINT)):
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which asyncio replaces by its own
    try:
        return asyncio.run(_cancelled_by_signals(work, ended_by))
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BaseException:  # after a signal, the terminal may be gone: its errors say nothing
        if ended_by:
            return 128 + ended_by[0]
        raise


async def _cancelled_by_signals(work: Callable[[], Coroutine[Any, Any, int]], ended_by: list[int]) -> int:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def end(number: int) -> None:
        ended_by.append(number)
        loop.remove_signal_handler(number)  # the second one ends the process in any case
        if task is not None:
            task.cancel()

    for number in ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            loop.add_signal_handler(number, end, number)
    return await work()


@contextmanager
def prompting() -> Iterator[None]:
    """Let a signal end a read that blocks the loop."""
    before = {number: signal.getsignal(number) for number in AT_A_PROMPT}
    handled = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    for number in handled:
        signal.signal(number, _end_read)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])


def _end_read(number: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
