"""Display names: who sees which, what is refused, and that there is none below the level that brings it."""

from __future__ import annotations

import pytest

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.features import accounts
from parleyd.machine.features.accounts import DISPLAY_NAME_LEVEL, AccountChanged
from tests.unit.machine.harness import Node


def set_display_name(session_id: int, display_name: str) -> pb.Command:
    return pb.Command(set_display_name=pb.SetDisplayName(session_id=session_id, display_name=display_name))


def shown(node: Node, name: str) -> str:
    [card] = accounts.matching(node.reader, name, "", 10)
    assert accounts.cards(node.reader, {card.id}) == (card,)
    return card.display_name


def code_of(node: Node, session_id: int, display_name: str) -> pb.ResultCode.ValueType:
    return node.one(set_display_name(session_id, display_name), level=DISPLAY_NAME_LEVEL).code


def test_display_name_is_shown_to_others_and_can_be_taken_away(node: Node) -> None:
    ben = node.user("ben", 1)
    node.rise(DISPLAY_NAME_LEVEL)
    assert shown(node, "ben") == ""
    assert code_of(node, ben, "Ben Ortiz") == pb.RESULT_CODE_OK
    assert node.effects() == (AccountChanged(1),)
    assert shown(node, "ben") == "Ben Ortiz"
    assert code_of(node, ben, "") == pb.RESULT_CODE_OK
    assert shown(node, "ben") == ""


def test_the_same_display_name_again_changes_nothing(node: Node) -> None:
    ben = node.user("ben", 1)
    node.rise(DISPLAY_NAME_LEVEL)
    code_of(node, ben, "Ben Ortiz")
    assert code_of(node, ben, "Ben Ortiz") == pb.RESULT_CODE_OK
    assert node.effects() == ()


@pytest.mark.parametrize("bad", ["x" * 65, "Ben\n", "\u202eBen", "B\u200ben", "\x00"])
def test_display_name_that_is_too_long_or_not_shown_as_written_is_refused(node: Node, bad: str) -> None:
    ben = node.user("ben", 1)
    node.rise(DISPLAY_NAME_LEVEL)
    assert code_of(node, ben, bad) == pb.RESULT_CODE_INVALID_DISPLAY_NAME
    assert shown(node, "ben") == ""


def test_display_name_of_64_characters_is_taken(node: Node) -> None:
    ben = node.user("ben", 1)
    node.rise(DISPLAY_NAME_LEVEL)
    assert code_of(node, ben, "\u00e9" * 64) == pb.RESULT_CODE_OK
    assert shown(node, "ben") == "\u00e9" * 64


def test_below_its_level_the_command_is_unknown_and_nobody_has_a_display_name(node: Node) -> None:
    ben = node.user("ben", 1)
    assert node.one(set_display_name(ben, "Ben Ortiz")).code == pb.RESULT_CODE_UNKNOWN_COMMAND
    assert shown(node, "ben") == ""
