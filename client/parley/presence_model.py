"""Records about who is there. All are immutable."""

from dataclasses import dataclass
from enum import IntEnum

from parley.model import Account


class PresenceState(IntEnum):
    """Whether an account is connected, as far as the asked node knows. The values are those of the wire."""

    UNKNOWN = 0
    """A state of a later release."""
    ONLINE = 1
    AWAY = 2
    OFFLINE = 3


@dataclass(frozen=True, slots=True)
class AccountPresence:
    """Whether an account is there, and since when, or when it was last. Times are Unix times in milliseconds.

    `last_seen_ms` is 0 if it is not known, or the account hides. `all_heard` is false if a node could not be heard
    from, so that an account that is connected only there counts as offline.
    """

    account_id: int
    state: PresenceState
    since_ms: int = 0
    last_seen_ms: int = 0
    all_heard: bool = True


@dataclass(frozen=True, slots=True)
class Typing:
    """An account types in a conversation, as of now. It holds for six seconds, or until a message of it comes."""

    conversation_id: int
    account_id: int


@dataclass(frozen=True, slots=True)
class ConnectedAccount:
    """An account with a connected device, and since when (Unix time), as far as the asked node knows.

    `away`: it has said so on all connected devices.
    """

    account: Account
    since_ms: int
    away: bool = False


@dataclass(frozen=True, slots=True)
class NodeClients:
    """The number of devices that are connected to a node. If `heard` is false, it is not known to the asked node."""

    name: str
    clients: int
    heard: bool


@dataclass(frozen=True, slots=True)
class ConnectedAccounts:
    """Who is connected now. `clients` counts the devices of all nodes that were heard, also of hidden accounts.

    `hidden` is true if the own account is hidden from others. It is in its own list.
    """

    accounts: tuple[ConnectedAccount, ...]
    nodes: tuple[NodeClients, ...]
    clients: int
    hidden: bool

    @property
    def unheard(self) -> tuple[str, ...]:
        """Return the nodes whose clients are not in the list, because they could not be heard from."""
        return tuple(node.name for node in self.nodes if not node.heard)
