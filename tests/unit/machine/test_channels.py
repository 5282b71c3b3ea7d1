"""Channels: made once, a message stored once however many are in it, marks of each member, one queue with the rest."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from parley_proto.v1 import model_pb2
from parley_proto.v1 import state_pb2 as pb
from parleyd.machine import rows
from parleyd.machine.features import conversations, memberships, receipts
from parleyd.machine.features.conversations import ConversationCreated
from parleyd.machine.features.memberships import MemberRecord
from parleyd.machine.features.messages import MessageRecord, MessageStored
from parleyd.machine.features.receipts import Marks, ReceiptMoved
from parleyd.machine.limits import MAX_MEMBERS_AT_CREATION, MAX_TITLE_CHARS
from tests.unit.machine.harness import (
    AccountId,
    ConversationId,
    Node,
    Target,
    close_session,
    create_channel,
    delete_account,
    dump,
    external,
    mark_delivered,
    mark_read,
    marks,
    queued,
    read_back,
    sends,
)

OK = pb.RESULT_CODE_OK
ADA, BOB, CID = 1, 2, 3


@pytest.fixture
def people(node: Node) -> dict[str, int]:
    """Sessions of ada, bob and cid, whose account ids are 1, 2 and 3."""
    return {name: node.user(name, 10 + place) for place, name in enumerate(("ada", "bob", "cid"))}


# ---- making one


def test_channel_has_its_owner_its_members_and_its_first_row(node: Node, people: dict[str, int]) -> None:
    channel = node.channel(people["ada"], "ward 3", CID, BOB)
    created, stored = node.effects()
    assert created == ConversationCreated(channel, conversations.CHANNEL, (ADA, BOB, CID))
    assert isinstance(stored, MessageStored)
    assert stored.pair == (), "a channel's members are looked up, not listed in every effect"
    first = MessageRecord(
        channel, 1, model_pb2.MESSAGE_KIND_CHANNEL_CREATED, ADA, "ward 3", node.now_ms, b"", 0, (ADA, BOB, CID)
    )
    assert stored.message == first
    for account_id in (ADA, BOB, CID):
        assert read_back(node.reader, account_id, channel, 0, 10) == (first,)
        assert queued(node.reader, account_id, 0, 10, b"") == [first]
    found = conversations.by_id(node.reader, channel)
    assert found is not None
    assert (found.kind, found.title, found.member_count) == (conversations.CHANNEL, "ward 3", 3)
    assert found.members == (
        MemberRecord(ADA, conversations.ROLE_OWNER, 0, 0),
        MemberRecord(BOB, memberships.ROLE_MEMBER, 0, 0),
        MemberRecord(CID, memberships.ROLE_MEMBER, 0, 0),
    )


def test_retry_by_request_id_finds_the_first_channel(node: Node, people: dict[str, int]) -> None:
    first = node.one(create_channel(people["ada"], "ward 3", BOB))
    again = node.login(ADA, 50)
    node.user("dan", 14)
    node.one(delete_account(node.token))
    for session, members in ((people["ada"], [BOB]), (again, [CID]), (again, [4])):
        assert node.one(create_channel(session, "ward 3", *members)) == first
        assert node.effects() == ()
    assert len(dump(node.path)["conversations"]) == 1


def test_request_id_used_for_another_title_is_refused(node: Node, people: dict[str, int]) -> None:
    node.channel(people["ada"], "ward 3", BOB)
    assert node.one(create_channel(people["ada"], "ward 4", BOB)).code == pb.RESULT_CODE_REQUEST_ID_REUSED
    assert len(dump(node.path)["conversations"]) == 1


def test_equal_request_ids_of_two_accounts_make_two_channels(node: Node, people: dict[str, int]) -> None:
    assert node.channel(people["ada"], "ward 3", BOB) != node.channel(people["bob"], "ward 3", ADA)


@pytest.mark.parametrize("request_id", [b"", b"short", b"x" * 17])
def test_request_id_of_another_length_is_refused(node: Node, people: dict[str, int], request_id: bytes) -> None:
    command = create_channel(people["ada"], "ward 3", request_id=request_id)
    assert node.one(command).code == pb.RESULT_CODE_INVALID_LENGTH


@pytest.mark.parametrize(
    "title", ["x", "Station 3 – Nacht", "ä" * MAX_TITLE_CHARS, "👩\u200d👩\u200d👧", "می\u200cخواهم", "日本語"]
)
def test_title_within_the_rules_is_taken(node: Node, people: dict[str, int], title: str) -> None:
    channel = node.channel(people["ada"], title)
    found = conversations.by_id(node.reader, channel)
    assert found is not None
    assert found.title == title


@pytest.mark.parametrize(
    "title",
    [
        "",
        "x" * (MAX_TITLE_CHARS + 1),
        "a\nb",
        "a\x00",
        "\x1b[31m",
        "\x7f",
        "\x85",
        "\u202eevil",
        "\u2066x",
        "a\u200fb",
        "a\u2028b",
        "zero\u200bwidth",
        "\ufeff",
    ],
)
def test_title_against_the_rules_is_refused(node: Node, people: dict[str, int], title: str) -> None:
    assert node.one(create_channel(people["ada"], title)).code == pb.RESULT_CODE_INVALID_TITLE
    assert node.effects() == ()


def test_title_does_not_depend_on_what_this_python_knows_of_unicode(node: Node, people: dict[str, int]) -> None:
    """A character that no Unicode version has assigned yet may be assigned in another node's."""
    unassigned = "\U0001faff"
    assert node.one(create_channel(people["ada"], unassigned)).code == OK


