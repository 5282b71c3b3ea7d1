"""Channels change: who joins and leaves, what each of them reads, who may do it, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from parley_proto.v1 import model_pb2
from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.features import (
    channel_members,
    channels,
    conversations,
    memberships,
    message_receipts,
    messages,
    receipts,
)
from parleyd.machine.features.channel_members import ROLES, MembersJoined, MembersLeft
from parleyd.machine.features.channels import ROLE_MODERATOR, ChannelChanged
from parleyd.machine.features.conversations import ROLE_OWNER
from parleyd.machine.features.memberships import CHANNELS_LEVEL, ROLE_MEMBER, Interval
from parleyd.machine.features.messages import MessageStored
from parleyd.machine.features.stored_bytes import event_size, membership_size
from parleyd.machine.limits import MAX_ID, MAX_PAST_MEMBERSHIPS, MAX_TITLE_CHARS, MAX_TOPIC_CHARS
from tests.unit.machine.harness import (
    ConversationId,
    Node,
    change_setting,
    create_channel,
    delete_account,
    dump,
    mark_delivered,
    mark_read,
    queued,
    read_back,
    sends,
)

OK = pb.RESULT_CODE_OK
ADA, BOB, CID, DAN = 1, 2, 3, 4


class Ward:
    """A channel of ada and bob, and four people."""

    def __init__(self, node: Node) -> None:
        self.node = node
        node.rise()
        self.sessions = {
            one: node.user(name, 10 + one) for one, name in ((ADA, "ada"), (BOB, "bob"), (CID, "cid"), (DAN, "dan"))
        }
        self.id = node.channel(self.sessions[ADA], "ward 3", BOB)
        self._numbers = dict.fromkeys(self.sessions, 0)

    def do(self, who: int, command: Callable[..., Any], **fields: Any) -> int:
        """Apply one command of a person about the channel; gives its code."""
        content = command(session_id=self.sessions[who], conversation_id=self.id, **fields)
        name = "".join(f"_{one.lower()}" if one.isupper() else one for one in command.__name__)[1:]
        return self.node.one(pb.Command(**{name: content}), level=CHANNELS_LEVEL).code

    def join(self, who: int) -> int:
        return self.do(who, pb.JoinChannel)

    def leave(self, who: int) -> int:
        return self.do(who, pb.LeaveChannel)

    def add(self, who: int, *others: int) -> int:
        return self.do(who, pb.AddMembers, members=others)

    def remove(self, who: int, *others: int) -> int:
        return self.do(who, pb.RemoveMembers, members=others)

    def change(self, who: int, **fields: Any) -> int:
        return self.do(who, pb.ChangeChannel, **fields)

    def role(self, who: int, member: int, role: int) -> int:
        return self.do(who, pb.SetMemberRole, member=member, role=role)

    def say(self, who: int, body: str) -> int:
        self._numbers[who] += 1
        item = (self._numbers[who], ConversationId(self.id), body)
        [one] = self.node.one(sends(self.sessions[who], item), level=CHANNELS_LEVEL).send_messages.sends
        return one.code

    def read(self, who: int) -> list[str]:
        """What a person reads of the channel's history, events as their kind."""
        shown = read_back(self.node.reader, who, self.id, 0, 100)
        return [self._text(record) for record in shown]

    def waiting(self, who: int, after: int = 0) -> list[str]:
        """What a device of the person receives that has everything up to `after`."""
        return [self._text(record) for record in queued(self.node.reader, who, after, 100, b"")]

    def members(self) -> dict[int, int]:
        found = memberships.members(self.node.reader, self.id, 0, 100)
        record = conversations.by_id(self.node.reader, self.id)
        assert record is not None
        assert record.member_count == len(found)
        return {row.account_id: row.role for row in found}

    @staticmethod
    def _text(record: messages.MessageRecord) -> str:
        match record.kind:
            case model_pb2.MESSAGE_KIND_TEXT:
                return record.body
            case model_pb2.MESSAGE_KIND_MEMBERS_JOINED:
                return "+"
            case model_pb2.MESSAGE_KIND_MEMBERS_LEFT:
                return "-"
        return "*"


