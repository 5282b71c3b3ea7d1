"""Conversations that an account has removed: a lower bound of what that account alone is given of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.features import conversations, memberships, put_away, removals, unread, waiting
from parleyd.machine.features.history import History
from parleyd.machine.features.memberships import EVERYONE_ID
from parleyd.machine.features.messages import TEXT
from parleyd.machine.features.removals import REMOVALS_LEVEL, ConversationRemoved
from parleyd.machine.limits import MAX_ID
from tests.unit.machine.harness import (
    ConversationId,
    Node,
    change_setting,
    delete_account,
    dump,
    mark_delivered,
    message_count,
    queued,
    read_back,
    sends,
    set_role,
)
from tests.unit.machine.ward import ADA, BOB, CID, NONE, OK, Ward


class EmptiedWard(Ward):
    """The channel with two messages of ada, and who has removed it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, REMOVALS_LEVEL)
        self.number = 0
        self.first = self.node.reader.last_message_id()
        self.say("one")
        self.last = self.say("two")

    def say(self, body: str, account_id: int = ADA, conversation_id: int = 0) -> int:
        self.number += 1
        item = (self.number, ConversationId(conversation_id or self.channel), body)
        [sent] = self.node.one(sends(self.sessions[account_id], item), level=REMOVALS_LEVEL).send_messages.sends
        assert sent.code == OK
        return sent.message_id

    def remove(self, account_id: int, up_to: int, conversation_id: int = 0) -> pb.ResultCode.ValueType:
        command = pb.RemoveConversation(
            session_id=self.sessions[account_id], conversation_id=conversation_id or self.channel, up_to=up_to
        )
        return self.code_of(pb.Command(remove_conversation=command))

    def put_away(self, account_id: int, up_to: int) -> None:
        command = pb.SetPutAway(session_id=self.sessions[account_id], conversation_id=self.channel, up_to=up_to)
        assert self.code_of(pb.Command(set_put_away=command)) == OK

    def leave(self, account_id: int) -> None:
        leave = pb.LeaveChannel(session_id=self.sessions[account_id], conversation_id=self.channel)
        assert self.code_of(pb.Command(leave_channel=leave)) == OK

    def add(self, account_id: int) -> None:
        add = pb.AddMembers(session_id=self.sessions[ADA], conversation_id=self.channel, members=[account_id])
        assert self.code_of(pb.Command(add_members=add)) == OK

    def bounds(self, conversation_id: int = 0) -> dict[int, int]:
        asked = conversation_id or self.channel
        reader = self.node.reader
        return {one: up_to for one in self.sessions if (up_to := memberships.removed_up_to(reader, asked, one))}

    def history(self, account_id: int, conversation_id: int = 0) -> list[str]:
        found = read_back(self.node.reader, account_id, conversation_id or self.channel, 0, 100)
        return [message.body for message in found if message.kind == TEXT]

    def queue(self, account_id: int, after_id: int = 0) -> list[str]:
        return [one.body for one in queued(self.node.reader, account_id, after_id, 100, b"") if one.kind == TEXT]

    def listed(self, account_id: int) -> list[tuple[int, int]]:
        """The conversations of the list, with the unread messages of each."""
        return [(one.conversation.id, one.unread) for one in conversations.page(self.node.reader, account_id, 0, 100)]


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[EmptiedWard]:
    ward = EmptiedWard(tmp_path / "state.sqlite")
    yield ward
    ward.node.close()


def test_what_was_removed_is_in_no_answer_to_the_account_and_in_all_answers_to_the_others(ward: EmptiedWard) -> None:
    stored = message_count(ward.node.reader)
    assert ward.listed(BOB) == [(ward.channel, 2)]
    assert ward.remove(BOB, ward.last) == OK
    assert ward.node.effects() == (ConversationRemoved(BOB, ward.channel, ward.last),)
    assert (ward.history(BOB), ward.queue(BOB), ward.listed(BOB)) == ([], [], [])
    page = History(ward.node.reader, BOB, ward.channel).around(ward.last, 10)
    assert (page.messages, page.has_older, page.has_newer) == ((), False, False)
    assert (ward.history(ADA), ward.queue(ADA)) == (["one", "two"], ["one", "two"])
    assert ward.listed(ADA) == [(ward.channel, 0)]
    assert ward.bounds() == {BOB: ward.last}
    assert message_count(ward.node.reader) == stored, "nothing is deleted"
    assert memberships.is_member(ward.node.reader, ward.channel, BOB), "to remove is not to leave"


def test_the_same_again_and_a_device_that_is_behind_change_nothing(ward: EmptiedWard) -> None:
    assert ward.remove(BOB, ward.last) == OK
    before = dump(ward.node.path)["removed_conversations"]
    for up_to in (ward.last, ward.first, 1):
        assert ward.remove(BOB, up_to) == OK
        assert ward.node.effects() == ()
    assert dump(ward.node.path)["removed_conversations"] == before


