"""The columns of a target in a table: a number for its kind, and its name or id as text."""

from enum import IntEnum
from typing import assert_never

from parley.errors import BadInputError
from parley.model import Target


class TargetKind(IntEnum):
    """The values of the column `target_kind`. They are part of the file's format."""

    ACCOUNT = 1
    ACCOUNT_ID = 2
    CONVERSATION = 3


def target_columns(target: Target) -> tuple[int, str]:
    """Return the columns target_kind and target of a target."""
    if target.account:
        return int(TargetKind.ACCOUNT), target.account
    if target.account_id:
        return int(TargetKind.ACCOUNT_ID), str(target.account_id)
    return int(TargetKind.CONVERSATION), str(target.conversation_id)


def target_of(kind: int, value: str) -> Target:
    """Return the target of the columns target_kind and target. Raises ValueError if they name none."""
    try:
        match TargetKind(kind):
            case TargetKind.ACCOUNT:
                return Target(account=value)
            case TargetKind.ACCOUNT_ID:
                return Target(account_id=int(value))
            case TargetKind.CONVERSATION:
                return Target(conversation_id=int(value))
            case other:
                assert_never(other)
    except BadInputError:
        raise ValueError("a stored message has no recipient") from None  # nobody has given it as input
