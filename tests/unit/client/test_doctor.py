"""The rules of `parley cluster doctor`: each fires at its bound and not before it; order, and the form for programs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from parley import ClusterMember, NodeStatus
from parley.terminal import doctor_findings
from parley.terminal.doctor_findings import Finding, Severity
from parley.terminal.doctor_node_rules import CERTIFICATE_CRITICAL_DAYS, CERTIFICATE_WARNING_DAYS, DAY_MS, LAG_ENTRIES
from parley.terminal.doctor_rules import RULES, judge
from parley.terminal.exits import ExitCode
from tests.unit.project.source import ROOT

NOW_MS = 1_800_000_000_000
MIB = 1 << 20

Cluster = tuple[NodeStatus, ...]
Change = Callable[[Cluster], Cluster]


def member(number: int, **changes: object) -> ClusterMember:
    address = f"10.0.0.{number}"
    row = ClusterMember(f"n{number}", number, f"{address}:7600", f"{address}:7700", voter=True, connected=True)
    return replace(row, min_level=1, max_level=3, **changes)  # type: ignore[arg-type]


def healthy(count: int = 3) -> Cluster:
    """A cluster without a fault, as an account sees it."""
    members = tuple(map(member, range(1, count + 1)))
    return tuple(
        NodeStatus(
            row.client_address,
            cluster_id="c0ffee",
            name=row.name,
            node_id=row.node_id,
            role="leader" if row.name == "n1" else "follower",
            term=7,
            leader="n1",
            commit_index=50_000,
            applied_index=50_000,
            first_index=30_000,
            last_index=50_000,
            serving=True,
            version="0.3.0",
            members=members,
            level=3,
            min_level=1,
            max_level=3,
            cluster_time_ms=NOW_MS,
            state_hash="ab" * 16,
            clock_offset_ms=0.0,
            round_trip_ms=2.0,
            certificate_expires_at_ms=NOW_MS + 400 * DAY_MS,
            disk_free_bytes=10_000 * MIB,
            disk_reserve_bytes=256 * MIB,
            open_files=100,
            open_files_limit=17_152,
            log_write_ms=2.0,
            uptime_s=3_600.0,
            backup_interval_s=3_600,
            last_backup_at_ms=NOW_MS - 3_600_000,
        )
        for row in members
    )


def third(**changes: object) -> Change:
    """The third node is different."""
    return lambda nodes: (*nodes[:2], replace(nodes[2], **changes))  # type: ignore[arg-type]


def first_two(**changes: object) -> Change:
    """Two nodes are different."""
    return lambda nodes: (*(replace(node, **changes) for node in nodes[:2]), *nodes[2:])  # type: ignore[arg-type]


def every(**changes: object) -> Change:
    """Every node is different."""
    return lambda nodes: tuple(replace(node, **changes) for node in nodes)  # type: ignore[arg-type]


def silent(*names: str) -> Change:
    """These nodes do not answer."""
    return lambda nodes: tuple(
        NodeStatus(node.address, error="connection refused") if node.name in names else node for node in nodes
    )


def members(number: int, **changes: object) -> Change:
    """All nodes have another record of one member."""
    return lambda nodes: tuple(
        replace(node, members=tuple(replace(row, **changes) if row.node_id == number else row for row in node.members))  # type: ignore[arg-type]
        for node in nodes
    )


def both(*changes: Change) -> Change:
    def change(nodes: Cluster) -> Cluster:
        for one in changes:
            nodes = one(nodes)
        return nodes

    return change


def of_size(count: int) -> Change:
    return lambda _: healthy(count)


def with_address(address: str) -> Change:
    return lambda nodes: (*nodes, NodeStatus(address, error="no answer"))


def found(nodes: Cluster, rule: str) -> list[tuple[str, str]]:
    """The severities and nodes that one rule finds."""
    return [(f.severity.name, f.node) for f in judge(nodes, NOW_MS) if f.rule == rule]


def days(count: float) -> int:
    return NOW_MS + int(count * DAY_MS)


def test_a_healthy_cluster_has_one_finding_for_each_rule_and_all_are_ok() -> None:
    findings = judge(healthy(), NOW_MS)
    assert [finding.rule for finding in findings] == [rule.name for rule in RULES]
    assert {finding.severity for finding in findings} == {Severity.OK}


FIRES: list[tuple[str, Change, list[tuple[str, str]]]] = [
    ("answers", silent("n3"), [("WARNING", "n3")]),
    ("answers", silent("n1", "n2", "n3"), [("CRITICAL", "")] * 3),
    ("answers", with_address("10.0.0.9:7600"), [("NOTE", "")]),
    ("majority", every(serving=False), [("CRITICAL", "")]),
    ("leader", third(role="leader"), [("CRITICAL", "")]),
    ("leader", third(leader=""), [("WARNING", "")]),
    ("spare", silent("n3"), [("WARNING", "")]),
    ("few_nodes", of_size(1), [("WARNING", "")]),
    ("few_nodes", of_size(2), [("WARNING", "")]),
    ("few_nodes", of_size(4), [("NOTE", "")]),
    ("wrong_members", third(cluster_id="bad"), [("CRITICAL", "n3")]),
    ("wrong_members", third(removed=True), [("WARNING", "n3")]),
    ("wrong_members", third(name="n9"), [("WARNING", "n9")]),
    ("wrong_members", third(node_id=99), [("CRITICAL", "n3")]),
    ("changes", every(joint=True), [("NOTE", "")]),
    ("changes", members(3, learner=True, voter=False), [("NOTE", "n3")]),
    ("connections", members(3, connected=False), [("WARNING", "n1"), ("WARNING", "n2"), ("WARNING", "n3")]),
    ("lag", third(applied_index=50_000 - LAG_ENTRIES), [("WARNING", "n3")]),
    ("lag", third(last_index=29_998, applied_index=49_999), [("WARNING", "n3")]),
    ("lag", third(snapshots="n2 does not install"), [("WARNING", "n3")]),
    ("state", third(divergence="this node is fenced"), [("CRITICAL", "n3")]),
    ("state", third(state_hash="cd" * 16), [("CRITICAL", "")]),
    ("releases", third(version="0.4.0"), [("WARNING", "")]),
    ("releases", every(level=2), [("NOTE", "")]),
    ("clocks", third(clock_offset_ms=5_003.0), [("WARNING", "n3")]),
    ("clocks", third(clock_offset_ms=-60_003.0), [("CRITICAL", "n3")]),
    ("clocks", third(clock="the clock of n2 is wrong"), [("CRITICAL", "n3")]),
    ("clocks", every(cluster_time_ms=NOW_MS + 60_001), [("CRITICAL", "")]),
    ("certificates", third(certificate_expires_at_ms=days(CERTIFICATE_WARNING_DAYS)), [("WARNING", "n3")]),
    ("certificates", third(certificate_expires_at_ms=days(CERTIFICATE_CRITICAL_DAYS)), [("CRITICAL", "n3")]),
    ("certificates", third(certificate_expires_at_ms=days(-1)), [("CRITICAL", "n3")]),
    ("disks", third(disk_free_bytes=512 * MIB - 1), [("WARNING", "n3")]),
    ("disks", third(disk_free_bytes=256 * MIB - 1), [("CRITICAL", "n3")]),
    ("disks", third(disk="the disk is nearly full"), [("CRITICAL", "n3")]),
    ("disks", third(refused="the cluster accepts nothing"), [("CRITICAL", "")]),
    ("backups", every(backup_interval_s=0), [("NOTE", "")]),
    ("backups", third(last_backup_at_ms=NOW_MS - 7_200_001), [("WARNING", "n3")]),
    ("backups", third(last_backup_at_ms=NOW_MS - 7 * 3_600_000 - 1), [("CRITICAL", "n3")]),
    ("backups", third(last_backup_at_ms=0, uptime_s=7_201.0), [("WARNING", "n3")]),
    ("sync", third(log_write_ms=20.0), [("WARNING", "n3")]),
    ("sync", third(log_write_ms=100.0), [("CRITICAL", "n3")]),
    ("event_loops", third(loop_lag_ms=150), [("WARNING", "n3")]),
    ("descriptors", third(open_files=13_722), [("WARNING", "n3")]),
    ("descriptors", third(open_files=16_295), [("CRITICAL", "n3")]),
]


@pytest.mark.parametrize(
    ("rule", "change", "expected"),
    FIRES,
)
def test_a_rule_fires_at_its_bound(rule: str, change: Change, expected: list[tuple[str, str]]) -> None:
    assert found(change(healthy()), rule) == expected


STAYS_OK: list[tuple[str, Change]] = [
    ("answers", of_size(5)),
    ("majority", silent("n3")),
    ("majority", third(serving=False)),
    ("leader", both(third(role="leader", term=6), third(leader="n1"))),
    ("spare", both(of_size(5), silent("n5"))),
    ("spare", of_size(1)),
    ("few_nodes", of_size(5)),
    ("few_nodes", silent("n2", "n3")),
    ("wrong_members", silent("n3")),
    ("changes", silent("n3")),
    ("connections", both(members(3, connected=False), silent("n3"))),
    ("lag", third(applied_index=50_000 - LAG_ENTRIES + 1)),
    ("lag", third(last_index=29_999, applied_index=49_999)),
    ("state", third(applied_index=49_999, state_hash="cd" * 16)),
    ("releases", members(3, max_level=4)),
    ("clocks", third(clock_offset_ms=5_002.0)),
    ("clocks", third(clock_offset_ms=70_000.0, round_trip_ms=70_000.0)),
    ("clocks", third(clock_offset_ms=None)),
    ("clocks", every(cluster_time_ms=NOW_MS + 60_000)),
    ("clocks", both(every(cluster_time_ms=NOW_MS + 3_600_000), every(clock_offset_ms=3_600_000.0))),
    ("clocks", every(cluster_time_ms=NOW_MS - 3_600_000)),
    ("clocks", both(of_size(4), first_two(cluster_time_ms=NOW_MS + 60_001))),
    ("certificates", third(certificate_expires_at_ms=days(CERTIFICATE_WARNING_DAYS + 1))),
    ("certificates", third(certificate_expires_at_ms=0)),
    ("disks", third(disk_free_bytes=512 * MIB)),
    ("disks", third(disk_free_bytes=0, disk_reserve_bytes=0)),
    ("backups", third(last_backup_at_ms=NOW_MS - 7_200_000)),
    ("backups", third(last_backup_at_ms=0, uptime_s=7_200.0)),
    ("backups", third(backup_interval_s=0)),
    ("sync", third(log_write_ms=19.9)),
    ("event_loops", third(loop_lag_ms=149)),
    ("sync", third(log_write_ms=0.0)),
    ("descriptors", third(open_files=13_721)),
    ("descriptors", third(open_files_limit=0)),
]


@pytest.mark.parametrize(
    ("rule", "change"),
    STAYS_OK,
)
def test_a_rule_does_not_fire_before_its_bound(rule: str, change: Change) -> None:
    assert found(change(healthy()), rule) == [("OK", "")]


@pytest.mark.parametrize("rule", [rule.name for rule in RULES])
def test_both_directions_of_each_rule_are_tested(rule: str) -> None:
    assert any(case[0] == rule for case in FIRES)
    assert any(case[0] == rule for case in STAYS_OK)


def as_stranger(nodes: Cluster) -> Cluster:
    """What nodes tell without a session."""
    return tuple(
        NodeStatus(
            node.address,
            cluster_id=node.cluster_id,
            name=node.name,
            role=node.role,
            leader=node.leader,
            serving=node.serving,
            members=tuple(
                ClusterMember(row.name, 0, row.client_address, "", voter=True, connected=True) for row in node.members
            ),
        )
        for node in nodes
    )


def test_without_a_session_a_note_names_the_rules_that_are_not_judged() -> None:
    first, *others = judge(as_stranger(healthy()), NOW_MS)
    assert (first.rule, first.severity) == ("session", Severity.NOTE)
    assert all(rule.name in first.text for rule in RULES if rule.needs_session)
    assert [finding.rule for finding in others] == [rule.name for rule in RULES if not rule.needs_session]
    assert {finding.severity for finding in others} == {Severity.OK}


def test_a_node_that_does_not_know_the_session_is_named() -> None:
    nodes = (*healthy()[:2], as_stranger(healthy())[2])
    first, *others = judge(nodes, NOW_MS)
    assert (first.rule, first.severity, first.text) == ("session", Severity.NOTE, "Judged only in part: n3.")
    assert {finding.severity for finding in others} == {Severity.OK}


def test_without_an_answer_nothing_else_is_judged() -> None:
    findings = judge(silent("n1", "n2", "n3")(healthy()), NOW_MS)
    assert [finding.rule for finding in findings] == ["answers"] * 3 + ["session"]


SICK = both(silent("n2"), third(disk_free_bytes=MIB), members(3, learner=True, voter=False))(healthy())


def test_the_worst_finding_comes_first_and_gives_the_exit_code() -> None:
    findings = judge(SICK, NOW_MS)
    severities = [finding.severity for finding in findings]
    assert severities == sorted(severities, reverse=True)
    assert severities[0] is Severity.CRITICAL
    assert doctor_findings.EXITS[doctor_findings.worst(findings)] is ExitCode.CRITICAL
    assert doctor_findings.EXITS[doctor_findings.worst(judge(silent("n3")(healthy()), NOW_MS))] is ExitCode.WARNING
    assert doctor_findings.EXITS[doctor_findings.worst(judge(healthy(4), NOW_MS))] is ExitCode.OK, "only a note"
    assert doctor_findings.EXITS[doctor_findings.worst(())] is ExitCode.OK


def test_every_finding_says_what_it_means_and_what_to_run() -> None:
    for _, change, _ in FIRES:
        for finding in judge(change(healthy()), NOW_MS):
            is_fine = finding.severity is Severity.OK
            assert is_fine or (finding.effect and (finding.command or finding.rule == "session")), finding


def test_the_table_shows_the_worst_first_and_names_the_rules_that_found_nothing() -> None:
    findings = judge(SICK, NOW_MS)
    lines = doctor_findings.lines(findings)
    assert lines[0].split() == ["SEVERITY", "NODE", "RULE", "FINDING"]
    assert lines[1].split()[:3] == ["critical", "n3", "disks"]
    assert lines[3].strip() == "Run: df -h    (on the machine of n3: make room)"
    assert lines[-2].startswith("Nothing found by: majority, leader, ")
    assert re.fullmatch(r"1 critical, \d warnings?, \d notes?\.", lines[-1])


def test_the_table_of_a_healthy_cluster_is_two_lines() -> None:
    lines = doctor_findings.lines(judge(healthy(), NOW_MS))
    assert lines[1:] == ["0 critical, 0 warnings, 0 notes."]


def test_the_form_for_programs_has_a_version_and_every_field() -> None:
    findings = judge(SICK, NOW_MS)
    made = json.loads(json.dumps(doctor_findings.report(findings, SICK, NOW_MS)))
    assert {**made, "nodes": [], "findings": []} == {
        "version": 1,
        "made_at_ms": NOW_MS,
        "worst": "critical",
        "counts": {severity.name.lower(): [f.severity for f in findings].count(severity) for severity in Severity},
        "nodes": [],
        "findings": [],
    }
    assert made["nodes"][1] == {
        "name": "",
        "address": "10.0.0.2:7600",
        "answered": False,
        "error": "connection refused",
    }
    assert len(made["findings"]) == len(findings)
    assert [set(row) for row in made["findings"]] == [{"rule", "severity", "node", "text", "effect", "command"}] * len(
        findings
    )


def test_the_release_to_install_is_the_newest_by_its_numbers() -> None:
    nodes = third(version="0.10.0")(every(version="0.9.0")(healthy()))
    (finding,) = (one for one in judge(nodes, NOW_MS) if one.rule == "releases")
    assert finding.command == "Install release 0.10.0 on the other nodes, one after the other."


def test_the_time_that_is_told_of_the_cluster_is_that_which_was_judged() -> None:
    """One clock that is wrong, too, does not hide how far the others are."""
    nodes = third(clock_offset_ms=3_600_000.0)(every(cluster_time_ms=NOW_MS + 90_000)(healthy()))
    assert "The time of the cluster is 90 s ahead of its nodes' clocks." in [one.text for one in judge(nodes, NOW_MS)]


def test_a_finding_keeps_its_place_among_those_of_its_severity() -> None:
    one, two = (Finding("answers", Severity.WARNING, text) for text in ("one", "two"))
    assert doctor_findings.worst_first([one, Finding("spare", Severity.CRITICAL, ""), two])[1:] == (one, two)


@pytest.mark.parametrize("rule", [rule.name for rule in RULES])
def test_the_page_for_operators_has_a_row_for_each_rule(rule: str) -> None:
    page = (ROOT / "docs" / "OPERATIONS.md").read_text()
    assert re.search(rf"^\| `{rule}` \| ", page.partition("### Doctor of the cluster")[2], re.MULTILINE)
