"""The records about the cluster that the SDK returns: its nodes and members, its settings, and imported accounts."""

from dataclasses import dataclass
from enum import IntEnum
from statistics import median


@dataclass(frozen=True, slots=True)
class RevokedCertificate:
    """A certificate of a node, or the key of one, that nodes refuse.

    `digest` is the SHA-256 of the certificate, or of its public key info. `node` is the member that had it when it was
    revoked, empty if none was known to. `revoked_at_ms` is Unix time, 0 in the answer to a revocation.
    """

    digest: bytes
    node: str = ""
    revoked_at_ms: int = 0


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


class GenerationKind(IntEnum):
    """How a generation of the cluster began."""

    UNKNOWN = 0  # a later release of the node names it
    RESTORED = 1
    RECOVERED = 2


@dataclass(frozen=True, slots=True)
class ClusterGeneration:
    """A life of the cluster that a restore or a recovery began, and the last log entry of the life before it."""

    generation: int
    kind: GenerationKind
    began_at_ms: int
    after_index: int


@dataclass(frozen=True, slots=True)
class BackupInfo:
    """What a backup file is. `is_current` is false if its node had no majority or lagged.

    `content_bytes` is the size of the state in it, `file_bytes` that of the file.
    """

    cluster_id: str
    node: str
    release: str
    generation: int
    level: int
    index: int
    term: int
    state_hash: bytes
    made_at_ms: int
    messages_total: int
    content_bytes: int
    file_bytes: int
    is_current: bool


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """The status of one node, or `error` if it did not answer. `tls_trouble` states that TLS is the reason.

    `level` is the level of its replicated state. `divergence` states which node's state is not trusted, and why.
    `clock` states whose clock is wrong, on the leader. `cluster_time_ms` is the time by which sessions expire.
    `disk` states what the node does not do because its disk is nearly full. `refused` states what the cluster does
    not accept because of its disks, on the leader. `snapshots` states which peers do not install the snapshots that the
    node sends, and why. `state_hash` is hex, of the state at `applied_index`. `clock_offset_ms` is how far the node's
    clock is ahead of this machine's, None if the node does not tell, with an error of up to half of `round_trip_ms`.
    `certificate_expires_at_ms` is the first end of its certificate or CA, 0 without TLS or if it does not tell.
    `log_write_ms` is the median of its last durable writes, 0 if it does not tell.
    `loop_lag_ms` is how late its event loop is: half of its time exceeds that.
    `backup_interval_s` and `last_backup_at_ms` are of the backups that the node writes by itself, 0 without them.
    `generation` is that of the cluster, 0 for the first; `generations` has those that a restore or a recovery
    began, from level 3 on.
    """

    address: str
    error: str = ""
    cluster_id: str = ""
    name: str = ""
    node_id: int = 0
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
    clock: str = ""
    cluster_time_ms: int = 0
    disk: str = ""
    refused: str = ""
    snapshots: str = ""
    state_hash: str = ""
    clock_offset_ms: float | None = None
    round_trip_ms: float = 0.0
    certificate_expires_at_ms: int = 0
    disk_free_bytes: int = 0
    disk_reserve_bytes: int = 0
    open_files: int = 0
    open_files_limit: int = 0
    log_write_ms: float = 0.0
    backup_interval_s: int = 0
    last_backup_at_ms: int = 0
    loop_lag_ms: int = 0
    tls_trouble: bool = False
    generation: int = 0
    generations: tuple[ClusterGeneration, ...] = ()


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
class Suspension:
    """Since when, by which administrator and why an account cannot log in. The reason may be empty."""

    since_ms: int
    suspended_by: str
    reason: str


@dataclass(frozen=True, slots=True)
class Invitation:
    """A code that nobody has used. Nobody finds the code from its `id`. `administrator`: it was made on a node."""

    id: str
    expires_at_ms: int
    administrator: bool


@dataclass(frozen=True, slots=True)
class Quota:
    """What an account has stored and may store, in bytes. 0 is no limit. `own`: it has a quota of its own."""

    stored_bytes: int
    max_bytes: int
    own: bool


@dataclass(frozen=True, slots=True)
class NewAccount:
    """An account to import. Without a `password_hash`, nobody can log in until an administrator sets a password.

    The hash is bcrypt of base64(SHA-256(password)), the password in Unicode's form NFC.
    """

    name: str
    display_name: str = ""
    password_hash: str = ""


class ImportStatus(IntEnum):
    """What became of an account to import."""

    UNKNOWN = 0  # a later release of the node names it
    CREATED = 1
    EXISTS = 2
    REFUSED = 3


@dataclass(frozen=True, slots=True)
class ImportResult:
    """What became of an account to import, and why it was refused. One that exists was not changed."""

    status: ImportStatus
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """The status of all known nodes: one entry per node that answered and one per address that did not.

    `elsewhere` holds given addresses where nothing answers and no member is, such as closed ports of a range.
    """

    nodes: tuple[NodeStatus, ...]
    elsewhere: tuple[NodeStatus, ...] = ()

    @property
    def serving(self) -> bool:
        """Return true if at least one node reports that it serves."""
        return any(node.serving for node in self.nodes)

    @property
    def leader(self) -> str:
        """Return the leader of the highest reported term, or an empty string."""
        named = [node for node in self.nodes if node.leader]
        return max(named, key=lambda node: node.term).leader if named else ""


@dataclass(frozen=True, slots=True)
class NodePing:
    """The round trips of single calls to one node, in the order of the calls.

    `status` is what the node told last. Its `error` is set if the node did not answer, or not to every call.
    """

    status: NodeStatus
    round_trips_ms: tuple[float, ...] = ()

    @property
    def min_ms(self) -> float:
        """Return the shortest round trip, or 0 if there is none."""
        return min(self.round_trips_ms, default=0.0)

    @property
    def median_ms(self) -> float:
        """Return the median of the round trips, or 0 if there is none."""
        return median(self.round_trips_ms) if self.round_trips_ms else 0.0


@dataclass(frozen=True, slots=True)
class ClusterPing:
    """The round trips to all known nodes: one entry per node that answered and one per address that did not.

    `elsewhere` is that of ClusterStatus.
    """

    nodes: tuple[NodePing, ...]
    elsewhere: tuple[NodeStatus, ...] = ()

    @property
    def all_answered(self) -> bool:
        """Return true if every node answered every call."""
        return not any(node.status.error for node in self.nodes)

    @property
    def leader(self) -> str:
        """Return the leader that the nodes name, or an empty string."""
        return ClusterStatus(tuple(node.status for node in self.nodes)).leader