@pytest.fixture
def ward(node: Node) -> Ward:
    return Ward(node)


@pytest.fixture
def public(ward: Ward) -> Ward:
    assert ward.change(ADA, public=True) == OK
    return ward


# ---- joining and leaving


def test_who_joins_a_public_channel_is_a_member_from_the_row_that_says_so_on(public: Ward) -> None:
    assert public.say(ADA, "before") == OK
    assert public.join(CID) == OK
    joined, stored, changed = public.node.effects()
    assert joined == MembersJoined(public.id, (CID,)), "first, so that connected devices get the row"
    assert isinstance(stored, MessageStored)
    assert (stored.message.kind, stored.message.sender_id, stored.message.subjects) == (
        model_pb2.MESSAGE_KIND_MEMBERS_JOINED,
        CID,
        (CID,),
    )
    assert changed == ChannelChanged(public.id)
    assert public.say(CID, "hello") == OK
    assert public.members() == {ADA: ROLE_OWNER, BOB: ROLE_MEMBER, CID: ROLE_MEMBER}
    assert public.read(CID) == public.waiting(CID) == ["+", "hello"]
    assert public.read(BOB) == ["*", "before", "+", "hello"]


def test_joining_again_and_leaving_again_change_nothing(public: Ward) -> None:
    assert public.join(CID) == OK
    assert public.join(CID) == OK
    assert public.node.effects() == ()
    assert public.leave(CID) == OK
    assert public.leave(CID) == OK
    assert public.node.effects() == ()
    assert public.read(CID) == ["+", "-"]


def test_a_private_channel_does_not_exist_for_others(ward: Ward) -> None:
    missing = pb.RESULT_CODE_NO_SUCH_CONVERSATION
    assert ward.join(CID) == missing
    assert ward.change(CID, title="mine") == ward.add(CID, CID) == ward.remove(CID, BOB) == missing
    assert ward.role(CID, CID, ROLE_OWNER) == missing
    assert channels.listed(ward.node.reader, CID, 0, 10, "") == []
    assert ward.read(CID) == []


def test_only_channels_change(ward: Ward) -> None:
    ward.node.send(ward.sessions[ADA], (1, "bob", "x"))
    ward.id = conversations.direct_with(ward.node.reader, ADA, BOB) or 0
    not_a_channel = pb.RESULT_CODE_NOT_A_CHANNEL
    assert ward.change(ADA, title="pair") == ward.add(ADA, CID) == ward.leave(ADA) == not_a_channel
    assert ward.join(CID) == pb.RESULT_CODE_NO_SUCH_CONVERSATION
    for ward.id in (0, 99, MAX_ID, MAX_ID + 1):
        assert ward.join(CID) == ward.change(ADA, title="x") == pb.RESULT_CODE_NO_SUCH_CONVERSATION


def test_who_left_keeps_what_was_written_before_and_gets_nothing_newer(public: Ward) -> None:
    assert public.join(CID) == OK
    assert public.say(ADA, "for all") == public.say(CID, "mine") == OK
    assert public.leave(CID) == OK
    stored, left, changed = public.node.effects()
    assert isinstance(stored, MessageStored)
    assert left == MembersLeft(public.id, (CID,)), "after the row, which the leaver gets"
    assert changed == ChannelChanged(public.id)
    assert public.change(ADA, title="renamed", topic="secret") == OK
    assert public.say(ADA, "for the others") == OK
    assert public.say(CID, "may I") == pb.RESULT_CODE_NO_SUCH_CONVERSATION
    kept = ["+", "for all", "mine", "-"]
    assert public.read(CID) == public.waiting(CID) == kept
    assert memberships.channels_of(public.node.reader, CID) == ()
    seen = conversations.as_seen_by(public.node.reader, public.id, CID)
    assert seen is not None
    assert (seen.title, seen.topic, seen.members) == ("ward 3", "", ()), "what it was called then"


