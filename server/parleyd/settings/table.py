"""The settings of a node, as one table.

The fields of `Settings` are the table. Each field has its kind, its bounds and its help. The flag, the environment
variable, the key in a file, the validation and the documentation are made from it, so they cannot differ.
server/parleyd/settings/load.py reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, get_args, get_type_hints

from parleyd.settings.kinds import (
    AddressMap,
    BoolSetting,
    Choice,
    FilePath,
    HostPort,
    Integer,
    IpAddresses,
    Kind,
    NodeName,
    OptionalHostPort,
)

ENVIRONMENT_PREFIX = "PARLEYD_"

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class SettingSpec:
    """What the table contains for a setting besides its name, its type and its default."""

    kind: Kind
    group: str
    help: str
    flag: str = ""  # empty: made from the name


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of a node.

    Made directly it is not validated; `load_settings` does that. `client_advertise`, `peer_advertise` and `peers` are
    always filled in: empty ones follow from the other addresses.
    """

    name: Annotated[str, SettingSpec(NodeName(), "Node", "Name of this node, unique in the cluster.")]
    data_dir: Annotated[Path, SettingSpec(FilePath(), "Node", "Folder for all data of this node.")]

    client_listen: Annotated[
        str, SettingSpec(HostPort(), "Addresses", "Address and port on which clients are served.")
    ] = "127.0.0.1:7600"
    peer_listen: Annotated[
        str, SettingSpec(HostPort(), "Addresses", "Address and port on which other nodes are served.")
    ] = "127.0.0.1:7700"
    client_advertise: Annotated[
        str,
        SettingSpec(
            HostPort(),
            "Addresses",
            "Address that clients connect to; default: client_listen. Needed if that is 0.0.0.0 or ::.",
        ),
    ] = ""
    peer_advertise: Annotated[
        str,
        SettingSpec(
            HostPort(),
            "Addresses",
            "Address that other nodes connect to; default: this node's entry in peers, else peer_listen.",
        ),
    ] = ""
    peers: Annotated[
        Mapping[str, str],
        SettingSpec(
            AddressMap(),
            "Addresses",
            "Name and peer address of each first member, this node included; equal on all of them. "
            "Empty: this node alone.",
            "--peer",
        ),
    ] = field(default_factory=dict)
    join: Annotated[
        Mapping[str, str],
        SettingSpec(
            AddressMap("join"),
            "Addresses",
            "Name and peer address of members of a running cluster, which a new node joins.",
            "--join",
        ),
    ] = field(default_factory=dict)
    join_token_file: Annotated[
        Path | None,
        SettingSpec(
            FilePath(),
            "Addresses",
            "File with the token from parley cluster invite-node, which admits this node. Without one, the node waits "
            "for parley cluster add.",
        ),
    ] = None

    use_http_proxy: Annotated[
        bool,
        SettingSpec(
            BoolSetting(),
            "Addresses",
            "Reach other nodes through the proxy that http_proxy, https_proxy or grpc_proxy name.",
        ),
    ] = False

    ca_file: Annotated[Path | None, SettingSpec(FilePath(), "Security", "Certificate of the cluster's CA (PEM).")] = (
        None
    )
    cert_file: Annotated[Path | None, SettingSpec(FilePath(), "Security", "Certificate of this node (PEM).")] = None
    key_file: Annotated[
        Path | None, SettingSpec(FilePath(), "Security", "Private key of this node (PEM, not encrypted).")
    ] = None
    insecure: Annotated[
        bool,
        SettingSpec(
            BoolSetting(), "Security", "Use no TLS: anybody who reaches a port can read messages and act as a node."
        ),
    ] = False
    insecure_network: Annotated[
        bool, SettingSpec(BoolSetting(), "Security", "Allow --insecure with addresses that other machines can reach.")
    ] = False
    reflection: Annotated[
        bool,
        SettingSpec(BoolSetting(), "Security", "Serve gRPC's reflection, which lists all methods to anybody."),
    ] = False
    bcrypt_cost: Annotated[
        int,
        SettingSpec(
            Integer(4, 16),
            "Security",
            "Cost of a password hash; each step doubles it. Less than 10 only with --insecure.",
        ),
    ] = 12
    session_ttl_s: Annotated[
        int, SettingSpec(Integer(1, 3650 * 86_400), "Security", "Time after which a log-in expires, in seconds.")
    ] = 30 * 86_400

    tick_ms: Annotated[
        int,
        SettingSpec(Integer(1, 1_000), "Timing", "Length of a tick, the unit of the timers below, in milliseconds."),
    ] = 25
    heartbeat_ms: Annotated[
        int, SettingSpec(Integer(5, 10_000), "Timing", "Interval between leader heartbeats, in milliseconds.")
    ] = 50
    election_timeout_min_ms: Annotated[
        int,
        SettingSpec(
            Integer(20, 60_000),
            "Timing",
            "Shortest time without a leader's message before a node starts an election, in milliseconds.",
        ),
    ] = 250
    election_timeout_max_ms: Annotated[
        int,
        SettingSpec(
            Integer(30, 120_000),
            "Timing",
            "Longest such time, in milliseconds. Each node draws a random time between the two.",
        ),
    ] = 500
    missed_heartbeats: Annotated[
        int,
        SettingSpec(
            Integer(0, 100),
            "Timing",
            "Heartbeats without a message of a punctual leader after which a node asks for votes early; 0 for never.",
        ),
    ] = 3
    loop_lag_ms: Annotated[
        int,
        SettingSpec(
            Integer(0, 60_000),
            "Timing",
            "Lateness of its event loop above which a leader transfers leadership, in milliseconds; 0 for never.",
        ),
    ] = 150
    shutdown_grace_s: Annotated[
        int,
        SettingSpec(
            Integer(1, 300),
            "Timing",
            "Time that a stop waits for a transfer of leadership and for calls in progress, in seconds.",
        ),
    ] = 10

    max_clients: Annotated[
        int, SettingSpec(Integer(1, 1_000_000), "Limits", "Number of sessions that this node serves at once.")
    ] = 10_000
    max_clients_per_account: Annotated[
        int,
        SettingSpec(
            Integer(1, 1_000_000), "Limits", "Number of sessions of one account that this node serves at once."
        ),
    ] = 32
    max_calls: Annotated[
        int,
        SettingSpec(
            Integer(16, 1_000_000),
            "Limits",
            "Number of calls in progress, without streams. Half are for callers with a session. More get "
            "RESOURCE_EXHAUSTED.",
        ),
    ] = 2_048
    max_calls_per_address: Annotated[
        int,
        SettingSpec(
            Integer(8, 1_000_000),
            "Limits",
            "Number of calls without a session from one address, or from 64 bits of an IPv6 address. A ward may be one "
            "address.",
        ),
    ] = 512
    max_calls_per_account: Annotated[
        int, SettingSpec(Integer(4, 1_000_000), "Limits", "Number of calls in progress of one account.")
    ] = 64
    max_connections: Annotated[
        int,
        SettingSpec(
            Integer(64, 1_000_000),
            "Limits",
            "Number of connections of clients; more are closed. Above three quarters of them, those without a call are "
            "closed. The node raises its limit of open files for them.",
        ),
    ] = 16_384
    handshake_timeout_ms: Annotated[
        int,
        SettingSpec(
            Integer(100, 60_000), "Limits", "Time for a new connection to finish its handshake, in milliseconds."
        ),
    ] = 5_000
    max_streams_per_connection: Annotated[
        int,
        SettingSpec(
            Integer(8, 1_000_000), "Limits", "Number of calls and sessions on one connection; a client waits with more."
        ),
    ] = 256
    max_metadata_bytes: Annotated[
        int, SettingSpec(Integer(4 * KIB, MIB), "Limits", "Size of a call's metadata, in bytes.")
    ] = 8 * KIB
    trusted_gateways: Annotated[
        tuple[str, ...],
        SettingSpec(
            IpAddresses(),
            "Limits",
            "IP addresses of gateways whose `x-forwarded-for` names the client's address; joined by commas.",
        ),
    ] = ()
    max_queued_commands: Annotated[
        int,
        SettingSpec(
            Integer(16, 1_000_000),
            "Limits",
            "Number of commands that wait to enter the log; more get RESOURCE_EXHAUSTED.",
        ),
    ] = 16_384
    max_queued_bytes: Annotated[
        int,
        SettingSpec(Integer(2 * MIB, GIB), "Limits", "Size of these commands, in bytes; more get RESOURCE_EXHAUSTED."),
    ] = 16 * MIB
    max_pipeline_bytes: Annotated[
        int,
        SettingSpec(
            Integer(64 * KIB, GIB),
            "Limits",
            "Size of the commands that the leader has put in the log and not applied, in bytes; more wait in turns.",
        ),
    ] = 512 * KIB
    # At least two of the longest messages that the cluster's setting max_message_bytes can allow.
    max_entry_bytes: Annotated[
        int,
        SettingSpec(Integer(2 * MIB, 8 * MIB), "Limits", "Size of the commands gathered into one log entry, in bytes."),
    ] = 2 * MIB
    max_uncommitted_bytes: Annotated[
        int,
        SettingSpec(
            Integer(MIB, GIB),
            "Limits",
            "Size of a leader's entries without a majority, in bytes; more get RESOURCE_EXHAUSTED.",
        ),
    ] = 32 * MIB
    max_inflight_messages: Annotated[
        int, SettingSpec(Integer(1, 65_536), "Limits", "Number of log messages sent to a node and not yet answered.")
    ] = 256
    max_inflight_bytes: Annotated[
        int,
        SettingSpec(Integer(64 * KIB, GIB), "Limits", "Size of these messages, in bytes; at least one is always sent."),
    ] = 8 * MIB
    max_apply_bytes: Annotated[
        int,
        SettingSpec(
            Integer(64 * KIB, 256 * MIB),
            "Limits",
            "Size of the committed entries given to the state machine at once, in bytes.",
        ),
    ] = 4 * MIB
    max_send_bytes: Annotated[
        int,
        SettingSpec(
            Integer(4 * MIB, GIB),
            "Limits",
            "Size of the clients' messages at this node that have no result yet, in bytes; more are sent again later.",
        ),
    ] = 16 * MIB
    max_account_send_bytes: Annotated[
        int, SettingSpec(Integer(2 * MIB, GIB), "Limits", "Size of these messages from one account, in bytes.")
    ] = 4 * MIB
    max_device_send_bytes: Annotated[
        int,
        SettingSpec(
            Integer(64 * KIB, GIB),
            "Limits",
            "Size of these messages from one device, in bytes, but always one frame; then the node stops reading.",
        ),
    ] = MIB
    max_queue_bytes: Annotated[
        int,
        SettingSpec(
            Integer(4 * MIB, 16 * GIB),
            "Limits",
            "Size of the live messages that wait for all clients, and of the stored ones being sent, in bytes each.",
        ),
    ] = 64 * MIB
    max_account_queue_bytes: Annotated[
        int, SettingSpec(Integer(MIB, 16 * GIB), "Limits", "Size of these messages for one account, in bytes.")
    ] = 4 * MIB
    max_session_queue_bytes: Annotated[
        int,
        SettingSpec(
            Integer(64 * KIB, 256 * MIB),
            "Limits",
            "Size of the live messages that wait for one slow client, in bytes; more are read later.",
        ),
    ] = MIB
    max_password_checks: Annotated[
        int,
        SettingSpec(
            Integer(1, 4_096),
            "Limits",
            "Number of log-ins that wait for a password check; more get RESOURCE_EXHAUSTED.",
        ),
    ] = 64

    log_retain_entries: Annotated[
        int, SettingSpec(Integer(100, 10_000_000), "Storage", "Number of applied log entries kept for nodes that lag.")
    ] = 20_000
    log_retain_bytes: Annotated[
        int,
        SettingSpec(
            Integer(MIB, 64 * GIB),
            "Storage",
            "Size of these entries, in bytes. The log is compacted at the first of the two bounds.",
        ),
    ] = 64 * MIB
    state_cache_bytes: Annotated[
        int,
        SettingSpec(
            Integer(MIB, 64 * GIB),
            "Storage",
            "Memory for pages of the state that this node changes, in bytes. More helps where many thousands of "
            "conversations are in use at once.",
        ),
    ] = 64 * MIB
    snapshot_chunk_bytes: Annotated[
        int,
        SettingSpec(
            Integer(4 * KIB, 2 * MIB),
            "Storage",
            "Size of a chunk when a copy of the state is sent to a node, in bytes.",
        ),
    ] = 256 * KIB

    disk_reserve_bytes: Annotated[
        int,
        SettingSpec(
            Integer(MIB, 64 * GIB),
            "Storage",
            "Free space of the disk that is kept for running. With less, this node takes nothing that makes the data "
            "grow; with less than half of it, nothing at all.",
        ),
    ] = 256 * MIB

    journal_bytes: Annotated[
        int,
        SettingSpec(
            Integer(16 * KIB, 64 * MIB),
            "Storage",
            "Size of the file with this node's Raft history, in bytes; the oldest events go first.",
        ),
    ] = MIB

    backup_folder: Annotated[
        Path | None,
        SettingSpec(
            FilePath(),
            "Storage",
            "Existing folder into which this node writes backups by itself, best on another disk.",
        ),
    ] = None
    backup_interval_s: Annotated[
        int,
        SettingSpec(
            Integer(0, 31_536_000), "Storage", "Time from one of these backups to the next, in seconds; 0: none."
        ),
    ] = 0
    backup_keep: Annotated[
        int,
        SettingSpec(Integer(1, 100_000), "Storage", "Number of these backups that are kept; older ones are deleted."),
    ] = 7

    log_level: Annotated[
        str, SettingSpec(Choice(("debug", "info", "warning", "error")), "Logs", "Least serious event that is logged.")
    ] = "info"
    log_format: Annotated[
        str,
        SettingSpec(Choice(("auto", "json", "console")), "Logs", "auto: console on a terminal, otherwise JSON lines."),
    ] = "auto"
    log_commands: Annotated[
        bool, SettingSpec(BoolSetting(), "Logs", "Log kind and size of each command of a client, never its content.")
    ] = False

    # Off by default: a fixed port would be taken by the first of several nodes on one machine.
    http_listen: Annotated[
        str,
        SettingSpec(
            OptionalHostPort(),
            "Monitoring",
            "Address of the dashboard, /metrics, /healthz and /readyz, with another port for each node; empty: none.",
        ),
    ] = ""
    http_cert_file: Annotated[
        Path | None,
        SettingSpec(
            FilePath(),
            "Monitoring",
            "Certificate for http_listen (PEM); default: cert_file, and no TLS on a loopback address.",
        ),
    ] = None
    http_key_file: Annotated[
        Path | None, SettingSpec(FilePath(), "Monitoring", "Private key of http_cert_file (PEM, not encrypted).")
    ] = None

    def __post_init__(self) -> None:
        peer_advertise = self.peer_advertise or self.peers.get(self.name) or self.peer_listen
        object.__setattr__(self, "client_advertise", self.client_advertise or self.client_listen)
        object.__setattr__(self, "peer_advertise", peer_advertise)
        object.__setattr__(self, "join", MappingProxyType(dict(self.join)))
        object.__setattr__(self, "peers", MappingProxyType(dict(self.peers) or {self.name: peer_advertise}))


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    name: str
    kind: Kind
    group: str
    help: str
    flag: str
    default: object
    required: bool

    @property
    def variable(self) -> str:
        """Return the environment variable that sets it."""
        return ENVIRONMENT_PREFIX + self.name.upper()

    @property
    def is_switch(self) -> bool:
        """Return whether its flag takes no value."""
        return isinstance(self.kind, BoolSetting)

    @property
    def is_repeatable(self) -> bool:
        """Return whether its flag may be given several times."""
        return isinstance(self.kind, AddressMap)


def _table() -> dict[str, Setting]:
    hints = get_type_hints(Settings, include_extras=True)
    table = {}
    for made in fields(Settings):
        row: SettingSpec = get_args(hints[made.name])[1]
        default = made.default_factory() if made.default_factory is not MISSING else made.default
        required = default is MISSING
        table[made.name] = Setting(
            name=made.name,
            kind=row.kind,
            group=row.group,
            help=row.help,
            flag=row.flag or "--" + made.name.replace("_", "-"),
            default=None if required else default,
            required=required,
        )
    return table


SETTINGS: Mapping[str, Setting] = MappingProxyType(_table())


def show(name: str, settings: Settings) -> str:
    """Write the value of a setting as TOML; empty if it is not set."""
    value = getattr(settings, name)
    return "" if value is None else SETTINGS[name].kind.to_toml(value)
