"""What the SDK tells its callers: frozen records, free of gRPC and SQLite, safe to hand to another thread."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum

from parley.errors import BadInputError


class ConnectionState(StrEnum):
    """How the client stands towards the cluster."""

    SIGNED_OUT = "signed out"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    NO_MAJORITY = "no majority"
    SEARCHING = "searching"
    SHARED = "shared"
    CLOSED = "closed"


class MessageStatus(IntEnum):
    """What is known about one own message; only ever what is known, never more.

    WAITING: here, in the outbox; can be edited and cancelled. SENDING: handed to the cluster, outcome not known yet.
    ACCEPTED: on a majority's disks. DELIVERED, READ: all other members have it, all other members have seen it. FAILED:
    refused for good, with the reason.
    """

    WAITING = 1
    SENDING = 2
    ACCEPTED = 3
    FAILED = 4
    DELIVERED = 5
    READ = 6


FINAL = frozenset({MessageStatus.ACCEPTED, MessageStatus.FAILED, MessageStatus.DELIVERED, MessageStatus.READ})


class ConversationKind(IntEnum):
    """Kinds of conversations, with the numbers of the wire. UNKNOWN: of a later release, or not told yet."""

    UNKNOWN = 0
    DIRECT = 1
    CHANNEL = 2


class MemberRole(IntEnum):
    """What a member of a conversation may do, with the numbers of the wire."""

    UNKNOWN = 0
    MEMBER = 1
    OWNER = 2


class MessageKind(IntEnum):
    """Kinds of rows of a conversation, with the numbers of the wire. UNKNOWN: of a later release.

    TEXT is what a person wrote. The others tell what happened in the conversation: `body` holds the title of
    CHANNEL_CREATED and TITLE_CHANGED, `subjects` the accounts that MEMBERS_JOINED and MEMBERS_LEFT are about.
    """

    UNKNOWN = 0
    TEXT = 1
    CHANNEL_CREATED = 2
    MEMBERS_JOINED = 3
    MEMBERS_LEFT = 4
    TITLE_CHANGED = 5


@dataclass(frozen=True, slots=True)
class Target:
    """To whom a message goes: exactly one of an account by name, an account by id, or a conversation."""

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
        """Return the target that is meant; a text is the name of an account. Raise BadInputError for no name."""
        return cls(account=target) if isinstance(target, str) else target

    def __str__(self) -> str:
        if self.account:
            return self.account
        return f"account {self.account_id}" if self.account_id else f"conversation {self.conversation_id}"


@dataclass(frozen=True, slots=True)
class Account:
    """An account of the cluster. `display_name` is shown beside the name, never instead of it."""

    id: int
    name: str
    display_name: str = ""
    deleted: bool = False


@dataclass(frozen=True, slots=True)
class Member:
    """A member of a conversation and how far that account has come in it, as message ids."""

    account_id: int
    role: MemberRole = MemberRole.MEMBER
    delivered_up_to: int = 0
    read_up_to: int = 0


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One own message of this device as it stands. `conversation_id` is known once the cluster has taken it."""

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


