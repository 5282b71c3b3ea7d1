"""What a send may name, what it is resolved to, and that a retry repeats what its number was used for."""

from __future__ import annotations

import pytest

from parley_proto.v1 import model_pb2
from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.features import conversations
from parleyd.machine.features.sends import digest_of
from tests.unit.machine.harness import AccountId, ConversationId, Node, Target, delete_account, dump, send, sends

OK = pb.RESULT_CODE_OK
MISMATCH = pb.RESULT_CODE_MISMATCH
ADA, BOB, CID = 1, 2, 3
TOO_LARGE = [2**63, 2**64 - 1]


@pytest.fixture
def ada(node: Node) -> int:
    return node.user("ada", 11)


@pytest.fixture
def bob(node: Node, ada: int) -> int:
    return node.user("bob", 12)


@pytest.fixture
def cid(node: Node, bob: int) -> int:
    return node.user("cid", 13)


def test_name_id_and_conversation_lead_to_the_same_direct_conversation(node: Node, ada: int, bob: int) -> None:
    (first,) = node.send(ada, (1, "bob", "by name"))
    targets: list[Target] = [AccountId(BOB), ConversationId(first.conversation_id)]
    for number, target in enumerate(targets, start=2):
        (result,) = node.send(ada, (number, target, "x"))
        assert (result.code, result.conversation_id) == (OK, first.conversation_id)
    (back,) = node.send(bob, (1, ConversationId(first.conversation_id), "and back"))
    assert back.conversation_id == first.conversation_id


def test_each_send_of_a_command_reaches_its_own_target(node: Node, ada: int, bob: int, cid: int) -> None:
    """What the sends of a command have in common is looked up once."""
    (first,) = node.send(ada, (1, "cid", "x"))
    targets: list[Target] = ["bob", AccountId(BOB), AccountId(CID), "cid", "nobody", "bob", None]
    targets.append(ConversationId(first.conversation_id))
    results = node.send(ada, *((number, target, "x") for number, target in enumerate(targets, start=2)))
    to_bob, to_cid = results[0].conversation_id, first.conversation_id
    assert to_bob != to_cid
    assert [one.conversation_id for one in results] == [to_bob, to_bob, to_cid, to_cid, 0, to_bob, 0, to_cid]


def test_account_id_begins_a_conversation_too(node: Node, ada: int, bob: int) -> None:
    (result,) = node.send(ada, (1, AccountId(BOB), "hello"))
    assert result.code == OK
    assert conversations.direct_with(node.reader, BOB, ADA) == result.conversation_id


def test_note_to_oneself_by_every_target(node: Node, ada: int) -> None:
    (first,) = node.send(ada, (1, AccountId(ADA), "note"))
    again = node.send(ada, (2, "ADA", "note"), (3, ConversationId(first.conversation_id), "note"))
    assert [(result.code, result.conversation_id) for result in again] == [(OK, first.conversation_id)] * 2
    assert [row[:4] for row in dump(node.path)["conversations"]] == [(first.conversation_id, 1, ADA, ADA)]


@pytest.mark.parametrize("target", [None, "", "nobody", AccountId(0), AccountId(99), *map(AccountId, TOO_LARGE)])
def test_target_that_is_nobody_is_refused_and_uses_the_number_up(node: Node, ada: int, target: Target) -> None:
    (result,) = node.send(ada, (1, target, "x"))
    assert result.code == (pb.RESULT_CODE_INVALID_TARGET if target is None else pb.RESULT_CODE_NO_SUCH_ACCOUNT)
    assert (result.message_id, result.conversation_id, result.sent_at_ms) == (0, 0, node.now_ms)
    assert node.send(ada, (1, target, "x")) == [result]
    assert node.send(ada, (2, "ada", "x"))[0].code == OK


@pytest.mark.parametrize("conversation_id", [0, 99, *TOO_LARGE])
def test_conversation_that_is_none_is_refused(node: Node, ada: int, conversation_id: int) -> None:
    (result,) = node.send(ada, (1, ConversationId(conversation_id), "x"))
    assert result.code == pb.RESULT_CODE_NO_SUCH_CONVERSATION


