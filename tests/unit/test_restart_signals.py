"""What signals do between the end of a node and the start of the program that replaces it."""

from __future__ import annotations

import gc
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from parleyd import node
from parleyd.events.source import EventSource
from parleyd.node import Stop, run_node
from parleyd.settings.table import Settings

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _own_handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give this process its handlers back."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    monkeypatch.setattr(gc, "freeze", lambda: None)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def put_node(monkeypatch: pytest.MonkeyPatch, *, restarts: bool, error: Exception | None = None) -> None:
    """Put a node in place of the real one, which ends at once."""

    class EndingNode:
        def __init__(self, settings: object, data: object, stop: Stop, hung_up: object, events: object) -> None:
            self._stop = stop

        async def run(self) -> None:
            if restarts:
                self._stop.restart()
            if error is not None:
                raise error

    monkeypatch.setattr(node, "Node", EndingNode)


async def run(folder: Path) -> bool:
    return await run_node(Settings("n1", folder, insecure=True), lambda: None, EventSource())


async def test_a_node_that_restarts_can_be_stopped_until_the_new_program_runs_and_hanging_up_does_not_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_node(monkeypatch, restarts=True)
    assert await run(tmp_path)
    assert [signal.getsignal(number) for number in SIGNALS] == [signal.SIG_DFL, signal.SIG_DFL, signal.SIG_IGN]


@pytest.mark.parametrize(("restarts", "error"), [(False, None), (True, RuntimeError("the disk"))])
async def test_no_signal_takes_the_exit_code_of_a_node_that_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, restarts: bool, error: Exception | None
) -> None:
    put_node(monkeypatch, restarts=restarts, error=error)
    if error is None:
        assert not await run(tmp_path)
    else:
        with pytest.raises(RuntimeError, match="the disk"):
            await run(tmp_path)
    assert [signal.getsignal(number) for number in SIGNALS] == [signal.SIG_IGN] * 3