@pytest.mark.parametrize("member", [0, 99, 2**63, 2**64 - 1])
def test_unknown_member_is_refused(node: Node, people: dict[str, int], member: int) -> None:
    assert node.one(create_channel(people["ada"], "x", BOB, member)).code == pb.RESULT_CODE_NO_SUCH_ACCOUNT
    assert dump(node.path)["conversations"] == dump(node.path)["members"] == []


def test_deleted_member_is_refused(node: Node, people: dict[str, int]) -> None:
    node.one(delete_account(node.token))
    assert node.one(create_channel(people["ada"], "x", CID)).code == pb.RESULT_CODE_NO_SUCH_ACCOUNT


def test_member_named_twice_and_the_owner_among_them_count_once(node: Node, people: dict[str, int]) -> None:
    channel = node.channel(people["ada"], "x", BOB, BOB, ADA)
    found = conversations.by_id(node.reader, channel)
    assert found is not None
    assert [(member.account_id, member.role) for member in found.members] == [
        (ADA, conversations.ROLE_OWNER),
        (BOB, memberships.ROLE_MEMBER),
    ]
    assert found.member_count == 2


def test_members_at_creation_are_bounded(node: Node, people: dict[str, int]) -> None:
    members = [BOB] * MAX_MEMBERS_AT_CREATION
    assert node.one(create_channel(people["ada"], "x", *members)).code == pb.RESULT_CODE_TOO_MANY_MEMBERS
    assert node.one(create_channel(people["ada"], "x", *members[1:])).code == OK


def test_nobody_who_is_signed_out_makes_a_channel(node: Node, people: dict[str, int]) -> None:
    node.one(close_session(node.token))
    for session in (people["cid"], 0, 99, 2**64 - 1):
        assert node.one(create_channel(session, "x")).code == pb.RESULT_CODE_SIGNED_OUT


# ---- sending to one


def test_message_to_a_channel_is_one_row_and_one_effect(node: Node, people: dict[str, int]) -> None:
    channel = node.channel(people["ada"], "all", BOB, CID)
    before = len(dump(node.path)["messages"])
    (result,) = node.send(people["bob"], (1, ConversationId(channel), "hello all"))
    assert (result.code, result.conversation_id) == (OK, channel)
    assert len(dump(node.path)["messages"]) == before + 1
    (effect,) = node.effects()
    assert isinstance(effect, MessageStored)
    assert (effect.message.body, effect.message.sender_id, effect.pair) == ("hello all", BOB, ())
    for account_id in (ADA, BOB, CID):
        assert read_back(node.reader, account_id, channel, 0, 1)[0].body == "hello all"