def test_a_device_that_was_offline_gets_what_was_sent_before_its_account_was_removed(ward: Ward) -> None:
    cursor = ward.node.reader.last_message_id()
    assert ward.say(ADA, "sent while bob was in it") == OK
    assert ward.remove(ADA, BOB) == OK
    assert ward.say(ADA, "after") == OK
    assert ward.waiting(BOB, cursor) == ["sent while bob was in it", "-"]


def test_who_comes_back_reads_what_was_there_in_each_membership_and_nothing_between(public: Ward) -> None:
    for body in ("first", "second"):
        assert public.join(CID) == OK
        assert public.say(ADA, body) == OK
        assert public.leave(CID) == OK
        assert public.say(ADA, f"without cid after the {body}") == OK
    assert public.join(CID) == OK
    everything = ["+", "first", "-", "+", "second", "-", "+"]
    assert public.read(CID) == public.waiting(CID) == everything
    newest = read_back(public.node.reader, CID, public.id, 0, 2)
    older = read_back(public.node.reader, CID, public.id, newest[0].id, 100)
    assert [record.id for record in (*older, *newest)] == [
        record.id for record in read_back(public.node.reader, CID, public.id, 0, 100)
    ]
    assert read_back(public.node.reader, CID, public.id, newest[0].id, 1)
    assert not read_back(public.node.reader, CID, public.id, older[0].id, 1)


def test_who_comes_back_has_not_read_what_its_devices_have_not_received(ward: Ward) -> None:
    assert ward.say(ADA, "urgent") == OK
    urgent = ward.node.reader.last_message_id()
    assert ward.remove(ADA, BOB) == ward.say(ADA, "without bob") == ward.add(ADA, BOB) == OK
    [marks] = [row for row in memberships.members(ward.node.reader, ward.id, 0, 10) if row.account_id == BOB]
    assert marks.delivered_up_to < urgent
    assert marks.read_up_to < urgent
    [summary] = conversations.page(ward.node.reader, BOB, 0, 10)
    assert summary.unread == 1, "what was written without bob is not for him"
    received = mark_delivered(ward.sessions[BOB], ward.node.reader.last_message_id())
    ward.node.one(received, level=CHANNELS_LEVEL)
    assert ward.remove(ADA, BOB) == ward.say(ADA, "once more") == ward.add(ADA, BOB) == OK
    [marks] = [row for row in memberships.members(ward.node.reader, ward.id, 0, 10) if row.account_id == BOB]
    assert marks.delivered_up_to > urgent
    assert marks.read_up_to < urgent


def test_nobody_is_added_so_often_that_what_waits_is_forgotten(ward: Ward) -> None:
    assert ward.say(ADA, "urgent") == OK
    for _ in range(MAX_PAST_MEMBERSHIPS - 1):
        assert ward.remove(ADA, BOB) == ward.add(ADA, BOB) == OK
    assert ward.remove(ADA, BOB) == OK
    assert ward.add(ADA, BOB) == ward.add(ADA, CID, BOB) == pb.RESULT_CODE_LEFT_TOO_OFTEN
    assert "urgent" in ward.waiting(BOB)
    assert CID not in ward.members()
    received = mark_delivered(ward.sessions[BOB], ward.node.reader.last_message_id())
    ward.node.one(received, level=CHANNELS_LEVEL)
    assert ward.add(ADA, BOB) == OK


def test_the_oldest_of_too_many_memberships_is_no_longer_shown(public: Ward) -> None:
    for number in range(MAX_PAST_MEMBERSHIPS + 2):
        assert public.join(CID) == OK
        assert public.say(ADA, str(number)) == OK
        received = mark_delivered(public.sessions[CID], public.node.reader.last_message_id())
        public.node.one(received, level=CHANNELS_LEVEL)
        assert public.leave(CID) == OK
    shown = [text for text in public.read(CID) if text not in "+-"]
    assert shown == [str(number) for number in range(2, MAX_PAST_MEMBERSHIPS + 2)]
    assert len(dump(public.node.path)["past_memberships"]) == MAX_PAST_MEMBERSHIPS


