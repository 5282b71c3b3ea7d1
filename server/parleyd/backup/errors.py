"""Why a backup or a recovery cannot be made or used. Each text says what happened, and that nothing was changed."""

from __future__ import annotations


class BackupError(Exception):
    """A backup that cannot be used as asked; nothing was changed."""


class BackupDamagedError(BackupError):
    """The file is no backup, or not what was written."""


class BackupReleaseError(BackupError):
    """The file needs a newer release; nothing is wrong with it."""


class BackupBusyError(Exception):
    """This node makes a backup already."""

    def __init__(self) -> None:
        super().__init__("This node makes a backup already, and makes one at a time. Try again later, or another node.")


class RecoveryRefusedError(Exception):
    """There is nothing to recover, or this directory must not be recovered. Nothing was changed."""
