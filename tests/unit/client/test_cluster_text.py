"""What `parley cluster status` shows of levels and divergences."""

from dataclasses import replace
from typing import Any

from parley import (
    ClusterGeneration,
    ClusterMember,
    ClusterPing,
    ClusterStatus,
    GenerationKind,
    NodePing,
    NodeStatus,
    Setting,
)
from parley.chat import certificate_lines
from parley.terminal import doctor_findings
from parley.terminal.cluster_text import cluster_lines
from parley.terminal.doctor_findings import Finding, Severity
from parley.terminal.ping_command import ping_lines
from parley.terminal.text import setting_lines

MEMBERS = tuple(
    ClusterMember(
        f"n{i}", i, f"10.0.0.{i}:7600", f"10.0.0.{i}:7700", voter=True, connected=True, min_level=1, max_level=2
    )
    for i in (1, 2, 3)
)
N1, N2, N3 = (
    NodeStatus(
        member.client_address,
        name=member.name,
        role="leader" if member.name == "n1" else "follower",
        leader="n1",
        term=3,
        serving=True,
        members=MEMBERS,
        level=2,
        min_level=1,
        max_level=2,
    )
    for member in MEMBERS
)


def test_no_text_of_a_node_sends_commands_to_the_terminal_or_makes_a_line_of_its_own() -> None:
    evil = "x\x1b]0;owned\x07\x9b2J\u202e\nThe cluster serves."
    texts = ("name", "role", "leader", "divergence", "disk", "snapshots", "clock", "refused", "error")
    for text in texts:
        changes: dict[str, Any] = {text: evil}
        node = replace(N1, **changes)
        changes[text] = "x"
        plain = cluster_lines(ClusterStatus((replace(N1, **changes), N2)))
        lines = cluster_lines(ClusterStatus((node, N2)))
        assert len(lines) == len(plain)
        assert all(char.isprintable() for line in lines for char in line), text
        assert any("\N{REPLACEMENT CHARACTER}]0;" in line for line in lines), text
    pinged = ping_lines(ClusterPing((NodePing(replace(N1, error=evil), ()),)))
    assert all(line.isprintable() for line in pinged)
    found = [Finding("disks", Severity.WARNING, evil, evil, evil, evil), Finding("clocks", Severity.OK, "", "")]
    assert all(line.isprintable() for line in doctor_findings.lines(found))
    assert all(line.isprintable() for line in setting_lines((Setting(evil, 1, 1, 1, 1, evil),)))


def levels_of(lines: list[str]) -> dict[str, str]:
    """Return the cells of the column LEVELS by address."""
    at = lines[0].index("LEVELS")
    return {line.split()[1]: line[at:].split("  ")[0].strip() for line in lines[1 : lines.index("")]}


def test_the_status_shows_the_level_of_the_cluster_and_what_each_node_supports() -> None:
    lines = cluster_lines(ClusterStatus((N1, N2, replace(N3, max_level=3))))
    assert levels_of(lines) == {"10.0.0.1:7600": "1-2", "10.0.0.2:7600": "1-2", "10.0.0.3:7600": "1-3"}
    assert "The level of the cluster is 2." in lines
    assert not any("Divergence" in line or "still at level" in line for line in lines)


def test_the_status_shows_the_published_levels_of_a_node_that_does_not_answer() -> None:
    members = (*MEMBERS[:2], replace(MEMBERS[2], max_level=1))
    silent = NodeStatus(N3.address, error="no answer")
    lines = cluster_lines(ClusterStatus((replace(N1, members=members), replace(N2, members=members), silent)))
    assert levels_of(lines)["10.0.0.3:7600"] == "1"


def test_the_status_names_a_node_that_has_not_reached_the_level() -> None:
    lines = cluster_lines(ClusterStatus((N1, N2, replace(N3, level=1))))
    assert lines.index("The level of the cluster is 2.") + 1 == lines.index("n3 is still at level 1.")


