"""Work beside a node has an owner: it ends with the node, and its failure is logged when it happens."""

from __future__ import annotations

import asyncio

import structlog.testing

from parleyd.beside import beside


async def test_work_beside_a_node_that_fails_is_logged_at_once_and_ends_nothing_else() -> None:
    """The error of the guard of the peer port vanished, and the port was unguarded from then on."""
    failed = asyncio.Event()

    async def work() -> None:
        failed.set()
        raise OSError("no file is left")

    with structlog.testing.capture_logs() as lines:
        async with asyncio.timeout(5), beside(work(), "guard_failed", "strangers may hold connections"):
            await failed.wait()
            await asyncio.sleep(0)
            [line] = lines
    assert (line["event"], line["log_level"]) == ("guard_failed", "error")
    assert line["effect"] == "strangers may hold connections"
    assert str(line["exc_info"]) == "no file is left"


async def test_work_beside_a_node_has_ended_when_the_node_has() -> None:
    steps: list[str] = []
    begun = asyncio.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            steps.append("ended")

    with structlog.testing.capture_logs() as lines:
        async with asyncio.timeout(5), beside(work(), "work_failed", "nothing"):
            await begun.wait()
    assert steps == ["ended"]
    assert lines == []
