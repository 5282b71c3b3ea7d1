"""What the lock keeps for the next start: the accounts whose windows are locked, and after how long one locks itself.

Closing a locked window and starting it again must not open it. Other programs of the same login of this machine do not
read this file: the lock keeps out people, not programs.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from parley import parse_json, read_private, replace_private, turn_to_change

FILE_NAME = "lock.json"
MAX_BYTES = 65_536
MOST_ACCOUNTS = 256
MOST_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class LockFile:
    """The content. Names are in small letters, because account names ignore case."""

    accounts: tuple[str, ...] = ()
    minutes: int = 0
    is_damaged: bool = False

    def has(self, account: str) -> bool:
        """Return whether the window of an account is locked. One that nobody can know of is locked."""
        return self.is_damaged or account.lower() in self.accounts

    def changed(self, account: str, *, locked: bool) -> "LockFile":
        """Return it with an account locked, or not. At MOST_ACCOUNTS the one locked first is forgotten."""
        others = tuple(one for one in self.accounts if one != account.lower())
        return LockFile((*others, account.lower())[-MOST_ACCOUNTS:] if locked else others, self.minutes)


def load(root: Path) -> LockFile:
    """Return what is stored. A damaged file may have locked everybody: the password opens each window again."""
    try:
        document = parse_json(read_private(root / FILE_NAME, MAX_BYTES))
        accounts, minutes = document["accounts"], document["minutes"]
        is_list = isinstance(accounts, list) and all(isinstance(one, str) for one in accounts)
        if not is_list or type(minutes) is not int:
            return LockFile(is_damaged=True)
        return LockFile(tuple(accounts)[-MOST_ACCOUNTS:], min(max(minutes, 0), MOST_MINUTES))
    except FileNotFoundError:
        return LockFile()
    except (OSError, ValueError, TypeError, KeyError):
        return LockFile(is_damaged=True)


def change(root: Path, changed: Callable[[LockFile], LockFile]) -> tuple[LockFile, bool]:
    """Change what is stored now, and keep what other windows store meanwhile. Return it, and whether it is stored."""
    try:
        with turn_to_change(root / FILE_NAME):
            content = changed(load(root))
            return content, save(root, content)
    except OSError:
        return changed(load(root)), False


def save(root: Path, content: LockFile) -> bool:
    """Store it. Return false if that failed: a full disk must not stop the window, and the person is told."""
    try:
        replace_private(root / FILE_NAME, json.dumps({"accounts": list(content.accounts), "minutes": content.minutes}))
    except OSError:
        return False
    return True
