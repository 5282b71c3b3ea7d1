"""Settings: typed, bounded, changed by administrators alone, and what they do when a command is applied."""

from __future__ import annotations

import pytest

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.features import settings
from parleyd.machine.features.settings import SETTINGS, SettingChanged
from parleyd.machine.levels import MAX_LEVEL
from parleyd.machine.limits import MAX_BODY_BYTES
from tests.unit.machine.harness import Node, change_setting, dump, mark_read, sends

OK = pb.RESULT_CODE_OK
INVALID_BODY = pb.RESULT_CODE_INVALID_BODY


@pytest.fixture
def ada(node: Node) -> int:
    """The first account, so an administrator."""
    return node.user("ada", 11)


@pytest.fixture
def bob(node: Node, ada: int) -> int:
    return node.user("bob", 12)


def test_every_setting_has_its_default_until_it_is_changed(node: Node, ada: int) -> None:
    defaults = {name: setting.default for name, setting in SETTINGS.items()}
    assert settings.all_values(node.reader) == {
        name: default for name, default in defaults.items() if SETTINGS[name].level == 1
    }
    node.rise()
    assert settings.all_values(node.reader) == defaults
    node.one(change_setting(ada, "max_message_bytes", 100))
    assert settings.all_values(node.reader) == defaults | {"max_message_bytes": 100}
    node.reopen()
    assert settings.all_values(node.reader)["max_message_bytes"] == 100


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_setting_is_taken_within_its_bounds_alone(node: Node, ada: int, name: str) -> None:
    setting = SETTINGS[name]
    node.rise()
    assert setting.minimum <= setting.default <= setting.maximum
    for value in (setting.minimum, setting.maximum):
        assert node.one(change_setting(ada, name, value), level=MAX_LEVEL).code == OK
        assert node.effects() == (SettingChanged(name, value),)
    for value in (setting.minimum - 1, setting.maximum + 1, -(2**63), 2**63 - 1):
        assert node.one(change_setting(ada, name, value), level=MAX_LEVEL).code == pb.RESULT_CODE_INVALID_SETTING
        assert node.effects() == ()
    assert settings.all_values(node.reader)[name] == setting.maximum


@pytest.mark.parametrize("name", ["", "MAX_MESSAGE_BYTES", "colour", "x" * 10_000])
def test_unknown_setting_is_refused(node: Node, ada: int, name: str) -> None:
    assert node.one(change_setting(ada, name, 1)).code == pb.RESULT_CODE_INVALID_SETTING
    assert dump(node.path)["settings"] == []


def test_setting_of_a_later_level_is_unknown_before_it(node: Node, ada: int, monkeypatch: pytest.MonkeyPatch) -> None:
    later = settings.ClusterSetting("later", 1, 0, 9, "For a test.", level=2)
    monkeypatch.setitem(SETTINGS, "later", later)
    assert node.one(change_setting(ada, "later", 5)).code == pb.RESULT_CODE_INVALID_SETTING
    assert "later" not in settings.all_values(node.reader)


def test_only_an_administrator_changes_a_setting(node: Node, ada: int, bob: int) -> None:
    assert node.one(change_setting(bob, "max_message_bytes", 5)).code == pb.RESULT_CODE_NOT_ALLOWED
    assert node.one(change_setting(99, "max_message_bytes", 5)).code == pb.RESULT_CODE_SIGNED_OUT
    assert node.effects() == ()
    assert settings.all_values(node.reader)["max_message_bytes"] == SETTINGS["max_message_bytes"].default


def test_changing_a_setting_again_is_fine(node: Node, ada: int) -> None:
    results = [node.one(change_setting(ada, "max_message_bytes", 5)) for _ in range(2)]
    assert results == [pb.CommandResult(code=OK)] * 2


def test_longest_message_is_bounded_by_the_setting_when_it_is_applied(node: Node, ada: int) -> None:
    results = node.apply(
        sends(ada, (1, "ada", "x" * 101)),
        change_setting(ada, "max_message_bytes", 100),
        sends(ada, (2, "ada", "x" * 101), (3, "ada", "x" * 100), (4, "ada", "ä" * 51), (5, "ada", "ä" * 50)),
        change_setting(ada, "max_message_bytes", 3),
        sends(ada, (6, "ada", "👩"), (7, "ada", "日"), (8, "ada", "日x"), (9, "ada", "xxx")),
    )
    codes = [[send.code for send in result.send_messages.sends] for result in results]
    assert codes == [[OK], [], [INVALID_BODY, OK, INVALID_BODY, OK], [], [INVALID_BODY, OK, INVALID_BODY, OK]]


def test_no_setting_takes_a_message_that_is_too_long_for_any_cluster(node: Node, ada: int) -> None:
    assert node.one(change_setting(ada, "max_message_bytes", MAX_BODY_BYTES)).code == OK
    longest, too_long = node.send(ada, (1, "ada", "x" * MAX_BODY_BYTES), (2, "ada", "x" * (MAX_BODY_BYTES + 1)))
    assert (longest.code, too_long.code) == (OK, INVALID_BODY)


def test_change_that_is_rolled_back_is_not_remembered(node: Node, ada: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole transaction is applied again when a command fails unforeseen; the cached value must go too."""
    from parleyd.machine.features import receipts

    def broken(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(receipts.Receipts, "marks", broken)
    codes = [
        result.code
        for result in node.apply(
            sends(ada, (1, "ada", "x" * 50)), change_setting(ada, "max_message_bytes", 10), mark_read(ada, 1, 1)
        )
    ]
    assert codes == [OK, OK, pb.RESULT_CODE_FAILED]
    assert node.send(ada, (1, "ada", "x" * 50))[0].code == OK
    assert node.send(ada, (2, "ada", "x" * 50))[0].code == INVALID_BODY
