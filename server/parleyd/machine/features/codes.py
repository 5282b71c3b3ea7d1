"""Codes that allow something once: to register with an invitation, or to become an administrator. Level 3.

The state keeps the digest of a code and when it ends. A node offers an administrator's code for whoever has its data
directory (`parleyd admin create`), so no client can become the first administrator without access to a node.
A node that misses the answer offers its code again. So the state keeps such a code until it ends, also when it was used
or withdrawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import AuditAction
from parleyd.machine.authorisation import Action, Role
from parleyd.machine.feature import Command, Feature, SignedInCommand, result
from parleyd.machine.features import audit
from parleyd.machine.limits import CODE_DIGEST_BYTES, MAX_CODES, MAX_ID

if TYPE_CHECKING:
    from parleyd.machine.features.sessions import Actor
    from parleyd.machine.reader import StateReader
    from parleyd.machine.state import State

CODES_LEVEL: Final = 3

TABLES = """
CREATE TABLE codes(
    digest BLOB PRIMARY KEY,
    role INTEGER NOT NULL,
    expires_at_ms INTEGER NOT NULL,
    is_spent INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""


def invite(state: State, actor: Actor, command: pb.Invite) -> pb.CommandResult:
    """Keep an invitation. The same one again changes nothing."""
    made_by = (actor.account.name, AuditAction.INVITATION_MADE)
    return _offer(state, command.digest, Role.USER, command.expires_at_ms, made_by)


def offer_administrator(state: State, command: pb.OfferAdministrator) -> pb.CommandResult:
    """Keep a code that makes an administrator. The same one again changes nothing."""
    made_by = (audit.NODE, AuditAction.ROLE_OFFERED)
    return _offer(state, command.digest, Role.ADMINISTRATOR, command.expires_at_ms, made_by)


def claim_administrator(state: State, actor: Actor, command: pb.ClaimAdministrator) -> pb.CommandResult:
    """Make the caller an administrator. A retry finds the caller an administrator."""
    if actor.account.role == Role.ADMINISTRATOR:
        return result(pb.RESULT_CODE_OK)
    if use(state, command.digest, (Role.ADMINISTRATOR,)) is None:
        return result(pb.RESULT_CODE_INVALID_CODE)
    state.accounts.set_role(actor.account, Role.ADMINISTRATOR)
    audit.record(state, actor.account.name, AuditAction.ROLE_CLAIMED, actor.account.name)
    return result(pb.RESULT_CODE_OK)


def withdraw(state: State, actor: Actor, command: pb.WithdrawCode) -> pb.CommandResult:
    """Remove a code that was not used. One that is not there any more is withdrawn already."""
    if len(command.digest) != CODE_DIGEST_BYTES:
        return result(pb.RESULT_CODE_INVALID_LENGTH)
    row = state.connection.execute("SELECT role FROM codes WHERE digest = ? AND is_spent = 0", (command.digest,)).get
    if row is not None:
        _spend(state, command.digest, Role(row))
        detail = "of an administrator" if Role(row) == Role.ADMINISTRATOR else ""
        audit.record(state, actor.account.name, AuditAction.INVITATION_WITHDRAWN, "", detail)
    return result(pb.RESULT_CODE_OK)


def use(state: State, digest: bytes, roles: tuple[Role, ...]) -> Role | None:
    """Use a code for one of these roles up; return its role, or None if there is no such code any more."""
    row = state.connection.execute(
        "SELECT role FROM codes WHERE digest = ? AND is_spent = 0 AND expires_at_ms > ?", (digest, state.meta.now_ms)
    ).get
    if row is None or Role(row) not in roles:
        return None
    _spend(state, digest, Role(row))
    return Role(row)


def _spend(state: State, digest: bytes, role: Role) -> None:
    is_of_node = role == Role.ADMINISTRATOR
    query = "UPDATE codes SET is_spent = 1 WHERE digest = ?" if is_of_node else "DELETE FROM codes WHERE digest = ?"
    state.connection.execute(query, (digest,))


def _offer(
    state: State, digest: bytes, role: Role, expires_at_ms: int, made_by: tuple[str, AuditAction]
) -> pb.CommandResult:
    if len(digest) != CODE_DIGEST_BYTES:
        return result(pb.RESULT_CODE_INVALID_LENGTH)
    if not state.meta.now_ms < expires_at_ms <= MAX_ID:
        return result(pb.RESULT_CODE_INVALID_EXPIRY)
    execute = state.connection.execute
    execute("DELETE FROM codes WHERE expires_at_ms <= ?", (state.meta.now_ms,))
    # Invitations never use up the room of the codes that nodes offer.
    others = "SELECT count(*) FROM codes WHERE role = ? AND is_spent = 0 AND digest <> ?"
    if execute(others, (int(role), digest)).get >= MAX_CODES:
        return result(pb.RESULT_CODE_TOO_MANY_CODES)
    execute(
        "INSERT INTO codes(digest, role, expires_at_ms, is_spent) VALUES(?, ?, ?, 0) ON CONFLICT(digest) DO NOTHING",
        (digest, int(role), expires_at_ms),
    )
    if state.connection.changes():
        audit.record(state, *made_by, "", f"ends at {expires_at_ms} ms")
    return result(pb.RESULT_CODE_OK)


FEATURE = Feature(
    "codes",
    tables={CODES_LEVEL: TABLES},
    commands={
        "invite": SignedInCommand(invite, Action.INVITE, CODES_LEVEL, audits=(AuditAction.INVITATION_MADE,)),
        "withdraw_code": SignedInCommand(
            withdraw, Action.INVITE, CODES_LEVEL, audits=(AuditAction.INVITATION_WITHDRAWN,)
        ),
        "offer_administrator": Command(offer_administrator, CODES_LEVEL, audits=(AuditAction.ROLE_OFFERED,)),
        "claim_administrator": SignedInCommand(
            claim_administrator, Action.CLAIM_ADMINISTRATOR, CODES_LEVEL, audits=(AuditAction.ROLE_CLAIMED,)
        ),
    },
)


# ---- queries


@dataclass(frozen=True, slots=True)
class WaitingCode:
    """A code that nobody has used."""

    digest: bytes
    role: int
    expires_at_ms: int


def waiting(reader: StateReader, now_ms: int) -> tuple[WaitingCode, ...]:
    """Return the codes that can be used, the one that ends first first: at most MAX_CODES of each role."""
    if reader.level() < CODES_LEVEL:
        return ()
    query = (
        "SELECT digest, role, expires_at_ms FROM codes WHERE is_spent = 0 AND expires_at_ms > ? "
        "ORDER BY expires_at_ms, digest"
    )
    return tuple(WaitingCode(*row) for row in reader.rows(query, (now_ms,)))


def role_of(reader: StateReader, digest: bytes, now_ms: int) -> Role | None:
    """Return the role that a code gives; None if there is no such code, or it is over."""
    if reader.level() < CODES_LEVEL:
        return None
    query = "SELECT role FROM codes WHERE digest = ? AND is_spent = 0 AND expires_at_ms > ?"
    rows = reader.rows(query, (digest, now_ms))
    return Role(rows[0][0]) if rows else None
