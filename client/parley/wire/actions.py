"""What a stream wants done. The protocol (wire/stream.py) decides it and net/message_stream.py carries it out."""

from dataclasses import dataclass
from enum import Enum, auto

from parley.model import Account, Conversation, Message, Node, Outgoing, Receipt
from parley.wire.endpoints import Endpoint
from parley.wire.position import Position


class StreamCloseReason(Enum):
    """Why a stream ended."""

    LOST = auto()
    SILENT = auto()
    NOT_SERVING = auto()
    SIGNED_OUT = auto()
    REPLACED = auto()
    OUT_OF_STEP = auto()
    REFUSED = auto()
    BUSY = auto()


@dataclass(frozen=True, slots=True)
class BeginOutbox:
    """Take in what the cluster applied, and answer with everything unanswered (outbox_begun)."""

    last_send_number: int
    max_message_bytes: int


@dataclass(frozen=True, slots=True)
class TellWelcome:
    """The session began."""

    node_name: str
    account: Account
    max_message_bytes: int


@dataclass(frozen=True, slots=True)
class ClaimSends:
    """Number up to `limit` waiting messages durably as soon as there are any, and answer with them (claimed)."""

    limit: int


@dataclass(frozen=True, slots=True)
class SettleSends:
    """Write down final results and tell people. Telling need not wait: a lost note means asking the cluster again."""

    messages: tuple[Outgoing, ...]
    position: Position


@dataclass(frozen=True, slots=True)
class StoreMessages:
    """Store a batch and the cursor after it in one transaction on top of the cursor before it; answer with stored()."""

    messages: tuple[Message, ...]
    before: bytes
    after: bytes
    caught_up: bool = False


@dataclass(frozen=True, slots=True)
class StoreDirectory:
    """Store accounts and conversations; answer with stored()."""

    accounts: tuple[Account, ...]
    conversations: tuple[Conversation, ...]


@dataclass(frozen=True, slots=True)
class StoreReceipts:
    """Store how far other members have come; answer with stored()."""

    receipts: tuple[Receipt, ...]


@dataclass(frozen=True, slots=True)
class NoteReadSent:
    """Note that a read position was written to the stream."""

    conversation_id: int
    up_to: int


@dataclass(frozen=True, slots=True)
class TellStatus:
    """How the connected node sees the cluster."""

    leader: str
    has_majority: bool
    nodes: tuple[Node, ...]
    position: Position


@dataclass(frozen=True, slots=True)
class TellHealth:
    """Whether commits flow as far as this stream knows."""

    healthy: bool


@dataclass(frozen=True, slots=True)
class TellCaughtUp:
    """All that was queued when the stream began is stored here."""


@dataclass(frozen=True, slots=True)
class FindServing:
    """Ask the other nodes whether one of them serves, and answer with it (serving_found)."""


@dataclass(frozen=True, slots=True)
class Close:
    """End the stream. `better` is a node that says it serves, where one was found."""

    reason: StreamCloseReason
    text: str
    better: Endpoint | None = None


Storing = StoreMessages | StoreDirectory | StoreReceipts
Action = (
    BeginOutbox
    | TellWelcome
    | ClaimSends
    | SettleSends
    | Storing
    | NoteReadSent
    | TellStatus
    | TellHealth
    | TellCaughtUp
    | FindServing
    | Close
)
