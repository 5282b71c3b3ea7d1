"""Finds members of a channel by the beginning of a name, for the completion of mentions. No Qt.

The lists are sorted once for each set of members. A search begins at a place in them and takes what follows, so a key
costs no more in a channel of many thousand members than in a small one.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from itertools import chain

from parley import Account
from parley.chat import safe_name

MOST_SHOWN = 8
_WORD = re.compile(r"[^\W_]+")


class Candidates:
    """The accounts that can be mentioned: neither deleted ones nor the own one."""

    def __init__(self, accounts: Iterable[Account], own_id: int) -> None:
        """Sort the accounts for the search."""
        usable = {one.id: one for one in accounts if not one.deleted and one.id != own_id}
        self._by_name = sorted((one.name.casefold(), one.id, one) for one in usable.values())
        self._by_word = sorted((word, id_, one) for name, id_, one in self._by_name for word in _other_words(one, name))

    def __len__(self) -> int:
        return len(self._by_name)

    def matching(self, typed: str) -> list[Account]:
        """Return at most MOST_SHOWN accounts: first by the beginning of the name, then by that of another word."""
        typed = typed.casefold()
        by_word = _beginning(self._by_word, typed) if typed else iter(())
        found: dict[int, Account] = {}
        for account in chain(_beginning(self._by_name, typed), by_word):
            found[account.id] = account
            if len(found) == MOST_SHOWN:
                break
        return list(found.values())


def _beginning(entries: list[tuple[str, int, Account]], typed: str) -> Iterator[Account]:
    for at in range(bisect_left(entries, (typed,)), len(entries)):
        text, _, account = entries[at]
        if not text.startswith(typed):
            return
        yield account


def _other_words(account: Account, folded_name: str) -> set[str]:
    """Return the words of the display name, and those of the account name that do not begin it."""
    return {*_WORD.findall(safe_name(account.display_name).casefold()), *_WORD.findall(folded_name)[1:]}
