"""The driver keeps the ordering rules of server/parleyd/raft/update.py, whatever finishes first.

What can go wrong: a promise leaves before its write is durable; two writes at once; an entry applied twice, out of
order or under the wrong membership; a snapshot installed under a running write or apply; what it covers applied again.
"""

from __future__ import annotations

from collections.abc import Sequence

from parleyd.group.driver import Driver
from parleyd.group.effects import Effect, RoleChanged, Send, StartApply, StartInstall, StartWrite
from parleyd.raft.config import InitialState, RaftConfig
from parleyd.raft.events import Campaign, ProposeConfChange, Receive
from parleyd.raft.membership import ConfChange, ConfChangeType, SingleChange, encode_conf_change
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.raft import Raft
from parleyd.raft.types import (
    ConfState,
    Entry,
    Index,
    NodeId,
    Role,
    SnapshotMeta,
    Term,
)
from parleyd.raft.update import Persist, Refusal, RoleChange

ME, LEADER, OTHER = NodeId(1), NodeId(2), NodeId(3)
THREE = ConfState(voters=(ME, LEADER, OTHER))


class Output(list[Effect]):
    """What was asked for, in order; nothing is done until the test says so."""

    @property
    def sent(self) -> list[Message]:
        return [message for effect in self if isinstance(effect, Send) for message in effect.messages]

    @property
    def writes(self) -> list[Sequence[Persist]]:
        return [effect.writes for effect in self if isinstance(effect, StartWrite)]

    @property
    def applies(self) -> list[tuple[Sequence[Entry], ConfState | None]]:
        return [(effect.entries, effect.conf_state) for effect in self if isinstance(effect, StartApply)]

    @property
    def installs(self) -> list[SnapshotMeta]:
        return [effect.snapshot for effect in self if isinstance(effect, StartInstall)]

    @property
    def roles(self) -> list[RoleChange]:
        return [effect.change for effect in self if isinstance(effect, RoleChanged)]

    def sent_types(self) -> list[MessageType]:
        return [message.type for message in self.sent]


def make(conf_state: ConfState = THREE) -> tuple[Driver, Output]:
    output = Output()
    raft = Raft(RaftConfig(node_id=ME), InitialState(conf_state=conf_state))
    return Driver(raft, output), output


def entries(first: int, last: int) -> tuple[Entry, ...]:
    return tuple(Entry(Term(1), Index(index), data=b"x") for index in range(first, last + 1))


def append(first: int, last: int, commit: int = 0) -> Receive:
    previous = Index(first - 1)
    return Receive(
        Message(
            MessageType.APPEND,
            sender=LEADER,
            to=ME,
            term=Term(1),
            index=previous,
            log_term=Term(1 if previous else 0),
            entries=entries(first, last),
            commit=Index(commit),
        )
    )


def finish_writes(driver: Driver) -> None:
    """Let the disk do all that it is asked for."""
    while driver.is_writing:
        driver.written()
        driver.pump()


def snapshot(index: int) -> Receive:
    meta = SnapshotMeta(Index(index), Term(1), THREE)
    return Receive(Message(MessageType.SNAPSHOT, sender=LEADER, to=ME, term=Term(1), snapshot=meta))


def test_an_answer_leaves_only_after_the_write_that_makes_it_true() -> None:
    driver, output = make()
    driver.step(append(1, 2))
    driver.pump()
    assert len(output.writes) == 1
    assert output.sent == []
    driver.written()
    assert output.sent_types() == [MessageType.APPEND_RESPONSE]
    assert output.sent[0].index == 2


def test_what_arrives_during_a_write_goes_into_the_next_one_together() -> None:
    driver, output = make()
    driver.step(append(1, 1))
    driver.pump()
    for index in (2, 3, 4):
        driver.step(append(index, index))
        driver.pump()
    assert len(output.writes) == 1
    driver.written()
    driver.pump()
    assert len(output.writes) == 2
    written = [entry.index for persist in output.writes[1] for entry in persist.entries]
    assert written == [2, 3, 4]