def test_an_open_history_is_read_by_new_members_and_by_nobody_else(public: Ward) -> None:
    assert public.say(ADA, "before") == OK
    assert public.change(ADA, open_history=True) == OK
    assert public.read(CID) == []
    assert public.join(CID) == OK
    assert public.read(CID) == ["*", "before", "+"]
    assert public.waiting(CID) == ["+"], "what was before is read on demand, no device receives it"
    assert public.leave(CID) == OK
    assert public.say(ADA, "after") == OK
    assert public.read(CID) == ["*", "before", "+", "-"], "it stays readable"
    assert public.waiting(CID) == ["+", "-"]
    assert public.change(ADA, open_history=False) == public.join(CID) == public.leave(CID) == OK
    assert public.read(CID) == ["*", "before", "+", "-", "+", "-"]
    assert memberships.readable(public.node.reader, public.id, ADA) == [Interval(0, MAX_ID)]


def test_a_new_member_has_nothing_unread_and_moves_marks_as_all_do(public: Ward) -> None:
    node = public.node
    assert public.say(ADA, "before") == OK
    assert public.join(CID) == OK
    [summary] = conversations.page(node.reader, CID, 0, 10)
    assert summary.unread == 0
    assert public.say(ADA, "news") == OK
    newest = node.reader.last_message_id()
    node.one(mark_delivered(public.sessions[CID], newest), level=CHANNELS_LEVEL)
    node.one(mark_read(public.sessions[CID], public.id, newest), level=CHANNELS_LEVEL)
    marks = {row.account_id: row for row in memberships.members(node.reader, public.id, 0, 10)}
    assert (marks[CID].delivered_up_to, marks[CID].read_up_to) == (newest, newest)
    assert public.leave(CID) == OK
    assert public.say(ADA, "more") == OK
    last = node.reader.last_message_id()
    node.one(mark_delivered(public.sessions[CID], last), level=CHANNELS_LEVEL)
    moved = mark_read(public.sessions[CID], public.id, last)
    assert node.one(moved, level=CHANNELS_LEVEL).code == pb.RESULT_CODE_NO_SUCH_CONVERSATION
    assert CID not in {row.account_id for row in receipts.of_others(node.reader, ADA, 10)}


def test_marks_that_wait_to_be_written_and_the_end_of_a_membership_may_come_in_one_entry(public: Ward) -> None:
    assert public.join(CID) == OK
    assert public.say(ADA, "x") == OK
    newest = public.node.reader.last_message_id()
    leave = pb.Command(leave_channel=pb.LeaveChannel(session_id=public.sessions[CID], conversation_id=public.id))
    again = pb.Command(join_channel=pb.JoinChannel(session_id=public.sessions[CID], conversation_id=public.id))
    marked = mark_delivered(public.sessions[CID], newest)
    codes = [one.code for one in public.node.apply(marked, leave, again, level=CHANNELS_LEVEL)]
    assert codes == [OK, OK, OK]
    assert public.read(CID) == ["+", "x", "-", "+"]


# ---- who may do what


@pytest.mark.parametrize("role", ROLES)
def test_roles_decide_who_changes_a_channel_and_its_members(ward: Ward, role: int) -> None:
    assert ward.add(ADA, CID) == OK
    assert ward.role(ADA, CID, role) == OK
    refused = pb.RESULT_CODE_NOT_A_MODERATOR
    moderates = OK if role in (ROLE_OWNER, ROLE_MODERATOR) else refused
    owns = OK if role == ROLE_OWNER else refused
    assert ward.change(CID, topic="new") == moderates
    assert ward.add(CID, DAN) == moderates
    assert ward.remove(CID, BOB) == moderates
    assert ward.add(ADA, DAN) == OK
    assert ward.role(CID, DAN, ROLE_MODERATOR) == owns
    assert ward.role(ADA, DAN, ROLE_MODERATOR) == OK
    assert ward.remove(CID, DAN) == owns
    assert ward.remove(CID, ADA) == owns