@dataclass(frozen=True, slots=True)
class Message:
    """One row of a conversation as stored by the cluster. Ids are comparable within one conversation only.

    `mine` is true for those of the own account, from whichever device. `number` is this device's send number where
    this device sent it, otherwise 0. It tells which message of the outbox this is, before the outbox itself has
    learned that it was accepted.
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


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as this account sees it.

    `members` are ordered by account id and are the first 64 where there are more; `member_count` is the number of all.
    `title` is empty for a direct conversation. `last` is None where no message is known. `read_up_to` is the mark
    of the own account, `unread` the number of messages of others above it.
    """

    id: int
    kind: ConversationKind
    title: str = ""
    members: tuple[Member, ...] = ()
    member_count: int = 0
    last: Message | None = None
    unread: int = 0
    read_up_to: int = 0


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A page of a conversation, oldest first. `cached` means it came from this device, not from the cluster.

    `conversation` is None where the two have never spoken, or where this device does not know it.
    """

    messages: tuple[Message, ...]
    more: bool
    conversation: Conversation | None = None
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """Up to which message another member of a conversation has received and read. It only moves forward."""

    conversation_id: int
    account_id: int
    delivered_up_to: int
    read_up_to: int


@dataclass(frozen=True, slots=True)
class Node:
    """One node as the connected node sees it."""

    name: str
    address: str
    up: bool


@dataclass(frozen=True, slots=True)
class ClientState:
    """Everything a front end needs for its status line.

    `problem` says in words why there is no session; `tls_trouble` that it is one which waiting does not mend.
    `last_heard` is on the clock of time.monotonic().
    """

    account: str = ""
    connection: ConnectionState = ConnectionState.SIGNED_OUT
    node: str = ""
    address: str = ""
    leader: str = ""
    nodes: tuple[Node, ...] = ()
    has_majority: bool = False
    lost: str = ""
    trying: str = ""
    waiting: int = 0
    caught_up: bool = False
    problem: str = ""
    tls_trouble: bool = False
    last_heard: float | None = None
    max_message_bytes: int = 65536

    @property
    def nodes_up(self) -> int:
        """Nodes that were up when a node last told us."""
        return sum(node.up for node in self.nodes)

    @property
    def nodes_total(self) -> int:
        """Nodes of the cluster as last told."""
        return len(self.nodes)

    def line(self, now: float) -> str:
        """The status line for people: node, leader, nodes up, what waits, and since when nothing was heard.

        `problem` is part of it only where waiting does not help; what a node said while it died is no news.
        """
        waiting = f"{self.waiting} message{'s' if self.waiting != 1 else ''} waiting" if self.waiting else ""
        match self.connection:
            case ConnectionState.CONNECTED:
                leader = f"leader {self.leader}" if self.leader else "no leader yet"
                parts = [self.node, leader, f"{self.nodes_up} of {self.nodes_total} nodes up", waiting]
            case ConnectionState.NO_MAJORITY:
                up = f"{self.nodes_up} of {self.nodes_total} nodes up"
                parts = [self.node, f"no majority ({up}): nothing can be sent now, what you write is kept", waiting]
            case ConnectionState.SEARCHING | ConnectionState.CONNECTING:
                heard = "" if self.last_heard is None else f"last heard {max(0.0, now - self.last_heard):.0f} s ago"
                lost = f"{self.lost} lost, " if self.lost else ""
                parts = [f"{lost}trying {self.trying}" if self.trying else f"{lost}connecting", waiting, heard]
            case ConnectionState.SIGNED_OUT:
                parts = ["signed out", waiting]
            case ConnectionState.SHARED:
                via = f"{self.node} through another parley on this machine" if self.node else ""
                up = f"{self.nodes_up} of {self.nodes_total} nodes up" if self.nodes else ""
                parts = [via or "another parley on this machine is connected", up, waiting]
            case ConnectionState.CLOSED:
                parts = ["closed", waiting]
        if self.problem and (self.tls_trouble or self.connection is ConnectionState.SIGNED_OUT):
            parts.append(self.problem)
        return " · ".join(part for part in parts if part)


@dataclass(frozen=True, slots=True)
class ClusterMember:
    """One member of the cluster as one node reports it. `min_level` and `max_level` are what its release supports."""

    name: str
    node_id: int
    client_address: str
    peer_address: str
    voter: bool
    connected: bool
    learner: bool = False
    match_index: int = 0
    min_level: int = 0
    max_level: int = 0


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """The answer of one node about itself, or `error` where it gave none.

    `level` is that of the replicated state; `divergence` says why this node's state, or another's, is not trusted.
    """

    address: str
    error: str = ""
    cluster_id: str = ""
    name: str = ""
    role: str = ""
    term: int = 0
    leader: str = ""
    commit_index: int = 0
    applied_index: int = 0
    first_index: int = 0
    last_index: int = 0
    connected_clients: int = 0
    messages_per_second: float = 0.0
    messages_total: int = 0
    serving: bool = False
    pid: int = 0
    uptime_s: float = 0.0
    version: str = ""
    members: tuple[ClusterMember, ...] = ()
    joint: bool = False
    removed: bool = False
    level: int = 0
    min_level: int = 0
    max_level: int = 0
    divergence: str = ""


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting of the whole cluster, its value and its bounds."""

    name: str
    value: int
    default: int
    minimum: int
    maximum: int
    help: str = ""


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """What all known nodes say, one entry per node that answered and one per address that did not."""

    nodes: tuple[NodeStatus, ...]

    @property
    def serving(self) -> bool:
        """True when some node says that commits flow."""
        return any(node.serving for node in self.nodes)

    @property
    def leader(self) -> str:
        """The leader of the highest term anybody reports."""
        named = [node for node in self.nodes if node.leader]
        return max(named, key=lambda node: node.term).leader if named else ""
