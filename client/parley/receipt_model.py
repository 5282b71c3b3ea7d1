"""Records of the receipts of one message."""

from dataclasses import dataclass

from parley.model import Account


@dataclass(frozen=True, slots=True)
class MemberReceipt:
    """Whether a member has received and read a message."""

    account: Account
    delivered: bool
    read: bool


@dataclass(frozen=True, slots=True)
class MessageReceipts:
    """Who has received and read an own message, and which nodes have it on disk.

    `others` counts the members besides the sender who were there when the message was sent and have been since;
    `delivered` and `read` count those of them who have received and read it. `members` are their receipts by account
    id: all of them, or the first ones up to the limit of the request.
    `on_disk` and `not_on_disk` name nodes. A node in `not_on_disk` lacks the message, or has not reported it yet. Both
    are empty if `disks_known` is false: no leader answered, or an older release stored the message. A majority has it
    on disk in any case, because the message was accepted.
    `term` and `log_index` are of the message's entry in the cluster's log, 0 if they are not known.
    """

    conversation_id: int
    message_id: int
    others: int
    delivered: int
    read: int
    members: tuple[MemberReceipt, ...]
    disks_known: bool
    on_disk: tuple[str, ...] = ()
    not_on_disk: tuple[str, ...] = ()
    term: int = 0
    log_index: int = 0
