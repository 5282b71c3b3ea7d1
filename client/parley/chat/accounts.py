"""The accounts that are known here, and their labels.

An account name is always shown. A display name stands beside it, never instead of it: "Ben Ortiz (ben)". So a display
name cannot imitate another account.
"""

from collections.abc import Iterable
from dataclasses import replace

from parley.chat.safe_text import safe_name
from parley.model import Account


def account_label(account: Account) -> str:
    """Return the label of an account: its display name, if there is one, and its account name."""
    name, display_name = safe_name(account.name), safe_name(account.display_name)
    return f"{display_name} ({name})" if display_name else name


class AccountBook:
    """Accounts by id and by name. Account names are case-insensitive."""

    def __init__(self, own_name: str = "") -> None:
        """`own_name` is the account that is signed in."""
        self.own_name = own_name
        self._by_id: dict[int, Account] = {}
        self._ids: dict[str, int] = {}
        self._labels: dict[int, str] = {}

    def add(self, accounts: Iterable[Account]) -> set[int]:
        """Store accounts in their newest state. Return the ids of those that are new or differ.

        Ids grow, and a name has one active account at a time. So of two accounts with one name the older is deleted,
        even if the cluster has not reported that yet.
        """
        changed = set()
        for account in accounts:
            changed |= self._add(account)
        return changed

    def _add(self, account: Account) -> set[int]:
        name = account.name.casefold()
        holder = self._ids.get(name, 0)
        if not account.deleted and holder > account.id:
            account = replace(account, deleted=True)
        if self._by_id.get(account.id) == account:
            return set()
        self._by_id[account.id] = account
        self._labels[account.id] = account_label(account)
        changed = {account.id}
        if not account.deleted:
            self._ids[name] = account.id
            if holder not in (0, account.id):
                self._by_id[holder] = replace(self._by_id[holder], deleted=True)
                changed.add(holder)
        elif holder == account.id:
            del self._ids[name]  # the name may belong to a new account one day
        return changed

    @property
    def own_id(self) -> int:
        """Return the id of the account that is signed in, or 0 while it is not known."""
        return self._ids.get(self.own_name.casefold(), 0)

    def get(self, account_id: int) -> Account | None:
        """Return an account, or None if it is not known here."""
        return self._by_id.get(account_id)

    def find(self, name: str) -> Account | None:
        """Return the account that has this name now, or None if it is not known here."""
        return self._by_id.get(self._ids.get(name.casefold(), 0))

    def name(self, account_id: int) -> str:
        """Return the account name without the display name."""
        account = self._by_id.get(account_id)
        return safe_name(account.name) if account is not None else f"account {account_id}"

    def label(self, account_id: int) -> str:
        """Return the label of an account."""
        return self._labels.get(account_id) or f"account {account_id}"

    def label_of_name(self, name: str) -> str:
        """Return the label of an account. Works for an account of which only the name is known."""
        account = self.find(name)
        return account_label(account) if account is not None else safe_name(name)
