"""The dashboard of a node: a page for people, and what it shows, which the page asks for again and again.

What strangers see is what /metrics tells them, in other words: nodes, figures and events, nothing about accounts. All
who look at once get one reading, so a hundred of them cost the cluster no more than one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial

from parley_proto.v1 import admin_pb2
from parleyd.console import Console
from parleyd.http.assets import HEADERS, Asset, load_assets
from parleyd.http.health import Phase, Verdict
from parleyd.http.history import History
from parleyd.http.pages import Answer, Page, Request, json_answer
from parleyd.life import Life
from parleyd.node_figures import NodeFigures
from parleyd.observability.figures import HistogramReading
from parleyd.shared_result import SharedResult
from parleyd.status_reports import MemberReport

LOOK_EVERY_S = 0.25
FRESH_S = 0.5
ASK_AGAIN_MS = 1000
"""How soon the page asks again."""
SNAPSHOTS_TEXT = "A peer does not install the snapshots that this node sends. The reason is in parley cluster status."


class Dashboard:
    """The dashboard of one node. Used on the event loop."""

    def __init__(self, name: str, life: Life, readiness: Callable[[], Verdict]) -> None:
        """`life` has the node's parts while it serves."""
        self._name = name
        self._life = life
        self._readiness = readiness
        self._history = History()
        self._state = SharedResult(self._read, FRESH_S)
        self._console = Console(lambda: life.console if life.phase is Phase.SERVING else None)

    def pages(self) -> dict[str, Page]:
        """Return what answers, by paths."""
        files = {path: Page(partial(_send, asset)) for path, asset in load_assets().items()}
        return {**files, "/dashboard.json": Page(self._show), **self._console.pages()}

    async def run(self) -> None:
        """Remember what happens, until cancelled."""
        while True:
            figures = self._life.figures if self._life.phase is Phase.SERVING else None
            reasons = frozenset(self._readiness().reasons)
            self._history.observe(_now_ms(), None if figures is None else figures.sight(), reasons)
            await asyncio.sleep(LOOK_EVERY_S)

    async def _show(self, _: Request) -> Answer:
        return await self._state.get()

    async def _read(self) -> Answer:
        life, verdict = self._life, self._readiness()
        # The parts go when the node stops. Whoever has them may still read.
        figures, reports = life.figures, life.reports
        members = [] if reports is None else await reports.of_all()
        content: dict[str, object] = {
            "node": self._name,
            "cluster": life.cluster_id,
            "phase": life.phase.value,
            "now_ms": _now_ms(),
            "ask_again_ms": ASK_AGAIN_MS,
            "ready": verdict.is_good,
            "reasons": [*verdict.reasons, *verdict.notes],
            "nodes": nodes_of(members),
            **self._past(),
        }
        if figures is not None:
            content |= _queues(figures)
        return json_answer(200, content, HEADERS)

    def _past(self) -> dict[str, object]:
        history = self._history
        return {
            "seconds": [[second.at_ms, round(second.stored, 1)] for second in history.seconds],
            "answers": _histogram(history.answers()),
            "leaders": [[reign.at_ms, reign.leader, reign.term] for reign in history.reigns],
            "events": [[event.at_ms, event.kind.value, event.text] for event in history.events],
        }


async def _send(asset: Asset, _: Request) -> Answer:
    return Answer(200, asset.content_type, asset.body, HEADERS)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def nodes_of(members: Sequence[MemberReport]) -> list[dict[str, object]]:
    """Return what the page shows of each member. The lag is to the newest commit that any of them knows."""
    newest = max((one.status.commit_index for one in members if one.status is not None), default=0)
    return [
        {
            "name": one.name,
            "voter": one.is_voter,
            "answers": one.status is not None,
            **({} if one.status is None else _node(one.status, newest)),
        }
        for one in members
    ]


def _node(status: admin_pb2.GetStatusResponse, newest: int) -> dict[str, object]:
    snapshots = SNAPSHOTS_TEXT if status.snapshots else ""  # the reason may have addresses
    texts = (status.divergence, status.clock, status.disk, status.refused, snapshots)
    return {
        "role": status.role,
        "term": status.term,
        "leader": status.leader,
        "serving": status.serving,
        "removed": status.removed,
        "lag": max(0, newest - status.applied_index),
        "reaches": [member.name for member in status.members if member.connected],
        "clients": status.connected_clients,
        "messages_per_second": round(status.messages_per_second, 1),
        "messages_total": status.messages_total,
        "disk_free_bytes": status.disk_free_bytes,
        "disk_reserve_bytes": status.disk_reserve_bytes,
        "log_write_ms": round(status.log_write_ms, 2),
        "certificate_expires_at_ms": status.certificate_expires_at_ms,
        "last_backup_at_ms": status.last_backup_at_ms,
        "backup_interval_s": status.backup_interval_s,
        "open_files": status.open_files,
        "open_files_limit": status.open_files_limit,
        "uptime_s": round(status.uptime_s),
        "version": status.version,
        "level": status.level,
        "recovered": any(
            life.kind == admin_pb2.GENERATION_KIND_RECOVERED and life.generation == status.generation
            for life in status.generations
        ),
        "problems": [text for text in texts if text],
    }


def _histogram(reading: HistogramReading | None) -> dict[str, object]:
    if reading is None:
        return {"bounds": [], "counts": []}
    return {"bounds": reading.bounds, "counts": reading.counts}


def _queues(figures: NodeFigures) -> dict[str, object]:
    """Return each queue with what is in it and its bound, from the samples of /metrics."""
    found: dict[tuple[str, str], dict[str, object]] = {}
    for name, labels, value in figures.samples():
        for stem, unit in (("parley_budget_", "bytes"), ("parley_places_", "")):
            if name.startswith(stem):
                row = found.setdefault((labels[0], unit), {"name": labels[0], "unit": unit})
                row["used" if "_used" in name else "max"] = value
    return {"queues": list(found.values())}
