"""Writes a reading of all metrics in the two text formats that Prometheus and others read.

The values are read on the event loop in one turn. Rendering and the figures of the process, which come from the
operating system, are done on a thread.
"""

from __future__ import annotations

import asyncio
import enum
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

from prometheus_client import Metric as Family
from prometheus_client import ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from parleyd.http.catalogue import METRICS, Kind, Metric
from parleyd.observability.figures import HistogramReading, Sample

Value = float | HistogramReading

FRESH_S = 0.25
"""A rendering is given to whoever asks within this time. So scrapes without end cost four of each form a second."""


class Form(enum.Enum):
    """A text format, with the media type that a scraper is told."""

    TEXT = "text/plain; version=0.0.4; charset=utf-8"
    OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"


def form_for(accept: str) -> Form:
    """Return the format for an Accept header: text, unless the scraper reads OpenMetrics."""
    kinds = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return Form.OPENMETRICS if "application/openmetrics-text" in kinds else Form.TEXT


class MetricsPage:
    """Renders for all who ask; those who ask at once share one rendering. Used on the event loop."""

    def __init__(self, read: Callable[[], Iterable[Sample]]) -> None:
        """`read` returns what there is to tell, within one turn of the event loop."""
        self._read = read
        self._process = ProcessCollector(registry=None)
        self._latest: dict[Form, tuple[float, asyncio.Task[bytes]]] = {}

    async def render(self, form: Form) -> bytes:
        """Return the page, as it was at most FRESH_S ago."""
        now = asyncio.get_running_loop().time()
        since, task = self._latest.get(form, (0.0, None))
        if task is None or (task.done() and (now - since > FRESH_S or task.exception() is not None)):
            task = asyncio.ensure_future(self._render(form))
            self._latest[form] = (now, task)
        # A scraper that leaves must not end what others wait for.
        return await asyncio.shield(task)

    async def _render(self, form: Form) -> bytes:
        samples = tuple(self._read())
        return await asyncio.to_thread(self._write, form, samples)

    def _write(self, form: Form, samples: Sequence[Sample]) -> bytes:
        return write(form, itertools.chain(families(samples), _known(self._process.collect())))

    async def close(self) -> None:
        """Wait for what is being rendered."""
        tasks = [task for _, task in self._latest.values()]
        self._latest.clear()
        await asyncio.gather(*tasks, return_exceptions=True)


def _known(found: Iterable[Family]) -> Iterator[Family]:
    """Return the figures of the process that the catalogue has, with its texts."""
    for family in found:
        suffix = "_total" if family.type == "counter" else ""
        row = METRICS.get(family.name + suffix)
        if row is not None:
            family.documentation = row.help
            yield family


def families(samples: Iterable[Sample]) -> Iterator[Family]:
    """Gather samples by metric, in the order of the catalogue.

    Raises KeyError or ValueError for a name or for labels that it does not have.
    """
    by_name: dict[str, list[tuple[tuple[str, ...], Value]]] = {}
    for name, labels, value in samples:
        if len(labels) != len(METRICS[name].labels):
            raise ValueError(f"{name} has the labels {METRICS[name].labels}, not {labels}")
        by_name.setdefault(name, []).append((labels, value))
    for name, row in METRICS.items():
        if name in by_name:
            yield _family(row, by_name[name])


def _family(row: Metric, samples: Iterable[tuple[tuple[str, ...], Value]]) -> Family:
    match row.kind:
        case Kind.GAUGE:
            gauge = GaugeMetricFamily(row.name, row.help, labels=row.labels)
            for labels, value in samples:
                gauge.add_metric(labels, cast(float, value))
            return gauge
        case Kind.COUNTER:
            counter = CounterMetricFamily(row.name, row.help, labels=row.labels)
            for labels, value in samples:
                counter.add_metric(labels, cast(float, value))
            return counter
        case Kind.INFO:
            info = InfoMetricFamily(row.name.removesuffix("_info"), row.help)
            for labels, _ in samples:
                info.add_metric((), dict(zip(row.labels, labels, strict=True)))
            return info
        case Kind.HISTOGRAM:
            histogram = HistogramMetricFamily(row.name, row.help, labels=row.labels)
            for labels, value in samples:
                reading = cast(HistogramReading, value)
                histogram.add_metric(labels, _buckets(reading), reading.total)
            return histogram


def _buckets(reading: HistogramReading) -> list[tuple[str, float]]:
    """Return the counts of all values up to each bound, as Prometheus has them."""
    names = [*map(floatToGoString, reading.bounds), "+Inf"]
    return list(zip(names, itertools.accumulate(reading.counts), strict=True))


class _Found(Collector):
    """Metrics that were gathered before."""

    def __init__(self, found: Iterable[Family]) -> None:
        self._found = found

    def collect(self) -> Iterable[Family]:
        """Return them."""
        return self._found


def write(form: Form, found: Iterable[Family]) -> bytes:
    """Write metrics as one text."""
    generate: Any = openmetrics.generate_latest if form is Form.OPENMETRICS else generate_latest
    registry: Any = _Found(found)
    text: bytes = generate(registry)
    return text
