"""The core as its driver sees it: a leader is found, entries are committed, changes are applied."""

from __future__ import annotations

import pytest

from parleyd.raft.config import InitialState, RaftConfig
from parleyd.raft.errors import PeerProtocolError
from parleyd.raft.events import Campaign, ForgetLeader, Propose, ProposeConfChange, ReadIndex, Tick, TransferLeader
from parleyd.raft.membership import encode_conf_change
from parleyd.raft.messages import MessageType
from parleyd.raft.raft import Raft
from parleyd.raft.types import NodeId, Role
from parleyd.raft.update import Refusal
from tests.unit.raft.lab import Lab, change, receive, solo, voters


def test_three_servers_elect_one_leader_by_time_alone() -> None:
    lab = Lab(1, 2, 3)
    lab.tick(12)
    assert len(lab.leaders()) == 1
    (leader,) = lab.leaders()
    assert all(lab[node].leader == leader for node in (1, 2, 3))


def test_a_single_server_leads_and_commits_alone() -> None:
    lab = Lab(1)
    lab.do(1, Campaign())
    lab.do(1, Propose((b"x", b"y")))
    assert lab.payloads(1) == [b"x", b"y"]
    assert lab[1].status().uncommitted_bytes == 0


def test_a_proposal_is_applied_everywhere_in_order() -> None:
    lab = Lab(1, 2, 3)
    lab.do(1, Campaign())
    for number in range(50):
        lab.do(1, Propose((b"%d" % number, b"-%d" % number)))
    lab.tick()
    expected = [b"%s%d" % (sign, number) for number in range(50) for sign in (b"", b"-")]
    assert [lab.payloads(node) for node in (1, 2, 3)] == [expected] * 3


def test_a_proposal_tells_its_first_index_and_count() -> None:
    lab = Lab(1, 2, 3)
    lab.do(1, Campaign())
    update = lab.step(1, Propose((b"a", b"b")))
    assert update.proposed is not None
    assert (update.proposed.first_index, update.proposed.count, update.proposed.refusal) == (2, 2, None)


def test_a_follower_refuses_a_proposal() -> None:
    lab = Lab(1, 2, 3)
    lab.do(1, Campaign())
    update = lab.step(2, Propose((b"a",)))
    assert update.proposed is not None
    assert (update.proposed.first_index, update.proposed.refusal) == (0, Refusal.NOT_LEADER)
    assert not update.send


def test_reads_are_answered_on_leader_and_follower() -> None:
    lab = Lab(1, 2, 3)
    lab.do(1, Campaign())
    lab.do(1, ReadIndex(b"here"))
    lab.do(2, ReadIndex(b"there"))
    assert [(ready.context, ready.index) for ready in lab.servers[1].reads] == [(b"here", 1)]
    assert [(ready.context, ready.index) for ready in lab.servers[2].reads] == [(b"there", 1)]


def test_leadership_is_handed_over() -> None:
    lab = Lab(1, 2, 3)
    lab.do(1, Campaign())
    lab.do(1, TransferLeader(NodeId(3)))
    assert lab.leaders() == [3]


def test_a_voter_is_added_and_takes_part() -> None:
    lab = Lab(1, 2, 3, bootstrapped_at=1)
    lab.do(1, Campaign())
    lab.start(4, voters())
    lab.do(1, ProposeConfChange(encode_conf_change(change("v4"))))
    lab.do(1, Propose((b"x",)))
    assert lab[1].conf_state == voters(1, 2, 3, 4)
    assert NodeId(4) in lab.servers[1].needs_snapshot  # the bootstrap snapshot does not know it
    lab.give_snapshot(1)
    lab.do(1, Propose((b"y",)))
    assert lab[4].conf_state == voters(1, 2, 3, 4)
    assert lab.payloads(4) == [b"y"]


def test_a_follower_that_forgets_its_leader_can_be_elected_at_once() -> None:
    lab = Lab(1, 2, 3)
    lab.do(1, Campaign())
    lab.cut(1)
    lab.do(2, ForgetLeader())
    lab.do(3, ForgetLeader())
    lab.do(2, Campaign())
    assert lab[2].role is Role.LEADER


def test_an_idle_tick_gives_an_empty_update() -> None:
    raft = solo()
    assert raft.step(Tick()) == raft.step(Tick())
    assert raft.step(Tick()).persist is None


def test_a_message_for_someone_else_is_refused_and_changes_nothing() -> None:
    raft = solo(1)
    before = raft.status()
    with pytest.raises(PeerProtocolError, match="reached node 1"):
        raft.step(receive(MessageType.VOTE, 2, 3, 9))
    assert raft.status() == before


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"node_id": 0}, "node_id"),
        ({"heartbeat_ticks": 0}, "heartbeat_ticks"),
        ({"election_timeout_ticks": 1}, "election_timeout_ticks"),
        ({"lease_reads": True, "check_quorum": False}, "lease_reads"),
        ({"max_entries_bytes": 0}, "max_entries_bytes"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, int], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Raft(RaftConfig(**{"node_id": NodeId(1), **settings}), InitialState())  # type: ignore[arg-type]