def test_members_stay_with_an_owner_whatever_one_does(ward: Ward) -> None:
    last = pb.RESULT_CODE_LAST_OWNER
    assert ward.leave(ADA) == ward.remove(ADA, ADA) == ward.role(ADA, ADA, ROLE_MEMBER) == last
    assert ward.role(ADA, BOB, ROLE_OWNER) == OK
    assert ward.leave(ADA) == OK
    assert ward.members() == {BOB: ROLE_OWNER}
    assert ward.leave(BOB) == OK, "nobody stays without an owner"
    assert ward.members() == {}


def test_an_administrator_gives_a_channel_whose_owner_is_gone_a_new_one(ward: Ward) -> None:
    node = ward.node
    ward.sessions[ADA] = node.login(ADA, 60)
    node.one(delete_account(node.token), level=CHANNELS_LEVEL)
    digest, lasting = b"d" * 32, node.now_ms + 100_000
    node.one(pb.Command(offer_administrator=pb.OfferAdministrator(digest=digest, expires_at_ms=lasting)), level=3)
    claim = pb.ClaimAdministrator(session_id=ward.sessions[DAN], digest=digest)
    assert node.one(pb.Command(claim_administrator=claim), level=CHANNELS_LEVEL).code == OK
    assert ward.change(DAN, title="mine") == ward.add(DAN, DAN) == pb.RESULT_CODE_NOT_A_MODERATOR
    assert ward.role(DAN, CID, ROLE_OWNER) == pb.RESULT_CODE_NOT_A_MEMBER
    assert ward.role(DAN, BOB, ROLE_OWNER) == OK
    assert ward.change(BOB, title="ours") == OK
    assert ward.read(DAN) == []


def test_an_administrator_that_is_in_no_channel_leaves_none(ward: Ward) -> None:
    ward.sessions[DAN] = administrator(ward)
    before = dump(ward.node.path)["messages"]
    assert ward.leave(DAN) == OK
    assert ward.node.effects() == ()
    assert ward.members() == {ADA: ROLE_OWNER, BOB: ROLE_MEMBER}
    assert dump(ward.node.path)["messages"] == before


def test_an_owner_whose_account_is_deleted_is_none_to_stay_with(ward: Ward) -> None:
    assert ward.role(ADA, BOB, ROLE_OWNER) == OK
    assert ward.add(ADA, CID) == OK
    ward.sessions[BOB] = ward.node.login(BOB, 61)
    ward.node.one(delete_account(ward.node.token), level=CHANNELS_LEVEL)
    assert ward.leave(ADA) == ward.role(ADA, ADA, ROLE_MEMBER) == pb.RESULT_CODE_LAST_OWNER
    assert ward.remove(ADA, CID) == ward.leave(ADA) == OK, "nobody who could miss an owner stays"


def delete(ward: Ward, who: int) -> None:
    ward.sessions[who] = ward.node.login(who, 60 + who)
    assert ward.node.one(delete_account(ward.node.token), level=CHANNELS_LEVEL).code == OK


