"""Urgent messages: stored with the message, fixed with its number, and normal below level 3."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from parley_proto.v1 import model_pb2
from parley_proto.v1 import state_pb2 as pb
from parleyd.delivery.records import message
from parleyd.machine.features.messages import MessageStored
from parleyd.machine.features.sends import PRIORITY_LEVEL
from tests.unit.machine.harness import Node, queued, read_back

ADA, BOB = 1, 2
NORMAL, URGENT = model_pb2.MESSAGE_PRIORITY_NORMAL, model_pb2.MESSAGE_PRIORITY_URGENT


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path / "state.sqlite")
    node.user("ada", 10)
    node.user("bob", 11)
    yield node
    node.close()


def apply(node: Node, number: int, priority: int, level: int) -> pb.StoredSendResult:
    send = model_pb2.Send(number=number, account_name="bob", body="fire", priority=priority)  # type: ignore[arg-type]
    command = pb.Command(send_messages=pb.SendMessages(session_id=1, sends=[send]))
    [stored] = node.one(command, level=level).send_messages.sends
    assert stored.code == pb.RESULT_CODE_OK
    return stored


def priorities(node: Node) -> list[int]:
    conversation = node.reader.rows("SELECT id FROM conversations")[0][0]
    shown = read_back(node.reader, BOB, conversation, 0, 10)
    assert [row.priority for row in queued(node.reader, BOB, 0, 10, b"")] == [row.priority for row in shown]
    return [message(row).priority for row in shown]


def test_an_urgent_message_is_urgent_for_who_is_connected_who_fetches_it_and_who_reads_back(node: Node) -> None:
    node.rise()
    apply(node, 1, URGENT, PRIORITY_LEVEL)
    [told] = [effect.message.priority for effect in node.effects() if isinstance(effect, MessageStored)]
    apply(node, 2, NORMAL, PRIORITY_LEVEL)
    assert (told, priorities(node)) == (URGENT, [URGENT, NORMAL])


def test_a_retry_does_not_change_what_was_stored(node: Node) -> None:
    node.rise()
    first = apply(node, 1, NORMAL, PRIORITY_LEVEL)
    assert apply(node, 1, URGENT, PRIORITY_LEVEL) == first
    assert priorities(node) == [NORMAL]


def test_below_level_3_and_of_a_later_release_a_message_is_normal(node: Node) -> None:
    below = apply(node, 1, URGENT, node.machine.level)
    assert priorities(node) == [NORMAL]
    node.rise()
    assert apply(node, 1, URGENT, PRIORITY_LEVEL) == below, "a retry above the level finds the first result"
    apply(node, 2, 7, PRIORITY_LEVEL)
    assert priorities(node) == [NORMAL, NORMAL]
