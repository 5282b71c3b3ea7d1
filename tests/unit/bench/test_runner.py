"""A row that fails is named, fails the bench, and does not keep the other rows from being measured."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from scripts.bench import __main__ as bench
from scripts.bench.figures import Figures
from scripts.bench.process import ClientError
from scripts.bench.rig import Rig
from scripts.bench.rows import Row
from scripts.bench.scale import Scale
from scripts.cluster_layout import Settings

TRACEBACK = "Traceback (most recent call last):\n  ...\nMessagesWrongError: ann>ben: 1 messages were lost or late"


async def _measure(_: Rig, scale: Scale) -> Figures:
    return {"per_s": float(scale.sends)}


async def _lose(_: Rig, __: Scale) -> Figures:
    raise ExceptionGroup("tasks", [ClientError(TRACEBACK)])


@pytest.fixture(autouse=True)
def _no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of these tests need no cluster."""

    @asynccontextmanager
    async def started(nodes: int, settings: Settings) -> AsyncIterator[None]:
        yield None

    monkeypatch.setattr(Rig, "started", started)


def exit_code(monkeypatch: pytest.MonkeyPatch, rows: list[Row], out: Path) -> int:
    """Run the bench with these rows."""
    monkeypatch.setattr(bench, "choose", lambda only, full: rows)
    return bench.main(["--runs", "2", "--sends", "7", "--out", str(out)])


def test_a_bench_without_failures_ends_with_zero(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert exit_code(monkeypatch, [Row("good", "", _measure, own_rig=True)], tmp_path / "bench.json") == 0
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["failed"] == []
    assert report["rows"]["good"]["runs"] == [{"per_s": 7.0}] * 2


def test_a_lost_message_fails_the_bench_and_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [Row("bad", "", _lose, own_rig=True), Row("good", "", _measure, own_rig=True)]
    assert exit_code(monkeypatch, rows, tmp_path / "bench.json") == 1
    report = json.loads((tmp_path / "bench.json").read_text())
    assert report["failed"] == ["bad"]
    assert report["rows"]["bad"]["failed"] == "MessagesWrongError: ann>ben: 1 messages were lost or late"
    assert len(report["rows"]["good"]["runs"]) == 2
    assert "ann>ben: 1 messages were lost or late" in capsys.readouterr().out


def test_an_unknown_row_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        bench.main(["--only", "fast", "--out", str(tmp_path / "bench.json")])