def test_an_account_that_is_deleted_leaves_its_channels_so_that_nobody_waits_for_it(ward: Ward) -> None:
    other = ward.node.channel(ward.sessions[BOB], "kitchen", CID)
    assert ward.say(ADA, "to bob") == OK
    [sent] = [record.id for record in read_back(ward.node.reader, ADA, ward.id, 0, 10) if record.body == "to bob"]
    delete(ward, BOB)
    assert [one for one in ward.node.effects() if isinstance(one, MembersLeft)] == [
        MembersLeft(ward.id, (BOB,)),
        MembersLeft(other, (BOB,)),
    ]
    assert ward.members() == {ADA: ROLE_OWNER}
    assert ward.waiting(ADA)[-1] == "-", "and the others are told"
    stored = message_receipts.find(ward.node.reader, ward.id, sent)
    assert stored is not None
    assert message_receipts.counts(ward.node.reader, stored).others == 0
    assert [row.account_id for row in memberships.members(ward.node.reader, other, 0, 9)] == [CID]
    assert dump(ward.node.path)["past_memberships"] == [], "nobody reads as a deleted account"


def test_the_deletion_of_an_account_in_very_many_channels_is_bounded(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_members, "MAX_CHANNELS_LEFT", 1)
    other = ward.node.channel(ward.sessions[CID], "kitchen", BOB)
    delete(ward, BOB)
    assert ward.members() == {ADA: ROLE_OWNER}
    assert [row.account_id for row in memberships.members(ward.node.reader, other, 0, 9)] == [BOB, CID]


def test_only_roles_that_there_are_are_given(ward: Ward) -> None:
    assert ward.role(ADA, BOB, 0) == ward.role(ADA, BOB, 17) == pb.RESULT_CODE_INVALID_ROLE
    assert ward.role(ADA, BOB, ROLE_MEMBER) == OK
    assert ward.node.effects() == ()


def test_accounts_that_are_added_exist_and_members_stay_what_they_are(ward: Ward) -> None:
    missing = pb.RESULT_CODE_NO_SUCH_ACCOUNT
    assert ward.add(ADA, 99) == ward.add(ADA, CID, MAX_ID + 1) == ward.add(ADA, 0) == missing
    assert ward.add(ADA, ADA, BOB) == OK
    assert ward.node.effects() == ()
    assert ward.add(ADA, *([CID] * 256)) == pb.RESULT_CODE_TOO_MANY_MEMBERS
    assert ward.remove(ADA, *([BOB] * 256)) == pb.RESULT_CODE_TOO_MANY_MEMBERS
    assert ward.add(ADA, CID, ADA, CID) == OK
    assert ward.members() == {ADA: ROLE_OWNER, BOB: ROLE_MEMBER, CID: ROLE_MEMBER}
    assert ward.remove(ADA, 99, DAN) == OK
    assert ward.node.effects() == ()


# ---- what a channel has


def test_changes_are_rows_and_a_repeat_changes_nothing(ward: Ward) -> None:
    assert ward.change(ADA, title="ward 4", topic="nights", public=True, open_history=True) == OK
    *stored, changed = ward.node.effects()
    kinds = [effect.message.kind for effect in stored if isinstance(effect, MessageStored)]
    assert kinds == [model_pb2.MESSAGE_KIND_TITLE_CHANGED, model_pb2.MESSAGE_KIND_TOPIC_CHANGED]
    assert changed == ChannelChanged(ward.id)
    assert ward.change(ADA, title="ward 4", topic="nights", public=True, open_history=True) == OK
    assert ward.change(ADA) == OK
    assert ward.node.effects() == ()
    record = conversations.by_id(ward.node.reader, ward.id)
    assert record is not None
    assert (record.title, record.topic, record.public, record.archived, record.open_history) == (
        "ward 4",
        "nights",
        True,
        False,
        True,
    )
    assert ward.change(ADA, topic="", public=False) == OK
    record = conversations.by_id(ward.node.reader, ward.id)
    assert record is not None
    assert (record.title, record.topic, record.public, record.open_history) == ("ward 4", "", False, True)


