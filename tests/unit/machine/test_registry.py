"""One table of features, one of who may do what: nothing of the wire or of the roles is left out."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from parley_proto.v1 import state_pb2 as pb
from parleyd import machine as machine_package
from parleyd.machine import effects
from parleyd.machine.authorisation import ALLOWED, Action, Role, is_allowed
from parleyd.machine.feature import Command, SignedInCommand
from parleyd.machine.levels import MAX_LEVEL, MIN_LEVEL, RELEASES
from parleyd.machine.registry import COMMANDS, FEATURES, tables_of_level
from tests.unit.machine.harness import Node

# What is asked for outside the commands of a session: by its own proof, or of the cluster's members.
ASKED_FOR_ELSEWHERE = {Action.DELETE_OWN_ACCOUNT, Action.BACK_UP, Action.READ_AUDIT, Action.FOLLOW_EVENTS}
ADMINISTRATORS_ONLY = {
    Action.SET_ROLE,
    Action.CHANGE_SETTINGS,
    Action.CHANGE_CLUSTER,
    Action.INVITE,
    Action.RESET_PASSWORD,
    Action.SUSPEND_ACCOUNT,
    Action.RELEASE_ACCOUNT,
    Action.LIFT_DELAY,
    Action.SET_TIME,
    Action.IMPORT_ACCOUNTS,
    Action.BACK_UP,
    Action.READ_AUDIT,
    Action.SET_QUOTA,
    Action.FOLLOW_EVENTS,
}


def test_every_action_has_its_roles() -> None:
    assert set(ALLOWED) == set(Action)
    for action in Action:
        expected = {Role.ADMINISTRATOR} if action in ADMINISTRATORS_ONLY else {Role.USER, Role.ADMINISTRATOR}
        assert ALLOWED[action] == expected


@pytest.mark.parametrize("role", [-1, 2, 99])
def test_unknown_role_may_do_nothing(role: int) -> None:
    assert not any(is_allowed(role, action) for action in Action)


def test_every_action_is_asked_for_by_some_command() -> None:
    used = {command.action for command in COMMANDS.values() if isinstance(command, SignedInCommand)}
    assert used == set(Action) - ASKED_FOR_ELSEWHERE


def test_every_command_of_the_wire_belongs_to_one_feature_and_has_a_level() -> None:
    names = [name for feature in FEATURES for name in feature.commands]
    assert len(names) == len(set(names))
    assert set(names) == {field.name for field in pb.Command.DESCRIPTOR.fields}
    assert all(1 <= command.level <= MAX_LEVEL for command in COMMANDS.values())


def test_commands_with_a_session_are_those_that_are_checked_for_one() -> None:
    for field in pb.Command.DESCRIPTOR.fields:
        assert field.message_type is not None
        has_session = "session_id" in field.message_type.fields_by_name
        assert isinstance(COMMANDS[field.name], SignedInCommand if has_session else Command), field.name


@pytest.mark.parametrize("name", sorted(n for n, c in COMMANDS.items() if isinstance(c, SignedInCommand)))
def test_command_of_a_session_is_refused_to_everybody_whose_role_does_not_allow_it(
    node: Node, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = node.user("ada", 1)
    command = COMMANDS[name]
    assert isinstance(command, SignedInCommand)
    monkeypatch.setitem(ALLOWED, command.action, frozenset())
    asked = pb.Command()
    getattr(asked, name).session_id = session
    node.rise()
    before = node.one(asked, level=MAX_LEVEL)
    assert before == pb.CommandResult(code=pb.RESULT_CODE_NOT_ALLOWED)
    getattr(asked, name).session_id = session + 1
    assert node.one(asked, level=MAX_LEVEL) == pb.CommandResult(code=pb.RESULT_CODE_SIGNED_OUT)
    assert node.effects() == ()


def test_levels_are_counted_without_a_gap_and_every_table_belongs_to_one() -> None:
    assert sorted(RELEASES) == list(range(MIN_LEVEL, MAX_LEVEL + 1))
    assert {level for feature in FEATURES for level in feature.tables} <= set(RELEASES)
    assert "CREATE TABLE" in tables_of_level(1)
    assert tables_of_level(MAX_LEVEL + 1) == ""


def test_every_effect_of_a_feature_is_in_the_union() -> None:
    """Who delivers effects matches on the union; one that is missing there would be told to nobody."""
    folder = Path(next(iter(machine_package.__path__))) / "features"
    appended = set()
    for path in folder.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            told = isinstance(node, ast.Call | ast.AugAssign) and "state.effects" in ast.unparse(node)
            if told:
                names = {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}
                appended |= {name for name in names if name[0].isupper()}
    union = {member.__name__ for member in effects.Effect.__args__}
    assert appended - {"MembershipChange"} <= union
    assert len(appended) > 5, "this test still finds where effects are told"
