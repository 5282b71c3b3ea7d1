"""Muted conversations: kept for each account alone, for what it may read, and gone with the account."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.features import mutes
from parleyd.machine.features.memberships import EVERYONE_ID
from parleyd.machine.features.mutes import MUTES_LEVEL, ConversationMuted
from tests.unit.machine.harness import Node, delete_account
from tests.unit.machine.ward import ADA, BOB, CID, NONE, OK, Ward


class MutedWard(Ward):
    """The channel, and who has muted it."""

    def set_muted(self, account_id: int, *, muted: bool = True, conversation_id: int = 0) -> pb.ResultCode.ValueType:
        command = pb.SetMuted(
            session_id=self.sessions[account_id], conversation_id=conversation_id or self.channel, muted=muted
        )
        return self.code_of(pb.Command(set_muted=command))

    def who_muted(self, conversation_id: int = 0) -> list[int]:
        asked = conversation_id or self.channel
        return [one for one in self.sessions if mutes.is_muted(self.node.reader, one, asked)]


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[MutedWard]:
    ward = MutedWard(tmp_path / "state.sqlite", MUTES_LEVEL)
    yield ward
    ward.node.close()


def test_a_member_mutes_a_channel_for_itself_alone_and_is_told_once(ward: MutedWard) -> None:
    assert ward.set_muted(BOB) == OK
    assert ward.node.effects() == (ConversationMuted(BOB, ward.channel),)
    assert ward.set_muted(BOB) == OK, "the same again changes nothing"
    assert ward.node.effects() == ()
    assert ward.who_muted() == [BOB]
    assert ward.set_muted(BOB, muted=False) == OK
    assert ward.node.effects() == (ConversationMuted(BOB, ward.channel),)
    assert ward.set_muted(BOB, muted=False) == OK
    assert ward.node.effects() == ()
    assert ward.who_muted() == []


def test_nobody_mutes_what_it_may_not_read(ward: MutedWard) -> None:
    assert ward.set_muted(CID) == NONE
    assert ward.set_muted(ADA, conversation_id=99) == NONE
    assert ward.set_muted(ADA, conversation_id=1 << 63) == NONE, "no id that SQLite could hold"
    assert ward.who_muted() == []


def test_everybody_may_mute_everyone_before_it_has_a_message(ward: MutedWard) -> None:
    assert ward.set_muted(CID, conversation_id=EVERYONE_ID) == OK
    assert ward.who_muted(EVERYONE_ID) == [CID]


def test_who_leaves_a_channel_and_comes_back_finds_it_muted(ward: MutedWard) -> None:
    assert ward.set_muted(BOB) == OK
    leave = pb.LeaveChannel(session_id=ward.sessions[BOB], conversation_id=ward.channel)
    assert ward.node.one(pb.Command(leave_channel=leave), level=MUTES_LEVEL).code == OK
    assert ward.who_muted() == [BOB]
    assert ward.set_muted(BOB, muted=False) == OK, "it still reads what it had"
    assert ward.set_muted(BOB) == OK
    add = pb.AddMembers(session_id=ward.sessions[ADA], conversation_id=ward.channel, members=[BOB])
    assert ward.node.one(pb.Command(add_members=add), level=MUTES_LEVEL).code == OK
    assert ward.who_muted() == [BOB]


def test_nothing_is_kept_of_an_account_that_was_deleted(ward: MutedWard) -> None:
    for account_id in (BOB, CID):
        assert ward.set_muted(account_id, conversation_id=EVERYONE_ID) == OK
    ward.node.login(BOB, 60)
    assert ward.node.one(delete_account(ward.node.token), level=MUTES_LEVEL).code == OK
    assert ward.who_muted(EVERYONE_ID) == [CID]


def test_without_a_session_nothing_is_muted(ward: MutedWard) -> None:
    ward.sessions[BOB] = 999
    assert ward.set_muted(BOB) == pb.RESULT_CODE_SIGNED_OUT
    assert ward.who_muted() == []


def test_below_its_level_the_command_is_unknown_and_nothing_is_muted(node: Node) -> None:
    session = node.user("ada", 10)
    command = pb.SetMuted(session_id=session, conversation_id=1, muted=True)
    assert node.one(pb.Command(set_muted=command)).code == pb.RESULT_CODE_UNKNOWN_COMMAND
    assert not mutes.is_muted(node.reader, ADA, 1)
