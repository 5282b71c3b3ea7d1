"""The receipts of a message as text. Window and terminal show the same texts."""

from collections.abc import Sequence

from parley.chat.accounts import account_label
from parley.chat.safe_text import safe_name
from parley.chat.status_text import counts_text
from parley.model import Account
from parley.receipt_model import MessageReceipts

NAMED = 10


def receipt_line(receipts: MessageReceipts) -> str:
    """Return one line: "on disk at n1, n2, not yet reported by n3; delivered to 3 of 4; read by ann"."""
    parts = [_disks(receipts)]
    if not receipts.others:
        parts.append("nobody else was sent it")
    elif receipts.read >= receipts.others:
        parts.append(counts_text(receipts.delivered, receipts.read, receipts.others))
    else:
        parts.append(counts_text(receipts.delivered, 0, receipts.others))
        if receipts.read:
            readers = [one.account for one in receipts.members if one.read]
            parts.append(f"read by {_named(readers, receipts.read)}")
    return "; ".join(parts)


def missing_lines(receipts: MessageReceipts) -> tuple[str, ...]:
    """Return who has not received the message, and who has not read it yet. Empty if nobody is missing."""
    away = [one.account for one in receipts.members if not one.delivered]
    unread = [one.account for one in receipts.members if one.delivered and not one.read]
    lines = []
    if away and receipts.delivered:
        lines.append(f"Not delivered yet to {_named(away, receipts.others - receipts.delivered)}.")
    if unread and receipts.read:
        lines.append(f"Delivered, but not read yet by {_named(unread, receipts.delivered - receipts.read)}.")
    return tuple(lines)


def _disks(receipts: MessageReceipts) -> str:
    if not receipts.disks_known:
        return "on a majority's disks, at which nodes is not known now"
    at = ", ".join(map(safe_name, receipts.on_disk))
    missing = ", ".join(map(safe_name, receipts.not_on_disk))
    return f"on disk at {at}" + (f", not yet reported by {missing}" if missing else "")


def _named(accounts: Sequence[Account], total: int) -> str:
    """Return the first names, and how many more there are."""
    names = [account_label(account) for account in accounts[:NAMED]]
    more = total - len(names)
    return ", ".join(names) + (f" and {more} more" if more > 0 else "")