def test_a_retry_of_the_creation_finds_a_channel_that_was_renamed(ward: Ward) -> None:
    """The answer to a creation may be lost, and repeated after somebody has changed the title."""
    assert ward.change(ADA, title="ward 4") == OK
    again = create_channel(ward.sessions[ADA], "ward 3", BOB)
    assert ward.node.one(again, level=CHANNELS_LEVEL).create_channel.conversation_id == ward.id
    other = create_channel(ward.sessions[ADA], "ward 4", BOB)
    assert ward.node.one(other, level=CHANNELS_LEVEL).code == pb.RESULT_CODE_REQUEST_ID_REUSED
    set_limit(ward, retention_days=1)
    for _ in range(3):
        ward.node.apply(at_ms=ward.node.now_ms + 2 * 86_400_000, level=CHANNELS_LEVEL)
    assert ward.read(ADA) == []
    again = create_channel(ward.node.login(ADA, 77), "ward 3", BOB)
    found = ward.node.one(again, level=CHANNELS_LEVEL)
    assert found.create_channel.conversation_id == ward.id, "its first title is gone, so the request id decides"


@pytest.mark.parametrize("title", ["", " ", "x" * (MAX_TITLE_CHARS + 1), "a\u202eb", "a\nb"])
def test_titles_and_topics_have_rules(ward: Ward, title: str) -> None:
    assert ward.change(ADA, title=title, topic="fine") == pb.RESULT_CODE_INVALID_TITLE
    assert (
        ward.change(ADA, title="fine", topic=title * 3 or "y" * (MAX_TOPIC_CHARS + 1)) == pb.RESULT_CODE_INVALID_TOPIC
    )
    assert ward.node.effects() == ()
    record = conversations.by_id(ward.node.reader, ward.id)
    assert record is not None
    assert (record.title, record.topic) == ("ward 3", "")


def test_an_archived_channel_takes_no_messages_and_no_members_until_it_is_reopened(public: Ward) -> None:
    assert public.change(ADA, archived=True) == OK
    archived = pb.RESULT_CODE_CHANNEL_ARCHIVED
    assert public.say(BOB, "x") == public.join(CID) == public.add(ADA, CID) == archived
    assert public.node.effects() == ()
    assert public.leave(BOB) == OK
    assert public.change(ADA, archived=False) == OK
    assert public.say(ADA, "again") == public.join(CID) == OK
    assert public.read(ADA) == ["*", "*", "-", "*", "again", "+"]


def test_channels_are_listed_to_members_and_the_public_ones_to_all(public: Ward) -> None:
    node, first = public.node, public.id
    second = node.channel(public.sessions[CID], "cid's own", request_id=b"2" * 16)
    third = node.channel(public.sessions[CID], "ward 3", DAN, request_id=b"3" * 16)

    def listed(who: int, after: int = 0, limit: int = 10, title: str = "") -> list[tuple[int, bool]]:
        found = channels.listed(node.reader, who, after, limit, title)
        return [(record.id, joined) for record, joined in found]

    assert listed(CID) == [(first, False), (second, True), (third, True)]
    assert listed(DAN) == [(first, False), (third, True)]
    assert listed(BOB) == [(first, True)]
    assert listed(DAN, title="ward 3") == [(first, False), (third, True)]
    assert listed(CID, title="ward 3") == [(first, False), (third, True)]
    assert listed(CID, limit=2) == [(first, False), (second, True)]
    assert listed(CID, after=first, limit=1) == [(second, True)]


# ---- bounds


def test_a_channel_has_a_bounded_number_of_members(public: Ward) -> None:
    set_limit(public, max_channel_members=3)
    assert public.add(ADA, CID, DAN) == pb.RESULT_CODE_CHANNEL_FULL
    assert public.join(CID) == OK
    assert public.join(DAN) == pb.RESULT_CODE_CHANNEL_FULL
    assert public.leave(CID) == OK
    assert public.join(DAN) == OK


