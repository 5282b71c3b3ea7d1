"""What the panel of the cluster shows: rows, sentences, commands, and the line for people."""

from __future__ import annotations

from dataclasses import replace

import pytest

from parley import ClientState, ClusterStatus, ConnectionState, Node, NodeStatus
from parley.chat import (
    StatusLevel,
    add_command,
    node_rows,
    panel_lines,
    people_note,
    reached_text,
    remove_command,
    status_line,
    transfer_text,
)
from tests.support.cluster_nodes import MEMBERS, N1, N2, N3

NOW_S = 1_760_000_000.0


def test_every_node_is_a_row_with_role_lag_term_and_whom_it_reaches() -> None:
    cut_off = tuple(replace(member, connected=member.name == "n2") for member in MEMBERS)
    first, second, third = node_rows(ClusterStatus((N3, replace(N2, applied_index=1197, members=cut_off), N1)))
    assert first.cells == ("n1", "leader", "127.0.0.2:7600", "0", "7", "all others", "0.9.0", "2-3")
    assert (second.behind, second.reaches) == ("3 entries", "no other")
    assert third.spoken.startswith("n3 follower, Address 127.0.0.4:7600, Behind 0, Term 7, Reaches all others")


def test_whom_a_node_does_not_reach_is_named() -> None:
    members = tuple(replace(member, connected=member.name != "n3") for member in MEMBERS)
    [row] = node_rows(ClusterStatus((replace(N1, members=members),)))
    assert row.reaches == "n2; not n3"


def test_of_a_node_that_does_not_answer_the_panel_tells_what_the_others_know() -> None:
    led = tuple(replace(member, match_index=1190, connected=member.name == "n2") for member in MEMBERS)
    silent = NodeStatus(N3.address, error="The node did not answer within 1.5 s")
    status = ClusterStatus((replace(N1, members=led), N2, silent))
    row = node_rows(status)[2]
    assert row.cells == ("n3", "does not answer", "127.0.0.4:7600", "10 entries", "", "reached by n2", "", "2-3")
    assert "n3 does not answer: The node did not answer within 1.5 s." in panel_lines(status, NOW_S)
    gone = tuple(replace(member, connected=False) for member in MEMBERS)
    lonely = ClusterStatus((replace(N1, members=gone), silent))
    assert node_rows(lonely)[1].reaches == "reached by no node"


def test_only_a_follower_that_serves_and_is_trusted_can_be_made_the_leader() -> None:
    def can_lead(node: NodeStatus) -> bool:
        return node_rows(ClusterStatus((node,)))[0].can_lead

    learner = tuple(replace(member, voter=member.name != "n2") for member in MEMBERS)
    assert can_lead(N2)
    assert not can_lead(N1), "it leads already"
    assert not can_lead(replace(N2, members=learner))
    assert not can_lead(replace(N2, serving=False))
    assert not can_lead(replace(N2, divergence="the state differs"))
    assert not can_lead(replace(N2, members=MEMBERS[:1])), "it is no member"
    assert not can_lead(NodeStatus(N2.address, error="silent"))


def test_mixed_releases_are_told_with_the_nodes_that_are_still_to_be_updated() -> None:
    old = tuple(replace(member, max_level=3 if member.name == "n1" else 2) for member in MEMBERS)
    mixed = ClusterStatus((replace(N1, members=old, level=2), replace(N2, members=old, level=2, max_level=2)))
    lines = panel_lines(mixed, NOW_S)
    assert lines[0].startswith("The cluster serves")
    [told] = [line for line in lines if line.startswith("Releases are mixed")]
    assert "rise to 3" in told
    assert told.endswith("Still to be updated: n2, n3.")
    raised = ClusterStatus(tuple(replace(node, level=2) for node in (N1, N2, N3)))
    assert any("rises to it by itself" in line for line in panel_lines(raised, NOW_S))
    quiet = panel_lines(ClusterStatus((N1, N2, N3)), NOW_S)
    assert quiet == ("The cluster serves: 3 of 3 known nodes answer, n1 leads.", "The level of the cluster is 3.")


def test_people_are_told_of_an_update_and_of_a_repair_and_else_of_nothing() -> None:
    assert people_note(N1) == ""
    mixed = tuple(replace(member, max_level=2 if member.name == "n3" else 3) for member in MEMBERS)
    assert people_note(replace(N1, members=mixed)) == "nodes are being updated"
    assert people_note(replace(N1, level=2)) == "", "held back by the setting: nothing is being done"
    assert "repaired" in people_note(replace(N1, divergence="the state of n3 differs"))
    assert people_note(NodeStatus(N1.address, name="n1")) == "", "a node of an earlier release tells nothing"


def test_a_note_makes_the_status_amber_and_stands_in_its_line_while_connected() -> None:
    nodes = tuple(Node(f"n{i}", f"10.0.0.{i}:7600", True) for i in (1, 2, 3))
    state = ClientState(connection=ConnectionState.CONNECTED, node="n2", leader="n1", nodes=nodes, has_majority=True)
    assert status_line(state, 0.0, 0.0).level is StatusLevel.GOOD
    noted = status_line(state, 0.0, 0.0, note="nodes are being updated")
    assert noted.level is StatusLevel.BUSY
    assert "nodes are being updated" in noted.text
    searching = replace(state, connection=ConnectionState.SEARCHING, node="")
    assert "updated" not in status_line(searching, 0.0, 0.0, note="nodes are being updated").text


@pytest.mark.parametrize("field", ["name", "version", "role", "divergence", "disk", "clock", "address", "error"])
def test_no_text_of_a_node_hides_or_turns_another_one(field: str) -> None:
    changes = {field: "x\u202e\x1b[2J\ny"}
    status = ClusterStatus((replace(N1, **changes), N2))  # type: ignore[arg-type]
    shown = [cell for row in node_rows(status) for cell in (*row.cells, row.spoken)]
    assert all(text.isprintable() for text in (*shown, *panel_lines(status, NOW_S)))


def test_commands_name_the_account_and_are_whole_words_for_a_shell() -> None:
    assert add_command("ann") == "parley cluster invite-node --account ann"
    assert remove_command("n3", "ann") == "parley cluster remove n3 --account ann"
    assert remove_command("n3; rm x", "ann") == "parley cluster remove 'n3; rm x' --account ann"


def test_the_text_before_a_transfer_says_what_happens_to_messages_and_who_stays() -> None:
    text = transfer_text("n2", "n1")
    assert "n2 becomes the leader, instead of n1." in text
    assert "sent once each" in text
    assert "n1 goes on leading" in text


def test_the_line_for_people_counts_what_can_be_reached() -> None:
    assert reached_text("n2", 3, 3) == "Connected to n2; 3 of 3 nodes reachable from there"
    assert reached_text("", 0, 0) == "Connected to no node"