def test_a_commit_index_alone_is_answered_at_once_and_goes_into_the_next_write() -> None:
    driver, output = make()
    driver.step(append(1, 2))
    driver.pump()
    driver.written()
    for commit in (1, 2):
        driver.step(append(3, 2, commit=commit))  # no entries
        driver.pump()
    assert (len(output.writes), driver.is_writing) == (1, False)
    assert output.sent_types() == [MessageType.APPEND_RESPONSE] * 3
    driver.step(append(3, 3, commit=2))
    driver.pump()
    moved = [persist.hard_state.commit_index for persist in output.writes[1] if persist.hard_state is not None]
    assert moved == [2]
    driver.written()
    driver.step(append(4, 4, commit=2))
    driver.pump()
    assert len(output.writes[2]) == 1, "it is written once"


def test_a_commit_index_alone_waits_for_the_write_under_way() -> None:
    """Its answer may confirm an entry that this write makes durable."""
    driver, output = make()
    driver.step(append(1, 1))
    driver.pump()
    driver.step(append(2, 1, commit=1))
    driver.pump()
    assert output.sent == []
    driver.written()
    driver.pump()
    assert (len(output.writes), output.sent_types()) == (1, [MessageType.APPEND_RESPONSE] * 2)


def test_a_commit_index_behind_a_snapshot_is_not_written_after_it() -> None:
    driver, output = make()
    driver.step(append(1, 2))
    driver.pump()
    driver.written()
    driver.step(append(3, 2, commit=2))
    driver.step(snapshot(9))
    driver.pump()
    assert (len(output.writes), len(output.installs)) == (1, 1)
    driver.installed()
    driver.step(append(10, 10, commit=9))
    driver.pump()
    commits = [persist.hard_state.commit_index for persist in output.writes[-1] if persist.hard_state is not None]
    assert all(commit >= 9 for commit in commits)
    assert [entry.index for persist in output.writes[-1] for entry in persist.entries] == [10]


def test_committed_entries_are_applied_one_batch_at_a_time_in_order() -> None:
    driver, output = make()
    driver.step(append(1, 3, commit=2))
    driver.pump()
    driver.written()
    driver.pump()
    assert [entry.index for entry in output.applies[0][0]] == [1, 2]
    driver.step(append(4, 5, commit=5))
    driver.pump()
    driver.written()
    driver.pump()
    assert len(output.applies) == 1
    driver.applied()
    driver.pump()
    assert [entry.index for entry in output.applies[1][0]] == [3, 4, 5]
    driver.applied()
    assert driver.applied_index == 5


def test_a_single_node_does_not_commit_before_its_own_disk_has_the_entry() -> None:
    driver, output = make(ConfState(voters=(ME,)))
    driver.step(Campaign())
    driver.pump()
    finish_writes(driver)
    assert output.roles[-1].role is Role.LEADER
    applied_before = sum(len(batch) for batch, _ in output.applies)
    driver.applied()
    answer = driver.propose([b"hello"])
    driver.pump()
    assert answer.refusal is None
    assert sum(len(batch) for batch, _ in output.applies) == applied_before
    driver.written()
    driver.pump()
    assert output.applies[-1][0][-1].data == b"hello"


def test_a_membership_entry_is_applied_alone_and_brings_the_new_membership() -> None:
    driver, output = make(ConfState(voters=(ME,)))
    driver.step(Campaign())
    driver.pump()
    finish_writes(driver)
    driver.applied()
    driver.propose([b"before"])
    change = ConfChange((SingleChange(ConfChangeType.ADD_LEARNER, OTHER),))
    driver.step(ProposeConfChange(encode_conf_change(change), v2=False))
    driver.propose([b"after"])
    driver.pump()
    finish_writes(driver)
    for _ in range(2):
        driver.applied()
        driver.pump()
        finish_writes(driver)
    applied = output.applies[-3:]
    assert [len(batch) for batch, _ in applied] == [1, 1, 1]
    assert [conf_state for _, conf_state in applied] == [None, ConfState(voters=(ME,), learners=(OTHER,)), None]


