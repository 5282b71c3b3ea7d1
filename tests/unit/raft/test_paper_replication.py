"""Log replication, by the paper: §5.3 replication, §5.4.2 committing entries of earlier terms, §5.5 idempotence."""

from __future__ import annotations

from typing import Any

import pytest

from parleyd.raft.errors import InvariantError, PeerProtocolError
from parleyd.raft.events import Applied, Campaign, Propose, Tick, Unreachable
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.progress import ProgressState
from parleyd.raft.raft import Raft
from parleyd.raft.types import Index, NodeId, Role, Term
from parleyd.raft.update import Refusal
from tests.unit.raft.lab import Lab, entries, entry, receive, settle, solo

M = MessageType


def log_of(raft: Raft) -> list[tuple[int, int]]:
    log = raft._core.log
    return [(item.term, item.index) for item in log.slice(log.first_index, log.last_index, 2**60)]


def leader(size: int = 3, **settings: Any) -> Raft:
    """Server 1, just elected in term 1 (or the next), its no-op durable and acknowledged by nobody else."""
    raft = solo(1, tuple(range(1, size + 1)), **settings)
    settle(raft, raft.step(Campaign()))
    for node in range(2, size + 1):
        if raft.role is not Role.LEADER:
            settle(raft, raft.step(receive(M.VOTE_RESPONSE, node, 1, raft.term)))
    assert raft.role is Role.LEADER
    return raft


def ack(raft: Raft, node: int, index: int) -> list[Message]:
    return settle(raft, raft.step(receive(M.APPEND_RESPONSE, node, 1, raft.term, index=index)))


# §5.3


def test_a_new_leader_appends_a_no_op_and_sends_it() -> None:
    raft = solo()
    settle(raft, raft.step(Campaign()))
    update = raft.step(receive(M.VOTE_RESPONSE, 2, 1, 1))
    assert update.persist is not None
    assert [(item.term, item.index, item.data) for item in update.persist.entries] == [(1, 1, b"")]
    assert [(letter.type, letter.to, len(letter.entries)) for letter in update.send] == [
        (M.APPEND, 2, 1),
        (M.APPEND, 3, 1),
    ]


def test_a_proposal_is_sent_with_the_entry_before_it() -> None:
    raft = leader()
    ack(raft, 2, 1)
    update = raft.step(Propose((b"x",)))
    (letter,) = [letter for letter in update.send if letter.to == 2]
    assert (letter.index, letter.log_term, letter.commit) == (1, 1, 1)
    assert letter.entries == (entry(1, 2, b"x"),)


def test_an_entry_is_committed_when_a_majority_has_it_on_disk() -> None:
    raft = leader(5)
    ack(raft, 2, 1)
    assert raft.commit_index == 0
    ack(raft, 3, 1)
    assert raft.commit_index == 1


def test_a_leader_counts_itself_only_after_its_own_disk() -> None:
    raft = leader()
    ack(raft, 2, 1)
    update = raft.step(Propose((b"x",)))
    assert update.persist is not None
    raft.step(receive(M.APPEND_RESPONSE, 2, 1, 1, index=2))
    assert raft.commit_index == 1
    raft.step(update.persist.done)
    assert raft.commit_index == 2


def test_a_leader_alone_in_office_commits_by_its_followers_disks() -> None:
    # Both followers have it: a majority without the leader's disk. It is not applied here before it is durable here.
    raft = leader()
    ack(raft, 2, 1)
    raft.step(Applied(Index(1)))
    update = raft.step(Propose((b"x",)))
    for node in (2, 3):
        committed = raft.step(receive(M.APPEND_RESPONSE, node, 1, 1, index=2)).committed
    assert (raft.commit_index, committed) == (2, ())
    assert update.persist is not None
    assert [item.index for item in raft.step(update.persist.done).committed] == [2]


def test_followers_may_apply_ahead_of_their_disk_only_where_allowed() -> None:
    letter = receive(M.APPEND, 2, 1, 1, entries=entries(1, 1), commit=2)
    careful, bold = solo(1), solo(1, apply_unstable=True)
    assert [item.index for item in bold.step(letter).committed] == [1, 2]
    update = careful.step(letter)
    assert update.committed == ()
    assert update.persist is not None
    assert [item.index for item in careful.step(update.persist.done).committed] == [1, 2]