def test_something_newer_brings_it_back_with_nothing_older(ward: EmptiedWard) -> None:
    assert ward.remove(BOB, ward.last) == OK
    third = ward.say("three")
    assert (ward.history(BOB), ward.queue(BOB)) == (["three"], ["three"])
    assert ward.listed(BOB) == [(ward.channel, 1)]
    page = History(ward.node.reader, BOB, ward.channel).before(third, 10)
    assert (page.messages, page.has_older, page.has_newer) == ((), False, True)
    assert ward.remove(BOB, third) == OK
    assert (ward.history(BOB), ward.listed(BOB)) == ([], [])


def test_a_message_that_came_before_the_command_and_was_not_shown_stays(ward: EmptiedWard) -> None:
    unseen = ward.say("three")
    assert ward.remove(BOB, ward.last) == OK
    assert (ward.history(BOB), ward.queue(BOB), ward.listed(BOB)) == (["three"], ["three"], [(ward.channel, 1)])
    assert unread.count(ward.node.reader, ward.channel, BOB, ward.first) == 1
    assert unread.count(ward.node.reader, ward.channel, BOB, unseen) == 0


def test_nothing_is_removed_beyond_the_last_message_so_the_next_one_brings_it_back(ward: EmptiedWard) -> None:
    for up_to in (MAX_ID, (1 << 64) - 1):
        assert ward.remove(BOB, up_to) == OK
        assert ward.bounds() == {BOB: ward.last}
    ward.say("three")
    assert ward.history(BOB) == ["three"]


def test_up_to_no_message_nothing_is_removed(ward: EmptiedWard) -> None:
    assert ward.remove(BOB, 0) == OK
    assert ward.node.effects() == ()
    assert dump(ward.node.path)["removed_conversations"] == []


def test_nobody_removes_what_it_may_not_read_or_what_never_was(ward: EmptiedWard) -> None:
    assert ward.remove(CID, ward.last) == NONE
    for conversation_id in (99, EVERYONE_ID, 1 << 63, (1 << 64) - 1):
        assert ward.remove(ADA, ward.last, conversation_id) == NONE
    assert ward.bounds() == {}


def test_direct_conversations_and_everyone_are_removed_like_channels(ward: EmptiedWard) -> None:
    ward.node.one(sends(ward.sessions[BOB], (1, "cid", "hello")), level=REMOVALS_LEVEL)
    direct = conversations.direct_with(ward.node.reader, BOB, CID) or 0
    for account_id, conversation_id in ((CID, direct), (CID, EVERYONE_ID)):
        if conversation_id == EVERYONE_ID:
            ward.say("all", ADA, EVERYONE_ID)
        last = ward.node.reader.last_message_id()
        assert ward.history(account_id, conversation_id)
        assert ward.remove(account_id, last, conversation_id) == OK
        assert ward.history(account_id, conversation_id) == []
        assert conversation_id not in dict(ward.listed(account_id))
        assert conversation_id in dict(ward.listed(BOB))
    assert ward.queue(CID) == []
    assert ward.queue(BOB)[-1] == "all"


def test_a_list_of_many_has_full_pages_of_what_was_not_removed(ward: EmptiedWard) -> None:
    channels = [ward.node.channel(ward.sessions[ADA], f"c{n}", request_id=bytes([n]) * 16) for n in range(6)]
    for channel in channels:
        ward.say("x", conversation_id=channel)
    for channel in channels[::2]:
        assert ward.remove(ADA, MAX_ID, channel) == OK
    kept = [*channels[5:0:-2], ward.channel]
    rows = conversations.latest(ward.node.reader, ADA, 0, 2)
    assert [one for one, _, _ in rows] == kept[:2]
    rows = conversations.latest(ward.node.reader, ADA, rows[-1][1], 100)
    assert [one for one, _, _ in rows] == kept[2:]


def test_who_leaves_a_channel_keeps_it_removed_and_finds_it_so_when_coming_back(ward: EmptiedWard) -> None:
    ward.leave(BOB)
    left = ward.node.reader.last_message_id()
    ward.say("unheard")
    assert ward.remove(BOB, MAX_ID) == OK
    assert ward.bounds() == {BOB: left}, "the bound tells nothing of what came after the leaving"
    assert (ward.history(BOB), ward.queue(BOB)) == ([], [])
    change = pb.ChangeChannel(session_id=ward.sessions[ADA], conversation_id=ward.channel, open_history=True)
    assert ward.code_of(pb.Command(change_channel=change)) == OK
    ward.add(BOB)
    assert ward.history(BOB) == ["unheard"], "an open history has what was never removed"
    assert ward.bounds() == {BOB: left}


def test_what_had_been_put_away_is_not_away_when_it_comes_back(ward: EmptiedWard) -> None:
    ward.put_away(BOB, ward.last)
    assert ward.remove(BOB, ward.first) == OK
    assert put_away.put_away_up_to(ward.node.reader, BOB, ward.channel) == ward.last, "what stays is still put away"
    assert ward.remove(BOB, ward.last) == OK
    assert put_away.put_away_up_to(ward.node.reader, BOB, ward.channel) == 0


