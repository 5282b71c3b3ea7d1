"""Linearizable reads, by the paper: §8 and thesis §6.4; and handing over leadership, thesis §3.10."""

from __future__ import annotations

from typing import Any

from parleyd.raft.events import Campaign, ConfChangeApplied, ForgetLeader, Propose, ReadIndex, Tick, TransferLeader
from parleyd.raft.membership import encode_conf_change
from parleyd.raft.messages import MessageType
from parleyd.raft.types import NodeId, Role
from parleyd.raft.update import Refusal
from tests.unit.raft.lab import Lab, change, entries, receive, settle, solo

M = MessageType


def led(*ids: int, **settings: Any) -> Lab:
    lab = Lab(*ids, **settings)
    lab.do(1, Campaign())
    return lab


def contexts(lab: Lab, node: int) -> list[bytes]:
    return [ready.context for ready in lab.servers[node].reads]


# Reads


def test_a_read_waits_for_a_majority_to_confirm_the_leader() -> None:
    lab = led(1, 2, 3)
    lab.step(1, ReadIndex(b"r"))
    assert contexts(lab, 1) == []
    lab.deliver()
    assert contexts(lab, 1) == [b"r"]


def test_a_forwarded_read_whose_answer_was_lost_makes_room_for_later_ones() -> None:
    lab = led(1, 2, 3, max_pending_reads=2)
    lab.cut(2)
    for name in (b"a", b"b", b"c"):
        lab.step(2, ReadIndex(name))
    assert lab.servers[2].dropped_reads == [b"a"], "the oldest is to be asked again, the newest is taken"


def test_a_deposed_leader_answers_no_read() -> None:
    lab = led(1, 2, 3)
    lab.cut(1)
    lab.tick(20, 2, 3)
    (new,) = [node for node in lab.leaders() if node != 1]
    lab.do(new, Propose((b"x",)))
    lab.do(1, ReadIndex(b"stale"))
    assert contexts(lab, 1) == []
    lab.heal()
    lab.tick(5)
    assert contexts(lab, 1) == []
    assert lab.servers[1].dropped_reads == [b"stale"]


def test_a_read_is_postponed_until_the_leader_commits_in_its_term() -> None:
    raft = solo(1, log=entries(1, 1), term=1, commit=1)
    settle(raft, raft.step(Campaign()))
    settle(raft, raft.step(receive(M.VOTE_RESPONSE, 2, 1, 2)))
    assert raft.role is Role.LEADER
    assert raft.step(ReadIndex(b"early")).send == ()
    update = raft.step(receive(M.APPEND_RESPONSE, 2, 1, 2, index=3))
    beats = [letter for letter in update.send if letter.type is M.HEARTBEAT]
    assert len(beats) == 2
    update = raft.step(receive(M.HEARTBEAT_RESPONSE, 2, 1, 2, context=beats[0].context))
    assert [(ready.context, ready.index) for ready in update.reads] == [(b"early", 3)]


def test_a_confirmation_answers_all_earlier_reads_and_no_later_one() -> None:
    lab = led(1, 2, 3, 4, 5)
    first = lab.step(1, ReadIndex(b"1")).send[0].context
    second = lab.step(1, ReadIndex(b"2")).send[0].context
    lab.step(1, ReadIndex(b"3"))
    lab.wire.clear()
    assert first != second
    for node in (2, 3):
        lab.step(1, receive(M.HEARTBEAT_RESPONSE, node, 1, 1, context=second))
    assert contexts(lab, 1) == [b"1", b"2"]


def test_confirmations_are_of_one_token_each_from_different_servers() -> None:
    lab = led(1, 2, 3, 4, 5)
    token = lab.step(1, ReadIndex(b"r")).send[0].context
    lab.wire.clear()
    for _ in range(5):
        lab.step(1, receive(M.HEARTBEAT_RESPONSE, 2, 1, 1, context=token))
        lab.step(1, receive(M.HEARTBEAT_RESPONSE, 3, 1, 1, context=b"another"))
    assert contexts(lab, 1) == []


def test_tokens_are_the_leaders_own_so_equal_contexts_do_not_meet() -> None:
    lab = led(1, 2, 3)
    old = lab.step(1, ReadIndex(b"same")).send[0].context
    lab.deliver()
    new = lab.step(1, ReadIndex(b"same")).send[0].context
    lab.wire.clear()
    assert old != new
    lab.step(1, receive(M.HEARTBEAT_RESPONSE, 2, 1, 1, context=old))  # a replayed answer confirms nothing
    assert contexts(lab, 1) == [b"same"]


def test_a_lost_confirmation_is_asked_for_again_with_the_next_heartbeat() -> None:
    lab = led(1, 2, 3)
    lab.step(1, ReadIndex(b"r"))
    lab.wire.clear()
    lab.tick(1, 1)
    assert contexts(lab, 1) == [b"r"]


def test_a_follower_forwards_a_read_and_answers_it_itself() -> None:
    lab = led(1, 2, 3)
    lab.do(1, Propose((b"x",)))
    lab.do(3, ReadIndex(b"r"))
    assert [(ready.context, ready.index) for ready in lab.servers[3].reads] == [(b"r", 2)]
    assert contexts(lab, 1) == []


