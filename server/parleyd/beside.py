"""Work beside a node: without it the node serves on, so its failure ends nothing else, but is logged at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import structlog


@asynccontextmanager
async def beside(work: Coroutine[Any, Any, None], failed: str, effect: str) -> AsyncIterator[None]:
    """Run `work` while inside, and wait for its end. Log an error of it as the event `failed`, with its `effect`."""
    running = asyncio.create_task(work, name=failed)
    running.add_done_callback(partial(_log_failure, failed, effect))
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait([running])


def _log_failure(failed: str, effect: str, ended: asyncio.Task[None]) -> None:
    if not ended.cancelled() and ended.exception() is not None:
        structlog.get_logger("node").error(failed, effect=effect, exc_info=ended.exception())
