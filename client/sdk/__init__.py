"""The SDK: what front ends, bots and gateways use to talk to a Parley cluster.

async with ParleyClient(["localhost:7001-7003"], ca=Path("ca.crt")) as client:
    await client.login("anna", password)
    await (await client.send("bob", "hello")).accepted()
"""

from client.sdk.account import OutgoingMessage
from client.sdk.carrier import CarrierSettings
from client.sdk.client import ParleyClient
from client.sdk.errors import (
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
from client.sdk.model import (
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
from client.sdk.observe import Changes
from client.sdk.policy import PolicySettings
from client.sdk.reader import MessageReader
from client.sdk.session import SessionSettings

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
