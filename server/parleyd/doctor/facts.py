"""What `parleyd doctor` has looked at. The rules judge it. An empty error says that nothing is wrong."""

from __future__ import annotations

import enum
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SettingsLook:
    """The settings. Each problem keeps the node from starting."""

    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    is_insecure: bool = False


@dataclass(frozen=True, slots=True)
class CertificateLook:
    """The node's certificate, its key and its CA."""

    error: str = ""
    days_left: int | None = None  # of the certificate or its CA, whichever ends first
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DirectoryLook:
    """The data directory: who may use it, who does, and whether its files can be read."""

    path: str
    exists: bool = True
    error: str = ""
    is_private: bool = True
    is_own: bool = True  # it belongs to this user
    holder_pid: int = 0  # of the process that runs on it; 0 for none
    identity_error: str = ""
    place_error: str = ""  # it is a copy, or a copy took its place
    identity_name: str = ""  # empty for a node that was never started
    log_error: str = ""
    state_error: str = ""
    fence: str = ""
    lost_entries: str = ""

    @property
    def is_running(self) -> bool:
        """Return whether a node runs on it."""
        return self.holder_pid != 0


@dataclass(frozen=True, slots=True)
class PagesLook:
    """Some pages of the state's file, compared with their checksums."""

    checked: int = 0
    total: int = 0
    damaged: tuple[int, ...] = ()  # their numbers, from 1
    error: str = ""


@dataclass(frozen=True, slots=True)
class DiskLook:
    """The free space of the data directory's disk."""

    free_bytes: int = 0
    reserve_bytes: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class SyncLook:
    """How long it took to make some writes durable."""

    median_ms: float = 0.0
    longest_ms: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class FilesLook:
    """The limit of open files of the running node, else of a process that this user starts. None is no limit."""

    limit: int | None
    needed: int
    least: int
    of_node: bool = False


@dataclass(frozen=True, slots=True)
class BackupsLook:
    """The backups that the node writes by itself. `age_s` is that of the newest, None without one."""

    folder: str = ""  # empty: none are written
    interval_s: int = 0
    age_s: float | None = None
    error: str = ""


class PortState(enum.Enum):
    """What is at an address on which the node listens."""

    FREE = "free"
    ANSWERS = "answers"
    SILENT = "silent"
    TAKEN = "taken"
    UNUSABLE = "unusable"


@dataclass(frozen=True, slots=True)
class PortLook:
    """An address on which the node listens."""

    setting: str
    address: str
    state: PortState
    detail: str = ""


@dataclass(frozen=True, slots=True)
class NameLook:
    """A host of an address. `is_own` is for this node's own, which others use."""

    host: str
    is_own: bool
    error: str = ""


@dataclass(frozen=True, slots=True)
class PeerLook:
    """The peer address of another node."""

    name: str
    address: str
    error: str = ""


@dataclass(frozen=True, slots=True)
class NodeLook:
    """What the running node told the operator. `cluster_ahead_ms`: the cluster's time less this machine's clock."""

    error: str = ""
    serving: bool = True
    divergence: str = ""
    wrong_clocks: str = ""
    cluster_ahead_ms: int = 0
    disconnected: tuple[str, ...] = ()
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that was looked at. None stands for what could not be, or was not asked for."""

    settings: SettingsLook | None = None
    certificate: CertificateLook | None = None
    directory: DirectoryLook | None = None
    name: str = ""  # of the node in the settings
    pages: PagesLook | None = None
    disk: DiskLook | None = None
    sync: SyncLook | None = None
    backups: BackupsLook | None = None
    files: FilesLook | None = None
    ports: tuple[PortLook, ...] | None = None
    names: tuple[NameLook, ...] | None = None
    peers: tuple[PeerLook, ...] | None = None
    is_clock_synchronised: bool | None = None
    node: NodeLook | None = None
