"""Conversations that were put away: kept for each account alone, up to a message, and gone with the account."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.features import put_away
from parleyd.machine.features.memberships import EVERYONE_ID
from parleyd.machine.features.put_away import PUT_AWAY_LEVEL, ConversationPutAway
from parleyd.machine.limits import MAX_ID
from tests.unit.machine.harness import ConversationId, Node, delete_account, sends
from tests.unit.machine.ward import ADA, BOB, CID, NONE, OK, Ward


class TidyWard(Ward):
    """The channel with two messages of ada, and who has put it away."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, PUT_AWAY_LEVEL)
        self.first = self.node.reader.last_message_id()
        self.node.one(
            sends(self.sessions[ADA], *((number, ConversationId(self.channel), "x") for number in (1, 2))),
            level=PUT_AWAY_LEVEL,
        )
        self.last = self.node.reader.last_message_id()

    def put_away(self, account_id: int, up_to: int, conversation_id: int = 0) -> pb.ResultCode.ValueType:
        command = pb.SetPutAway(
            session_id=self.sessions[account_id], conversation_id=conversation_id or self.channel, up_to=up_to
        )
        return self.code_of(pb.Command(set_put_away=command))

    def marks(self, conversation_id: int = 0) -> dict[int, int]:
        asked = conversation_id or self.channel
        return {one: up_to for one in self.sessions if (up_to := put_away.put_away_up_to(self.node.reader, one, asked))}


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[TidyWard]:
    ward = TidyWard(tmp_path / "state.sqlite")
    yield ward
    ward.node.close()


def test_a_member_puts_a_channel_away_for_itself_alone_and_is_told_once(ward: TidyWard) -> None:
    assert ward.put_away(BOB, ward.last) == OK
    assert ward.node.effects() == (ConversationPutAway(BOB, ward.channel),)
    assert ward.put_away(BOB, ward.last) == OK, "the same again changes nothing"
    assert ward.node.effects() == ()
    assert ward.marks() == {BOB: ward.last}
    assert ward.put_away(BOB, 0) == OK
    assert ward.node.effects() == (ConversationPutAway(BOB, ward.channel),)
    assert ward.put_away(BOB, 0) == OK
    assert ward.node.effects() == ()
    assert ward.marks() == {}


def test_a_device_that_is_behind_does_not_take_back_what_another_one_has_put_away(ward: TidyWard) -> None:
    assert ward.put_away(BOB, ward.last) == OK
    assert ward.put_away(BOB, ward.first) == OK
    assert ward.node.effects() == ()
    assert ward.marks() == {BOB: ward.last}


def test_nothing_is_put_away_beyond_the_last_message_so_the_next_one_brings_it_back(ward: TidyWard) -> None:
    assert ward.put_away(BOB, MAX_ID) == OK
    assert ward.put_away(BOB, (1 << 64) - 1) == OK, "no id that SQLite could hold"
    assert ward.marks() == {BOB: ward.last}


def test_nobody_puts_away_what_it_may_not_read(ward: TidyWard) -> None:
    assert ward.put_away(CID, ward.last) == NONE
    assert ward.put_away(ADA, ward.last, conversation_id=99) == NONE
    assert ward.put_away(ADA, ward.last, conversation_id=1 << 63) == NONE, "no id that SQLite could hold"
    assert ward.marks() == {}


def test_everyone_is_put_away_once_it_has_a_message(ward: TidyWard) -> None:
    assert ward.put_away(CID, ward.last, EVERYONE_ID) == NONE
    ward.node.one(sends(ward.sessions[ADA], (3, ConversationId(EVERYONE_ID), "all")), level=PUT_AWAY_LEVEL)
    assert ward.put_away(CID, MAX_ID, EVERYONE_ID) == OK
    assert ward.marks(EVERYONE_ID) == {CID: ward.last + 1}


def test_who_leaves_a_channel_and_comes_back_finds_it_put_away(ward: TidyWard) -> None:
    assert ward.put_away(BOB, ward.last) == OK
    leave = pb.LeaveChannel(session_id=ward.sessions[BOB], conversation_id=ward.channel)
    assert ward.node.one(pb.Command(leave_channel=leave), level=PUT_AWAY_LEVEL).code == OK
    assert ward.marks() == {BOB: ward.last}
    assert ward.put_away(BOB, 0) == OK, "it still reads what it had"
    assert ward.put_away(BOB, ward.last) == OK
    add = pb.AddMembers(session_id=ward.sessions[ADA], conversation_id=ward.channel, members=[BOB])
    assert ward.node.one(pb.Command(add_members=add), level=PUT_AWAY_LEVEL).code == OK
    assert ward.marks() == {BOB: ward.last}


def test_the_mark_of_who_left_tells_nothing_of_what_came_after(ward: TidyWard) -> None:
    leave = pb.LeaveChannel(session_id=ward.sessions[BOB], conversation_id=ward.channel)
    assert ward.node.one(pb.Command(leave_channel=leave), level=PUT_AWAY_LEVEL).code == OK
    left = ward.node.reader.last_message_id()
    ward.node.one(sends(ward.sessions[ADA], (3, ConversationId(ward.channel), "x")), level=PUT_AWAY_LEVEL)
    assert ward.put_away(BOB, MAX_ID) == OK
    assert ward.marks() == {BOB: left}


def test_nothing_is_kept_of_an_account_that_was_deleted(ward: TidyWard) -> None:
    ward.node.one(sends(ward.sessions[ADA], (3, ConversationId(EVERYONE_ID), "all")), level=PUT_AWAY_LEVEL)
    for account_id in (BOB, CID):
        assert ward.put_away(account_id, MAX_ID, EVERYONE_ID) == OK
    ward.node.login(BOB, 60)
    assert ward.node.one(delete_account(ward.node.token), level=PUT_AWAY_LEVEL).code == OK
    assert ward.marks(EVERYONE_ID) == {CID: ward.last + 1}


def test_without_a_session_nothing_is_put_away(ward: TidyWard) -> None:
    ward.sessions[BOB] = 999
    assert ward.put_away(BOB, ward.last) == pb.RESULT_CODE_SIGNED_OUT
    assert ward.marks() == {}


def test_below_its_level_the_command_is_unknown_and_nothing_is_put_away(node: Node) -> None:
    session = node.user("ada", 10)
    command = pb.SetPutAway(session_id=session, conversation_id=1, up_to=1)
    assert node.one(pb.Command(set_put_away=command)).code == pb.RESULT_CODE_UNKNOWN_COMMAND
    assert put_away.put_away_up_to(node.reader, ADA, 1) == 0
