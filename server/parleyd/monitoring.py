"""A node's address for monitoring systems (http_listen), from the start of the process to its end.

It answers before the node is in a cluster and while the node stops. Only while log and state are read does an answer
wait, because that is done on the event loop.
"""

from __future__ import annotations

import asyncio
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version

import structlog

from parleyd.dashboard import Dashboard
from parleyd.exits import ExitCode, FatalError
from parleyd.http.health import Phase, Verdict, judge_health, judge_readiness
from parleyd.http.pages import Pages
from parleyd.http.rendering import MetricsPage
from parleyd.http.server import HttpServer
from parleyd.http.sockets import listening_socket
from parleyd.life import Life
from parleyd.listening import address_in_use_text
from parleyd.node_figures import one_of
from parleyd.observability.figures import Sample
from parleyd.observability.loop_lag import LoopLag
from parleyd.security.certificate_checks import WARN_BEFORE_EXPIRY
from parleyd.security.http_tls import HttpTls
from parleyd.security.node_certificates import NodeCertificates
from parleyd.settings.table import Settings

LOOK_EVERY_S = 10.0
_DAY_S = 86_400


class Monitoring:
    """Serves the pages of one node."""

    def __init__(self, settings: Settings, life: Life, certificates: NodeCertificates | None) -> None:
        """Listen. Raises FatalError if that fails, CertificateError for a certificate that cannot be used."""
        self._settings = settings
        self._life = life
        self._build = (version("parley"), platform.python_version())
        self._tls = HttpTls(settings, certificates)
        self._refused = ""
        try:
            listening = listening_socket(settings.http_listen)
        except OSError as error:
            raise FatalError(ExitCode.ADDRESS, address_in_use_text(settings.http_listen, "http_listen")) from error
        self._lag = LoopLag()
        self._page = MetricsPage(self._samples)
        self._dashboard = Dashboard(settings.name, life, self._readiness)
        pages = Pages(self._page, self._health, self._readiness, self._dashboard.pages())
        self._server = HttpServer(pages, listening, lambda: self._tls.context)
        self._logger = structlog.get_logger("http")
        self._logger.info("http_listening_started", address=settings.http_listen, tls=self._tls.context is not None)
        self._warn_of_ends()

    async def run(self) -> None:
        """Serve until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._lag.run(), name="event loop lag")
                tasks.create_task(self._server.run(), name="http")
                tasks.create_task(self._follow_certificate(), name="certificate")
                tasks.create_task(self._dashboard.run(), name="dashboard")
        finally:
            await self._page.close()

    async def _follow_certificate(self) -> None:
        """Serve new connections with a certificate that was renewed."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            was, self._refused = self._refused, await asyncio.to_thread(self._tls.look)
            if self._refused and self._refused != was:
                effect = "monitoring systems see the certificate of before"
                self._logger.error("http_certificate_not_reloaded", reason=self._refused, effect=effect)

    def _warn_of_ends(self) -> None:
        left_s = self._tls.ends().get("http", float("inf")) - time.time()
        if left_s < WARN_BEFORE_EXPIRY.total_seconds():
            self._logger.warning(
                "http_certificate_expires",
                days=int(left_s / _DAY_S),
                effect="monitoring systems will refuse the connection after that",
                advice="make it anew: the node takes it over by itself",
            )

    def _health(self) -> Verdict:
        return judge_health(self._life.phase, self._life.since_s(), self._settings.shutdown_grace_s)

    def _readiness(self) -> Verdict:
        figures = self._life.figures
        return judge_readiness(self._life.phase, None if figures is None else figures.condition())

    def _samples(self) -> Iterator[Sample]:
        life = self._life
        yield "parley_build_info", self._build, 1
        yield "parley_node_info", (self._settings.name, life.cluster_id), 1
        yield from one_of("parley_node_phase", [phase.value for phase in Phase], life.phase.value)
        yield "parley_node_ready", (), self._readiness().is_good
        yield "parley_event_loop_lag_seconds", (), self._lag.seconds.read()
        for name, ends_s in self._tls.ends().items():
            yield "parley_certificate_expiry_timestamp_seconds", (name,), ends_s
        if life.figures is not None:
            yield from life.figures.samples()
