"""Who may do what: one table, used when a command is applied and by the api before it is proposed."""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Final


class Role(IntEnum):
    """The roles of accounts, as stored."""

    USER = 0
    ADMINISTRATOR = 1


class Action(IntEnum):
    """What somebody who is signed in may want to do."""

    SEND_MESSAGES = auto()
    MARK_MESSAGES = auto()
    CREATE_CHANNEL = auto()
    DELETE_OWN_ACCOUNT = auto()
    SET_OWN_DISPLAY_NAME = auto()
    SET_ROLE = auto()
    CHANGE_SETTINGS = auto()
    CHANGE_CLUSTER = auto()
    CHANGE_OWN_PASSWORD = auto()
    MANAGE_OWN_DEVICES = auto()
    CLAIM_ADMINISTRATOR = auto()  # the code is the proof
    INVITE = auto()
    RESET_PASSWORD = auto()
    SUSPEND_ACCOUNT = auto()
    RELEASE_ACCOUNT = auto()
    LIFT_DELAY = auto()
    SET_TIME = auto()
    IMPORT_ACCOUNTS = auto()
    JOIN_CHANNEL = auto()
    HIDE_ITSELF = auto()
    MUTE_CONVERSATION = auto()
    PUT_CONVERSATION_AWAY = auto()
    REMOVE_CONVERSATION = auto()
    BACK_UP = auto()
    READ_AUDIT = auto()
    SET_QUOTA = auto()
    CHANGE_CHANNEL = auto()  # the caller's role in the channel decides
    FOLLOW_EVENTS = auto()


_EVERYBODY: Final = frozenset(Role)
_ADMINISTRATORS: Final = frozenset({Role.ADMINISTRATOR})

ALLOWED: Final[dict[Action, frozenset[Role]]] = {
    Action.SEND_MESSAGES: _EVERYBODY,
    Action.MARK_MESSAGES: _EVERYBODY,
    Action.CREATE_CHANNEL: _EVERYBODY,
    Action.DELETE_OWN_ACCOUNT: _EVERYBODY,
    Action.SET_OWN_DISPLAY_NAME: _EVERYBODY,
    Action.SET_ROLE: _ADMINISTRATORS,
    Action.CHANGE_SETTINGS: _ADMINISTRATORS,
    Action.CHANGE_CLUSTER: _ADMINISTRATORS,
    Action.CHANGE_OWN_PASSWORD: _EVERYBODY,
    Action.MANAGE_OWN_DEVICES: _EVERYBODY,
    Action.CLAIM_ADMINISTRATOR: _EVERYBODY,
    Action.INVITE: _ADMINISTRATORS,
    Action.RESET_PASSWORD: _ADMINISTRATORS,
    Action.SUSPEND_ACCOUNT: _ADMINISTRATORS,
    Action.RELEASE_ACCOUNT: _ADMINISTRATORS,
    Action.LIFT_DELAY: _ADMINISTRATORS,
    Action.SET_TIME: _ADMINISTRATORS,
    Action.IMPORT_ACCOUNTS: _ADMINISTRATORS,
    Action.JOIN_CHANNEL: _EVERYBODY,
    Action.HIDE_ITSELF: _EVERYBODY,
    Action.MUTE_CONVERSATION: _EVERYBODY,
    Action.PUT_CONVERSATION_AWAY: _EVERYBODY,
    Action.REMOVE_CONVERSATION: _EVERYBODY,
    Action.BACK_UP: _ADMINISTRATORS,
    Action.READ_AUDIT: _ADMINISTRATORS,
    Action.SET_QUOTA: _ADMINISTRATORS,
    Action.CHANGE_CHANNEL: _EVERYBODY,
    Action.FOLLOW_EVENTS: _ADMINISTRATORS,
}


def is_allowed(role: int, action: Action) -> bool:
    """Whether an account of that role may do it."""
    return role in ALLOWED[action]
