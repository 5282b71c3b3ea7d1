"""The SDK: what front ends, bots and gateways use to talk to a Parley cluster.

async with ParleyClient(["localhost:7001-7003"], ca=Path("ca.crt")) as client:
    await client.login("anna", password)
    await (await client.send("bob", "hello")).accepted()
"""

from parley.account import OutgoingMessage
from parley.client import ParleyClient
from parley.connection import CarrierSettings
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
    Conversation,
    HistoryPage,
    Mark,
    Message,
    Node,
    NodeStatus,
    Outgoing,
    Phase,
    Status,
)
from parley.net.message_stream import SessionSettings
from parley.observe import Changes
from parley.reader import MessageReader
from parley.wire.policy import PolicySettings

__all__ = [
    "BadInputError",
    "CarrierSettings",
    "Changes",
    "ClientState",
    "ClusterStatus",
    "Conversation",
    "HistoryPage",
    "Mark",
    "Message",
    "MessageCancelledError",
    "MessageFailedError",
    "MessageReader",
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
    "Phase",
    "PolicySettings",
    "RefusedError",
    "SessionSettings",
    "Status",
    "StillWaitingError",
    "StoreError",
    "TlsError",
    "TooLateError",
    "UnreachableError",
    "WrongPasswordError",
    "WrongServiceError",
]
