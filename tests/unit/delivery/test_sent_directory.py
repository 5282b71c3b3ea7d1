"""What a stream has sent is remembered within bounds, and forgetting only sends it again."""

from __future__ import annotations

import pytest

from parley_proto.v1 import messaging_pb2, model_pb2
from parleyd.delivery import sent_directory
from parleyd.delivery.sent_directory import SentDirectory


def directory(*account_ids: int) -> messaging_pb2.Directory:
    return messaging_pb2.Directory(accounts=[model_pb2.AccountInfo(id=each) for each in account_ids])


def test_each_is_taken_once() -> None:
    memory = SentDirectory()
    assert memory.take({1, 2}, {7}) == ({1, 2}, {7})
    memory.sent(directory(1, 2, 3))
    assert memory.take({1, 2, 3, 4}, {7, 8}) == ({4}, {8})


def test_a_change_is_sent_again_if_it_was_sent_or_may_just_be() -> None:
    memory = SentDirectory()
    memory.account_changed(5)
    assert memory.take({1}, set()) == ({1}, set())
    memory.account_changed(5)
    memory.sent(directory(1))
    assert memory.has_changes, "it may be among what was being read"
    assert memory.take(set(), set()) == ({5}, set())


def test_many_changes_come_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_directory, "CHANGES_PER_FRAME", 10)
    memory = SentDirectory()
    for conversation_id in range(25):
        memory.conversation_changed(conversation_id)
    parts = []
    while memory.has_changes:
        parts.append(memory.take(set(), set())[1])
    assert [len(part) for part in parts] == [10, 10, 5]
    assert set().union(*parts) == set(range(25))


def test_the_memory_is_bounded_and_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sent_directory, "MAX_REMEMBERED", 10)
    memory = SentDirectory()
    for account_id in range(100):
        memory.take({account_id}, {account_id})
        memory.sent(directory(account_id))
        memory.conversation_changed(1000 + account_id)
    assert len(memory._accounts) <= 10
    assert memory._watchers.watched == memory._accounts, "the index forgets what the memory forgets"
    assert len(memory._conversations) <= 10 + sent_directory.CHANGES_PER_FRAME
    assert memory.take({0}, set())[0] == {0}, "sent again, which does no harm"