def test_a_followers_answer_waits_for_its_disk() -> None:
    raft = solo(1)
    update = raft.step(receive(M.APPEND, 2, 1, 1, entries=entries(1)))
    assert not update.send
    assert [(letter.type, letter.index) for letter in update.after_persist] == [(M.APPEND_RESPONSE, 1)]
    assert update.persist is not None
    assert update.persist.entries == entries(1)
    assert update.persist.must_sync


def test_followers_learn_what_is_committed_and_apply_it_in_order() -> None:
    raft = solo(1, log=entries(1, 1, 1), term=1)
    update = raft.step(receive(M.HEARTBEAT, 2, 1, 1, commit=2))
    assert [item.index for item in update.committed] == [1, 2]
    update = raft.step(receive(M.APPEND, 2, 1, 1, index=3, log_term=1, commit=9))
    assert raft.commit_index == 3  # never beyond what is known to equal the leader's log


def test_a_commit_index_beyond_the_log_means_lost_entries() -> None:
    raft = solo(1, log=entries(1), term=1)
    with pytest.raises(InvariantError, match="lost here"):
        raft.step(receive(M.HEARTBEAT, 2, 1, 1, commit=5))


@pytest.mark.parametrize(
    ("own", "prev_term", "prev_index", "accepted", "hint"),
    [
        ((1, 2), 2, 2, True, None),
        ((1, 2), 1, 1, True, None),
        ((), 0, 0, True, None),
        ((1, 2), 1, 2, False, (1, 1)),  # conflict: skip the whole of term 2
        ((1, 1), 1, 3, False, (2, 1)),  # too short
        ((1, 2, 2, 2), 1, 4, False, (1, 1)),
    ],
)
def test_a_follower_checks_the_entry_before(
    own: tuple[int, ...], prev_term: int, prev_index: int, accepted: bool, hint: tuple[int, int] | None
) -> None:
    raft = solo(1, log=entries(*own), term=3)
    update = raft.step(receive(M.APPEND, 2, 1, 3, index=prev_index, log_term=prev_term))
    (letter,) = update.after_persist
    assert letter.reject is not accepted
    assert letter.index == prev_index
    if hint:
        assert (letter.reject_hint, letter.log_term) == hint


@pytest.mark.parametrize(
    ("own", "prev", "sent", "expected"),
    [
        ((), (0, 0), (1,), [1]),
        ((1,), (1, 1), (1, 2), [1, 1, 2]),
        ((1, 1, 1), (1, 1), (2,), [1, 2]),  # conflict: everything after it goes
        ((1, 1, 1), (0, 0), (1,), [1, 1, 1]),  # late and shorter: nothing is cut
        ((1, 2, 2), (1, 1), (2, 3), [1, 2, 3]),
        ((1, 2, 2), (0, 0), (3, 3), [3, 3]),
    ],
)
def test_a_follower_overwrites_what_conflicts_and_nothing_else(
    own: tuple[int, ...], prev: tuple[int, int], sent: tuple[int, ...], expected: list[int]
) -> None:
    raft = solo(1, log=entries(*own), term=4)
    prev_term, prev_index = prev
    letter = receive(
        M.APPEND, 2, 1, 4, index=prev_index, log_term=prev_term, entries=entries(*sent, start=prev_index + 1)
    )
    raft.step(letter)
    assert [term for term, _ in log_of(raft)] == expected
    assert raft.step(letter).persist is not None  # the same message again changes nothing
    assert [term for term, _ in log_of(raft)] == expected


def test_a_committed_entry_is_never_overwritten() -> None:
    raft = solo(1, log=entries(1, 1), term=2, commit=2)
    update = raft.step(receive(M.APPEND, 2, 1, 2, entries=entries(2, 2)))
    (letter,) = update.after_persist
    assert (letter.reject, letter.index) == (False, 2)
    assert log_of(raft) == [(1, 1), (1, 2)]


