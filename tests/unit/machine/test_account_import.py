"""Accounts that an administrator imports: the rules of single ones, each for itself, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.authorisation import Role
from parleyd.machine.features.accounts import CLOSED
from parleyd.machine.limits import MAX_HASH_BYTES, MAX_IMPORTED_ACCOUNTS
from tests.unit.machine.harness import Node, change_setting, open_session
from tests.unit.machine.test_account_rules import LATER_MS, LEVEL, OK, ada, code_of, log_in, node, registered, run

__all__ = ["ada", "node"]  # fixtures


def imported(node: Node, session_id: int, *accounts: pb.NewAccount) -> list[pb.ResultCode.ValueType]:
    """Import accounts; return the code of each."""
    result = run(node, import_accounts=pb.ImportAccounts(session_id=session_id, accounts=accounts))
    assert result.code == OK
    return list(result.import_accounts.codes)


def new(name: str, display_name: str = "", password_hash: bytes = b"hash") -> pb.NewAccount:
    return pb.NewAccount(name=name, display_name=display_name, password_hash=password_hash)


def test_imported_accounts_are_users_and_log_in_like_others(node: Node, ada: int) -> None:
    assert imported(node, ada, new("bob", "Bob B."), new("carl")) == [OK, OK]
    assert node.account("bob").role == Role.USER
    log_in(node, "bob", 7)
    shown = node.reader.rows("SELECT name, display_name FROM accounts ORDER BY id")
    assert shown == [("ada", ""), ("bob", "Bob B."), ("carl", "")]


def test_an_import_needs_no_open_registration(node: Node, ada: int) -> None:
    assert node.one(change_setting(ada, "registration", CLOSED), level=LEVEL).code == OK
    assert registered(node, "bob") == pb.RESULT_CODE_REGISTRATION_CLOSED
    assert imported(node, ada, new("bob")) == [OK]


def test_the_same_import_again_changes_nothing(node: Node, ada: int) -> None:
    accounts = (new("bob", "Bob"), new("carl"))
    imported(node, ada, *accounts)
    before = node.reader.rows("SELECT * FROM accounts")
    again = imported(node, ada, new("BOB", "Robert", b"other"), accounts[1], new("dora"))
    assert again == [pb.RESULT_CODE_NAME_TAKEN, pb.RESULT_CODE_NAME_TAKEN, OK]
    assert node.reader.rows("SELECT * FROM accounts WHERE name <> 'dora'") == before


def test_names_follow_the_rules_of_registration_and_hold_up_no_other(node: Node, ada: int) -> None:
    names = ["no name", "adа", "root", "n0b0dy", "nobody", "ok"]
    alone = {"no name": pb.RESULT_CODE_INVALID_NAME, "root": pb.RESULT_CODE_NAME_RESERVED}
    codes = imported(node, ada, *map(new, names))
    assert codes == [
        alone["no name"],
        pb.RESULT_CODE_INVALID_NAME,
        alone["root"],
        OK,
        pb.RESULT_CODE_NAME_LOOKS_ALIKE,
        OK,
    ]
    for name, code in alone.items():
        assert registered(node, name) == code
    assert registered(node, "nobody") == pb.RESULT_CODE_NAME_LOOKS_ALIKE


@pytest.mark.parametrize("display_name", ["x" * 65, " ", "a\u200bb"])
def test_display_names_follow_their_rules(node: Node, ada: int, display_name: str) -> None:
    assert imported(node, ada, new("bob", display_name)) == [pb.RESULT_CODE_INVALID_DISPLAY_NAME]
    assert not node.reader.rows("SELECT 1 FROM accounts WHERE name = 'bob'")


def test_the_size_of_an_import_and_of_its_hashes_is_bounded(node: Node, ada: int) -> None:
    most = [new(f"u{number}x") for number in range(MAX_IMPORTED_ACCOUNTS)]
    for accounts in ([], [*most, new("one.too.many")]):
        command = pb.ImportAccounts(session_id=ada, accounts=accounts)
        assert code_of(node, import_accounts=command) == pb.RESULT_CODE_INVALID_LENGTH
    assert set(imported(node, ada, *most)) == {OK}
    assert imported(node, ada, new("bob", password_hash=b"h" * (MAX_HASH_BYTES + 1))) == [pb.RESULT_CODE_INVALID_LENGTH]


def test_nobody_logs_in_to_an_account_without_a_password_until_one_is_set(node: Node, ada: int) -> None:
    assert imported(node, ada, new("bob", password_hash=b"")) == [OK]
    command = open_session(node.account("bob").id, node.token, 7, expires_at_ms=LATER_MS)
    command.open_session.password_hash = b""
    assert node.one(command, level=LEVEL).code == pb.RESULT_CODE_CREDENTIALS_CHANGED
    reset = pb.ResetPassword(session_id=ada, account="bob", password_hash=b"hash")
    assert code_of(node, reset_password=reset) == OK
    log_in(node, "bob", 7)


def test_only_administrators_import(node: Node, ada: int) -> None:
    imported(node, ada, new("bob"))
    bob = log_in(node, "bob", 7)
    command = pb.ImportAccounts(session_id=bob, accounts=[new("carl")])
    assert code_of(node, import_accounts=command) == pb.RESULT_CODE_NOT_ALLOWED


def test_below_level_3_an_import_is_unknown(tmp_path: Path) -> None:
    old = Node(tmp_path / "old.sqlite")
    old.rise(2)
    boss = old.user("boss", 1)
    command = pb.Command(import_accounts=pb.ImportAccounts(session_id=boss, accounts=[new("bob")]))
    assert old.one(command, level=2).code == pb.RESULT_CODE_UNKNOWN_COMMAND
    old.close()
