"""What administrators ask for, as lines of the log and events: that it was asked, and that it was refused or failed.

A request is told before it is carried out, so that a node that dies meanwhile has told it. Its role may have ended in
what this node has not applied yet. So a request that was told and then refused is told again, with the reason.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass

import grpc
import structlog

from parleyd.machine.authorisation import Action


@dataclass(frozen=True, slots=True)
class _Asked:
    action: str
    by: str
    about: str


_ASKED: ContextVar[_Asked | None] = ContextVar("asked", default=None)
"""What the call of this task asks for as an administrator; None once it has failed."""


def log_admin_action(account: str, action: Action, about: str) -> None:
    """Log that an administrator asked for something, or that somebody became one."""
    asked = _Asked(action.name.lower(), account, about)
    _ASKED.set(asked)
    structlog.get_logger("api").info("admin_action", action=asked.action, by=asked.by, about=asked.about)


def log_failed_admin_action(status: grpc.StatusCode) -> None:
    """Log, once, that what this call asks for as an administrator ended with `status`; without that, do nothing."""
    asked = _ASKED.get()
    if asked is not None:
        _ASKED.set(None)
        structlog.get_logger("api").info(
            "admin_action_failed", action=asked.action, by=asked.by, about=asked.about, code=status.name
        )