def test_a_conflict_with_a_committed_entry_stops_the_server() -> None:
    raft = solo(1, log=entries(1, 1, 1), term=2, commit=2)
    raft.step(receive(M.HEARTBEAT, 2, 1, 2, commit=3))
    with pytest.raises(InvariantError, match="acknowledged"):
        raft._core.log._replace_from(Index(3), entries(2, start=3))


@pytest.mark.parametrize(
    "bad",
    [
        {"index": 0, "entries": (entry(1, 2),)},
        {"index": 0, "entries": (entry(1, 1), entry(1, 3))},
        {"index": 0, "entries": (entry(2, 1), entry(1, 2))},
        {"index": 0, "entries": (entry(9, 1),)},
    ],
)
def test_entries_that_do_not_follow_one_another_are_the_peers_fault(bad: dict[str, object]) -> None:
    raft = solo(1)
    before = raft.status()
    with pytest.raises(PeerProtocolError, match="node 2"):
        raft.step(receive(M.APPEND, 2, 1, 3, **bad))
    assert raft.status() == before


FIGURE_7 = {
    "a": (1, 1, 1, 4, 4, 5, 5, 6, 6),
    "b": (1, 1, 1, 4),
    "c": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 6),
    "d": (1, 1, 1, 4, 4, 5, 5, 6, 6, 6, 7, 7),
    "e": (1, 1, 1, 4, 4, 4, 4),
    "f": (1, 1, 1, 2, 2, 2, 3, 3, 3, 3, 3),
}


@pytest.mark.parametrize("case", sorted(FIGURE_7))
def test_a_leader_brings_every_follower_of_figure_7_to_its_log(case: str) -> None:
    leading = (1, 1, 1, 4, 4, 5, 5, 6, 6, 6)
    lab = Lab(
        1,
        2,
        3,
        logs={1: entries(*leading), 2: entries(*FIGURE_7[case])},
        terms={1: 7, 2: 7, 3: 7},
        pre_vote=False,
        check_quorum=False,
    )
    lab.do(1, Campaign())
    assert lab.leaders() == [1]
    lab.do(1, Propose((b"x",)))
    assert log_of(lab[2]) == log_of(lab[1]) == log_of(lab[3])
    assert lab[2].commit_index == lab[1].commit_index == len(leading) + 2


def test_reject_hints_skip_whole_terms() -> None:
    lab = Lab(
        1,
        2,
        logs={1: entries(1, *([5] * 60)), 2: entries(1, *([2] * 20), *([3] * 20))},
        terms={1: 5, 2: 5},
    )
    lab.do(1, Campaign())
    lab.do(1, Campaign())
    probes = [letter for letter in lab.delivered if letter.type is M.APPEND_RESPONSE and letter.reject]
    assert log_of(lab[1]) == log_of(lab[2])
    assert len(probes) <= 2


def test_a_leader_only_ever_appends_to_its_log() -> None:
    raft = leader()
    raft.step(Propose((b"a",)))
    before = log_of(raft)
    with pytest.raises(PeerProtocolError, match="claims to lead"):
        raft.step(receive(M.APPEND, 2, 1, 1, entries=entries(1)))
    assert log_of(raft) == before


# §5.4.2


def test_a_leader_commits_no_earlier_term_by_counting() -> None:
    # Figure 8: term 2's entry is on a majority, but the leader of term 3 must not commit it by that.
    raft = leader(5, log=entries(1, 2), term=2)
    assert raft.term == 3
    ack(raft, 2, 2)
    ack(raft, 3, 2)
    assert raft.commit_index == 0
    ack(raft, 2, 3)
    assert raft.commit_index == 0
    ack(raft, 3, 3)
    assert raft.commit_index == 3  # with its own entry, all before it


# Flow control (thesis §10.2)


def test_replication_is_pipelined_up_to_the_window() -> None:
    raft = leader(max_inflight_messages=3)
    ack(raft, 2, 1)
    sent = []
    for number in range(6):
        sent += [letter for letter in raft.step(Propose((b"%d" % number,))).send if letter.to == 2]
    assert [letter.index for letter in sent] == [1, 2, 3]
    status = raft.status().progress[NodeId(2)]
    assert (status.inflight, status.paused, status.state) == (3, True, ProgressState.REPLICATE)


