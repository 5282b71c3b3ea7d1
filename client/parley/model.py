"""The records that the SDK returns: frozen, free of gRPC and SQLite, and safe to pass to other threads."""

from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from parley.cluster_model import Suspension
from parley.errors import BadInputError


class MessageStatus(IntEnum):
    """The status of one own message. It never states more than the client knows.

    WAITING: in the outbox, can be edited and cancelled. SENDING: sent to the cluster, outcome not known yet. ACCEPTED:
    on a majority's disks. DELIVERED, READ: all other members have received it, have read it. FAILED: refused for good.
    UNKNOWN: the cluster no longer tells whether it stored or refused the message, so only a person may send it again.
    """

    WAITING = 1
    SENDING = 2
    ACCEPTED = 3
    FAILED = 4
    DELIVERED = 5
    READ = 6
    UNKNOWN = 7

    @property
    def needs_person(self) -> bool:
        """Return true if only a person may send the message again: it failed, or its outcome is not known."""
        return self in (MessageStatus.FAILED, MessageStatus.UNKNOWN)


MAX_UNREAD_MENTIONS: Final = 1000
"""How many unread mentions of one conversation are counted: the newest."""

FINAL = frozenset(MessageStatus) - {MessageStatus.WAITING, MessageStatus.SENDING}


@dataclass(frozen=True, slots=True)
class Device:
    """A device of the own account. `logged_in_at_ms` is the time of its last log-in, 0 if that is not kept any more."""

    id: str
    label: str
    logged_in_at_ms: int
    signed_in: bool
    current: bool


class ConversationKind(IntEnum):
    """The kinds of conversations, with the numbers of the wire. UNKNOWN: of a later release, or not known yet.

    EVERYONE is one conversation, to which every account of the cluster belongs.
    """

    UNKNOWN = 0
    DIRECT = 1
    CHANNEL = 2
    EVERYONE = 3


class MemberRole(IntEnum):
    """The roles of a member of a conversation, with the numbers of the wire.

    A MODERATOR adds and removes members and changes the channel. An OWNER also sets roles.
    """

    UNKNOWN = 0
    MEMBER = 1
    OWNER = 2
    MODERATOR = 3


class MessageKind(IntEnum):
    """The kinds of rows of a conversation, with the numbers of the wire. UNKNOWN: of a later release.

    TEXT is a message of a person. The others are events of the conversation. `body` holds the title of CHANNEL_CREATED
    and TITLE_CHANGED, and the topic of TOPIC_CHANGED, which is empty if the topic was removed. `subjects` holds the
    accounts of MEMBERS_JOINED and MEMBERS_LEFT.
    """

    UNKNOWN = 0
    TEXT = 1
    CHANNEL_CREATED = 2
    MEMBERS_JOINED = 3
    MEMBERS_LEFT = 4
    TITLE_CHANGED = 5
    TOPIC_CHANGED = 6
    ARCHIVED = 7
    REOPENED = 8


@dataclass(frozen=True, slots=True)
class Target:
    """The recipient of a message: exactly one of an account by name, an account by id, or a conversation."""

    account: str = ""
    account_id: int = 0
    conversation_id: int = 0

    def __post_init__(self) -> None:
        if bool(self.account) + bool(self.account_id) + bool(self.conversation_id) != 1:
            raise BadInputError(
                "A message needs one recipient: the name or the id of an account, or the id of a conversation. "
                "Nothing was sent. Name one."
            )

    @classmethod
    def of(cls, target: "str | Target") -> "Target":
        """Return `target`, or the target for an account name.

        Raise BadInputError for an empty name, and for an id that no cluster assigns.
        """
        if isinstance(target, str):
            return cls(account=target)
        if not (0 <= target.account_id < 2**63 and 0 <= target.conversation_id < 2**63):
            raise BadInputError(f"No cluster has the id of {target}. Nothing was sent. Use an id that it assigned.")
        return target

    def __str__(self) -> str:
        if self.account:
            return self.account
        return f"account {self.account_id}" if self.account_id else f"conversation {self.conversation_id}"


EVERYONE = Target(conversation_id=1 << 40)
"""The recipient of a message to all accounts of the cluster."""


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the cluster. `display_name` is shown beside the name, never instead of it.

    Only the lists that an administrator asks for tell whether an account is suspended.
    """

    id: int
    name: str
    display_name: str = ""
    deleted: bool = False
    suspended: Suspension | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a conversation, and up to which message id it has received and read.

    It was sent the messages from `first_message_id` on, with 0 all.
    """

    account_id: int
    role: MemberRole = MemberRole.MEMBER
    delivered_up_to: int = 0
    read_up_to: int = 0
    first_message_id: int = 0


@dataclass(frozen=True, slots=True)
class ReceiptCounts:
    """How far the own messages have come in a channel of more than 64 members, whose marks are not known one by one.

    `others`, `delivered` and `read` are those of the message `message_id`. `delivered_to_all` and `read_by_all` are the
    ids up to which all others have come. No message below `sent_from` was sent to anybody who is another member now.
    """

    message_id: int
    others: int
    delivered: int
    read: int
    delivered_to_all: int
    read_by_all: int
    sent_from: int


