"""The answers: which path shows what, whatever server sends them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import structlog

from parleyd.http.health import Verdict
from parleyd.http.rendering import MetricsPage, form_for

METHODS = ("GET", "HEAD")
_JSON = "application/json; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Request:
    """A request as the pages see it. `headers` have lower-case names, `host` is the caller's address without its port.

    `body` is empty unless the page takes one.
    """

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    host: str = ""
    port: int = 0
    is_tls: bool = False
    body: bytes = b""

    @property
    def accept(self) -> str:
        """Return the header Accept."""
        return self.headers.get("accept", "")


@dataclass(frozen=True, slots=True)
class Answer:
    """A status, a body, and what belongs to it. `chunks` is sent instead of the body if there are any.

    `cookies` are values of Set-Cookie.
    """

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    chunks: AsyncGenerator[bytes] | None = None
    cookies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Page:
    """What answers on a path, to which methods, how long a body it reads, and how long it may take (0: as others)."""

    show: Callable[[Request], Awaitable[Answer]]
    methods: tuple[str, ...] = METHODS
    max_body_bytes: int = 0
    answer_s: float = 0.0


class Pages:
    """All pages of a node. Used on the event loop."""

    def __init__(
        self,
        metrics: MetricsPage,
        health: Callable[[], Verdict],
        readiness: Callable[[], Verdict],
        more: Mapping[str, Page] | None = None,
    ) -> None:
        """Keep the parts. `more` are pages beside those for monitoring systems, by their paths."""
        self._metrics = metrics
        self._paths: dict[str, Page] = {
            "/metrics": Page(self._show_metrics),
            "/healthz": Page(self._show_health),
            "/readyz": Page(self._show_readiness),
            **(more or {}),
        }
        self._health = health
        self._readiness = readiness
        self._logger = structlog.get_logger("http")

    def bounds(self, method: str, path: str) -> tuple[int, float]:
        """Return how many bytes of a body are read, and how long the answer may take; 0: none, and as others."""
        page = self._paths.get(path)
        return (0, 0.0) if page is None or method not in page.methods else (page.max_body_bytes, page.answer_s)

    async def answer(self, request: Request) -> Answer:
        """Return the answer to a request; never raises."""
        page = self._paths.get(request.path)
        if page is None:
            return refusal(404, f"There is no such page. This node has {', '.join(self._paths)}.")
        if request.method not in page.methods:
            allowed = ", ".join(page.methods)
            how = "read" if page.methods == METHODS else "used"
            return refusal(405, f"This page can be {how} with {allowed} only. Nothing was changed.", {"Allow": allowed})
        try:
            return await page.show(request)
        except Exception:
            self._logger.exception("http_request_failed", path=request.path)
            return refusal(500, "This node failed to answer. Its log contains the cause. Nothing was changed.")

    async def _show_metrics(self, request: Request) -> Answer:
        form = form_for(request.accept)
        return Answer(200, form.value, await self._metrics.render(form), {"Vary": "Accept"})

    async def _show_health(self, _: Request) -> Answer:
        return _of(self._health(), "healthy", "unhealthy")

    async def _show_readiness(self, _: Request) -> Answer:
        return _of(self._readiness(), "ready", "not ready")


def _of(verdict: Verdict, good: str, bad: str) -> Answer:
    status = good if verdict.is_good else bad
    content: dict[str, object] = {"status": status, "reasons": list(verdict.reasons), "notes": list(verdict.notes)}
    return json_answer(200 if verdict.is_good else 503, content)


def refusal(status: int, text: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Return an answer that says what is wrong."""
    return json_answer(status, {"error": text}, headers)


def json_answer(status: int, content: Mapping[str, object], headers: Mapping[str, str] | None = None) -> Answer:
    """Return an answer for programs."""
    return Answer(status, _JSON, json.dumps(content).encode() + b"\n", headers or {})
