"""A message that brings only a commit index is not answered, unless the answer is of use. The reference has no notices.

Every append of the reference is answered. The answer to a notice would tell a leader nothing: what was appended before
it has an answer of its own.
"""

from __future__ import annotations

from typing import Any

import pytest

from parleyd.raft.events import Campaign, Propose, Receive, Unreachable
from parleyd.raft.messages import Message, MessageType
from parleyd.raft.progress import ProgressState
from parleyd.raft.types import NodeId
from tests.unit.raft.lab import Lab, entries, receive, settle, solo

M = MessageType


def elected(**settings: Any) -> Lab:
    lab = Lab(1, 2, 3, commit_notices=True, **settings)
    lab.do(1, Campaign())
    lab.delivered.clear()
    return lab


def of(letters: list[Message], kind: MessageType) -> list[Message]:
    return [letter for letter in letters if letter.type is kind]


def answers(lab: Lab) -> list[Message]:
    return of(lab.delivered, M.APPEND_RESPONSE)


def test_a_commit_is_told_to_everybody_and_answered_by_nobody() -> None:
    lab = elected()
    lab.do(1, Propose((b"x",)))
    notices = [letter for letter in of(lab.delivered, M.APPEND) if not letter.entries]
    assert [(letter.to, letter.is_notice) for letter in notices] == [(2, True), (3, True)]
    assert sorted(letter.sender for letter in answers(lab)) == [2, 3], "of the entry, and of nothing else"
    assert [lab.payloads(node) for node in (1, 2, 3)] == [[b"x"]] * 3


def test_without_the_setting_every_append_is_answered_as_in_the_reference() -> None:
    lab = Lab(1, 2, 3)
    lab.do(1, Campaign())
    lab.delivered.clear()
    lab.do(1, Propose((b"x",)))
    assert not any(letter.is_notice for letter in lab.delivered)
    assert len(answers(lab)) == len(of(lab.delivered, M.APPEND))


def test_entries_and_probes_are_no_notices() -> None:
    lab = elected()
    lab.step(1, Unreachable(NodeId(2)))  # from now on it is probed
    lab.do(1, Propose((b"x",)))
    assert all(not letter.is_notice for letter in of(lab.delivered, M.APPEND) if letter.entries)
    raft = solo(commit_notices=True)
    settle(raft, raft.step(Campaign()))
    settle(raft, raft.step(receive(M.VOTE_RESPONSE, 2, 1, 1)))
    sent = settle(raft, raft.step(receive(M.APPEND_RESPONSE, 2, 1, 1, index=1)))
    told = {letter.to: letter.is_notice for letter in of(sent, M.APPEND)}
    assert told == {2: True}, "3 has not answered its first message and gets nothing before it does"


def test_a_notice_that_does_not_match_is_refused() -> None:
    raft = solo(2, term=1, log=entries(1), commit_notices=True)
    sent = settle(raft, raft.step(receive(M.APPEND, 1, 2, 1, index=5, log_term=1, commit=5, is_notice=True)))
    assert [letter.reject for letter in of(sent, M.APPEND_RESPONSE)] == [True]


@pytest.mark.parametrize("index", [1, 2])
def test_a_notice_about_what_is_committed_already_is_not_answered(index: int) -> None:
    raft = solo(2, term=1, log=entries(1, 1), commit=2, commit_notices=True)
    assert settle(raft, raft.step(receive(M.APPEND, 1, 2, 1, index=index, log_term=1, commit=2, is_notice=True))) == []


def test_an_answer_that_was_lost_is_made_up_for_by_the_next_heartbeat() -> None:
    lab = elected()
    lab.step(1, Propose((b"x",)))
    while lab.wire:
        letter = lab.wire.popleft()
        if not (letter.type is M.APPEND_RESPONSE and letter.sender == 3):
            lab.step(letter.to, Receive(letter))
    status = lab[1].status().progress
    assert (status[NodeId(3)].match_index, status[NodeId(2)].match_index) == (1, 2)
    assert status[NodeId(3)].state is ProgressState.REPLICATE
    lab.tick(1, 1)
    assert lab[1].status().progress[NodeId(3)].match_index == 2
