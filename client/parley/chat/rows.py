"""A row of a thread as it is shown, and the edits that tell how rows change."""

from dataclasses import dataclass

from parley.model import MessageStatus


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a conversation.

    `sender` is its label. `status` is None for what others wrote and for rows that are no message of a person, which
    have `event` set and a sentence as their body. `first` and `last` are of a run of rows by one sender; `shows_sender`
    asks for the sender's name above the row. `delivered`, `read` and `others` count other members of a channel:
    how many have this own row, how many have read it, and how many there are; 0 in direct conversations.
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

    @property
    def mine(self) -> bool:
        """True for a message that the own account sent."""
        return self.status is not None

    @property
    def editable(self) -> bool:
        """True while it waits here."""
        return self.status is MessageStatus.WAITING

    @property
    def cancellable(self) -> bool:
        """True where it can be withdrawn or put out of sight."""
        return self.status in (MessageStatus.WAITING, MessageStatus.FAILED)

    @property
    def retriable(self) -> bool:
        """True where it can be sent again."""
        return self.status is MessageStatus.FAILED


@dataclass(frozen=True, slots=True)
class RowsInserted:
    """New rows; the first of them stands at `at`."""

    at: int
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class RowsRemoved:
    """Rows that are gone."""

    at: int
    count: int


@dataclass(frozen=True, slots=True)
class RowsChanged:
    """Rows that look different now."""

    at: int
    rows: tuple[Row, ...]


Edit = RowsInserted | RowsRemoved | RowsChanged