@dataclass(frozen=True, slots=True)
class Outgoing:
    """The state of one own message of this device.

    `conversation_id` is known once the cluster has accepted the message. `known_index` is how much of the cluster's log
    this device had seen when the message was written. A name that had another owner after that is refused.
    """

    local_id: int
    target: Target
    body: str
    created_at_ms: int
    status: MessageStatus
    number: int = 0
    message_id: int = 0
    conversation_id: int = 0
    sent_at_ms: int = 0
    detail: str = ""
    known_index: int = 0
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Message:
    """One row of a conversation as the cluster stores it. Ids are comparable within one conversation only.

    `mine` is true for messages of the own account, from any device. `number` is the send number of this device, or 0 if
    another device sent the message. It identifies the message of the outbox even before its acceptance is recorded
    there.
    """

    conversation_id: int
    id: int
    kind: MessageKind
    sender_id: int
    body: str
    sent_at_ms: int
    mine: bool
    number: int = 0
    subjects: tuple[int, ...] = ()
    urgent: bool = False


class LostOrigin(IntEnum):
    """Who sent a message that the cluster does not have any more. Only those of THIS_DEVICE can be sent again."""

    OTHERS = 0
    THIS_DEVICE = 1
    OTHER_DEVICE = 2


@dataclass(frozen=True, slots=True)
class LostMessage:
    """A message that this device holds and that the cluster lost when it was restored. `id` is a number on this device.

    `conversation` and `sender` are names. `conversation_id` is the conversation in the restored cluster, 0 for none.
    There it stands after the message `after_id`. `target` is for sending it again, None if there is no recipient now.
    """

    id: int
    origin: LostOrigin
    conversation: str
    sender: str
    body: str
    sent_at_ms: int
    conversation_id: int = 0
    after_id: int = 0
    target: Target | None = None
    urgent: bool = False

    @property
    def can_be_resent(self) -> bool:
        """Return true if this device sent it and the cluster has the recipient."""
        return self.origin is LostOrigin.THIS_DEVICE and self.target is not None


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as this account sees it.

    `members` holds the first 64 members in the order of their account ids. `member_count` counts all of them. `title`
    is empty for a direct conversation. `last` is None if no message is known. `read_up_to` is the mark of the own
    account. `unread` counts the messages of others above it. `muted`: the account is notified only of messages that are
    urgent or mention it. `put_away_up_to`, `removed_up_to`: the message up to which the account has put it away or
    removed it, or 0. The other fields below `read_up_to` are those of channels: everybody finds a `public` one and may
    join it; nobody sends to an `archived` one or joins it; with `open_history`, members read what was written before
    they joined.
    `counts` are the latest receipts of own messages in a channel of more than 64 members. `mentions` are the ids of
    unread messages of others that name the own account, as far as this device received them, at most the newest 1,000.
    A direct conversation has none.
    """

    id: int
    kind: ConversationKind
    title: str = ""
    members: tuple[Member, ...] = ()
    member_count: int = 0
    last: Message | None = None
    unread: int = 0
    read_up_to: int = 0
    topic: str = ""
    public: bool = False
    archived: bool = False
    open_history: bool = False
    counts: ReceiptCounts | None = None
    muted: bool = False
    put_away_up_to: int = 0
    removed_up_to: int = 0
    mentions: tuple[int, ...] = ()

    @property
    def is_shared(self) -> bool:
        """Return whether people are mentioned here: in channels, and in the conversation of everyone."""
        return self.kind in (ConversationKind.CHANNEL, ConversationKind.EVERYONE)


@dataclass(frozen=True, slots=True)
class ListedChannel:
    """A channel that the account may see, without its members, and whether the account is a member."""

    channel: Conversation
    joined: bool


@dataclass(frozen=True, slots=True)
class HistoryStart:
    """Where a page of a conversation lies, by message ids. Without any it has the newest messages.

    `before_id`: the newest below it. `after_id`: the oldest above it. `around_id`: older ones, and those from it on,
    each half of the page where there are as many. `first_unread`: around the first one above the
    account's read mark.
    """

    before_id: int = 0
    after_id: int | None = None
    around_id: int | None = None
    first_unread: bool = False

    @property
    def choices(self) -> int:
        """Return how many of them are given; more than one makes no sense."""
        return sum((self.before_id > 0, self.after_id is not None, self.around_id is not None, self.first_unread))


NEWEST: Final = HistoryStart()
"""The newest messages of a conversation."""


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A page of a conversation, oldest first. If `cached` is true, it comes from this device, not from the cluster.

    `conversation` is None if there is none yet, or if this device does not know it. `lost` is what belongs to the page
    and a restored cluster does not have any more. Of a cached page, no message is missing from the id `gapless_from` on
    and below `gapless_below`. Both are 0 if this device does not know, and the id of the last message if it has removed
    messages of this time.
    """

    messages: tuple[Message, ...]
    has_older: bool
    conversation: Conversation | None = None
    has_newer: bool = False
    read_up_to: int = 0  # the account's read mark; 0 if it is not known
    cached: bool = False
    cached_because: str = ""  # why no node answered
    gapless_from: int = 0
    gapless_below: int = 0
    lost: tuple[LostMessage, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """Up to which message another member of a conversation has received and read. It only moves forward."""

    conversation_id: int
    account_id: int
    delivered_up_to: int
    read_up_to: int
