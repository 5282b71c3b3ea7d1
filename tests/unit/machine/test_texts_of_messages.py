"""A node may change a text before it enters the log. A retry is known by what the client sent."""

from __future__ import annotations

from parley_proto.v1 import model_pb2
from parley_proto.v1 import state_pb2 as pb
from parleyd.api.message_text import normal_sends
from tests.unit.machine.harness import Node, read_back

ADA = 1
TYPED = model_pb2.Send(number=1, account_name="bob", body="  cafe\u0301 ")


def apply(node: Node, session_id: int, sends: list[model_pb2.Send], level: int) -> pb.StoredSendResult:
    command = pb.Command(send_messages=pb.SendMessages(session_id=session_id, sends=sends))
    [result] = node.one(command, level=level).send_messages.sends
    return result


def test_a_retry_is_the_same_message_through_a_node_that_changes_texts_and_one_that_does_not(node: Node) -> None:
    ada = node.user("ada", 10)
    node.user("bob", 11)
    first = apply(node, ada, [TYPED], 1)  # a node that knows no level 3
    node.rise()
    assert first.code == pb.RESULT_CODE_OK
    assert apply(node, ada, normal_sends([TYPED]), 3) == first
    second = model_pb2.Send(number=2, account_name="bob", body=" two ")
    stored = apply(node, ada, normal_sends([second]), 3)
    assert stored.code == pb.RESULT_CODE_OK
    assert apply(node, ada, normal_sends([second]), 3) == stored
    assert [row.body for row in read_back(node.reader, ADA, stored.conversation_id, 0, 10)] == [
        "  cafe\u0301 ",
        "two",
    ]
    other = model_pb2.Send(number=2, account_name="bob", body="  two ")
    assert apply(node, ada, normal_sends([other]), 3).code == pb.RESULT_CODE_MISMATCH, "another text looks the same"


def test_a_text_that_shows_nothing_uses_its_number_and_is_refused(node: Node) -> None:
    ada = node.user("ada", 10)
    node.user("bob", 11)
    node.rise()
    blank = model_pb2.Send(number=1, account_name="bob", body=" \t ")
    for _ in range(2):
        assert apply(node, ada, normal_sends([blank]), 3).code == pb.RESULT_CODE_INVALID_BODY
