"""Hidden accounts: kept for each account alone, gone with it, and unknown below the level that brings them."""

from __future__ import annotations

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.features import hidden_accounts
from parleyd.machine.features.hidden_accounts import HIDDEN_LEVEL
from tests.unit.machine.harness import Node, delete_account


def set_hidden(node: Node, session_id: int, *, hidden: bool) -> pb.ResultCode.ValueType:
    command = pb.Command(set_hidden=pb.SetHidden(session_id=session_id, hidden=hidden))
    return node.one(command, level=node.reader.level()).code


def test_an_account_hides_and_shows_itself_alone(node: Node) -> None:
    ben, _ = node.user("ben", 1), node.user("eve", 2)
    node.rise(HIDDEN_LEVEL)
    for _ in range(2):
        assert set_hidden(node, ben, hidden=True) == pb.RESULT_CODE_OK, "the same again changes nothing"
        assert hidden_accounts.among(node.reader, {1, 2}) == {1}
    for _ in range(2):
        assert set_hidden(node, ben, hidden=False) == pb.RESULT_CODE_OK
        assert hidden_accounts.among(node.reader, {1, 2}) == set()


def test_nothing_is_kept_of_an_account_that_was_deleted(node: Node) -> None:
    node.user("boss", 1)
    node.user("ben", 2)
    eve = node.user("eve", 3)
    node.rise(HIDDEN_LEVEL)
    set_hidden(node, eve, hidden=True)
    assert hidden_accounts.among(node.reader, {3}) == {3}
    assert node.one(delete_account(node.token), level=HIDDEN_LEVEL).code == pb.RESULT_CODE_OK
    assert hidden_accounts.among(node.reader, {3}) == set()


def test_below_its_level_the_command_is_unknown_and_nobody_is_hidden(node: Node) -> None:
    ben = node.user("ben", 1)
    assert set_hidden(node, ben, hidden=True) == pb.RESULT_CODE_UNKNOWN_COMMAND
    assert hidden_accounts.among(node.reader, {1}) == set()


def test_without_a_session_nobody_is_hidden(node: Node) -> None:
    node.user("ben", 1)
    node.rise(HIDDEN_LEVEL)
    assert set_hidden(node, 999, hidden=True) == pb.RESULT_CODE_SIGNED_OUT
    assert hidden_accounts.among(node.reader, {1}) == set()


def test_an_impossible_id_is_nobody(node: Node) -> None:
    node.user("ben", 1)
    node.rise(HIDDEN_LEVEL)
    assert hidden_accounts.among(node.reader, {1 << 64}) == set()
