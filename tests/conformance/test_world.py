"""The scenarios' world does what the reference's does, also where no scenario of the reference looks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.script import read_script
from tests.conformance.world import World


@pytest.fixture
def world() -> World:
    return World()


def run(world: World, tmp_path: Path, *lines: str) -> list[str]:
    """Carry out directives; gives what is on the wire after them, without what the messages say."""
    script = tmp_path / "script.txt"
    script.write_text("".join(f"{line}\n----\nok\n\n" for line in lines), encoding="utf-8")
    for directive in read_script(script):
        world.run(directive)
    return [" ".join(text.split()[:2]) for text in world.inflight()]


ELECTED = ("add-nodes 3 voters=(1,2,3) index=10 async-storage-writes=true", "campaign 1")


def test_a_type_selects_what_a_node_says_to_itself(world: World, tmp_path: Path) -> None:
    others = ["1->2 MsgApp", "1->3 MsgApp"]
    run(world, tmp_path, *ELECTED, "stabilize", "propose 1 x")
    wire = run(world, tmp_path, "process-ready 1", "process-append-thread 1")
    assert wire == [*others, "1->1 MsgAppResp", "AppendThread->1 MsgStorageAppendResp"]
    assert run(world, tmp_path, "deliver-msgs 1 type=MsgStorageAppendResp") == [*others, "1->1 MsgAppResp"]
    assert run(world, tmp_path, "deliver-msgs 1 type=MsgAppResp") == others


def test_a_type_selects_what_the_apply_thread_says(world: World, tmp_path: Path) -> None:
    run(world, tmp_path, *ELECTED, "stabilize", "propose 1 x")
    for _ in range(2):
        run(world, tmp_path, "process-ready 1", "process-append-thread 1", "deliver-msgs 1")
        run(world, tmp_path, "process-ready 2", "deliver-msgs 2", "process-ready 2", "process-append-thread 2")
    wire = run(world, tmp_path, "deliver-msgs 1", "process-ready 1", "process-apply-thread 1")
    assert "ApplyThread->1 MsgStorageApplyResp" in wire
    applied = world.nodes[1].raft.applied_index
    wire = run(world, tmp_path, "deliver-msgs 1 type=MsgStorageApplyResp")
    assert "ApplyThread->1 MsgStorageApplyResp" not in wire
    assert world.nodes[1].raft.applied_index == applied + 1


def test_what_a_node_says_to_itself_comes_behind_the_others_of_the_same_ready(world: World, tmp_path: Path) -> None:
    """Node 2 votes for itself and then, in a higher term, for node 1, before its first write is begun."""
    run(world, tmp_path, *ELECTED, "process-ready 1", "process-append-thread 1", "campaign 2")
    wire = run(world, tmp_path, "deliver-msgs 1", "campaign 1", "process-ready 1", "deliver-msgs 2")
    wire = run(world, tmp_path, "process-ready 2", "process-append-thread 2")
    from_two = [text for text in wire if text.startswith(("2->", "AppendThread->2"))]
    assert from_two[-2:] == ["2->1 MsgVoteResp", "2->2 MsgVoteResp"]


def test_a_follower_passes_a_transfer_on_to_its_leader(world: World, tmp_path: Path) -> None:
    run(world, tmp_path, "add-nodes 3 voters=(1,2,3) index=10", "campaign 1", "stabilize")
    wire = run(world, tmp_path, "transfer-leadership from=2 to=3", "process-ready 2")
    assert wire == ["3->1 MsgTransferLeader"]
    run(world, tmp_path, "stabilize")
    assert world.nodes[3].raft.leader == 3
