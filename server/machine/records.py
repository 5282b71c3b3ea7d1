"""What the state machine hands out: records read from it, and the effects of applying commands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CommittedEntry:
    """One committed slot of the log. An empty payload is a no-op; `membership` is what the driver wants kept."""

    index: int
    term: int
    payload: bytes = b""
    membership: bytes | None = None


@dataclass(frozen=True, slots=True)
class MemberRow:
    """A cluster member's name and addresses, as it published them."""

    node_id: int
    name: str
    peer_address: str
    client_address: str


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
class MemberPublished:
    """A cluster member told its addresses."""

    row: MemberRow


Effect = MessageStored | ReceiptMoved | SessionClosed | AccountDeleted | MemberPublished
