"""The state of a client and of its connection: what a status line shows."""

from dataclasses import dataclass
from enum import StrEnum


class ConnectionState(StrEnum):
    """The state of the connection to the cluster."""

    SIGNED_OUT = "signed out"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    NO_MAJORITY = "no majority"
    SEARCHING = "searching"
    SHARED = "shared"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class Node:
    """One node as the connected node sees it."""

    name: str
    address: str
    up: bool


@dataclass(frozen=True, slots=True)
class ClientState:
    """The data of a status line.

    `problem` states why there is no session, or why messages wait although there is one. If `tls_trouble` is true,
    waiting does not solve that problem.
    If `superseded` is true, another copy of this device's files sends, and messages wait here until a person signs in.
    `notice` states what happened to the cluster's data. `kept_elsewhere`: messages of the account that wait in another
    folder. `lost_sent` counts what this device sent and a restored cluster lost. `last_heard` is of time.monotonic().
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
    superseded: bool = False
    away: bool = False  # what Presence.set_away() said
    notice: str = ""
    kept_elsewhere: str = ""
    lost_sent: int = 0
    last_heard: float | None = None
    max_message_bytes: int = 65536

    @property
    def nodes_up(self) -> int:
        """Return the number of nodes that were up at the last report."""
        return sum(node.up for node in self.nodes)

    @property
    def nodes_total(self) -> int:
        """Return the number of nodes of the cluster at the last report."""
        return len(self.nodes)
