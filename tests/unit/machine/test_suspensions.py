"""Level 3: accounts that an administrator suspends and releases."""

from __future__ import annotations

import pytest

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.authorisation import Role
from parleyd.machine.features import suspensions
from parleyd.machine.features.sessions import SessionsClosed
from parleyd.machine.features.suspensions import Suspension
from parleyd.machine.limits import MAX_REASON_CHARS
from tests.unit.machine.harness import (
    Node,
    delete_account,
    dump,
    open_session,
    queued,
    register,
    sends,
    set_role,
)

OK = pb.RESULT_CODE_OK
SUSPENDED = pb.RESULT_CODE_ACCOUNT_SUSPENDED


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


def suspend(node: Node, session: int, name: str = "bob", reason: str = "") -> pb.ResultCode.ValueType:
    command = pb.SuspendAccount(session_id=session, account=name, reason=reason)
    return node.one(pb.Command(suspend_account=command), level=node.machine.level).code


def release(node: Node, session: int, name: str = "bob") -> pb.ResultCode.ValueType:
    command = pb.ReleaseAccount(session_id=session, account=name)
    return node.one(pb.Command(release_account=command), level=node.machine.level).code


def log_in(node: Node, name: str, device: int, token: int = 77) -> pb.ResultCode.ValueType:
    return node.one(open_session(node.account(name).id, token, device), level=node.machine.level).code


def test_a_suspension_ends_every_session_and_no_other_begins_until_the_release(node: Node, ada: int) -> None:
    bob = node.account("bob").id
    phone, desk = node.login(bob, 2), node.login(bob, 3)
    assert suspend(node, ada) == OK
    assert SessionsClosed(bob, (phone, desk)) in node.effects()
    assert node.one(sends(phone, (1, "ada", "still here"))).code == pb.RESULT_CODE_SIGNED_OUT
    assert log_in(node, "bob", 2) == log_in(node, "bob", 4) == SUSPENDED
    assert release(node, ada) == OK
    assert node.one(sends(phone, (1, "ada", "back"))).code == pb.RESULT_CODE_SIGNED_OUT, "what ended stays ended"
    assert log_in(node, "bob", 2) == OK


def test_a_log_in_that_was_answered_before_is_refused_when_it_is_repeated(node: Node, ada: int) -> None:
    assert log_in(node, "bob", 2, token=5) == OK
    assert suspend(node, ada) == OK
    assert log_in(node, "bob", 2, token=5) == SUSPENDED
    assert release(node, ada) == OK
    assert log_in(node, "bob", 2, token=5) == pb.RESULT_CODE_SIGNED_OUT


def test_a_wrong_password_is_not_told_that_the_account_is_suspended(node: Node, ada: int) -> None:
    assert suspend(node, ada) == OK
    command = open_session(node.account("bob").id, 9, 2, password_hash=b"other")
    assert node.one(command, level=3).code == pb.RESULT_CODE_CREDENTIALS_CHANGED


def test_what_is_sent_to_a_suspended_account_is_kept_for_it(node: Node, ada: int) -> None:
    assert suspend(node, ada) == OK
    [sent] = node.send(ada, (1, "bob", "for later"))
    assert sent.code == OK
    assert release(node, ada) == OK
    found = queued(node.reader, node.account("bob").id, 0, 10, b"")
    assert [message.body for message in found] == ["for later"]


def test_suspending_and_releasing_again_changes_nothing(node: Node, ada: int) -> None:
    assert release(node, ada) == OK, "nobody is suspended"
    assert suspend(node, ada, reason="first") == OK
    before = dump(node.path)["suspended_accounts"]
    node.now_ms += 60_000
    assert suspend(node, ada, reason="second") == OK
    assert dump(node.path)["suspended_accounts"] == before
    assert not node.effects()
    assert release(node, ada) == release(node, ada) == OK
    assert dump(node.path)["suspended_accounts"] == []


def test_nobody_suspends_itself_so_an_administrator_always_remains(node: Node, ada: int) -> None:
    assert suspend(node, ada, "ada") == suspend(node, ada, "ADA") == pb.RESULT_CODE_OWN_ACCOUNT
    assert log_in(node, "ada", 1) == OK


def test_a_suspended_administrator_is_not_the_one_that_remains(node: Node, ada: int) -> None:
    assert node.one(set_role(ada, "bob", administrator=True)).code == OK
    assert suspend(node, ada) == OK
    assert node.one(set_role(ada, "ada", administrator=False)).code == pb.RESULT_CODE_LAST_ADMINISTRATOR
    assert node.one(delete_account(node.token), level=3).code == pb.RESULT_CODE_LAST_ADMINISTRATOR
    assert node.one(set_role(ada, "bob", administrator=False)).code == OK, "the role of the suspended one may go"
    assert node.one(set_role(ada, "bob", administrator=True)).code == OK
    assert release(node, ada) == OK
    assert node.one(set_role(ada, "ada", administrator=False)).code == OK
    assert node.account("ada").role == Role.USER


def test_of_two_administrators_who_suspend_each_other_the_first_one_remains(node: Node, ada: int) -> None:
    assert node.one(set_role(ada, "bob", administrator=True)).code == OK
    bob = node.login(node.account("bob").id, 2)
    assert suspend(node, ada, "bob") == OK
    assert suspend(node, bob, "ada") == pb.RESULT_CODE_SIGNED_OUT
    assert log_in(node, "ada", 1) == OK


def test_only_administrators_suspend_and_release(node: Node, ada: int) -> None:
    bob = node.login(node.account("bob").id, 2)
    assert suspend(node, bob, "ada") == release(node, bob, "ada") == pb.RESULT_CODE_NOT_ALLOWED
    assert suspend(node, ada, "nobody") == release(node, ada, "nobody") == pb.RESULT_CODE_NO_SUCH_ACCOUNT


@pytest.mark.parametrize("reason", ["x" * (MAX_REASON_CHARS + 1), "two\nlines", "\u202eback", "  "])
def test_a_reason_is_one_short_line(node: Node, ada: int, reason: str) -> None:
    assert suspend(node, ada, reason=reason) == pb.RESULT_CODE_INVALID_REASON
    assert log_in(node, "bob", 2) == OK


def test_a_new_password_does_not_release(node: Node, ada: int) -> None:
    assert suspend(node, ada) == OK
    reset = pb.ResetPassword(session_id=ada, account="bob", password_hash=b"new")
    assert node.one(pb.Command(reset_password=reset), level=3).code == OK
    command = open_session(node.account("bob").id, 9, 2, password_hash=b"new")
    assert node.one(command, level=3).code == SUSPENDED


def test_the_name_stays_taken_and_the_suspension_is_listed(node: Node, ada: int) -> None:
    assert suspend(node, ada, reason="left the ward") == OK
    at_ms = node.now_ms
    assert node.one(register("bob"), level=3).code == pb.RESULT_CODE_NAME_TAKEN
    bob = node.account("bob").id
    assert suspensions.among(node.reader, {node.account("ada").id, bob, 1 << 70}) == {
        bob: Suspension(at_ms, "ada", "left the ward")
    }


def test_below_level_3_nobody_is_suspended(node: Node, ada: int) -> None:
    command = pb.Command(suspend_account=pb.SuspendAccount(session_id=ada, account="bob"))
    assert node.one(command, level=2).code == pb.RESULT_CODE_UNKNOWN_COMMAND
    assert log_in(node, "bob", 2) == OK
