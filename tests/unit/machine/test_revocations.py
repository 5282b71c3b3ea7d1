"""Revoked certificates: who revokes, what is kept, and that the cluster never stops by it.

What can go wrong: so many are revoked that no majority can take one back; a repetition counts twice; the list grows
without a bound; a node that is added again lifts a revocation.
"""

from __future__ import annotations

import pytest

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.features import members, revocations
from parleyd.machine.records import MemberRow, RevokedCertificate
from parleyd.membership.members import ClusterMembers
from tests.unit.machine.harness import Node
from tests.unit.machine.test_node_admission import KEY, NOW_MS, OK, OTHER_KEY, change, code, publish_key, raised

THIRD_KEY, STRANGE = b"t" * 32, b"s" * 32
VOTERS = (1, 2, 3)
REFUSED = pb.RESULT_CODE_WOULD_STOP_CLUSTER


def revoke(session_id: int, digest: bytes = KEY, name: str = "n1", voters: tuple[int, ...] = VOTERS) -> pb.Command:
    return pb.Command(
        revoke_certificate=pb.RevokeCertificate(session_id=session_id, digest=digest, name=name, voters=voters)
    )


def restore(session_id: int, digest: bytes = KEY) -> pb.Command:
    return pb.Command(restore_certificate=pb.RestoreCertificate(session_id=session_id, digest=digest))


def with_keys(node: Node) -> int:
    """Three members with a key each; return an administrator's session."""
    ada = node.user("ada", 1)
    raised(node)
    for number, key in enumerate((KEY, OTHER_KEY, THIRD_KEY), start=1):
        assert code(node, publish_key(number, key)) == OK
    return ada


def revoked(node: Node) -> list[bytes]:
    return [row.digest for row in node.machine.members().revoked]


def told(node: Node) -> list[tuple[RevokedCertificate, ...]]:
    """What the last command told the node."""
    return [effect.members.revoked for effect in node.effects() if isinstance(effect, members.MembersChanged)]


def test_a_revocation_is_kept_once_and_told_to_the_node_and_taken_back(node: Node) -> None:
    ada = with_keys(node)
    row = RevokedCertificate(KEY, "n1", NOW_MS)
    assert code(node, revoke(ada)) == OK
    assert told(node) == [(row,)]
    assert code(node, revoke(ada), at_ms=NOW_MS + 5) == OK
    assert told(node) == []
    assert node.machine.members().revoked == revocations.all_of(node.reader) == (row,)
    assert code(node, restore(ada)) == OK
    assert told(node) == [()]
    assert code(node, restore(ada)) == OK
    assert revoked(node) == []


def test_only_administrators_revoke_and_a_digest_has_32_bytes(node: Node) -> None:
    ada = with_keys(node)
    ben = node.user("ben", 2)
    for make in (revoke, restore):
        assert code(node, make(ben)) == pb.RESULT_CODE_NOT_ALLOWED
        assert code(node, make(ada, b"k" * 31)) == pb.RESULT_CODE_INVALID_LENGTH
    assert code(node, revoke(ada, name="n" * 65)) == pb.RESULT_CODE_INVALID_LENGTH
    assert revoked(node) == []


def test_no_more_keys_are_revoked_than_leave_a_majority_of_the_voters(node: Node) -> None:
    ada = with_keys(node)
    assert code(node, revoke(ada)) == OK
    assert code(node, revoke(ada, OTHER_KEY)) == REFUSED
    assert code(node, revoke(ada, STRANGE, "")) == OK, "no voter has it"
    assert code(node, revoke(ada)) == OK, "again"
    assert code(node, publish_key(1, b"n" * 32)) == OK
    assert code(node, revoke(ada, OTHER_KEY)) == OK, "the first one has a new key"
    assert revoked(node) == [KEY, OTHER_KEY, STRANGE]


def test_a_cluster_of_one_or_two_voters_revokes_none_of_them(node: Node) -> None:
    ada = with_keys(node)
    for voters in ((1,), (1, 2)):
        assert code(node, revoke(ada, voters=voters)) == REFUSED
    assert code(node, revoke(ada, THIRD_KEY, voters=(1, 2))) == OK, "it is a learner"


def test_a_node_that_is_added_again_lifts_no_revocation(node: Node) -> None:
    ada = with_keys(node)
    assert code(node, revoke(ada)) == OK
    change(node, 2, 3)
    change(node, 2, 3, 4, added=(MemberRow(4, "n1", "a:1", "a:2", key_digest=KEY),))
    assert revoked(node) == [KEY]


def test_a_node_that_joins_is_told_of_no_member_whose_key_is_revoked(node: Node) -> None:
    ada = with_keys(node)
    assert code(node, revoke(ada)) == OK
    told_to_it = ClusterMembers.of(node.machine.members()).not_revoked()
    assert [row.name for row in told_to_it] == ["n2", "n3"]


def test_the_list_is_bounded(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocations, "MAX_REVOKED_CERTIFICATES", 2)
    ada = with_keys(node)
    digests = [bytes([number]) * 32 for number in range(3)]
    codes = [code(node, revoke(ada, digest, "")) for digest in digests]
    assert codes == [OK, OK, pb.RESULT_CODE_TOO_MANY_REVOKED]
    assert code(node, revoke(ada, digests[1], "")) == OK, "it is there already"
    assert code(node, restore(ada, digests[0])) == code(node, revoke(ada, digests[2], "")) == OK