def test_the_status_shows_each_divergence_once_with_the_nodes_that_report_it() -> None:
    found = "the state of n3 differs at entry 256. Run: parley cluster rebuild n3"
    fenced = replace(N3, divergence="this node is fenced", serving=False)
    lines = cluster_lines(ClusterStatus((replace(N1, divergence=found), replace(N2, divergence=found), fenced)))
    assert [line for line in lines if "Divergence" in line] == [
        f"Divergence, reported by n1, n2: {found}",
        "Divergence, reported by n3: this node is fenced",
    ]


def test_the_status_names_each_peer_that_does_not_install_its_snapshot() -> None:
    lines = cluster_lines(ClusterStatus((N1, replace(N2, snapshots="n3 does not install its snapshot: no room"))))
    assert "n2 reports: n3 does not install its snapshot: no room." in lines


def test_the_status_names_each_node_whose_disk_is_nearly_full() -> None:
    lines = cluster_lines(ClusterStatus((N1, replace(N2, disk="12 bytes are free"))))
    assert [line for line in lines if "disk" in line] == ["The disk of n2 is nearly full: 12 bytes are free."]


def test_a_cluster_that_refuses_for_want_of_room_is_not_said_to_serve() -> None:
    """A cluster that accepted nothing any more ended with "The cluster serves: 3 of 3"."""
    refused = "the disks of a majority are full, so the cluster accepts nothing"
    lines = cluster_lines(ClusterStatus((replace(N1, refused=refused), N2, N3)))
    assert lines[-1] == (
        "The disks of a majority are full, so the cluster accepts nothing. 3 of 3 known nodes answer, n1 leads."
    )


def test_a_cluster_without_an_answer_has_no_level() -> None:
    lines = cluster_lines(ClusterStatus((NodeStatus("10.0.0.1:7600", error="no answer"),)))
    assert lines[-1].startswith("No node answers.")
    assert not any("level of the cluster" in line for line in lines)


def test_the_status_says_whose_clock_is_wrong() -> None:
    lines = cluster_lines(ClusterStatus((N1, replace(N2, clock="the clock of n1 is 90 s behind"))))
    assert [line for line in lines if "clock" in line] == ["The clock of n1 is 90 s behind."]


def test_the_status_shows_how_the_present_generation_began() -> None:
    assert not [line for line in cluster_lines(ClusterStatus((N1,))) if "The cluster was" in line]
    below_3 = cluster_lines(ClusterStatus((replace(N1, generation=2),)))
    assert "The cluster was restored from a backup or recovered from one node." in below_3
    began = ClusterGeneration(1, GenerationKind.RECOVERED, 1_700_000_000_000, 812)
    [line] = [
        line
        for line in cluster_lines(ClusterStatus((N2, replace(N1, generation=1, generations=(began,)))))
        if "The cluster was" in line
    ]
    assert "recovered from one node on 2023-11-1" in line
    assert "after entry 812" in line


def test_the_status_names_a_node_whose_certificate_ends_within_30_days() -> None:
    day_ms, now_ms = 86_400_000, 1_000 * 86_400_000
    nodes = tuple(
        replace(node, certificate_expires_at_ms=now_ms + int(days * day_ms))
        for node, days in ((N1, 31), (N2, 29.5), (N3, -1))
    )
    assert certificate_lines(ClusterStatus((*nodes, replace(N1, name="n4"))), now_ms / 1000) == [
        "The certificate of n2, or its CA, expires in 29 days. Renew it: parleyd cert renew.",
        "The certificate of n3, or its CA, has expired. Renew it: parleyd cert renew.",
    ]
    [tomorrow] = certificate_lines(
        ClusterStatus((replace(N1, certificate_expires_at_ms=now_ms + day_ms),)), now_ms / 1000
    )
    assert "expires in 1 day." in tomorrow
    assert any("n3, or its CA, has expired" in line for line in cluster_lines(ClusterStatus(nodes)))
