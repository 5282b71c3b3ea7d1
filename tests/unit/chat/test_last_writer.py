"""Whom /reply answers, and when it asks again because somebody else wrote meanwhile."""

from dataclasses import replace
from typing import Any

from parley import MessageKind, Target
from parley.chat import LastWriter
from parley.chat.last_writer import REPLY_SETTLES_S
from tests.unit.client.records import channel, direct, message

BEN, CARL, WARD = 7, 8, 9


def came(writer: LastWriter, conversation_id: int, now_s: float, **changes: Any) -> None:
    conversation = channel(WARD) if conversation_id == WARD else direct(conversation_id)
    writer.came(replace(message(5, conversation_id=conversation_id), **changes), conversation, now_s)


def test_the_answer_goes_to_who_wrote_to_this_account_alone_last() -> None:
    writer = LastWriter()
    assert LastWriter().target is None
    came(writer, BEN, 0.0)
    came(writer, WARD, 0.1)
    came(writer, CARL, 0.2, mine=True)
    came(writer, CARL, 0.3, kind=MessageKind.MEMBERS_JOINED)
    writer.came(message(5, conversation_id=CARL), None, 0.4)
    assert writer.target == Target(conversation_id=BEN)
    assert not writer.has_just_changed(0.5)


def test_an_answer_that_was_typed_while_somebody_else_wrote_is_asked_about_once() -> None:
    writer = LastWriter()
    came(writer, BEN, 0.0)
    came(writer, BEN, 1.0)
    assert not writer.has_just_changed(1.0)
    came(writer, CARL, 2.0)
    assert writer.has_just_changed(2.0 + REPLY_SETTLES_S - 0.1)
    assert not writer.has_just_changed(2.0 + REPLY_SETTLES_S - 0.1), "said again: it is meant"
    assert writer.target == Target(conversation_id=CARL)
    came(writer, BEN, 10.0)
    assert not writer.has_just_changed(10.0 + REPLY_SETTLES_S)
