"""What a scrape contains: the catalogue, the documentation and both text formats agree."""

from __future__ import annotations

import asyncio
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families as read_text

from parleyd.http import rendering
from parleyd.http.catalogue import METRICS, Kind, Metric
from parleyd.http.rendering import Form, MetricsPage, families, form_for, write
from parleyd.observability.figures import Histogram
from tests.support.pages import families_of
from tests.unit.http.serving import Told
from tests.unit.project.source import ROOT

PAGE = (ROOT / "docs" / "METRICS.md").read_text()


def row_of(metric: Metric) -> str:
    """The line that the page must have; after a change of the catalogue, put it there."""
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    return f"| `{metric.name}` | {metric.kind.value} | {metric.unit} | {labels} | {metric.help} |"


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_every_metric_is_on_the_page_as_the_program_has_it(metric: Metric) -> None:
    assert row_of(metric) in PAGE.splitlines()


def test_the_page_has_no_metric_that_does_not_exist() -> None:
    assert re.findall(r"^\| `((?:parley|process)_[a-z_]+)` \|", PAGE, re.MULTILINE) == list(METRICS)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
def test_names_follow_the_conventions_of_prometheus(metric: Metric) -> None:
    assert re.fullmatch(r"(parley|process)_[a-z]+(_[a-z]+)*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert metric.name.endswith("_info") == (metric.kind is Kind.INFO)
    assert metric.kind is not Kind.HISTOGRAM or metric.unit == "seconds"
    assert not re.search(r"_(ms|kb|mb|count|sum|bucket)$", metric.name)
    assert metric.help.endswith(".")
    assert not set(metric.labels) & {"account", "user", "device", "conversation", "address", "le"}


def test_both_formats_say_the_same() -> None:
    seconds = Histogram((0.001, 0.01))
    for value in (0.0005, 0.001, 0.005, 5.0):
        seconds.observe(value)
    samples = (
        ("parley_log_write_seconds", (), seconds.read()),
        ("parley_refusals_total", ("disk",), 3),
        ("parley_raft_term", (), 9),
        ("parley_build_info", ("1.0", "3.11"), 1),
        ("parley_node_ready", (), True),
    )
    text = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in read_text(write(Form.TEXT, families(samples)).decode())
        for sample in family.samples
    }
    openmetrics = {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families_of(write(Form.OPENMETRICS, families(samples)).decode())
        for sample in family.samples
    }
    assert text == openmetrics
    assert text["parley_log_write_seconds_bucket", (("le", "0.001"),)] == 2  # a bound belongs to its bucket
    assert text["parley_log_write_seconds_bucket", (("le", "0.01"),)] == 3
    assert text["parley_log_write_seconds_bucket", (("le", "+Inf"),)] == 4
    assert text["parley_log_write_seconds_count", ()] == 4
    assert text["parley_log_write_seconds_sum", ()] == pytest.approx(5.0065)
    assert text["parley_refusals_total", (("reason", "disk"),)] == 3
    assert text["parley_node_ready", ()] == 1


def test_a_label_may_hold_what_the_format_escapes() -> None:
    page = write(Form.TEXT, families([("parley_build_info", ('a"b\n\\', ""), 1)])).decode()
    [family] = read_text(page)
    assert family.samples[0].labels == {"version": 'a"b\n\\', "python": ""}


@pytest.mark.parametrize("sample", [("parley_no_such", (), 1.0), ("parley_refusals_total", (), 1.0)])
def test_what_is_not_in_the_catalogue_cannot_be_told(sample: tuple[str, tuple[str, ...], float]) -> None:
    with pytest.raises((KeyError, ValueError)):
        list(families([sample]))


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        ("", Form.TEXT),
        ("*/*", Form.TEXT),
        ("text/html,application/xhtml+xml", Form.TEXT),
        ("text/plain;version=0.0.4", Form.TEXT),
        ("application/openmetrics-text", Form.OPENMETRICS),
        ("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;q=0.3", Form.OPENMETRICS),
        ("text/plain;q=0.1, Application/OpenMetrics-Text; version=x", Form.OPENMETRICS),
        (";;;,,,=", Form.TEXT),
    ],
)
def test_the_format_follows_what_the_scraper_reads(accept: str, form: Form) -> None:
    assert form_for(accept) is form


async def test_a_page_is_made_once_for_all_who_ask_within_a_quarter_of_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rendering, "FRESH_S", 1000.0)
    told = Told()
    page = MetricsPage(told.read)
    pages = await asyncio.gather(*(page.render(Form.TEXT) for _ in range(10)))
    assert len(set(pages)) == 1
    assert await page.render(Form.TEXT) == pages[0]
    assert told.reads == 1
    monkeypatch.setattr(rendering, "FRESH_S", -1.0)
    told.samples = (("parley_raft_term", (), 8.0),)
    assert b"parley_raft_term 8.0" in await page.render(Form.TEXT)
    assert told.reads == 2


async def test_one_who_leaves_does_not_end_what_the_others_wait_for() -> None:
    page = MetricsPage(Told().read)
    leaver = asyncio.ensure_future(page.render(Form.TEXT))
    stays = asyncio.ensure_future(page.render(Form.TEXT))
    await asyncio.sleep(0)
    leaver.cancel()
    assert b"parley_raft_term 7.0" in await stays
    assert leaver.cancelled()


async def test_a_reading_that_failed_is_not_given_to_the_next() -> None:
    told = Told(samples=(("no_such_metric", (), 1.0),))
    page = MetricsPage(told.read)
    with pytest.raises(KeyError):
        await page.render(Form.TEXT)
    told.samples = ()
    assert await page.render(Form.TEXT)
