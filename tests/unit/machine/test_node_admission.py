"""Who may join again: names and keys of removed nodes, and tokens that admit one new node.

What can go wrong: a removed key comes back under another id; a bar stays after an administrator admitted the node; a
token admits two nodes, or after it expired; the first state differs between nodes that know keys and nodes that do not.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.features import members
from parleyd.machine.levels import NODE_KEYS_LEVEL
from parleyd.machine.limits import MAX_JOIN_TOKEN_MS, MAX_JOIN_TOKENS
from parleyd.machine.records import BarredNode, CommittedEntry, MemberRow, MembershipChange
from tests.unit.machine.harness import BOOTSTRAP_MEMBERS, START_MS, Node

NOW_MS = START_MS + 100_000  # after everything that the tests do before
KEY, OTHER_KEY = b"k" * 32, b"o" * 32
FOURTH = MemberRow(4, "n4", "host4:1", "host4:2", key_digest=KEY)
OK = pb.RESULT_CODE_OK
INVALID = pb.RESULT_CODE_INVALID_JOIN_TOKEN


def raised(node: Node) -> Node:
    """The node, at the level that brings keys and tokens."""
    for level in range(node.machine.level + 1, NODE_KEYS_LEVEL + 1):
        node.rise(level)
    return node


def change(node: Node, *node_ids: int, added: tuple[MemberRow, ...] = ()) -> None:
    index = node.machine.applied_index + 1
    node.machine.apply([CommittedEntry(index, 1, b"", MembershipChange(b"conf", node_ids, added))])


def code(node: Node, command: pb.Command, at_ms: int = NOW_MS) -> pb.ResultCode.ValueType:
    return node.one(command, at_ms=at_ms, level=NODE_KEYS_LEVEL).code


def publish_key(node_id: int, key: bytes) -> pb.Command:
    row = BOOTSTRAP_MEMBERS[node_id - 1]
    return pb.Command(
        publish_member=pb.PublishMember(
            node_id=node_id,
            name=row.name,
            peer_address=row.peer_address,
            client_address=row.client_address,
            min_level=1,
            max_level=NODE_KEYS_LEVEL,
            key_digest=key,
        )
    )


def invite(session_id: int, token: bytes = KEY, valid_ms: int = 1000) -> pb.Command:
    return pb.Command(invite_node=pb.InviteNode(session_id=session_id, token_digest=token, valid_ms=valid_ms))


def use(node_id: int, token: bytes = KEY) -> pb.Command:
    return pb.Command(use_join_token=pb.UseJoinToken(token_digest=token, node_id=node_id))


def test_a_removed_node_bars_its_name_and_its_key_until_it_is_added_again(node: Node) -> None:
    raised(node)
    assert code(node, publish_key(2, KEY)) == OK
    change(node, 1, 3)
    assert node.machine.members().barred == (BarredNode("n2", KEY),)
    assert members.current(node.reader).barred == (BarredNode("n2", KEY),)
    change(node, 1, 3, 4, added=(replace(FOURTH, key_digest=OTHER_KEY),))
    assert node.machine.members().barred == (BarredNode("n2", KEY),)
    change(node, 1, 3, 4, 5, added=(MemberRow(5, "n2", "a:1", "a:2", key_digest=OTHER_KEY),))
    assert node.machine.members().barred == (BarredNode("", KEY),), "the node is back, and its old key is not"
    change(node, 1, 3, 4, 5, 6, added=(MemberRow(6, "n6", "a:1", "a:2", key_digest=KEY),))
    assert node.machine.members().barred == ()


def test_a_member_that_publishes_a_new_key_bars_the_old_one(node: Node) -> None:
    raised(node)
    for key in (KEY, KEY, b"", KEY):
        assert code(node, publish_key(2, key)) == OK
        assert node.machine.members().barred == ()
    assert code(node, publish_key(2, OTHER_KEY)) == OK
    assert node.machine.members().barred == (BarredNode("", KEY),)
    assert code(node, publish_key(2, KEY)) == code(node, publish_key(3, KEY)) == pb.RESULT_CODE_NOT_ALLOWED
    assert [row.key_digest for row in node.machine.members().rows] == [b"", OTHER_KEY, b""]
    assert code(node, publish_key(2, OTHER_KEY)) == OK
    change(node, 1, 3)
    change(node, 1, 3, 4, added=(replace(FOURTH, key_digest=b"f" * 32),))
    assert node.machine.members().barred == (BarredNode("", KEY), BarredNode("n2", OTHER_KEY))


def test_a_key_that_another_member_has_is_not_barred_for_it(node: Node) -> None:
    raised(node)
    assert [code(node, publish_key(one, KEY)) for one in (1, 2, 3)] == [OK, OK, OK]
    assert code(node, publish_key(1, OTHER_KEY)) == OK
    assert node.machine.members().barred == ()
    change(node, 1, 3)
    assert node.machine.members().barred == (BarredNode("n2", b""),)
    assert code(node, publish_key(3, OTHER_KEY)) == OK
    assert node.machine.members().barred == (BarredNode("", KEY), BarredNode("n2", b"")), "the last one has left it"


def test_the_oldest_replaced_keys_are_forgotten(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "MAX_REPLACED_KEYS", 2)
    raised(node)
    keys = [bytes([number]) * 32 for number in range(5)]
    for number, key in enumerate(keys):
        assert code(node, publish_key(2, key), at_ms=NOW_MS + number) == OK
    assert node.machine.members().barred == (BarredNode("", keys[2]), BarredNode("", keys[3]))


def test_a_key_that_comes_back_under_another_name_is_barred_no_longer_once_it_is_added(node: Node) -> None:
    raised(node)
    code(node, publish_key(2, KEY))
    change(node, 1, 3)
    change(node, 1, 3, 4, added=(FOURTH,))
    assert node.machine.members().barred == ()
    assert [row.key_digest for row in node.machine.members().rows] == [b"", b"", KEY]


def test_below_the_level_a_removal_bars_nothing_and_no_key_is_kept(node: Node) -> None:
    change(node, 1, 3)
    assert node.machine.members().barred == ()
    raised(node)
    assert node.machine.members().barred == ()


def test_a_published_key_of_another_length_is_refused(node: Node) -> None:
    raised(node)
    assert code(node, publish_key(2, b"short")) == pb.RESULT_CODE_INVALID_LENGTH
    assert code(node, publish_key(2, b"")) == OK


def test_a_token_admits_the_first_node_that_uses_it_and_no_second(node: Node) -> None:
    ada = node.user("ada", 1)
    raised(node)
    assert code(node, invite(ada)) == OK
    assert members.may_use_token(node.reader, KEY, 7)
    for _ in range(2):  # again, as a node would whose answer was lost
        assert code(node, use(7)) == OK
    assert code(node, use(8)) == INVALID
    assert (members.may_use_token(node.reader, KEY, 7), members.may_use_token(node.reader, KEY, 8)) == (True, False)
    assert code(node, invite(ada)) == OK  # a retry of the same invitation gives nothing back
    assert code(node, use(8)) == INVALID


def test_a_token_that_is_unknown_or_expired_admits_nobody(node: Node) -> None:
    ada = node.user("ada", 1)
    raised(node)
    assert code(node, use(7)) == INVALID
    assert code(node, invite(ada, valid_ms=1000)) == OK
    assert code(node, use(7), at_ms=NOW_MS + 1000) == INVALID


@pytest.mark.parametrize(
    ("token", "valid_ms", "expected"),
    [
        (b"short", 1000, pb.RESULT_CODE_INVALID_LENGTH),
        (KEY, 0, pb.RESULT_CODE_INVALID_EXPIRY),
        (KEY, -1, pb.RESULT_CODE_INVALID_EXPIRY),
        (KEY, MAX_JOIN_TOKEN_MS + 1, pb.RESULT_CODE_INVALID_EXPIRY),
    ],
)
def test_a_bad_invitation_is_refused(
    node: Node, token: bytes, valid_ms: int, expected: pb.ResultCode.ValueType
) -> None:
    ada = node.user("ada", 1)
    raised(node)
    assert code(node, invite(ada, token, valid_ms)) == expected


def test_only_administrators_invite_and_a_node_id_is_one(node: Node) -> None:
    node.user("ada", 1)
    ben = node.user("ben", 2)
    raised(node)
    assert code(node, invite(ben)) == pb.RESULT_CODE_NOT_ALLOWED
    assert code(node, use(0)) == pb.RESULT_CODE_INVALID_NUMBER
    assert code(node, use(1 << 63)) == pb.RESULT_CODE_INVALID_NUMBER


def test_tokens_are_bounded_and_expired_ones_make_room(node: Node) -> None:
    ada = node.user("ada", 1)
    raised(node)
    for number in range(MAX_JOIN_TOKENS):
        assert code(node, invite(ada, bytes([number]) * 32)) == OK
    assert code(node, invite(ada, b"x" * 32)) == pb.RESULT_CODE_TOO_MANY_JOIN_TOKENS
    assert code(node, invite(ada, b"x" * 32), at_ms=NOW_MS + 1000) == OK


def test_the_state_hash_tells_which_key_was_added(tmp_path: Path) -> None:
    hashes = set()
    for place, key in enumerate((KEY, OTHER_KEY, b"")):
        other = raised(Node(tmp_path / f"{place}"))
        change(other, 1, 2, 3, 4, added=(replace(FOURTH, key_digest=key),))
        hashes.add(other.machine.state_hash)
        other.machine.close()
    assert len(hashes) == 3