def test_marks_and_receipts_of_others_are_as_before(ward: EmptiedWard) -> None:
    def marks() -> list[tuple[int, int, int]]:
        found = memberships.members(ward.node.reader, ward.channel, 0, 10)
        return [(one.account_id, one.delivered_up_to, one.read_up_to) for one in found]

    before = marks()
    assert ward.remove(BOB, ward.last) == OK
    assert marks() == before, "nobody sees that it was removed"
    ward.node.one(mark_delivered(ward.sessions[BOB], MAX_ID), level=REMOVALS_LEVEL)
    assert (BOB, ward.last, 0) in marks(), "and a device that was away moves the mark as ever"


def test_a_device_that_was_away_is_told_with_the_first_page_from_its_cursor(ward: EmptiedWard) -> None:
    def told(after_id: int) -> tuple[tuple[int, int], ...]:
        return waiting.queued_page(ward.node.reader, BOB, after_id, 100, b"").removed

    assert told(0) == ()
    assert ward.remove(BOB, ward.first) == OK
    for cursor in (0, ward.first, ward.last):
        assert told(cursor) == ((ward.channel, ward.first),), "also if nothing was sent since"
    third = ward.say("three")
    assert told(third) == (), "whoever has that message was told before"
    assert ward.remove(BOB, third) == OK
    assert told(third) == ((ward.channel, third),)
    assert waiting.queued_page(ward.node.reader, ADA, 0, 100, b"").removed == ()


def test_what_is_told_after_a_long_time_away_has_a_bound(ward: EmptiedWard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removals, "MAX_TOLD", 2)
    channels = [ward.node.channel(ward.sessions[ADA], f"c{n}", request_id=bytes([n]) * 16) for n in range(3)]
    for channel in channels:
        assert ward.remove(ADA, MAX_ID, channel) == OK
        ward.say("x")
    told = removals.since(ward.node.reader, ADA, 0)
    assert [conversation_id for conversation_id, _ in told] == channels[:0:-1], "the newest ones"


def test_nothing_is_kept_of_an_account_that_was_deleted(ward: EmptiedWard) -> None:
    ward.say("all", conversation_id=EVERYONE_ID)
    for account_id in (BOB, CID):
        assert ward.remove(account_id, MAX_ID, EVERYONE_ID) == OK
    ward.node.login(BOB, 60)
    assert ward.node.one(delete_account(ward.node.token), level=REMOVALS_LEVEL).code == OK
    assert set(ward.bounds(EVERYONE_ID)) == {CID}


def test_a_conversation_with_a_deleted_account_can_be_removed(ward: EmptiedWard) -> None:
    ward.node.one(sends(ward.sessions[BOB], (1, "cid", "hello")), level=REMOVALS_LEVEL)
    direct = conversations.direct_with(ward.node.reader, BOB, CID) or 0
    ward.node.login(CID, 60)
    assert ward.node.one(delete_account(ward.node.token), level=REMOVALS_LEVEL).code == OK
    assert ward.remove(BOB, MAX_ID, direct) == OK
    assert ward.history(BOB, direct) == []


def test_an_account_without_room_removes_and_frees_nothing(ward: EmptiedWard) -> None:
    assert ward.node.one(set_role(ward.sessions[ADA], "ada", administrator=True)).code == OK
    limit = change_setting(ward.sessions[ADA], "max_account_bytes", 1)
    assert ward.node.one(limit, level=REMOVALS_LEVEL).code == OK
    used = dump(ward.node.path).get("stored_bytes")
    assert ward.remove(ADA, MAX_ID) == OK
    assert dump(ward.node.path).get("stored_bytes") == used
    item = (ward.number + 1, ConversationId(ward.channel), "x")
    [sent] = ward.node.one(sends(ward.sessions[ADA], item), level=REMOVALS_LEVEL).send_messages.sends
    assert sent.code == pb.RESULT_CODE_QUOTA_REACHED


def test_without_a_session_nothing_is_removed(ward: EmptiedWard) -> None:
    ward.sessions[BOB] = 999
    assert ward.remove(BOB, ward.last) == pb.RESULT_CODE_SIGNED_OUT
    assert ward.bounds() == {}


def test_below_its_level_the_command_is_unknown_and_nothing_is_removed(tmp_path: Path) -> None:
    node = Node(tmp_path / "state.sqlite")
    session = node.user("ada", 10)
    command = pb.RemoveConversation(session_id=session, conversation_id=1, up_to=1)
    assert node.one(pb.Command(remove_conversation=command)).code == pb.RESULT_CODE_UNKNOWN_COMMAND
    assert memberships.removed_up_to(node.reader, 1, ADA) == 0
    assert removals.since(node.reader, ADA, 0) == ()
    node.close()