def test_the_window_is_bounded_in_bytes_as_well() -> None:
    raft = leader(max_inflight_bytes=100)
    ack(raft, 2, 1)
    sent = []
    for _ in range(6):
        sent += [letter for letter in raft.step(Propose((b"x" * 60,))).send if letter.to == 2]
    assert len(sent) == 2


def test_an_acknowledgement_opens_the_window_and_all_that_fits_is_sent() -> None:
    raft = leader(max_inflight_messages=2, max_entries_bytes=10)
    ack(raft, 2, 1)
    for _ in range(5):
        settle(raft, raft.step(Propose((b"x" * 10,))))
    sent = [letter for letter in ack(raft, 2, 3) if letter.to == 2 and letter.entries]
    assert [letter.index for letter in sent] == [3, 4]


def test_a_message_carries_no_more_than_its_bytes_but_at_least_one_entry() -> None:
    raft = leader(max_entries_bytes=10)
    ack(raft, 2, 1)
    update = raft.step(Propose((b"x" * 50, b"y" * 4, b"z" * 4)))
    sent = [letter for letter in update.send if letter.to == 2]
    assert [len(letter.entries) for letter in sent] == [1]
    sent = [letter for letter in ack(raft, 2, 2) if letter.to == 2 and letter.entries]
    assert [len(letter.entries) for letter in sent] == [2]


def test_a_probe_sends_one_message_and_waits() -> None:
    raft = leader()
    first = [letter for letter in raft.step(Propose((b"x",))).send if letter.to == 2]
    second = [letter for letter in raft.step(Propose((b"y",))).send if letter.to == 2]
    assert (len(first), len(second)) == (0, 0)  # the no-op was the probe
    assert raft.status().progress[NodeId(2)].state is ProgressState.PROBE
    update = raft.step(receive(M.HEARTBEAT_RESPONSE, 2, 1, 1))
    assert [letter.type for letter in update.send] == [M.APPEND]


def test_a_lost_message_makes_the_leader_probe() -> None:
    raft = leader()
    ack(raft, 2, 1)
    raft.step(Propose((b"x",)))
    raft.step(Unreachable(NodeId(2)))
    status = raft.status().progress[NodeId(2)]
    assert (status.state, status.next_index, status.inflight) == (ProgressState.PROBE, 2, 0)


def test_heartbeats_recover_a_window_whose_messages_were_all_lost() -> None:
    lab = Lab(1, 2, 3, max_inflight_messages=2)
    lab.do(1, Campaign())
    lab.cut(3)
    for number in range(5):
        lab.do(1, Propose((b"%d" % number,)))
    lab.heal()
    lab.tick(3, 1)
    assert lab.payloads(3) == [b"0", b"1", b"2", b"3", b"4"]


def test_the_commit_index_reaches_a_follower_without_waiting_for_a_heartbeat() -> None:
    lab = Lab(1, 2, 3)
    lab.do(1, Campaign())
    lab.do(1, Propose((b"x",)))
    assert [lab[node].commit_index for node in (1, 2, 3)] == [2, 2, 2]


# Bounds


def test_the_tail_of_what_is_not_applied_is_bounded() -> None:
    raft = leader(max_uncommitted_bytes=100)
    assert raft.step(Propose((b"x" * 90,))).proposed.refusal is None  # type: ignore[union-attr]
    refused = raft.step(Propose((b"x" * 20,)))
    assert refused.proposed is not None
    assert (refused.proposed.refusal, refused.proposed.first_index) == (Refusal.OVERLOADED, 0)
    assert refused.persist is None


def test_one_proposal_larger_than_the_bound_is_taken_when_nothing_waits() -> None:
    raft = leader(max_uncommitted_bytes=100)
    assert raft.step(Propose((b"x" * 500,))).proposed.refusal is None  # type: ignore[union-attr]
    assert raft.step(Propose((b"y",))).proposed.refusal == Refusal.OVERLOADED  # type: ignore[union-attr]


