"""The files for Prometheus and Grafana, as their programs read them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.unit.project.source import ROOT

FOLDER = ROOT / "docs" / "monitoring"
ALERTS = FOLDER / "alerts.yml"
DASHBOARD = FOLDER / "grafana-dashboard.json"
_NAME = re.compile(r"\b(?:parley|process)_[a-z_]+\b")


def promtool(*arguments: str, given: str = "") -> None:
    """Have Prometheus' own program check something, or skip the test in words."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed, so Prometheus' own program checked nothing")
    checked = subprocess.run([program, *arguments], input=given, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def rules() -> list[dict[str, Any]]:
    """All alert rules."""
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """All panels of the dashboard that show something."""
    return [panel for panel in json.loads(DASHBOARD.read_text())["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[str]:
    """All expressions."""
    yield from (rule["expr"] for rule in rules())
    yield from (target["expr"] for panel in panels() for target in panel["targets"])
    yield from (
        variable["query"]["query"]
        for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]
        if variable["type"] == "query"
    )


def named_in_ready_files() -> set[str]:
    """The names of all samples that the files ask for."""
    return {name for expression in expressions() for name in _NAME.findall(expression)}
