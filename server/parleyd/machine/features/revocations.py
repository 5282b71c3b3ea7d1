"""Certificates and keys of nodes that administrators revoked: whoever has one makes no call to a node any more.

An entry is the SHA-256 of a certificate, or of the public key info of one. The second covers all certificates of a key,
also those that are not made yet. An entry never ends by itself. A membership entry that adds a node again lifts none.

A revocation is refused if no majority of the voters would have a key that is not revoked: the cluster could not take
it back. The proposing node names the voters, because the state machine does not know which members vote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import AuditAction
from parleyd.machine.authorisation import Action
from parleyd.machine.feature import Feature, SignedInCommand, result
from parleyd.machine.features import audit, members
from parleyd.machine.levels import NODE_KEYS_LEVEL
from parleyd.machine.limits import KEY_DIGEST_BYTES, MAX_NAME_CHARS, MAX_REVOKED_CERTIFICATES
from parleyd.machine.records import RevokedCertificate

if TYPE_CHECKING:
    from parleyd.machine.features.sessions import Actor
    from parleyd.machine.reader import StateReader
    from parleyd.machine.state import State

TABLES = """
CREATE TABLE revoked_certificates(
    digest BLOB PRIMARY KEY,
    name TEXT NOT NULL,
    since_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""


def revoke(state: State, actor: Actor, command: pb.RevokeCertificate) -> pb.CommandResult:
    """Revoke a certificate or key. Applied again, it changes nothing."""
    if len(command.digest) != KEY_DIGEST_BYTES or len(command.name) > MAX_NAME_CHARS:
        return result(pb.RESULT_CODE_INVALID_LENGTH)
    now = members.read(state.connection)
    revoked = {row.digest for row in now.revoked}
    if command.digest in revoked:
        return result(pb.RESULT_CODE_OK)
    if len(revoked) >= MAX_REVOKED_CERTIFICATES:
        return result(pb.RESULT_CODE_TOO_MANY_REVOKED)
    keys = {row.node_id: row.key_digest for row in now.rows}
    voters = [keys[node] for node in command.voters if node in keys]
    left = [key for key in voters if key not in revoked | {command.digest}]
    if command.digest in voters and 2 * len(left) <= len(voters):
        return result(pb.RESULT_CODE_WOULD_STOP_CLUSTER)
    state.connection.execute(
        "INSERT INTO revoked_certificates(digest, name, since_ms) VALUES(?, ?, ?)",
        (command.digest, command.name, state.meta.now_ms),
    )
    audit.record(state, actor.account.name, AuditAction.CERTIFICATE_REVOKED, command.name, _detail(command.digest))
    state.effects.append(members.MembersChanged(members.read(state.connection)))
    return result(pb.RESULT_CODE_OK)


def restore(state: State, actor: Actor, command: pb.RestoreCertificate) -> pb.CommandResult:
    """Take a revocation back. Applied again, it changes nothing."""
    if len(command.digest) != KEY_DIGEST_BYTES:
        return result(pb.RESULT_CODE_INVALID_LENGTH)
    row = next((row for row in members.read(state.connection).revoked if row.digest == command.digest), None)
    if row is not None:
        state.connection.execute("DELETE FROM revoked_certificates WHERE digest = ?", (command.digest,))
        audit.record(state, actor.account.name, AuditAction.CERTIFICATE_RESTORED, row.name, _detail(row.digest))
        state.effects.append(members.MembersChanged(members.read(state.connection)))
    return result(pb.RESULT_CODE_OK)


def _detail(digest: bytes) -> str:
    return f"SHA-256 {digest.hex()}"


FEATURE = Feature(
    "revocations",
    tables={NODE_KEYS_LEVEL: TABLES},
    commands={
        "revoke_certificate": SignedInCommand(
            revoke, Action.CHANGE_CLUSTER, NODE_KEYS_LEVEL, audits=(AuditAction.CERTIFICATE_REVOKED,)
        ),
        "restore_certificate": SignedInCommand(
            restore, Action.CHANGE_CLUSTER, NODE_KEYS_LEVEL, audits=(AuditAction.CERTIFICATE_RESTORED,)
        ),
    },
)


# ---- queries


def all_of(reader: StateReader) -> tuple[RevokedCertificate, ...]:
    """Return what is revoked, the oldest first."""
    return members.current(reader).revoked
