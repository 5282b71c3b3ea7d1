"""Invitations for new people: what a link or a file holds, and what an administrator makes it of."""

from parley.inviting.drafting import draft_invitation, read_ca
from parley.inviting.invitation_file import (
    LINK,
    SUFFIX,
    InvitationFile,
    fingerprints,
    is_invitation,
    new_file,
    read_invitation,
)
from parley.inviting.names import check_context_name, is_context_name

__all__ = [
    "LINK",
    "SUFFIX",
    "InvitationFile",
    "check_context_name",
    "draft_invitation",
    "fingerprints",
    "is_context_name",
    "is_invitation",
    "new_file",
    "read_ca",
    "read_invitation",
]