def test_entries_before_a_membership_entry_are_applied_without_it() -> None:
    driver, output = make(ConfState(voters=(ME,)))
    driver.step(Campaign())
    driver.pump()
    finish_writes(driver)
    driver.propose([b"before"])
    change = ConfChange((SingleChange(ConfChangeType.ADD_LEARNER, OTHER),))
    driver.propose([b"also before"])
    driver.step(ProposeConfChange(encode_conf_change(change)))
    driver.propose([b"after"])
    driver.pump()
    finish_writes(driver)
    driver.applied()
    driver.pump()
    entries_under_way, conf_state = output.applies[-1]
    assert [entry.data for entry in entries_under_way] == [b"before", b"also before"]
    assert conf_state is None


def test_a_snapshot_waits_for_the_write_and_the_apply_under_way() -> None:
    driver, output = make()
    driver.step(append(1, 2, commit=2))
    driver.pump()
    driver.written()
    driver.pump()
    assert len(output.applies) == 1
    driver.step(append(3, 3))
    driver.pump()
    driver.step(snapshot(9))
    driver.pump()
    assert output.installs == []
    driver.written()
    driver.pump()
    assert output.installs == []
    driver.applied()
    driver.pump()
    assert [meta.index for meta in output.installs] == [9]
    driver.installed()
    assert driver.applied_index == 9


def test_the_answer_to_a_snapshot_leaves_only_when_it_is_installed() -> None:
    driver, output = make()
    driver.step(snapshot(9))
    driver.pump()
    assert [meta.index for meta in output.installs] == [9]
    assert output.sent == []
    driver.installed()
    assert [(message.type, message.index) for message in output.sent] == [(MessageType.APPEND_RESPONSE, 9)]


def test_nothing_is_written_or_applied_while_a_snapshot_is_installed() -> None:
    driver, output = make()
    driver.step(snapshot(9))
    driver.pump()
    assert len(output.installs) == 1
    driver.step(append(10, 11, commit=11))
    driver.pump()
    assert output.writes == []
    assert output.applies == []
    driver.installed()
    driver.pump()
    driver.written()
    driver.pump()
    assert [entry.index for batch, _ in output.applies for entry in batch] == [10, 11]


def test_entries_a_snapshot_covers_are_not_applied_after_it() -> None:
    driver, output = make()
    driver.step(append(1, 6, commit=2))
    driver.pump()
    driver.written()
    driver.pump()
    driver.step(append(7, 7, commit=6))  # 3 to 6 are committed and wait for the apply of 1 and 2
    driver.step(snapshot(20))
    driver.pump()
    driver.written()
    driver.pump()
    driver.applied()
    driver.pump()
    assert [meta.index for meta in output.installs] == [20]
    driver.installed()
    driver.pump()
    assert [entry.index for batch, _ in output.applies for entry in batch] == [1, 2]
    assert driver.applied_index == 20


def test_a_second_membership_change_is_refused_until_the_first_is_applied() -> None:
    driver, _ = make(ConfState(voters=(ME,)))
    driver.step(Campaign())
    driver.pump()
    finish_writes(driver)
    driver.applied()
    change = encode_conf_change(ConfChange((SingleChange(ConfChangeType.ADD_LEARNER, OTHER),)))
    assert driver.propose_change(change).refusal is None
    assert driver.propose_change(change).refusal is Refusal.CONF_CHANGE_PENDING
    driver.pump()
    finish_writes(driver)
    for _ in range(2):  # the change, and the empty entry that the refused one left behind
        driver.applied()
        driver.pump()
    assert driver.propose_change(change).refusal is None


def test_a_snapshot_waits_until_the_log_is_compacted() -> None:
    driver, output = make()
    driver.is_compacting = True
    driver.step(snapshot(9))
    driver.pump()
    assert output.installs == []
    driver.is_compacting = False
    driver.pump()
    assert [meta.index for meta in output.installs] == [9]
