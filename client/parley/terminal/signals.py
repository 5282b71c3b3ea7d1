"""What a signal does to a command: it ends it, and the terminal is as it was before.

While the command waits on its loop, the signal cancels it, so every `finally` runs. While it reads from a person or a
long file, the loop stands still. Then the signal raises SystemExit at the read. A signal that is ignored, as by nohup,
stays ignored.

An interrupted command whose work goes on, or may have been done, says so on stderr. The cause of the CancelledError
that ends it has the text: Interrupted, or the OutcomeUnknownError of a request that was under way.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from parley import OutcomeUnknownError

ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
AT_A_PROMPT = (signal.SIGINT, *ENDING, *(getattr(signal, name) for name in ("SIGQUIT",) if hasattr(signal, name)))


class Interrupted(Exception):  # noqa: N818 - the cause of a cancellation, never raised by itself
    """What a person has to know when a signal ends the command."""


@dataclass(slots=True)
class _End:
    """How a signal ended the command. `number` is 0 without one."""

    number: int = 0
    remark: str = ""

    def learn(self, cause: BaseException | None) -> None:
        """Take over what the cause of the cancellation says."""
        if isinstance(cause, Interrupted):
            self.remark = str(cause)
        elif isinstance(cause, OutcomeUnknownError):
            self.remark = f"Interrupted. {cause.text}"

    def tell(self) -> int:
        """Print the remark. Return the exit code."""
        if self.remark:
            sys.stderr.write(self.remark + "\n")
        return 128 + self.number


def run_until_signal(work: Callable[[], Coroutine[Any, Any, int]]) -> int:
    """Run the work on a new loop. Return its exit code, or 128 and the number of the signal that ended it."""
    end = _End()
    if callable(signal.getsignal(signal.SIGINT)):
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which asyncio replaces by its own
    try:
        return asyncio.run(_cancelled_by_signals(work, end))
    except KeyboardInterrupt:
        end.number = signal.SIGINT
    except BaseException:  # after a signal, the terminal may be gone: its errors say nothing
        if not end.number:
            raise
    return end.tell()


async def _cancelled_by_signals(work: Callable[[], Coroutine[Any, Any, int]], end: _End) -> int:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def end_by(number: int) -> None:
        end.number = number
        loop.remove_signal_handler(number)  # the second one ends the process in any case
        if task is not None:
            task.cancel()

    for number in ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            loop.add_signal_handler(number, end_by, number)
    try:
        return await work()
    except asyncio.CancelledError as error:
        end.learn(error.__cause__)
        raise


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