def test_queue_merges_channels_and_direct_conversations_in_one_order(node: Node, people: dict[str, int]) -> None:
    one = node.channel(people["ada"], "one", BOB, CID, request_id=b"1" * 16)
    two = node.channel(people["cid"], "two", BOB, request_id=b"2" * 16)
    for turn in range(1, 60, 3):
        node.send(
            people["ada"],
            (turn, ConversationId(one), f"one {turn}"),
            (turn + 1, "bob", f"direct {turn}"),
            (turn + 2, "cid", "not for bob"),
        )
        node.send(people["cid"], (turn, ConversationId(two), f"two {turn}"))
        node.send(people["cid"], (turn + 1, ConversationId(one), f"one again {turn}"), (turn + 2, "cid", "note"))
    found = queued(node.reader, BOB, 0, 10_000, external(11))
    assert [message.id for message in found] == sorted(
        message.id
        for conversation in (one, two, conversations.direct_with(node.reader, ADA, BOB) or 0)
        for message in read_back(node.reader, BOB, conversation, 0, 1000)
    )
    assert len(found) == 2 + 20 * 4
    paged: list[MessageRecord] = []
    while page := queued(node.reader, BOB, paged[-1].id if paged else 0, 7, external(11)):
        paged.extend(page)
    assert paged == found


def test_unread_counts_messages_of_others_and_no_event_rows(node: Node, people: dict[str, int]) -> None:
    channel = node.channel(people["ada"], "all", BOB)
    node.send(people["ada"], (1, ConversationId(channel), "x"), (2, ConversationId(channel), "y"))
    node.send(people["bob"], (1, ConversationId(channel), "mine"))
    unread = [next(conversations.page(node.reader, account, 0, 10)).unread for account in (ADA, BOB)]
    assert unread == [1, 2]


def test_event_rows_of_a_conversation_count_as_no_message(node: Node, people: dict[str, int]) -> None:
    channel = node.channel(people["ada"], "ward 3", BOB)
    node.send(people["ada"], (1, ConversationId(channel), "x"))
    assert node.reader.summary().message_count == 1


# ---- marks


def test_each_member_has_marks_of_its_own(node: Node, people: dict[str, int]) -> None:
    channel = node.channel(people["ada"], "all", BOB, CID)
    one, two = node.send(people["ada"], (1, ConversationId(channel), "x"), (2, ConversationId(channel), "y"))
    node.one(mark_delivered(people["bob"], two.message_id))
    assert node.effects() == (ReceiptMoved(channel, BOB, two.message_id, 0, ()),)
    node.one(mark_read(people["cid"], channel, one.message_id))
    assert node.effects() == (ReceiptMoved(channel, CID, one.message_id, one.message_id, ()),)
    assert marks(node, channel) == [
        Marks(channel, ADA, 0, 0),
        Marks(channel, BOB, two.message_id, 0),
        Marks(channel, CID, one.message_id, one.message_id),
    ]
    others = receipts.of_others(node.reader, ADA, 10)
    assert sorted(others, key=lambda row: row.account_id) == marks(node, channel)[1:]


def test_channel_cannot_be_marked_by_one_who_is_not_in_it(node: Node, people: dict[str, int]) -> None:
    channel = node.channel(people["ada"], "all", BOB)
    assert node.one(mark_read(people["cid"], channel, 1)).code == pb.RESULT_CODE_NO_SUCH_CONVERSATION
    node.one(mark_delivered(people["cid"], 1))
    assert node.effects() == ()


def test_delivery_moves_the_marks_of_channels_and_direct_conversations_alike(
    node: Node, people: dict[str, int]
) -> None:
    channel = node.channel(people["ada"], "all", BOB, CID)
    direct, to_all, unrelated = node.send(
        people["ada"], (1, "bob", "x"), (2, ConversationId(channel), "y"), (3, "cid", "z")
    )
    node.one(mark_delivered(people["bob"], unrelated.message_id))
    assert node.effects() == (
        ReceiptMoved(channel, BOB, to_all.message_id, 0, ()),
        ReceiptMoved(direct.conversation_id, BOB, direct.message_id, 0, (ADA, BOB)),
    )


def test_channel_message_after_a_delivery_is_waited_for_in_its_turn(node: Node, people: dict[str, int]) -> None:
    """What the machine remembers between commands knows a channel made, and messages sent, since the last delivery."""
    node.send(people["ada"], (1, "bob", "x"))
    node.one(mark_delivered(people["bob"], 1))
    for made, numbers in enumerate(((2, 3, 4), (5, 6))):
        channel = node.channel(people["ada"], "all", BOB, request_id=made.to_bytes(16, "big"))
        for number in numbers:
            (result,) = node.send(people["ada"], (number, ConversationId(channel), "x"))
            node.one(mark_delivered(people["bob"], result.message_id))
            assert node.effects() == (ReceiptMoved(channel, BOB, result.message_id, 0, ()),)
            node.one(mark_delivered(people["bob"], result.message_id))
            assert node.effects() == ()


