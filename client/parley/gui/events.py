"""The events that the SDK's thread sends to the window by a queued signal. ChatAppState applies these records."""

from dataclasses import dataclass
from enum import StrEnum

from parley import (
    Account,
    AccountPresence,
    Changes,
    ClientState,
    ClusterStatus,
    Conversation,
    Device,
    HistoryPage,
    ListedChannel,
    LostMessage,
    Message,
    MessageReceipts,
    Outgoing,
    Target,
)
from parley.inviting import InvitationFile


@dataclass(frozen=True, slots=True)
class SignedIn:
    """`account` is signed in. Everything shown before belongs to another account."""

    account: str


@dataclass(frozen=True, slots=True)
class SignedOut:
    """Nobody is signed in. `reason` is a text for people, empty if the person signed out."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The state of the client changed."""

    state: ClientState


@dataclass(frozen=True, slots=True)
class Changed:
    """A watcher of the client received changes: the state, own messages, marks, accounts and conversations."""

    changes: Changes


@dataclass(frozen=True, slots=True)
class Learned:
    """The accounts and conversations that the following events name."""

    accounts: tuple[Account, ...]
    conversations: tuple[Conversation, ...]


@dataclass(frozen=True, slots=True)
class OwnListed:
    """Own messages of this device and their status."""

    messages: tuple[Outgoing, ...]


@dataclass(frozen=True, slots=True)
class Arrived:
    """Messages that are new on this device, including own messages of other devices."""

    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class ConversationsListed:
    """All conversations."""

    conversations: tuple[Conversation, ...]


@dataclass(frozen=True, slots=True)
class LostListed:
    """What this device holds and a restored cluster does not have any more."""

    messages: tuple[LostMessage, ...]


@dataclass(frozen=True, slots=True)
class HistoryLoaded:
    """A page of a conversation. `before_id` is the requested place, 0 for the end."""

    target: Target
    before_id: int
    page: HistoryPage


@dataclass(frozen=True, slots=True)
class HistoryFailed:
    """A page could not be loaded."""

    target: Target
    before_id: int


@dataclass(frozen=True, slots=True)
class DraftLoaded:
    """The stored draft of a conversation."""

    target: Target
    body: str


@dataclass(frozen=True, slots=True)
class ReadHere:
    """Up to which message the person has read conversations, in any window on this machine. By conversation id."""

    positions: dict[int, int]


@dataclass(frozen=True, slots=True)
class AccountsFound:
    """The accounts whose names begin with the typed text."""

    prefix: str
    accounts: tuple[Account, ...]


@dataclass(frozen=True, slots=True)
class PasswordChanged:
    """The cluster has the new password."""


@dataclass(frozen=True, slots=True)
class DevicesListed:
    """The devices of the account, the one that signed in last first."""

    devices: tuple[Device, ...]


@dataclass(frozen=True, slots=True)
class Unlocked:
    """The cluster has checked the password of a locked window. `problem` says why it stays locked."""

    problem: str = ""


@dataclass(frozen=True, slots=True)
class HiddenTold:
    """Whether the account is hidden from others."""

    hidden: bool


@dataclass(frozen=True, slots=True)
class NameTold:
    """The display name of the account. `changed`: the person changed it here."""

    display_name: str
    changed: bool = False


@dataclass(frozen=True, slots=True)
class RightsTold:
    """Whether the account is an administrator."""

    administrator: bool


@dataclass(frozen=True, slots=True)
class ClusterTold:
    """What the nodes told of themselves."""

    status: ClusterStatus


@dataclass(frozen=True, slots=True)
class LeaderTold:
    """The leader, because an administrator transferred leadership here."""

    leader: str


@dataclass(frozen=True, slots=True)
class SuspensionTold:
    """An administrator suspended an account here, or released it."""

    name: str
    suspended: bool


@dataclass(frozen=True, slots=True)
class InvitationMade:
    """An invitation was made here, for whoever gets it."""

    invitation: InvitationFile


@dataclass(frozen=True, slots=True)
class InvitationWithdrawn:
    """The invitation for this name was taken back, if nobody has used it."""

    name: str


@dataclass(frozen=True, slots=True)
class ClusterNoted:
    """What people should know of the cluster now. Mostly empty."""

    text: str


@dataclass(frozen=True, slots=True)
class ChannelsListed:
    """The public channels and those of the account."""

    channels: tuple[ListedChannel, ...]


@dataclass(frozen=True, slots=True)
class ChannelJoined:
    """The account is a member of this channel, because the person joined it here."""

    conversation_id: int


@dataclass(frozen=True, slots=True)
class MembersTold:
    """The members of a channel, or those that this device knows if no node answered."""

    conversation_id: int
    accounts: tuple[Account, ...]


@dataclass(frozen=True, slots=True)
class ReceiptsTold:
    """Who has an own message, and which nodes have it on disk."""

    receipts: MessageReceipts


@dataclass(frozen=True, slots=True)
class PresenceTold:
    """Whether an account is there. None: no node could be asked."""

    account_id: int
    presence: AccountPresence | None


SESSION_LEFT = (
    "Nothing of the account is on this machine any more. No majority of the nodes answered, so its session could not "
    "be ended. It ends by itself. Sign this device out on another one, or change the password."
)


class Action(StrEnum):
    """What a person requested."""

    SIGN_IN = "sign in"
    SIGN_IN_ANYWAY = "sign in although the account has no device to spare"
    REGISTER = "register"
    REGISTER_INVITED = "register with the code of an invitation"
    SIGN_OUT = "sign out"
    SEND = "send"
    EDIT = "edit"
    CANCEL = "cancel"
    RETRY = "retry"
    CHANGE_PASSWORD = "change the password"  # noqa: S105 - no secret
    DEVICES = "devices"
    PRESENCE = "presence"
    NAME = "display name"
    CLUSTER = "cluster"
    LOST = "lost messages"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Refused:
    """A request was not carried out. `text` states why. `body` is the text that the person typed, to be returned."""

    action: Action
    text: str
    target: Target | None = None
    body: str = ""


Folded = Learned | OwnListed | LostListed | Arrived | ConversationsListed | ReadHere | HistoryLoaded | HistoryFailed
ClusterAnswer = RightsTold | ClusterTold | LeaderTold | SuspensionTold | InvitationMade | InvitationWithdrawn
AccountTold = PasswordChanged | DevicesListed | HiddenTold | NameTold | Unlocked | ClusterAnswer
ChannelsTold = ChannelsListed | ChannelJoined | MembersTold | ReceiptsTold
Told = ClusterNoted | DraftLoaded | AccountsFound | PresenceTold | AccountTold | ChannelsTold | Refused
Event = SignedIn | SignedOut | StateChanged | Changed | Told | Folded
