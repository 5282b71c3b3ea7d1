"""Quotas of single accounts: they stand above the setting, at once, in both directions."""

from __future__ import annotations

import pytest

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.features import quotas
from parleyd.machine.features.quotas import Usage
from parleyd.machine.features.settings import SETTINGS
from parleyd.machine.features.stored_bytes import stored_size
from parleyd.machine.levels import MAX_LEVEL
from tests.unit.machine.harness import Node, change_setting, delete_account, dump, register, sends

OK = pb.RESULT_CODE_OK
REACHED = pb.RESULT_CODE_QUOTA_REACHED
DEFAULT = SETTINGS["max_account_bytes"].default
ONE = stored_size("x")


@pytest.fixture
def node(node: Node) -> Node:
    """Ada is an administrator, Bob is not; level 3."""
    node.one(register("ada"))
    node.one(register("bob"))
    node.rise()
    return node


@pytest.fixture
def ada(node: Node) -> int:
    """Her session."""
    return node.login(node.account("ada").id, 1)


@pytest.fixture
def bob(node: Node) -> int:
    """His session."""
    return node.login(node.account("bob").id, 2)


def set_quota(node: Node, session: int, max_bytes: int | None, name: str = "bob") -> pb.ResultCode.ValueType:
    command = pb.SetQuota(session_id=session, account=name)
    if max_bytes is not None:
        command.max_bytes = max_bytes
    return node.one(pb.Command(set_quota=command), level=MAX_LEVEL).code


def write(node: Node, session: int, number: int) -> pb.ResultCode.ValueType:
    [stored] = node.one(sends(session, (number, "ada", "x")), level=MAX_LEVEL).send_messages.sends
    return stored.code


def usage(node: Node, name: str = "bob") -> Usage:
    return quotas.usage(node.reader, node.account(name).id)


def test_a_lower_quota_holds_up_this_account_alone_and_keeps_what_it_has_stored(node: Node, ada: int, bob: int) -> None:
    assert write(node, bob, 1) == write(node, bob, 2) == OK
    assert set_quota(node, ada, ONE) == OK
    assert write(node, bob, 3) == REACHED
    assert write(node, ada, 1) == OK
    assert usage(node) == Usage(2 * ONE, ONE, is_own=True)
    assert set_quota(node, ada, 3 * ONE) == OK
    assert write(node, bob, 4) == OK
    assert write(node, bob, 5) == REACHED


def test_a_higher_quota_and_none_at_all_stand_above_the_setting(node: Node, ada: int, bob: int) -> None:
    assert node.one(change_setting(ada, "max_account_bytes", 1), level=MAX_LEVEL).code == OK
    assert write(node, bob, 1) == REACHED
    assert set_quota(node, ada, ONE) == OK
    assert write(node, bob, 2) == OK
    assert write(node, bob, 3) == REACHED
    assert set_quota(node, ada, 0) == OK
    assert write(node, bob, 4) == OK
    assert usage(node) == Usage(2 * ONE, 0, is_own=True)
    assert set_quota(node, ada, None) == OK
    assert write(node, bob, 5) == REACHED
    assert usage(node) == Usage(2 * ONE, 1, is_own=False)


def test_the_setting_counts_for_whoever_has_none(node: Node, ada: int, bob: int) -> None:
    assert usage(node) == Usage(0, DEFAULT, is_own=False)
    assert set_quota(node, ada, None) == OK
    assert dump(node.path)["account_quotas"] == []


def test_a_quota_counts_within_the_entry_that_sets_it(node: Node, ada: int, bob: int) -> None:
    command = pb.Command(set_quota=pb.SetQuota(session_id=ada, account="bob", max_bytes=1))
    codes = [
        result.send_messages.sends[0].code if result.HasField("send_messages") else result.code
        for result in node.apply(sends(bob, (1, "ada", "x")), command, sends(bob, (2, "ada", "x")), level=MAX_LEVEL)
    ]
    assert codes == [OK, OK, REACHED]


def test_only_administrators_set_quotas_within_the_bounds_of_the_setting(node: Node, ada: int, bob: int) -> None:
    assert set_quota(node, bob, 1) == pb.RESULT_CODE_NOT_ALLOWED
    assert set_quota(node, ada, 1, "nobody") == pb.RESULT_CODE_NO_SUCH_ACCOUNT
    for value in (-1, SETTINGS["max_account_bytes"].maximum + 1):
        assert set_quota(node, ada, value) == pb.RESULT_CODE_INVALID_SETTING
    assert usage(node) == Usage(0, DEFAULT, is_own=False)


def test_a_deleted_account_leaves_no_quota(node: Node, ada: int, bob: int) -> None:
    assert set_quota(node, ada, 1) == OK
    assert node.one(delete_account(node.token), level=MAX_LEVEL).code == OK
    assert dump(node.path)["account_quotas"] == []
