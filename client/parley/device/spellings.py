"""Folders that an earlier release made for other spellings of an account's name, and what still waits in them.

Account names ignore case. Earlier releases made a folder for each spelling that somebody typed, and each of them is a
device with numbers of its own. So they cannot become one: only its own device can repeat a message that a node may have
got. What waits in them is told instead, with the spelling that opens them.
"""

import itertools
from collections.abc import Iterator
from pathlib import Path

from parley.device.profile import DATABASE, Profile, folder_name, folders_of_spellings, values_in

MAX_LETTERS = 12
"""Of longer names, not all spellings are tried."""


def kept_elsewhere(profile: Profile) -> str:
    """Return a text about messages of the account that wait in other folders; empty if there are none. This blocks."""
    return " ".join(
        _text(folder, waiting, spelling_of(folder, profile.account))
        for folder in folders_of_spellings(profile.directory.parent, profile.account)
        if folder != profile.directory and (waiting := _count_waiting(folder / DATABASE))
    )


def spelling_of(folder: Path, account: str) -> str:
    """Return the spelling of the account's name for which the folder was made, or an empty string."""
    return next((one for one in _spellings(account) if folder_name(one) == folder.name), "")


def _text(folder: Path, waiting: int, spelling: str) -> str:
    messages, them = ("1 message", "it") if waiting == 1 else (f"{waiting} messages", "them")
    waits = "waits" if waiting == 1 else "wait"
    told = (
        f"{messages} of this account {waits} in another folder: {folder}. An earlier release made it for another "
        f"spelling of the name. Nothing is lost, and nothing sends {them} from here."
    )
    if spelling:
        return (
            f"{told} To send {them}: parley login {spelling}, then parley outbox --send --account {spelling}. To only "
            f"see {them}: parley outbox --account {spelling}."
        )
    return (
        f"{told} Sign in with the name spelled as it was then: parley login NAME. Then send {them}: parley outbox "
        "--send."
    )


def _spellings(account: str) -> Iterator[str]:
    yield from (account.lower(), account, account.capitalize(), account.title(), account.upper())
    if sum(character.isalpha() for character in account) <= MAX_LETTERS:
        yield from map("".join, itertools.product(*({one.lower(): 0, one.upper(): 0} for one in account)))


def _count_waiting(database: Path) -> int:
    """Return how many messages are not settled; 0 if the file cannot be read."""
    query = "SELECT count(*) FROM outbox WHERE status IN (1, 2)"
    counted = values_in(database, query)
    return int(counted[0]) if counted else 0
