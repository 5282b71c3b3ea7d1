"""The actions of a stream. The protocol (wire/stream.py) returns them and net/message_stream.py carries them out."""

from dataclasses import dataclass
from enum import Enum, auto

from parley.client_state import Node
from parley.model import Account, Conversation, Message, Outgoing, Receipt, ReceiptCounts
from parley.presence_model import Typing
from parley.wire.endpoints import Endpoint
from parley.wire.position import Life, Position


class StreamCloseReason(Enum):
    """The reason why a stream ended."""

    LOST = auto()
    SILENT = auto()
    NOT_SERVING = auto()
    SIGNED_OUT = auto()
    REPLACED = auto()
    OUT_OF_STEP = auto()
    CLUSTER_BEHIND = auto()
    CLUSTER_RESTORED = auto()
    REFUSED = auto()
    BUSY = auto()


@dataclass(frozen=True, slots=True)
class BeginOutbox:
    """Record which sends the cluster applied. Answer with all unanswered ones (outbox_begun)."""

    last_send_number: int
    max_message_bytes: int


@dataclass(frozen=True, slots=True)
class TellWelcome:
    """Report that the session began."""

    node_name: str
    account: Account
    max_message_bytes: int


@dataclass(frozen=True, slots=True)
class ClaimSends:
    """Number up to `limit` waiting messages durably as soon as there are any. Answer with them (claimed)."""

    limit: int


@dataclass(frozen=True, slots=True)
class WithdrawClaim:
    """Answer the claim that waits with what it has got by now, mostly nothing (claimed)."""


@dataclass(frozen=True, slots=True)
class ReturnSends:
    """Make claimed messages wait again. No frame had them, so no node has them. End the stream if that fails."""

    messages: tuple[Outgoing, ...]


@dataclass(frozen=True, slots=True)
class SettleSends:
    """Store final results and report them.

    The report need not wait: if the write is lost, the cluster is asked again.
    """

    messages: tuple[Outgoing, ...]
    position: Position


@dataclass(frozen=True, slots=True)
class StoreMessages:
    """Store a batch and the cursor after it in one transaction, if the cursor before it is stored.

    Answer with stored(). The batch is acknowledged at `acknowledge_at`, or with an earlier one.
    """

    messages: tuple[Message, ...]
    before: bytes
    after: bytes
    caught_up: bool = False
    acknowledge_at: float = float("-inf")


@dataclass(frozen=True, slots=True)
class StoreDirectory:
    """Store accounts and conversations, and which ones are removed up to which message. Answer with stored()."""

    accounts: tuple[Account, ...]
    conversations: tuple[Conversation, ...]
    removed: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class StoreReceipts:
    """Store marks of other members, and counts by the id of a large channel. Answer with stored()."""

    receipts: tuple[Receipt, ...]
    counts: tuple[tuple[int, ReceiptCounts], ...] = ()


@dataclass(frozen=True, slots=True)
class NoteReadSent:
    """Record that a read position was written to the stream."""

    conversation_id: int
    up_to: int


@dataclass(frozen=True, slots=True)
class TellStatus:
    """Report how the connected node sees the cluster."""

    leader: str
    has_majority: bool
    nodes: tuple[Node, ...]
    position: Position


@dataclass(frozen=True, slots=True)
class TellHealth:
    """Report whether commits succeed, as far as this stream knows."""

    healthy: bool


@dataclass(frozen=True, slots=True)
class TellNoRoom:
    """Report why the cluster takes no messages although it serves. An empty text: it takes them again."""

    text: str


@dataclass(frozen=True, slots=True)
class TellSuperseded:
    """Report that another copy of this device's files sends, so this one only reads."""


@dataclass(frozen=True, slots=True)
class TellCaughtUp:
    """Report that everything queued at the begin of the stream is stored here."""


@dataclass(frozen=True, slots=True)
class TellTyping:
    """Report that another member types."""

    typing: Typing


@dataclass(frozen=True, slots=True)
class FindServing:
    """Ask the other nodes whether one of them serves. Answer with it (serving_found)."""


@dataclass(frozen=True, slots=True)
class FindAnother:
    """Ask one other node whether it answers. Answer with it (another_found)."""


@dataclass(frozen=True, slots=True)
class Close:
    """End the stream.

    `better` is a node that serves or answers, if one was found. `life` is what a restored cluster says of the device.
    """

    reason: StreamCloseReason
    text: str
    better: Endpoint | None = None
    life: Life | None = None


Storing = StoreMessages | StoreDirectory | StoreReceipts
Telling = TellWelcome | TellStatus | TellHealth | TellNoRoom | TellSuperseded | TellCaughtUp | TellTyping
Outboxing = BeginOutbox | ClaimSends | WithdrawClaim | ReturnSends | SettleSends
Action = Outboxing | Storing | Telling | NoteReadSent | FindServing | FindAnother | Close
