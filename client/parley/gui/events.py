"""What the SDK's thread tells the window: frozen records, handed over by a queued signal, applied by ChatAppState."""

from dataclasses import dataclass
from enum import StrEnum

from parley.model import ClientState, Conversation, HistoryPage, Message, Outgoing, Receipt


@dataclass(frozen=True, slots=True)
class SignedIn:
    """From here on `account` speaks; everything shown before belongs to somebody else."""

    account: str


@dataclass(frozen=True, slots=True)
class SignedOut:
    """Nobody speaks; `reason` is for people and empty where they asked for it."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class StateChanged:
    """How the client stands towards the cluster."""

    state: ClientState


@dataclass(frozen=True, slots=True)
class OutgoingChanged:
    """Own messages of this device in their newest state."""

    messages: tuple[Outgoing, ...]


@dataclass(frozen=True, slots=True)
class OutgoingRemoved:
    """Own messages that were withdrawn."""

    local_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReceiptsMoved:
    """How far others have come."""

    receipts: tuple[Receipt, ...]


@dataclass(frozen=True, slots=True)
class Arrived:
    """Messages that are new on this device, own ones from other devices among them."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class ConversationsListed:
    """All conversations."""

    conversations: tuple[Conversation, ...]


@dataclass(frozen=True, slots=True)
class HistoryLoaded:
    """A page of a conversation; `before` is what was asked for, 0 for the end."""

    peer: str
    before: int
    page: HistoryPage


@dataclass(frozen=True, slots=True)
class HistoryFailed:
    """A page could not be had."""

    peer: str
    before: int
    text: str


@dataclass(frozen=True, slots=True)
class DraftLoaded:
    """What was half typed to somebody when the window was last open."""

    peer: str
    body: str


@dataclass(frozen=True, slots=True)
class AccountsFound:
    """Names that begin with what was typed."""

    prefix: str
    names: tuple[str, ...]


class Action(StrEnum):
    """What a person asked for."""

    SIGN_IN = "sign in"
    REGISTER = "register"
    SIGN_OUT = "sign out"
    SEND = "send"
    EDIT = "edit"
    CANCEL = "cancel"
    RETRY = "retry"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Refused:
    """What a person asked for was not done; `text` says why. `body` is the text they typed, to be given back."""

    action: Action
    text: str
    peer: str = ""
    body: str = ""


Event = (
    SignedIn
    | SignedOut
    | StateChanged
    | OutgoingChanged
    | OutgoingRemoved
    | ReceiptsMoved
    | Arrived
    | ConversationsListed
    | HistoryLoaded
    | HistoryFailed
    | DraftLoaded
    | AccountsFound
    | Refused
)
