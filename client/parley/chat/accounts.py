"""The accounts that are known here, and how they are called.

An account name is always shown. A display name stands beside it, never instead of it: "Ben Ortiz (ben)". So nobody can
pass for somebody else by choosing a display name.
"""

from collections.abc import Iterable

from parley.chat.safe_text import safe_name
from parley.model import Account


def account_label(account: Account) -> str:
    """The account as people see it: its display name, if there is one, and its account name."""
    name, display_name = safe_name(account.name), safe_name(account.display_name)
    return f"{display_name} ({name})" if display_name else name


class AccountBook:
    """Accounts by id and by name. Account names do not distinguish upper and lower case."""

    def __init__(self, own_name: str = "") -> None:
        """`own_name` is the account that is signed in."""
        self.own_name = own_name
        self._by_id: dict[int, Account] = {}
        self._ids: dict[str, int] = {}
        self._labels: dict[int, str] = {}

    def add(self, accounts: Iterable[Account]) -> set[int]:
        """Stores accounts in their newest state; returns the ids of those that are new or differ."""
        changed = set()
        for account in accounts:
            if self._by_id.get(account.id) == account:
                continue
            self._by_id[account.id] = account
            self._labels[account.id] = account_label(account)
            changed.add(account.id)
            name = account.name.casefold()
            if not account.deleted:
                self._ids[name] = account.id
            elif self._ids.get(name) == account.id:
                del self._ids[name]  # the name may belong to a new account one day
        return changed

    @property
    def own_id(self) -> int:
        """The id of the account that is signed in, or 0 while it is not known."""
        return self._ids.get(self.own_name.casefold(), 0)

    def get(self, account_id: int) -> Account | None:
        """An account, if it is known here."""
        return self._by_id.get(account_id)

    def find(self, name: str) -> Account | None:
        """The account that has this name now, if it is known here."""
        return self._by_id.get(self._ids.get(name.casefold(), 0))

    def name(self, account_id: int) -> str:
        """The account name alone."""
        account = self._by_id.get(account_id)
        return safe_name(account.name) if account is not None else f"account {account_id}"

    def label(self, account_id: int) -> str:
        """The account as people see it."""
        return self._labels.get(account_id) or f"account {account_id}"

    def label_of_name(self, name: str) -> str:
        """The same for an account of which perhaps only the name is known."""
        account = self.find(name)
        return account_label(account) if account is not None else safe_name(name)
