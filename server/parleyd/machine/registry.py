"""Every feature in one table, and what follows from it: all commands by their field name, all tables by level."""

from __future__ import annotations

from typing import Final

from parleyd.machine.feature import Command, Feature, SignedInCommand
from parleyd.machine.features import (
    account_import,
    accounts,
    administration,
    audit,
    audit_requests,
    channel_members,
    channels,
    codes,
    conversations,
    credentials,
    devices,
    display_names,
    failed_log_ins,
    generations,
    hidden_accounts,
    levels,
    members,
    messages,
    mutes,
    put_away,
    quotas,
    receipts,
    removals,
    revocations,
    sends,
    sessions,
    settings,
    stored_bytes,
    suspensions,
)

FEATURES: Final[tuple[Feature, ...]] = (
    accounts.FEATURE,
    account_import.FEATURE,
    display_names.FEATURE,
    administration.FEATURE,
    suspensions.FEATURE,
    audit.FEATURE,
    audit_requests.FEATURE,
    codes.FEATURE,
    credentials.FEATURE,
    failed_log_ins.FEATURE,
    hidden_accounts.FEATURE,
    sessions.FEATURE,
    devices.FEATURE,
    conversations.FEATURE,
    channels.FEATURE,
    channel_members.FEATURE,
    messages.FEATURE,
    mutes.FEATURE,
    put_away.FEATURE,
    removals.FEATURE,
    sends.FEATURE,
    receipts.FEATURE,
    members.FEATURE,
    revocations.FEATURE,
    settings.FEATURE,
    quotas.FEATURE,
    stored_bytes.FEATURE,
    levels.FEATURE,
    generations.FEATURE,
)

COMMANDS: Final[dict[str, Command | SignedInCommand]] = {
    name: command for feature in FEATURES for name, command in feature.commands.items()
}

GROWING: Final[frozenset[str]] = frozenset(name for name, command in COMMANDS.items() if command.grows)
"""The commands that make the data grow without a bound of their own."""


def tables_of_level(level: int) -> str:
    """Return the SQL that changes a state of the level below to `level`."""
    return "".join(feature.tables.get(level, "") for feature in FEATURES)
