"""What the SDK's thread tells the window: frozen records, handed over by a queued signal, applied by ChatAppState."""

from dataclasses import dataclass
from enum import StrEnum

from parley import Account, Changes, ClientState, Conversation, HistoryPage, Message, Outgoing, Target


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
class Changed:
    """What a watcher of the client was told: the state, own messages, marks, accounts and conversations."""

    changes: Changes


@dataclass(frozen=True, slots=True)
class Learned:
    """Accounts and conversations that the following events name."""

    accounts: tuple[Account, ...]
    conversations: tuple[Conversation, ...]


@dataclass(frozen=True, slots=True)
class OwnListed:
    """Own messages of this device as they stand."""

    messages: tuple[Outgoing, ...]


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
    """A page of a conversation; `before_id` is what was asked for, 0 for the end."""

    target: Target
    before_id: int
    page: HistoryPage


@dataclass(frozen=True, slots=True)
class HistoryFailed:
    """A page could not be had."""

    target: Target
    before_id: int


@dataclass(frozen=True, slots=True)
class DraftLoaded:
    """What was half typed in a conversation when the window was last open."""

    target: Target
    body: str


@dataclass(frozen=True, slots=True)
class AccountsFound:
    """Accounts whose names begin with what was typed."""

    prefix: str
    accounts: tuple[Account, ...]


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
    target: Target | None = None
    body: str = ""


Folded = Learned | OwnListed | Arrived | ConversationsListed | HistoryLoaded | HistoryFailed
Event = SignedIn | SignedOut | StateChanged | Changed | DraftLoaded | AccountsFound | Refused | Folded