def test_conversation_of_others_is_refused_as_if_it_were_none(node: Node, ada: int, bob: int, cid: int) -> None:
    (direct,) = node.send(ada, (1, "bob", "x"))
    channel = node.channel(ada, "two of us", BOB)
    for number, conversation_id in enumerate((direct.conversation_id, channel), start=1):
        (result,) = node.send(cid, (number, ConversationId(conversation_id), "let me in"))
        assert result.code == pb.RESULT_CODE_NO_SUCH_CONVERSATION
        assert node.effects() == ()


def test_deleted_account_is_written_to_by_no_target_and_its_namesake_gets_nothing(
    node: Node, ada: int, bob: int
) -> None:
    (direct,) = node.send(ada, (1, "bob", "x"))
    node.one(delete_account(node.token))
    targets: list[Target] = ["bob", AccountId(BOB), ConversationId(direct.conversation_id)]
    for number, target in enumerate(targets, start=2):
        assert node.send(ada, (number, target, "x"))[0].code == pb.RESULT_CODE_NO_SUCH_ACCOUNT
    namesake = node.register("bob")
    (by_id, by_conversation, by_name) = node.send(
        ada, (5, AccountId(BOB), "x"), (6, ConversationId(direct.conversation_id), "x"), (7, "bob", "hello")
    )
    assert (by_id.code, by_conversation.code) == (pb.RESULT_CODE_NO_SUCH_ACCOUNT,) * 2
    assert by_name.code == OK
    assert by_name.conversation_id == conversations.direct_with(node.reader, ADA, namesake) != direct.conversation_id


# ---- a retry


def test_retry_finds_its_first_result_although_its_target_now_means_somebody_else(
    node: Node, ada: int, bob: int
) -> None:
    first = node.send(ada, (1, "bob", "for your eyes only"))
    node.one(delete_account(node.token))
    node.register("bob")
    assert node.send(ada, (1, "bob", "for your eyes only")) == first
    assert len(dump(node.path)["messages"]) == 1


@pytest.mark.parametrize(
    ("target", "body"),
    [
        ("bob", "other"),
        ("cid", "text"),
        ("BOB", "text"),
        (AccountId(BOB), "text"),
        (ConversationId(1), "text"),
        (None, "text"),
        ("bob", ""),
    ],
)
def test_number_used_for_something_else_is_a_mismatch_and_changes_nothing(
    node: Node, ada: int, bob: int, cid: int, target: Target, body: str
) -> None:
    first = node.send(ada, (1, "bob", "text"))
    before = dump(node.path)["messages"]
    mismatch, following = node.send(ada, (1, target, body), (2, "bob", "goes on"))
    assert (mismatch.code, mismatch.message_id, mismatch.conversation_id, mismatch.sent_at_ms) == (MISMATCH, 0, 0, 0)
    assert following.code == OK
    assert dump(node.path)["messages"][: len(before)] == before
    assert node.send(ada, (1, "bob", "text")) == first, "the first content still stands"


def test_mismatch_with_a_refused_send_is_told_too(node: Node, ada: int) -> None:
    node.send(ada, (1, "nobody", "x"))
    assert node.send(ada, (1, "ada", "x"))[0].code == MISMATCH


def test_mismatch_within_one_entry_is_told_too(node: Node, ada: int, bob: int) -> None:
    first, second = node.apply(sends(ada, (1, "bob", "x")), sends(ada, (1, "bob", "y")))
    assert [result.send_messages.sends[0].code for result in (first, second)] == [OK, MISMATCH]


def test_digest_tells_all_contents_apart() -> None:
    contents: list[tuple[Target, str]] = [
        ("x", "y z"),
        ("x y", "z"),
        ("x y z", ""),
        ("", "x y z"),
        ("1", "x"),
        (AccountId(1), "x"),
        (ConversationId(1), "x"),
        (AccountId(11), "x"),
        (AccountId(1), "1x"),
        (None, "x"),
        ("None", "x"),
    ]
    digests = {digest_of(send(number, *content)) for number, content in enumerate(contents)}
    assert len(digests) == len(contents)
    assert all(0 <= digest < 2**63 for digest in digests)


def test_digest_is_that_of_the_release_that_stored_it() -> None:
    """Kept results outlive a release: another digest would make every retry a mismatch."""
    assert digest_of(model_pb2.Send(number=7, account_name="bob", body="grüße")) == 108_997_439_314
    assert digest_of(model_pb2.Send(number=7, conversation_id=3, body="x")) == 88_329_944_848
