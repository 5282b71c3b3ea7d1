"""The SDK: the library with which front ends, bots and gateways use a Parley cluster.

    async with ParleyClient(["localhost:7600"], ca=Path("ca.pem")) as client:
        await client.login("anna", password)
        await (await client.send("bob", "hello")).accepted()

Import everything from this package. The modules below it may change between releases.
"""

import os

# gRPC reads it when it is imported. Its lines about failed handshakes repeat what the errors of the SDK say. Programs
# that this process starts do not inherit it: a node has a setting of its own.
if "GRPC_VERBOSITY" not in os.environ:
    os.environ["GRPC_VERBOSITY"] = "ERROR"
    import grpc  # noqa: F401 - it reads the variable now

    del os.environ["GRPC_VERBOSITY"]

from parley.administration import MAX_IMPORTED_ACCOUNTS, Administration
from parley.audit_log import AuditFile, AuditPage, AuditRow, AuditSummary, check_audit_file
from parley.audit_log import Chain as AuditChain
from parley.audit_log import row_json as audit_row_json
from parley.backup_file import check_backup
from parley.client import ParleyClient
from parley.client_group import ClientGroup
from parley.client_state import ClientState, ConnectionState, Node
from parley.cluster_model import (
    BackupInfo,
    ClusterGeneration,
    ClusterMember,
    ClusterPing,
    ClusterStatus,
    GenerationKind,
    ImportResult,
    ImportStatus,
    Invitation,
    NewAccount,
    NodePing,
    NodeStatus,
    Quota,
    RevokedCertificate,
    Setting,
    Suspension,
)
from parley.connection import ConnectionManagerSettings
from parley.device.profile import Last, StateDirectory, check_account_name
from parley.device.token_store import TokenStore
from parley.errors import (
    AuditError,
    BackupError,
    BadInputError,
    InvitationNeededError,
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
    TextFilterError,
    TlsError,
    TooLargeError,
    TooLateError,
    TooManyDevicesError,
    UnreachableError,
    WrongPasswordError,
    WrongServiceError,
)
from parley.event_model import ClusterEvent, EventNews, EventsMissed, NodeLost, NodeReached
from parley.fetcher import FetchResult
from parley.lost import LostMessages
from parley.model import (
    EVERYONE,
    FINAL,
    NEWEST,
    Account,
    Conversation,
    ConversationKind,
    Device,
    HistoryPage,
    HistoryStart,
    ListedChannel,
    LostMessage,
    LostOrigin,
    Member,
    MemberRole,
    Message,
    MessageKind,
    MessageStatus,
    Outgoing,
    Receipt,
    ReceiptCounts,
    Target,
)
from parley.naming import find_account, find_channel, find_target, find_visible_channel, whole_number
from parley.net.filter_server import TextFilterServer
from parley.outgoing_message import OutgoingMessage
from parley.own_account import OwnAccount
from parley.presence import Presence
from parley.presence_model import (
    AccountPresence,
    ConnectedAccount,
    ConnectedAccounts,
    NodeClients,
    PresenceState,
    Typing,
)
from parley.private_file import read_private, replace_private, turn_to_change
from parley.reader import MessageReader
from parley.receipt_model import MemberReceipt, MessageReceipts
from parley.receipts import Progress, progress, with_progress
from parley.state_publisher import Changes, StatePublisher
from parley.strict_json import JsonError, parse_json
from parley.sync import SyncClient, SyncMessages
from parley.text_filter import TextFilter, WhenFilterFails, squeeze_blanks
from parley.wire.endpoints import Endpoint, parse_endpoints, parse_host_lists
from parley.wire.node_health import MessageStreamSettings
from parley.wire.policy import PolicySettings

__all__ = [
    "EVERYONE",
    "FINAL",
    "MAX_IMPORTED_ACCOUNTS",
    "NEWEST",
    "Account",
    "AccountPresence",
    "Administration",
    "AuditChain",
    "AuditError",
    "AuditFile",
    "AuditPage",
    "AuditRow",
    "AuditSummary",
    "BackupError",
    "BackupInfo",
    "BadInputError",
    "Changes",
    "ClientGroup",
    "ClientState",
    "ClusterEvent",
    "ClusterGeneration",
    "ClusterMember",
    "ClusterPing",
    "ClusterStatus",
    "ConnectedAccount",
    "ConnectedAccounts",
    "ConnectionManagerSettings",
    "ConnectionState",
    "Conversation",
    "ConversationKind",
    "Device",
    "Endpoint",
    "EventNews",
    "EventsMissed",
    "FetchResult",
    "GenerationKind",
    "HistoryPage",
    "HistoryStart",
    "ImportResult",
    "ImportStatus",
    "Invitation",
    "InvitationNeededError",
    "JsonError",
    "Last",
    "ListedChannel",
    "LostMessage",
    "LostMessages",
    "LostOrigin",
    "Member",
    "MemberReceipt",
    "MemberRole",
    "Message",
    "MessageCancelledError",
    "MessageFailedError",
    "MessageKind",
    "MessageReader",
    "MessageReceipts",
    "MessageStatus",
    "MessageStreamSettings",
    "NameTakenError",
    "NewAccount",
    "NoMajorityError",
    "Node",
    "NodeClients",
    "NodeLost",
    "NodePing",
    "NodeReached",
    "NodeStatus",
    "NotSignedInError",
    "OutboxFullError",
    "OutcomeUnknownError",
    "Outgoing",
    "OutgoingMessage",
    "OverloadedError",
    "OwnAccount",
    "ParleyClient",
    "ParleyError",
    "PolicySettings",
    "Presence",
    "PresenceState",
    "Progress",
    "Quota",
    "Receipt",
    "ReceiptCounts",
    "RefusedError",
    "RevokedCertificate",
    "Setting",
    "StateDirectory",
    "StatePublisher",
    "StillWaitingError",
    "StoreError",
    "Suspension",
    "SyncClient",
    "SyncMessages",
    "Target",
    "TextFilter",
    "TextFilterError",
    "TextFilterServer",
    "TlsError",
    "TokenStore",
    "TooLargeError",
    "TooLateError",
    "TooManyDevicesError",
    "Typing",
    "UnreachableError",
    "WhenFilterFails",
    "WrongPasswordError",
    "WrongServiceError",
    "audit_row_json",
    "check_account_name",
    "check_audit_file",
    "check_backup",
    "find_account",
    "find_channel",
    "find_target",
    "find_visible_channel",
    "parse_endpoints",
    "parse_host_lists",
    "parse_json",
    "progress",
    "read_private",
    "replace_private",
    "squeeze_blanks",
    "turn_to_change",
    "whole_number",
    "with_progress",
]
