"""The alert rules and the dashboard can be used as they are."""

from __future__ import annotations

import json
import re

import pytest

from parleyd.http.catalogue import METRICS, Kind
from parleyd.http.rendering import Form, families, write
from parleyd.observability.figures import Histogram
from tests.unit.http.ready_files import ALERTS, DASHBOARD, expressions, named_in_ready_files, panels, promtool, rules


def test_each_rule_says_what_happened_what_it_means_and_how_bad_it_is() -> None:
    found = rules()
    assert len(found) >= 12
    assert len({rule["alert"] for rule in found}) == len(found)
    for rule in found:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"].keys() == {"summary", "description"}
        assert all(text.endswith(".") for text in rule["annotations"].values())
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "0s"))


def test_the_rules_watch_what_an_operator_must_not_miss() -> None:
    text = ALERTS.read_text()
    for name in (
        "parley_raft_is_leader",
        "parley_cluster_has_majority",
        "parley_member_connected",
        "parley_member_lag_entries",
        "parley_disk_free_bytes",
        "parley_log_write_seconds_bucket",
        "parley_certificate_expiry_timestamp_seconds",
        "parley_refusals_total",
        "parley_node_fenced",
        "process_start_time_seconds",
        "parley_backup_age_seconds",
        "parley_backups_total",
        "parley_raft_handovers_total",
    ):
        assert name in text


def test_the_dashboard_has_panels_that_do_not_overlap_and_asks_the_chosen_source() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + column, place["y"] + line) for column in range(place["w"]) for line in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
    assert all(panel["datasource"]["uid"] == "${datasource}" and panel["targets"] for panel in panels())
    assert "http" not in DASHBOARD.read_text()  # nothing from outside


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_each_expression_is_balanced_and_names_metrics(expression: str) -> None:
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing)
    assert named_in_ready_files() & set(re.findall(r"[a-z_]+", expression)) or expression.startswith("up{")


def test_the_files_name_no_metric_that_is_not_in_the_catalogue() -> None:
    """test_whole_node.py compares the names with those of a real scrape."""
    stems = {re.sub(r"_(bucket|sum|count)$", "", name) for name in named_in_ready_files()}
    assert stems <= METRICS.keys()


def test_the_labels_of_the_rules_are_those_of_the_catalogue() -> None:
    for expression in expressions():
        for name, selector in re.findall(r"\b(parley_[a-z_]+)\{([^}]*)\}", expression):
            row = METRICS[re.sub(r"_(bucket|sum|count)$", "", name)]
            used = set(re.findall(r"(\w+)(?:=|!)", selector)) - {"job", "instance"}
            assert used <= set(row.labels), expression


def test_promtool_accepts_the_rules() -> None:
    promtool("check", "rules", str(ALERTS))


def test_promtool_accepts_the_names_and_texts_of_all_metrics() -> None:
    labelled = ((row, tuple("x" for _ in row.labels)) for row in METRICS.values() if row.name.startswith("parley_"))
    samples = [
        (row.name, labels, Histogram((0.1,)).read() if row.kind is Kind.HISTOGRAM else 1.0) for row, labels in labelled
    ]
    promtool("check", "metrics", given=write(Form.TEXT, families(samples)).decode())
