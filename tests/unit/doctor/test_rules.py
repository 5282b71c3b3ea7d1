"""The rules of `parleyd doctor`: each fires at its bound and not before it; order, table, and the form for programs."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from parleyd.doctor import findings as reports
from parleyd.doctor.facts import (
    BackupsLook,
    CertificateLook,
    DirectoryLook,
    DiskLook,
    Facts,
    FilesLook,
    NameLook,
    NodeLook,
    PagesLook,
    PeerLook,
    PortLook,
    PortState,
    SettingsLook,
    SyncLook,
)
from parleyd.doctor.findings import Severity
from parleyd.doctor.rules import (
    CERTIFICATE_CRITICAL_DAYS,
    CERTIFICATE_WARNING_DAYS,
    CLOCK_CRITICAL_MS,
    CLOCK_WARNING_MS,
    RULES,
    SYNC_CRITICAL_MS,
    SYNC_WARNING_MS,
    judge,
)
from parleyd.exits import ExitCode
from tests.unit.project.source import ROOT

MIB = 1 << 20
DIRECTORY = DirectoryLook("/data", identity_name="n1")
FILES = FilesLook(limit=17_152, needed=17_152, least=128)
CLIENT, PEER = "127.0.0.1:7600", "127.0.0.1:7700"
HEALTHY = Facts(
    settings=SettingsLook(),
    certificate=CertificateLook(days_left=400),
    directory=DIRECTORY,
    name="n1",
    pages=PagesLook(10, 10),
    disk=DiskLook(10_000 * MIB, 256 * MIB),
    sync=SyncLook(1.0, 3.0),
    backups=BackupsLook("/backups", 3_600, 3_600.0),
    files=FILES,
    ports=(PortLook("client_listen", CLIENT, PortState.ANSWERS), PortLook("peer_listen", PEER, PortState.ANSWERS)),
    names=(NameLook("localhost", is_own=True),),
    peers=(PeerLook("n2", "127.0.0.2:7700"),),
    is_clock_synchronised=True,
    node=NodeLook(),
)


def with_backups(age_s: float | None = None, *, error: str = "") -> Facts:
    return replace(HEALTHY, backups=BackupsLook("/backups", 3_600, age_s, error))


def with_port(state: PortState) -> Facts:
    return replace(HEALTHY, ports=(PortLook("peer_listen", PEER, state, "why"),))


def with_directory(**changes: object) -> Facts:
    return replace(HEALTHY, directory=replace(DIRECTORY, **changes))  # type: ignore[arg-type]


def with_days(days: int) -> Facts:
    return replace(HEALTHY, certificate=CertificateLook(days_left=days))


def with_free(free_bytes: int) -> Facts:
    return replace(HEALTHY, disk=DiskLook(free_bytes, 256 * MIB))


def with_sync(median_ms: float) -> Facts:
    return replace(HEALTHY, sync=SyncLook(median_ms, 500.0))


def with_limit(limit: int | None) -> Facts:
    return replace(HEALTHY, files=replace(FILES, limit=limit))


def with_node(**changes: object) -> Facts:
    return replace(HEALTHY, node=NodeLook(**changes))  # type: ignore[arg-type]


FIRES: list[tuple[str, Facts, str]] = [
    ("settings", replace(HEALTHY, settings=SettingsLook(problems=("name is wrong",))), "CRITICAL"),
    ("settings", replace(HEALTHY, settings=SettingsLook(warnings=("peers are two",))), "WARNING"),
    ("settings", replace(HEALTHY, settings=SettingsLook(is_insecure=True)), "NOTE"),
    ("certificate", replace(HEALTHY, certificate=CertificateLook(error="n1.pem expired")), "CRITICAL"),
    ("certificate", with_days(CERTIFICATE_WARNING_DAYS), "WARNING"),
    ("certificate", with_days(CERTIFICATE_CRITICAL_DAYS), "CRITICAL"),
    (
        "certificate",
        replace(HEALTHY, certificate=CertificateLook(days_left=400, warnings=("it does not name x",))),
        "WARNING",
    ),
    ("data_directory", with_directory(exists=False), "NOTE"),
    ("data_directory", with_directory(error="/data is not a folder."), "CRITICAL"),
    ("data_directory", with_directory(is_private=False), "WARNING"),
    ("data_directory", with_directory(is_own=False), "WARNING"),
    ("identity", with_directory(identity_error="it is damaged"), "CRITICAL"),
    ("identity", with_directory(identity_name="n2"), "CRITICAL"),
    ("place", with_directory(place_error="it is a copy"), "CRITICAL"),
    ("log", with_directory(log_error="it is damaged"), "CRITICAL"),
    ("log", with_directory(lost_entries="entries are lost"), "CRITICAL"),
    ("state", with_directory(state_error="it is damaged"), "CRITICAL"),
    ("state", with_directory(fence="its state differs"), "CRITICAL"),
    ("pages", replace(HEALTHY, pages=PagesLook(10, 10, (3,))), "CRITICAL"),
    ("pages", replace(HEALTHY, pages=PagesLook(error="it cannot be read")), "NOTE"),
    ("disk", with_free(512 * MIB - 1), "WARNING"),
    ("disk", with_free(256 * MIB - 1), "CRITICAL"),
    ("disk", replace(HEALTHY, disk=DiskLook(0, 256 * MIB, "stale")), "CRITICAL"),
    ("sync", with_sync(SYNC_WARNING_MS), "WARNING"),
    ("sync", with_sync(SYNC_CRITICAL_MS), "CRITICAL"),
    ("sync", replace(HEALTHY, sync=SyncLook(error="no room")), "NOTE"),
    ("backups", replace(HEALTHY, backups=BackupsLook()), "NOTE"),
    ("backups", with_backups(None), "WARNING"),
    ("backups", with_backups(7_201.0), "WARNING"),
    ("backups", with_backups(25_201.0), "CRITICAL"),
    ("backups", with_backups(error="/backups cannot be read."), "CRITICAL"),
    ("open_files", with_limit(17_151), "WARNING"),
    ("open_files", with_limit(127), "CRITICAL"),
    ("ports", with_port(PortState.SILENT), "CRITICAL"),
    ("ports", with_port(PortState.TAKEN), "CRITICAL"),
    ("ports", with_port(PortState.UNUSABLE), "CRITICAL"),
    ("names", replace(HEALTHY, names=(NameLook("nowhere", is_own=True, error="unknown"),)), "CRITICAL"),
    ("names", replace(HEALTHY, names=(NameLook("nowhere", is_own=False, error="unknown"),)), "WARNING"),
    ("peers", replace(HEALTHY, peers=(PeerLook("n2", "127.0.0.2:7700", "refused"),)), "WARNING"),
    ("clock", replace(HEALTHY, is_clock_synchronised=False), "NOTE"),
    ("clock", with_node(cluster_ahead_ms=CLOCK_WARNING_MS + 1), "WARNING"),
    ("clock", with_node(cluster_ahead_ms=CLOCK_CRITICAL_MS + 1), "CRITICAL"),
    ("clock", with_node(wrong_clocks="the clock of n2 is wrong"), "CRITICAL"),
    ("node", with_node(error="connection refused"), "WARNING"),
    ("node", with_node(removed=True), "CRITICAL"),
    ("node", with_node(serving=False), "CRITICAL"),
    ("node", with_node(divergence="the state of n2 differs"), "CRITICAL"),
    ("node", with_node(disconnected=("n2", "n3")), "WARNING"),
]

STAYS_OK: list[tuple[str, Facts]] = [
    ("settings", HEALTHY),
    ("certificate", with_days(CERTIFICATE_WARNING_DAYS + 1)),
    ("data_directory", with_directory(holder_pid=7)),
    ("identity", with_directory(identity_name="")),
    ("place", with_directory(place_error="")),
    ("log", with_directory(state_error="it is damaged")),
    ("state", with_directory(log_error="it is damaged")),
    ("pages", replace(HEALTHY, pages=PagesLook(3, 1_000))),
    ("disk", with_free(512 * MIB)),
    ("sync", with_sync(SYNC_WARNING_MS - 0.1)),
    ("backups", with_backups(7_200.0)),
    ("open_files", with_limit(17_152)),
    ("open_files", with_limit(None)),
    ("ports", with_port(PortState.FREE)),
    ("ports", with_port(PortState.ANSWERS)),
    ("names", replace(HEALTHY, names=())),
    ("peers", replace(HEALTHY, peers=())),
    ("clock", with_node(cluster_ahead_ms=CLOCK_WARNING_MS)),
    ("clock", with_node(cluster_ahead_ms=-10 * CLOCK_CRITICAL_MS)),  # the log was idle since before the start
    ("clock", replace(HEALTHY, is_clock_synchronised=None)),
    ("node", HEALTHY),
]


def found(facts: Facts, rule: str) -> list[str]:
    """The severities that one rule finds."""
    return [finding.severity.name for finding in judge(facts) if finding.rule == rule]


def test_a_healthy_node_has_one_finding_for_each_rule_and_all_are_ok() -> None:
    findings = judge(HEALTHY)
    assert [finding.rule for finding in findings] == [rule.name for rule in RULES]
    assert {finding.severity for finding in findings} == {Severity.OK}


@pytest.mark.parametrize(("rule", "facts", "severity"), FIRES)
def test_a_rule_fires_at_its_bound(rule: str, facts: Facts, severity: str) -> None:
    assert found(facts, rule) == [severity]


@pytest.mark.parametrize(("rule", "facts"), STAYS_OK)
def test_a_rule_does_not_fire_before_its_bound(rule: str, facts: Facts) -> None:
    assert found(facts, rule) == ["OK"]


@pytest.mark.parametrize("rule", [rule.name for rule in RULES])
def test_both_directions_of_each_rule_are_tested(rule: str) -> None:
    assert any(case[0] == rule for case in FIRES)
    assert any(case[0] == rule for case in STAYS_OK)


def test_a_rule_without_facts_is_not_reported() -> None:
    assert judge(Facts()) == ()
    missing = judge(replace(HEALTHY, directory=DirectoryLook("/data", exists=False), pages=None, sync=None))
    assert not {"identity", "log", "state", "pages", "sync"} & {finding.rule for finding in missing}
    assert found(with_node(error="refused"), "clock") == ["OK"]
    assert found(replace(with_node(error="refused"), is_clock_synchronised=None), "clock") == []


def test_every_finding_says_what_it_means_and_all_that_need_it_what_to_run() -> None:
    for _, facts, _ in FIRES:
        for finding in judge(facts):
            if finding.severity is not Severity.OK:
                assert finding.effect, finding
                assert finding.command or finding.severity is Severity.NOTE, finding


SICK = replace(HEALTHY, disk=DiskLook(MIB, 256 * MIB), is_clock_synchronised=False, sync=SyncLook(25.0, 30.0))


def test_the_worst_finding_comes_first_and_gives_the_exit_code() -> None:
    severities = [finding.severity for finding in judge(SICK)]
    assert severities == sorted(severities, reverse=True)
    assert reports.EXITS[reports.worst(judge(SICK))] is ExitCode.CRITICAL
    assert reports.EXITS[reports.worst(judge(with_sync(25.0)))] is ExitCode.WARNING
    assert reports.EXITS[reports.worst(judge(replace(HEALTHY, is_clock_synchronised=False)))] is ExitCode.OK
    assert reports.EXITS[reports.worst(())] is ExitCode.OK


def test_the_table_shows_the_worst_first_and_names_the_rules_that_found_nothing() -> None:
    lines = list(reports.lines(judge(SICK)))
    assert lines[0].split() == ["SEVERITY", "RULE", "FINDING"]
    assert lines[1].startswith("critical  disk ")
    assert lines[3].strip() == "Run: df -h"
    assert lines[-2].startswith("Nothing found by: settings, certificate, ")
    assert lines[-1] == "Critical: 1. Warnings: 1. Notes: 1."
    assert len(list(reports.lines(judge(HEALTHY)))) == 2


def test_the_form_for_programs_has_a_version_and_every_field() -> None:
    findings = judge(SICK)
    made = json.loads(json.dumps(reports.report(findings, node="n1", data_dir="/data", is_running=True, now_ms=5)))
    rows = made.pop("findings")
    assert made == {
        "version": 1,
        "made_at_ms": 5,
        "node": "n1",
        "data_dir": "/data",
        "running": True,
        "worst": "critical",
        "counts": {"ok": len(findings) - 3, "note": 1, "warning": 1, "critical": 1},
    }
    assert [row["severity"] for row in rows] == [finding.severity.name.lower() for finding in findings]
    assert {frozenset(row) for row in rows} == {frozenset({"rule", "severity", "text", "effect", "command"})}


@pytest.mark.parametrize("rule", [rule.name for rule in RULES])
def test_the_page_for_operators_has_a_row_for_each_rule(rule: str) -> None:
    page = (ROOT / "docs" / "OPERATIONS.md").read_text()
    assert re.search(rf"^\| `{rule}` \| ", page.partition("### Doctor of a node")[2], re.MULTILINE)
