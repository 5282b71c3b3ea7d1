"""Who asked for a change of the nodes, or for a backup: rows of the audit log for what is no command itself. Level 3.

A membership entry does not say who wanted it, and a backup changes nothing. The node that was asked proposes this
before the change, or when the backup or the drill begins. A retry is recognised by its id, as long as its row is kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from parley_proto.v1 import state_pb2 as pb
from parleyd.machine.audit_actions import AuditAction
from parleyd.machine.authorisation import Action
from parleyd.machine.feature import Feature, SignedInCommand, result
from parleyd.machine.features import audit
from parleyd.machine.features.audit import AUDIT_LEVEL
from parleyd.machine.limits import MAX_NAME_CHARS, REQUEST_ID_BYTES

if TYPE_CHECKING:
    from parleyd.machine.features.sessions import Actor
    from parleyd.machine.state import State

TABLES = """
CREATE TABLE audit_requests(
    request_id BLOB PRIMARY KEY,
    number INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""

ACTIONS: Final[dict[int, AuditAction]] = {
    pb.NOTED_REQUEST_ADD_MEMBER: AuditAction.REQUEST_ADD_MEMBER,
    pb.NOTED_REQUEST_PROMOTE_MEMBER: AuditAction.REQUEST_PROMOTE_MEMBER,
    pb.NOTED_REQUEST_REMOVE_MEMBER: AuditAction.REQUEST_REMOVE_MEMBER,
    pb.NOTED_REQUEST_TRANSFER_LEADERSHIP: AuditAction.REQUEST_TRANSFER,
    pb.NOTED_REQUEST_RESTART_NODE: AuditAction.REQUEST_RESTART,
    pb.NOTED_REQUEST_REBUILD_MEMBER: AuditAction.REQUEST_REBUILD,
    pb.NOTED_REQUEST_BACKUP: AuditAction.REQUEST_BACKUP,
    pb.NOTED_REQUEST_RUN_DRILL: AuditAction.REQUEST_DRILL,
}


def note(state: State, actor: Actor, command: pb.NoteRequest) -> pb.CommandResult:
    """Leave a row of a request. The same one again leaves none."""
    action = ACTIONS.get(command.request)
    if action is None:
        return result(pb.RESULT_CODE_INVALID_NUMBER)
    if len(command.request_id) != REQUEST_ID_BYTES or len(command.node) > MAX_NAME_CHARS:
        return result(pb.RESULT_CODE_INVALID_LENGTH)
    execute = state.connection.execute
    execute("DELETE FROM audit_requests WHERE number <= (SELECT removed_number FROM audit_ends)")
    if execute("SELECT 1 FROM audit_requests WHERE request_id = ?", (command.request_id,)).get is None:
        audit.record(state, actor.account.name, action, command.node)
        execute(
            "INSERT INTO audit_requests(request_id, number) SELECT ?, last_number FROM audit_ends",
            (command.request_id,),
        )
    return result(pb.RESULT_CODE_OK)


FEATURE = Feature(
    "audit_requests",
    tables={AUDIT_LEVEL: TABLES},
    commands={
        "note_request": SignedInCommand(note, Action.CHANGE_CLUSTER, AUDIT_LEVEL, audits=tuple(ACTIONS.values())),
    },
)
