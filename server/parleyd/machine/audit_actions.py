"""What the audit log tells, and why a command is not told there: one decision for each command, made where it is."""

from __future__ import annotations

from enum import Enum, StrEnum, auto


class AuditAction(StrEnum):
    """What happened; the texts are stored, hashed and exported."""

    ACCOUNT_REGISTERED = "account.registered"
    ACCOUNTS_IMPORTED = "accounts.imported"
    ACCOUNT_DELETED = "account.deleted"
    ACCOUNT_SUSPENDED = "account.suspended"
    ACCOUNT_RELEASED = "account.released"
    PASSWORD_CHANGED = "password.changed"  # noqa: S105 - what happened
    PASSWORD_RESET = "password.reset"  # noqa: S105 - the same
    SESSIONS_REVOKED = "sessions.revoked"
    LOG_INS_FAILED = "log-ins.failed"
    DELAY_LIFTED = "delay.lifted"
    ROLE_GRANTED = "role.granted"
    ROLE_REVOKED = "role.revoked"
    ROLE_OFFERED = "role.offered"
    ROLE_CLAIMED = "role.claimed"
    CHANNEL_ROLE_SET = "channel.role-set"
    INVITATION_MADE = "invitation.made"
    QUOTA_SET = "quota.set"
    INVITATION_WITHDRAWN = "invitation.withdrawn"
    SETTING_CHANGED = "setting.changed"
    TIME_SET = "time.set"
    LEVEL_RAISED = "level.raised"
    MEMBER_INVITED = "member.invited"
    MEMBER_TOKEN_USED = "member.token-used"  # noqa: S105 - what happened
    MEMBER_ADDED = "member.added"
    MEMBER_CHANGED = "member.changed"
    MEMBER_REMOVED = "member.removed"
    CERTIFICATE_REVOKED = "certificate.revoked"
    CERTIFICATE_RESTORED = "certificate.restored"
    REQUEST_ADD_MEMBER = "request.add-member"
    REQUEST_PROMOTE_MEMBER = "request.promote-member"
    REQUEST_REMOVE_MEMBER = "request.remove-member"
    REQUEST_TRANSFER = "request.transfer-leadership"
    REQUEST_RESTART = "request.restart-node"
    REQUEST_REBUILD = "request.rebuild-member"
    REQUEST_BACKUP = "request.backup"
    REQUEST_DRILL = "request.drill"
    CLUSTER_RESTORED = "cluster.restored"
    CLUSTER_RECOVERED = "cluster.recovered"


class NotAudited(Enum):
    """Why a command leaves no row."""

    CONTENT = auto()  # what people write, and how far they have read
    CHANNEL = auto()  # the conversation itself has a row of it, with who did it
    OWN_VIEW = auto()  # how an account shows itself, or what it is shown
    ROUTINE = auto()  # a log-in and a log-out of the own device; failed log-ins are told