def test_an_acknowledgement_costs_the_same_however_many_channels_without_news_there_are(
    node: Node, people: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up: list[int] = []
    find = conversations.Conversations.find

    def counted(self: conversations.Conversations, conversation_id: int) -> conversations.ConversationRow | None:
        looked_up.append(conversation_id)
        return find(self, conversation_id)

    counts = []
    for made in range(2):
        for number in range(300 * made):
            node.channel(people["ada"], "ward", BOB, request_id=number.to_bytes(16, "big"))
        for place in range(11):
            number = 11 * made + place + 1
            (sent,) = node.send(people["ada"], (number, "bob", "x"))
            with monkeypatch.context() as context:
                context.setattr(conversations.Conversations, "find", counted)
                node.one(mark_delivered(people["bob"], sent.message_id))
            if not place:
                looked_up.clear()  # the first one after news in all channels
        counts.append(len(looked_up))
    assert counts[0] == counts[1]


def random_commands(node: Node, draw: random.Random) -> Iterator[pb.Command]:
    """What happens in six channels: sends, marks, members that come and go."""
    owner, *members = (node.user(name, 10 + place) for place, name in enumerate(("ada", "bob", "cid")))
    node.rise()
    channels = [node.channel(owner, f"{one}", BOB, request_id=bytes(15) + bytes([one])) for one in range(6)]
    number = 0
    for _ in range(150):
        channel, member, newest = draw.choice(channels), draw.choice((BOB, CID)), node.reader.last_message_id()
        match draw.randrange(8):
            case 0 | 1 | 2:
                number += 1
                to: list[Target] = [ConversationId(channel), AccountId(member)]
                yield sends(owner, (number, draw.choice(to), "x"))
            case 3 | 4:
                yield mark_delivered(draw.choice(members), max(0, newest - draw.choice((0, 0, 3, 8))))
            case 5:
                yield mark_read(draw.choice(members), channel, newest)
            case 6:
                yield pb.Command(add_members=pb.AddMembers(session_id=owner, conversation_id=channel, members=[member]))
            case _:
                yield pb.Command(
                    remove_members=pb.RemoveMembers(session_id=owner, conversation_id=channel, members=[member])
                )


@pytest.mark.parametrize("seed", range(2, 6))
def test_marks_do_not_depend_on_what_the_machine_remembers(
    tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One machine keeps what it knows, one begins anew with each entry, one forgets the oldest all the time."""
    dumps = []
    for name in ("remembers", "forgets", "trims"):
        node = Node(tmp_path / name)
        with monkeypatch.context() as context:
            for command in random_commands(node, random.Random(seed)):
                if name == "forgets":
                    node.reopen()
                if name == "trims":
                    context.setattr(rows, "MAX_CACHED_ROWS", node.machine.applied_index % 4)
                node.one(command, level=node.machine.level)
        node.close()
        dumps.append(dump(node.path))
    assert dumps[0] == dumps[1] == dumps[2]
    assert any(row[5] for row in dumps[0]["members"])


def test_channel_send_and_delivery_in_one_entry_and_after_a_restart(node: Node, people: dict[str, int]) -> None:
    channel = node.channel(people["ada"], "all", BOB)
    (one,) = node.send(people["ada"], (1, ConversationId(channel), "x"))
    node.one(mark_delivered(people["bob"], one.message_id))
    (two,) = node.send(people["ada"], (2, ConversationId(channel), "y"))
    node.reopen()
    node.one(mark_delivered(people["bob"], two.message_id))
    assert node.effects() == (ReceiptMoved(channel, BOB, two.message_id, 0, ()),)


def test_member_beyond_those_shown_is_found_by_paging(
    node: Node, people: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "SHOWN_MEMBERS", 2)
    channel = node.channel(people["ada"], "all", BOB, CID)
    found = conversations.by_id(node.reader, channel)
    assert found is not None
    assert ([member.account_id for member in found.members], found.member_count) == ([ADA, BOB], 3)
    assert [member.account_id for member in memberships.members(node.reader, channel, BOB, 10)] == [CID]
    assert memberships.members(node.reader, channel, 2**64 - 1, 10) == ()
    assert memberships.channels_of(node.reader, CID) == (channel,)
