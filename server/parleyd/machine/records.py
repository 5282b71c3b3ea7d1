"""What the state machine hands out: records read from it, and the effects of applying commands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A cluster member's name and addresses, as it published them."""

    node_id: int
    name: str
    peer_address: str
    client_address: str


@dataclass(frozen=True, slots=True)
class MembershipChange:
    """What a membership entry makes of the members.

    `encoded` is kept for the driver, unread. `node_ids` are all members from now on, half-removed ones of a joint
    membership included: whoever is not among them is removed for good. `added` says who a newcomer is.
    """

    encoded: bytes
    node_ids: tuple[int, ...]
    added: tuple[MemberRow, ...] = ()


@dataclass(frozen=True, slots=True)
class CommittedEntry:
    """One committed slot of the log. An empty payload is a no-op; `membership` is set for a membership entry."""

    index: int
    term: int
    payload: bytes = b""
    membership: MembershipChange | None = None


@dataclass(frozen=True, slots=True)
class Members:
    """All members' rows by node id, and the ids that were members once and never may be again."""

    rows: tuple[MemberRow, ...]
    removed: tuple[MemberRow, ...]


@dataclass(frozen=True, slots=True)
class MessageRecord:
    """A stored message. `peer` is the other party as seen by the account that asked; empty where nobody did."""

    conversation_id: int
    id: int
    sender_id: int
    sender: str
    body: str
    sent_at_ms: int
    device_id: bytes  # external id of the sending device
    send_number: int
    peer: str = ""


@dataclass(frozen=True, slots=True)
class Recipient:
    """An account that gets a message, and the other party as that account sees it."""

    account_id: int
    peer: str


@dataclass(frozen=True, slots=True)
class MessageStored:
    """A new message; the recipients include the sender, whose other devices get it too."""

    message: MessageRecord
    recipients: tuple[Recipient, ...]


@dataclass(frozen=True, slots=True)
class ReceiptMoved:
    """A member's marks grew; the watchers are all other members."""

    conversation_id: int
    account_id: int
    delivered_up_to: int
    read_up_to: int
    watchers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class SessionClosed:
    """Sessions that ended other than by running out of time."""

    session_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class AccountDeleted:
    """An account is gone, with its sessions and devices."""

    account_id: int


@dataclass(frozen=True, slots=True)
class MembersChanged:
    """Members came, went, or told new addresses; these are all of them now."""

    members: Members


Effect = MessageStored | ReceiptMoved | SessionClosed | AccountDeleted | MembersChanged
