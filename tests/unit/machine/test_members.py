"""Members come with a membership entry and go with one, for good; and who may look after the cluster.

What can go wrong: the members and the membership tell different stories; an entry applied twice; a removed member
comes back by publishing its address; two nodes that applied the same differ; nobody is left who may change anything.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.authorisation import Action, is_allowed
from parleyd.machine.features import accounts, sessions
from parleyd.machine.records import CommittedEntry, MemberRow, Members, MembershipChange
from tests.unit.machine.harness import BOOTSTRAP_MEMBERS, Node, delete_account, publish, register, set_role

FOURTH = MemberRow(4, "n4", "host4:1", "host4:2")


def change(index: int, *node_ids: int, added: tuple[MemberRow, ...] = ()) -> CommittedEntry:
    return CommittedEntry(index, 1, b"", MembershipChange(b"conf", node_ids, added))


def test_membership_and_members_change_in_one_transaction(node: Node) -> None:
    outcome = node.machine.apply([change(1, 1, 2, 3, 4, added=(FOURTH,))])
    now = Members((*BOOTSTRAP_MEMBERS, FOURTH), ())
    assert [effect.members for effect in outcome.effects] == [now]  # type: ignore[union-attr]
    node.reopen()
    assert (node.machine.members(), node.machine.membership) == (now, b"conf")


def test_removed_member_is_remembered_and_cannot_publish_itself_back(node: Node) -> None:
    node.machine.apply([change(1, 1, 3)])
    assert node.machine.members() == Members((BOOTSTRAP_MEMBERS[0], BOOTSTRAP_MEMBERS[2]), (BOOTSTRAP_MEMBERS[1],))
    assert node.one(publish(2, "n2", "back:1", "back:2")).code == pb.RESULT_CODE_NO_SUCH_MEMBER
    assert node.machine.members() == Members((BOOTSTRAP_MEMBERS[0], BOOTSTRAP_MEMBERS[2]), (BOOTSTRAP_MEMBERS[1],))


def test_member_publishes_addresses_and_never_another_name(node: Node) -> None:
    assert node.one(publish(2, "n1", "host:1", "host:2")).code == pb.RESULT_CODE_NO_SUCH_MEMBER
    assert node.machine.members() == Members(tuple(BOOTSTRAP_MEMBERS), ())


def test_half_removed_member_of_a_joint_membership_stays_until_it_is_left(node: Node) -> None:
    node.machine.apply([change(1, 1, 2, 3)])
    assert node.machine.members().removed == ()
    node.machine.apply([change(2, 1, 2)])
    assert node.machine.members().removed == (BOOTSTRAP_MEMBERS[2],)


def test_state_hash_tells_who_was_added(tmp_path: Path) -> None:
    hashes = set()
    for place, row in enumerate((FOURTH, MemberRow(4, "n4", "elsewhere:1", "host4:2"))):
        other = Node(tmp_path / f"{place}")
        other.machine.apply([change(1, 1, 2, 3, 4, added=(row,))])
        hashes.add(other.machine.state_hash)
        other.machine.close()
    assert len(hashes) == 2


def test_first_account_is_administrator_and_may_make_and_unmake_others(node: Node) -> None:
    ada, ben = node.user("ada", 1), node.user("ben", 2)
    assert node.one(set_role(ben, "ben", administrator=True)).code == pb.RESULT_CODE_NOT_ALLOWED
    for _ in range(2):  # again, as a retry would
        assert node.one(set_role(ada, "Ben", administrator=True)).code == pb.RESULT_CODE_OK
    assert node.one(set_role(ben, "ada", administrator=False)).code == pb.RESULT_CODE_OK
    assert node.one(set_role(ada, "ada", administrator=True)).code == pb.RESULT_CODE_NOT_ALLOWED


@pytest.mark.parametrize(
    ("who", "code"), [("ada", pb.RESULT_CODE_LAST_ADMINISTRATOR), ("nobody", pb.RESULT_CODE_NO_SUCH_ACCOUNT)]
)
def test_last_administrator_stays_one_and_strangers_become_none(
    node: Node, who: str, code: pb.ResultCode.ValueType
) -> None:
    ada = node.user("ada", 1)
    assert node.one(set_role(ada, who, administrator=False)).code == code
    assert node.one(set_role(999, "ada", administrator=False)).code == pb.RESULT_CODE_SIGNED_OUT


def test_last_administrator_is_deleted_only_when_nobody_else_is_left(node: Node) -> None:
    node.user("ada", 1)
    token = node.token
    node.one(register("ben"))
    assert node.one(delete_account(token)).code == pb.RESULT_CODE_LAST_ADMINISTRATOR
    assert accounts.by_name(node.reader, "ada") is not None


def test_session_says_whether_its_account_is_administrator(node: Node) -> None:
    node.user("ada", 1)
    ada = node.token.to_bytes(32, "big")
    node.user("ben", 2)
    ben = node.token.to_bytes(32, "big")
    records = [sessions.with_account(node.reader, token) for token in (ada, ben)]
    roles = [record.role for record in records if record is not None]
    assert [is_allowed(role, Action.CHANGE_CLUSTER) for role in roles] == [
        True,
        False,
    ]
