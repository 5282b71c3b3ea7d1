"""Settings that must be equal on all nodes: typed, bounded, changed through the log by administrators."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import AuditAction
from parleyd.machine.authorisation import Action
from parleyd.machine.feature import Feature, SignedInCommand, result
from parleyd.machine.features import audit
from parleyd.machine.limits import MAX_BODY_BYTES

if TYPE_CHECKING:
    from parleyd.machine.features.sessions import Actor
    from parleyd.machine.reader import StateReader
    from parleyd.machine.state import State

TABLES = """
CREATE TABLE settings(
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class ClusterSetting:
    """One setting: a whole number within bounds, and its help. `level` is the first level that has it."""

    name: str
    default: int
    minimum: int
    maximum: int
    help: str
    level: int = 1


SETTINGS: Final[dict[str, ClusterSetting]] = {
    setting.name: setting
    for setting in (
        ClusterSetting(
            "max_message_bytes", 64 * 1024, 1, MAX_BODY_BYTES, "The longest message, in bytes of UTF-8. Default: 65536."
        ),
        ClusterSetting(
            "level_limit",
            0,
            0,
            1_000_000,
            "The highest level that the cluster may rise to. 0: no limit. Default: 0. The level never falls.",
        ),
        ClusterSetting(
            "registration",
            0,
            0,
            2,
            "Who may create an account. 0: everybody. 1: whoever has an invitation. 2: nobody. Default: 0.",
            level=3,
        ),
        ClusterSetting(
            "name_reserved_days",
            90,
            0,
            36_500,
            "The days that the name of a deleted account, and what looks like it, stays reserved. Default: 90.",
            level=3,
        ),
        ClusterSetting(
            "max_account_bytes",
            1 << 30,
            0,
            1 << 50,
            "The bytes of messages that one account has sent and channels that it has created. 0: no limit. "
            "Default: 1073741824.",
            level=3,
        ),
        ClusterSetting(
            "max_account_channels",
            1000,
            0,
            1_000_000,
            "The channels that one account may have created. 0: no limit. Default: 1000.",
            level=3,
        ),
        ClusterSetting(
            "max_channel_members",
            10_000,
            0,
            1_000_000,
            "The members of a channel. 0: no limit. Default: 10000.",
            level=3,
        ),
        ClusterSetting(
            "max_joined_channels",
            1000,
            0,
            1_000_000,
            "The channels that one account may be in when it joins or is added. 0: no limit. Default: 1000.",
            level=3,
        ),
        ClusterSetting(
            "everyone_writers",
            1,
            0,
            1,
            "Who writes in the conversation of everyone. 0: administrators. 1: every account. Default: 1.",
            level=3,
        ),
        ClusterSetting(
            "max_audit_rows",
            100_000,
            100,
            10_000_000,
            "The rows of the audit log. The oldest are removed first. Default: 100000.",
            level=3,
        ),
        ClusterSetting(
            "max_audit_bytes",
            64 << 20,
            1 << 20,
            1 << 36,
            "The bytes of the audit log. The oldest rows are removed first. Default: 67108864.",
            level=3,
        ),
        ClusterSetting(
            "retention_days",
            0,
            0,
            36_500,
            "The days after which messages are removed from all nodes, for good. 0: never. Default: 0.",
            level=3,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class SettingChanged:
    """A setting has another value now."""

    name: str
    value: int


class Settings:
    """The settings' values, read once."""

    def __init__(self, state: State) -> None:
        self._connection = state.connection
        self._values: dict[str, int] = {}
        self.caches = (self._values,)

    def value(self, name: str) -> int:
        """Return the value of a setting, or its default if it was never set."""
        found = self._values.get(name)
        if found is None:
            found = self._connection.execute("SELECT value FROM settings WHERE name = ?", (name,)).get
            self._values[name] = found = SETTINGS[name].default if found is None else found
        return found

    def change(self, name: str, value: int) -> None:
        """Store a value."""
        self._connection.execute("INSERT OR REPLACE INTO settings(name, value) VALUES(?, ?)", (name, value))
        self._values[name] = value

    def forget_all(self) -> None:
        """Read everything from the file again."""
        self._values.clear()


def change_setting(state: State, actor: Actor, command: pb.ChangeSetting) -> pb.CommandResult:
    """Change a setting. Applied again, it changes nothing."""
    setting = SETTINGS.get(command.name)
    if setting is None or setting.level > state.level or not setting.minimum <= command.value <= setting.maximum:
        return result(pb.RESULT_CODE_INVALID_SETTING)
    before = state.settings.value(command.name)
    state.settings.change(command.name, command.value)
    if before != command.value:
        detail = f"{before} -> {command.value}"
        audit.record(state, actor.account.name, AuditAction.SETTING_CHANGED, command.name, detail)
    state.effects.append(SettingChanged(command.name, command.value))
    return result(pb.RESULT_CODE_OK)


FEATURE = Feature(
    "settings",
    tables={1: TABLES},
    commands={
        "change_setting": SignedInCommand(change_setting, Action.CHANGE_SETTINGS, audits=(AuditAction.SETTING_CHANGED,))
    },
)


# ---- queries


def all_values(reader: StateReader) -> dict[str, int]:
    """Return every setting of the cluster's level, with its value."""
    stored: dict[str, int] = dict(reader.rows("SELECT name, value FROM settings"))
    level = reader.level()
    return {name: stored.get(name, one.default) for name, one in SETTINGS.items() if one.level <= level}
