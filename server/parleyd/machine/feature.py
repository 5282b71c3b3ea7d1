"""Registration of a feature: the tables of each level, and its commands."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import TYPE_CHECKING, Any

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import AuditAction, NotAudited
from parleyd.machine.authorisation import Action

if TYPE_CHECKING:
    from parleyd.machine.features.sessions import Actor
    from parleyd.machine.state import State


@dataclass(frozen=True, slots=True)
class Command:
    """A command without a session: it contains its own proof, or a node proposes it.

    `audits` are the rows that it may leave in the audit log, or why it leaves none.
    """

    apply: Callable[[State, Any], pb.CommandResult]
    level: int = 1
    _: KW_ONLY
    audits: tuple[AuditAction, ...] | NotAudited
    grows: bool = False  # refused while the disks of a majority are nearly full


@dataclass(frozen=True, slots=True)
class SignedInCommand:
    """A command of a session (field `session_id`); it is applied only if the session is live and its role allows it."""

    apply: Callable[[State, Actor, Any], pb.CommandResult]
    action: Action
    level: int = 1
    _: KW_ONLY
    audits: tuple[AuditAction, ...] | NotAudited
    grows: bool = False


@dataclass(frozen=True, slots=True)
class Feature:
    """One feature: `tables` maps a level to the SQL that brings the feature's tables to it."""

    name: str
    tables: Mapping[int, str] = field(default_factory=dict)
    commands: Mapping[str, Command | SignedInCommand] = field(default_factory=dict)


def result(code: pb.ResultCode.ValueType) -> pb.CommandResult:
    """Build a result that has only a code."""
    return pb.CommandResult(code=code)
