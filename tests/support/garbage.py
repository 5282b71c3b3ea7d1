"""What is left to the garbage collector, of what a node makes for its calls."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType

OF_THE_LANGUAGE = (asyncio.Future, asyncio.Timeout, asyncio.TaskGroup, BaseException, FrameType, TracebackType)
OF_GRPC = {"RPCState", "_ServicerContext"}


class Left:
    """What was left, by kind."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()


@contextmanager
def left_to_the_collector() -> Iterator[Left]:
    """Note what nothing frees but a collection, of what is made inside. It is known after the end.

    gRPC itself leaves two objects for each call, a function and its closure. They refer to nothing of the rest.
    """
    left = Left()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        yield left
        gc.collect()
        left.kinds.update(type(one).__qualname__ for one in gc.garbage if _is_of_a_call(one))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


def _is_of_a_call(one: object) -> bool:
    kind = type(one)
    return isinstance(one, OF_THE_LANGUAGE) or kind.__name__ in OF_GRPC or kind.__module__.startswith("parleyd.")
