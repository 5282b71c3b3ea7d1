"""A row of a thread, and the edits that describe how rows change."""

from dataclasses import dataclass

from parley.chat.safe_text import safe_body
from parley.mentions import Mention
from parley.model import MessageStatus


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a conversation.

    `sender` is a label. `status` is None for messages of others and for events. Events have `event` set and a sentence
    as their body. `first` and `last` are positions in a run of rows by one sender. `shows_sender` requests the sender's
    name above the row. `delivered`, `read` and `others` count the other members of a channel: how many have this own
    row, how many have read it, and how many there are. They are 0 in direct conversations. With `lost`, this device
    holds the message, and a restored cluster does not have it any more. `mentions` are the places of `shown` that name
    accounts. A direct conversation has none.
    """

    message_id: int
    local_id: int
    sender: str
    body: str
    at_ms: int
    status: MessageStatus | None = None
    detail: str = ""
    new_day: bool = False
    unread_above: bool = False
    first: bool = True
    last: bool = True
    shows_sender: bool = False
    event: bool = False
    delivered: int = 0
    read: int = 0
    others: int = 0
    urgent: bool = False
    lost: bool = False
    gap_above: str = ""
    mentions: tuple[Mention, ...] = ()

    @property
    def shown(self) -> str:
        """Return the body as a front end shows it, without characters that could mislead a reader."""
        return safe_body(self.body)

    @property
    def mentions_me(self) -> bool:
        """Return true for a message of somebody else that names the own account."""
        return not self.mine and any(mention.me for mention in self.mentions)

    @property
    def mine(self) -> bool:
        """Return true for a message of the own account."""
        return self.status is not None

    @property
    def counts_as_unread(self) -> bool:
        """Return true for what others wrote and the cluster has."""
        return not self.mine and not self.event and not self.lost

    @property
    def editable(self) -> bool:
        """Return true while the message waits here."""
        return self.status is MessageStatus.WAITING

    @property
    def cancellable(self) -> bool:
        """Return true if the message can be withdrawn or removed."""
        return self.editable or self.retriable

    @property
    def retriable(self) -> bool:
        """Return true if the message can be sent again."""
        return self.status is not None and self.status.needs_person and not self.lost


@dataclass(frozen=True, slots=True)
class RowsInserted:
    """New rows. The first of them is at `at`."""

    at: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class RowsRemoved:
    """Rows that were removed."""

    at: int
    count: int


@dataclass(frozen=True, slots=True)
class RowsChanged:
    """Rows whose content changed."""

    at: int
    rows: tuple[Row, ...]


Edit = RowsInserted | RowsRemoved | RowsChanged