def test_an_answer_that_arrives_twice_is_one_read() -> None:
    lab = led(1, 2, 3)
    lab.do(3, ReadIndex(b"r"))
    lab.step(3, receive(M.READ_INDEX_RESPONSE, 1, 3, 1, index=1, context=b"r"))
    assert contexts(lab, 3) == [b"r"]


def test_a_read_without_a_leader_is_dropped_at_once() -> None:
    assert solo(1).step(ReadIndex(b"r")).dropped_reads == (b"r",)


def test_a_forwarded_read_is_dropped_when_the_leader_is_lost() -> None:
    lab = led(1, 2, 3)
    lab.cut(1)
    lab.do(3, ReadIndex(b"r"))
    assert lab.step(3, ForgetLeader()).dropped_reads == (b"r",)


def test_reads_of_a_leader_that_steps_down_are_dropped() -> None:
    lab = led(1, 2, 3)
    lab.cut(1)
    lab.do(1, ReadIndex(b"r"))
    lab.tick(11, 1)
    assert lab.servers[1].dropped_reads == [b"r"]
    assert contexts(lab, 1) == []


def test_waiting_reads_are_bounded() -> None:
    lab = led(1, 2, 3, max_pending_reads=2)
    lab.cut(1)
    for number in range(4):
        lab.do(1, ReadIndex(b"%d" % number))
    assert lab.servers[1].dropped_reads == [b"2", b"3"]


def test_a_single_voter_answers_reads_at_once() -> None:
    lab = led(1)
    lab.do(1, ReadIndex(b"r"))
    assert contexts(lab, 1) == [b"r"]


def test_a_single_voter_answers_no_read_before_it_commits_in_its_term() -> None:
    # After a restart the commit index on its disk may be behind what it had acknowledged.
    raft = solo(1, (1,), log=entries(1, 1, 1), term=1, commit=1)
    update = raft.step(Campaign())
    assert update.persist is not None
    update = raft.step(update.persist.done)
    assert raft.step(ReadIndex(b"r")).reads == ()
    assert update.persist is not None
    reads = raft.step(update.persist.done).reads
    assert [(ready.context, ready.index) for ready in reads] == [(b"r", 4)]


def test_reads_that_wait_for_servers_now_removed_are_answered() -> None:
    lab = led(1, 2)
    lab.cut(2)
    lab.do(1, ReadIndex(b"r"))
    assert contexts(lab, 1) == []
    lab.step(1, ConfChangeApplied(encode_conf_change(change("r2"))))
    assert contexts(lab, 1) == [b"r"]


def test_under_lease_reads_the_leader_answers_at_once_and_followers_stay_loyal() -> None:
    lab = led(1, 2, 3, lease_reads=True)
    assert [ready.context for ready in lab.step(1, ReadIndex(b"r")).reads] == [b"r"]
    lab.step(2, ForgetLeader())
    assert lab[2].leader == 1


# Transfer


def test_a_transfer_waits_for_the_follower_to_catch_up() -> None:
    lab = led(1, 2, 3)
    lab.cut(3)
    lab.do(1, Propose((b"x",)))
    lab.do(1, TransferLeader(NodeId(3)))
    assert lab.leaders() == [1]
    lab.heal()
    lab.tick(1, 1)
    assert lab.leaders() == [3]
    lab.tick(1)
    assert lab.payloads(3) == [b"x"]


def test_a_leader_handing_over_takes_no_proposals() -> None:
    lab = led(1, 2, 3)
    lab.cut(3)
    lab.do(1, TransferLeader(NodeId(3)))
    answer = lab.step(1, Propose((b"x",))).proposed
    assert answer is not None
    assert answer.refusal == Refusal.TRANSFERRING


def test_a_transfer_that_takes_too_long_is_given_up() -> None:
    lab = led(1, 2, 3)
    lab.cut(3)
    lab.do(1, TransferLeader(NodeId(3)))
    lab.tick(6, 1, 2)
    answer = lab.step(1, Propose((b"x",))).proposed
    assert answer is not None
    assert answer.refusal is None


def test_a_transfer_overrides_stickiness_and_pre_vote() -> None:
    lab = led(1, 2, 3)
    lab.do(1, TransferLeader(NodeId(2)))
    assert lab.leaders() == [2]
    assert not [letter for letter in lab.delivered if letter.type is M.PRE_VOTE and letter.sender == 2]


def test_a_second_target_replaces_the_first() -> None:
    lab = led(1, 2, 3)
    lab.cut(2, 3)
    lab.do(1, TransferLeader(NodeId(3)))
    lab.do(1, TransferLeader(NodeId(2)))
    assert lab[1].status().transferee == 2


def test_a_transfer_to_oneself_or_a_stranger_does_nothing() -> None:
    lab = led(1, 2, 3)
    for target in (1, 9):
        lab.do(1, TransferLeader(NodeId(target)))
    assert lab.leaders() == [1]
    assert lab[1].status().transferee == 0


def test_a_follower_may_ask_for_the_lead() -> None:
    lab = led(1, 2, 3)
    lab.do(3, TransferLeader(NodeId(3)))
    assert lab.leaders() == [3]


def test_a_late_timeout_now_does_not_disturb_a_candidate_or_leader() -> None:
    lab = led(1, 2, 3)
    before = lab[1].status()
    lab.step(1, receive(M.TIMEOUT_NOW, 2, 1, 1))
    assert lab[1].status() == before
    lab.step(1, Tick())
    assert lab[1].role is Role.LEADER
