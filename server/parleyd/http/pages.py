"""The answers: which path shows what, whatever server sends them."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import structlog

from parleyd.http.health import Verdict
from parleyd.http.rendering import MetricsPage, form_for

METHODS = ("GET", "HEAD")
_JSON = "application/json; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, a body, and the headers that belong to it."""

    status: int
    content_type: str
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class Pages:
    """All pages of a node. Used on the event loop."""

    def __init__(self, metrics: MetricsPage, health: Callable[[], Verdict], readiness: Callable[[], Verdict]) -> None:
        self._metrics = metrics
        self._paths: dict[str, Callable[[str], Awaitable[Answer]]] = {
            "/metrics": self._show_metrics,
            "/healthz": self._show_health,
            "/readyz": self._show_readiness,
        }
        self._health = health
        self._readiness = readiness
        self._logger = structlog.get_logger("http")

    async def answer(self, method: str, path: str, accept: str) -> Answer:
        """Return the answer to a request; never raises."""
        show = self._paths.get(path)
        if show is None:
            return _refusal(404, f"There is no such page. This node has {', '.join(self._paths)}.")
        if method not in METHODS:
            allowed = ", ".join(METHODS)
            return _refusal(405, f"This page can be read with {allowed} only. Nothing was changed.", {"Allow": allowed})
        try:
            return await show(accept)
        except Exception:
            self._logger.exception("http_request_failed", path=path)
            return _refusal(500, "This node failed to answer. Its log contains the cause. Nothing was changed.")

    async def _show_metrics(self, accept: str) -> Answer:
        form = form_for(accept)
        return Answer(200, form.value, await self._metrics.render(form), {"Vary": "Accept"})

    async def _show_health(self, _: str) -> Answer:
        return _of(self._health(), "healthy", "unhealthy")

    async def _show_readiness(self, _: str) -> Answer:
        return _of(self._readiness(), "ready", "not ready")


def _of(verdict: Verdict, good: str, bad: str) -> Answer:
    status = good if verdict.is_good else bad
    content: dict[str, object] = {"status": status, "reasons": list(verdict.reasons), "notes": list(verdict.notes)}
    return _json(200 if verdict.is_good else 503, content)


def _refusal(status: int, text: str, headers: dict[str, str] | None = None) -> Answer:
    return _json(status, {"error": text}, headers)


def _json(status: int, content: dict[str, object], headers: dict[str, str] | None = None) -> Answer:
    return Answer(status, _JSON, json.dumps(content).encode() + b"\n", headers or {})