def test_applying_makes_room_again() -> None:
    raft = leader(1, max_uncommitted_bytes=100)
    settle(raft, raft.step(Propose((b"x" * 100,))))
    assert raft.step(Propose((b"y",))).proposed.refusal == Refusal.OVERLOADED  # type: ignore[union-attr]
    raft.step(Applied(Index(2)))
    assert raft.status().uncommitted_bytes == 0
    assert raft.step(Propose((b"y",))).proposed.refusal is None  # type: ignore[union-attr]


def test_a_state_machine_gets_no_more_than_it_can_hold() -> None:
    log = tuple(entry(1, index, b"x" * 10) for index in range(1, 8))
    raft = solo(1, log=log, term=1, max_applying_bytes=25)
    update = raft.step(receive(M.HEARTBEAT, 2, 1, 1, commit=7))
    assert [item.index for item in update.committed] == [1, 2]
    assert raft.step(Tick()).committed == ()
    update = raft.step(Applied(Index(1)))
    assert [item.index for item in update.committed] == [3]
    update = raft.step(Applied(Index(3)))
    assert [item.index for item in update.committed] == [4, 5]


def test_committed_entries_are_handed_out_once() -> None:
    raft = solo(1, log=entries(1, 1), term=1)
    update = raft.step(receive(M.HEARTBEAT, 2, 1, 1, commit=2))
    assert len(update.committed) == 2
    assert raft.step(receive(M.HEARTBEAT, 2, 1, 1, commit=2)).committed == ()
    assert raft.step(Applied(Index(2))).committed == ()


def test_after_a_restart_entries_above_the_applied_index_are_handed_out_again() -> None:
    raft = solo(1, log=entries(1, 1, 1), term=1, commit=3)
    assert [item.index for item in raft.step(Tick()).committed] == [1, 2, 3]


# Storage


def test_writes_acknowledged_in_an_earlier_term_do_not_count_for_later_entries() -> None:
    # ABA: the same index written in two terms; the first acknowledgement arrives after the second write was asked for.
    raft = solo(1)
    first = raft.step(receive(M.APPEND, 2, 1, 1, entries=entries(1)))
    second = raft.step(receive(M.APPEND, 3, 1, 2, entries=entries(2), commit=1))
    assert first.persist is not None
    assert second.persist is not None
    assert raft.step(first.persist.done).committed == ()
    assert [item.term for item in raft.step(second.persist.done).committed] == [2]


def test_the_commit_index_alone_needs_no_sync() -> None:
    raft = solo(1, log=entries(1), term=1)
    update = raft.step(receive(M.HEARTBEAT, 2, 1, 1, commit=1))
    assert update.persist is not None
    assert not update.persist.must_sync
    assert update.persist.hard_state is not None
    assert update.persist.hard_state.commit_index == 1


def test_a_log_that_ends_below_what_was_applied_is_refused_at_start() -> None:
    with pytest.raises(InvariantError, match="acknowledged entries are missing"):
        solo(1, log=entries(1), term=1, commit=5)


def test_a_log_with_a_hole_is_refused_at_start() -> None:
    with pytest.raises(InvariantError, match="where 2 belongs"):
        solo(1, log=(entry(1, 1), entry(1, 3)), term=1)


def test_a_forwarded_proposal_is_taken_by_the_leader_only() -> None:
    lab = Lab(1, 2, 3)
    lab.do(1, Campaign())
    item = entry(0, 0, b"x")
    lab.step(3, receive(M.PROPOSE, 2, 3, 0, entries=(item,)))
    lab.step(1, receive(M.PROPOSE, 2, 1, 0, entries=(item,)))
    lab.deliver()
    assert lab.payloads(1) == lab.payloads(2) == [b"x"]
    assert lab[1].term == Term(1)


def test_the_same_append_arriving_twice_commits_once() -> None:
    lab = Lab(1, 2, 3)
    lab.do(1, Campaign())
    lab.step(1, Propose((b"x",)))
    lab.wire.extend(list(lab.wire))
    lab.deliver()
    assert [lab.payloads(node) for node in (1, 2, 3)] == [[b"x"]] * 3