def test_the_limits_hold_at_the_creation(ward: Ward) -> None:
    set_limit(ward, max_channel_members=2, max_joined_channels=2)

    def create(who: int, number: int, *members: int) -> int:
        command = create_channel(ward.sessions[who], "new", *members, request_id=bytes([number]) * 16)
        return ward.node.one(command, level=CHANNELS_LEVEL).code

    assert create(CID, 1, BOB, DAN) == pb.RESULT_CODE_CHANNEL_FULL
    assert create(CID, 2, BOB) == create(CID, 3) == OK
    refused = pb.RESULT_CODE_TOO_MANY_JOINED
    assert create(CID, 4) == create(DAN, 5, CID) == create(DAN, 6, BOB) == refused
    assert create(DAN, 7) == OK


def test_an_account_is_in_a_bounded_number_of_channels(public: Ward) -> None:
    public.node.channel(public.sessions[CID], "cid's own", request_id=b"2" * 16)
    set_limit(public, max_joined_channels=1)
    refused = pb.RESULT_CODE_TOO_MANY_JOINED
    assert public.join(CID) == public.add(ADA, DAN, CID) == refused
    assert DAN not in public.members(), "all of them, or none"
    assert public.join(DAN) == OK


def test_what_happens_counts_for_whoever_does_it_and_leaving_is_always_possible(public: Ward) -> None:
    assert public.join(CID) == OK
    joined = event_size("", 1) + membership_size("ward 3")
    assert counted(public, CID) == joined
    set_limit(public, max_account_bytes=1)
    assert public.change(ADA, topic="x") == public.add(ADA, DAN) == public.join(DAN) == pb.RESULT_CODE_QUOTA_REACHED
    assert public.node.effects() == ()
    assert public.leave(CID) == OK
    assert counted(public, CID) == joined + event_size("", 1)


def test_events_that_retention_removes_count_no_longer(public: Ward) -> None:
    assert public.add(ADA, CID, DAN) == OK
    before = counted(public, ADA)
    set_limit(public, retention_days=1)
    for _ in range(3):
        public.node.apply(at_ms=public.node.now_ms + 2 * 86_400_000, level=CHANNELS_LEVEL)
    assert counted(public, ADA) == before - event_size("", 2)
    assert public.read(CID) == []


def test_below_the_level_no_channel_changes(node: Node) -> None:
    node.rise(CHANNELS_LEVEL - 1)
    ada, bob = node.user("ada", 1), node.user("bob", 2)
    channel = node.channel(ada, "ward 3", BOB)
    unknown = pb.RESULT_CODE_UNKNOWN_COMMAND
    change = pb.Command(change_channel=pb.ChangeChannel(session_id=ada, conversation_id=channel, public=True))
    leave = pb.Command(leave_channel=pb.LeaveChannel(session_id=bob, conversation_id=channel))
    assert [one.code for one in node.apply(change, leave, level=CHANNELS_LEVEL - 1)] == [unknown] * 2
    assert [record.kind for record in read_back(node.reader, BOB, channel, 0, 10)] == [2]
    assert channels.listed(node.reader, BOB, 0, 10, "") == []
    node.rise()
    assert [one.code for one in node.apply(change, leave, level=CHANNELS_LEVEL)] == [OK] * 2


def set_limit(ward: Ward, **values: int) -> None:
    ward.node.apply(*(change_setting(administrator(ward), name, value) for name, value in values.items()), level=3)


def administrator(ward: Ward) -> int:
    """A session of an administrator, made at the first call."""
    node = ward.node
    if "root" not in ward.__dict__:
        digest = b"r" * 32
        offer = pb.OfferAdministrator(digest=digest, expires_at_ms=node.now_ms + 100_000)
        node.one(pb.Command(offer_administrator=offer), level=3)
        root = ward.__dict__["root"] = node.user("root", 99)
        assert node.one(pb.Command(claim_administrator=pb.ClaimAdministrator(session_id=root, digest=digest)), level=3)
    return int(ward.__dict__["root"])


def counted(ward: Ward, account_id: int) -> int:
    rows = ward.node.reader.rows("SELECT bytes FROM stored_bytes WHERE account_id = ?", (account_id,))
    return int(rows[0][0]) if rows else 0
