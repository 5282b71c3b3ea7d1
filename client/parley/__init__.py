"""The SDK: what front ends, bots and gateways use to talk to a Parley cluster.

async with ParleyClient(["localhost:7600"], ca=Path("ca.pem")) as client:
    await client.login("anna", password)
    await (await client.send("bob", "hello")).accepted()
"""

from parley.account import OutgoingMessage
from parley.client import ParleyClient
from parley.connection import ConnectionManagerSettings
from parley.errors import (
    BadInputError,
    MessageCancelledError,
    MessageFailedError,
    NameTakenError,
    NoMajorityError,
    NotSignedInError,
    OutboxFullError,
    OutcomeUnknownError,
    OverloadedError,
    ParleyError,
    RefusedError,
    StillWaitingError,
    StoreError,
    TlsError,
    TooLateError,
    UnreachableError,
    WrongPasswordError,
    WrongServiceError,
)
from parley.model import (
    ClientState,
    ClusterStatus,
    ConnectionState,
    Conversation,
    HistoryPage,
    Message,
    MessageStatus,
    Node,
    NodeStatus,
    Outgoing,
    Receipt,
)
from parley.net.message_stream import MessageStreamSettings
from parley.reader import MessageReader
from parley.state_publisher import Changes
from parley.wire.policy import PolicySettings

__all__ = [
    "BadInputError",
    "Changes",
    "ClientState",
    "ClusterStatus",
    "ConnectionManagerSettings",
    "ConnectionState",
    "Conversation",
    "HistoryPage",
    "Message",
    "MessageCancelledError",
    "MessageFailedError",
    "MessageReader",
    "MessageStatus",
    "MessageStreamSettings",
    "NameTakenError",
    "NoMajorityError",
    "Node",
    "NodeStatus",
    "NotSignedInError",
    "OutboxFullError",
    "OutcomeUnknownError",
    "Outgoing",
    "OutgoingMessage",
    "OverloadedError",
    "ParleyClient",
    "ParleyError",
    "PolicySettings",
    "Receipt",
    "RefusedError",
    "StillWaitingError",
    "StoreError",
    "TlsError",
    "TooLateError",
    "UnreachableError",
    "WrongPasswordError",
    "WrongServiceError",
]
