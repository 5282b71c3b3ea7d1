"""Where the client keeps its files, which profile belongs to which cluster, and which process connects.

    STATE_DIR/                       700
      last.json                      who signed in last, at which hosts, with which CA
      CLUSTER_ID/
        hosts.json                   addresses of this cluster: given, learned, the last good one
        ACCOUNT/
          client.sqlite              outbox, inbox, identity, session token (600)
          device.lock                held by the one process that connects for this account here
          reader.lock                held by the one process that owns the durable "shown" mark

Several processes of one account on one machine are one device with one numbered stream of sends. They share the
file: the holder of device.lock runs the Connect stream, sends what any of them puts into the outbox and fills the
inbox for all. When it ends, however it ends, the kernel frees the lock and another takes over. So a script that
sends every minute beside a running chat needs neither a second device nor a second password, and all sends keep one
order.
"""

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import platformdirs

from parley.device.file_format import is_newer, marked
from parley.errors import BadInputError, StoreError
from parley.wire.endpoints import Endpoint, usable_learned

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_account_name(name: str) -> str:
    """Returns the name if it can be an account's; raises BadInputError otherwise."""
    if not _ACCOUNT.fullmatch(name):
        raise BadInputError(
            f"{name!r} cannot be an account name. Use 1 to 64 of a to z, A to Z, digits, '.', '_' and '-', beginning "
            "with a letter or digit."
        )
    return name


@dataclass(frozen=True, slots=True)
class Hosts:
    """What is remembered about the addresses of one cluster."""

    given: tuple[str, ...] = ()
    learned: tuple[tuple[str, str], ...] = ()
    last_good: str = ""

    def covers(self, endpoints: Iterable[Endpoint]) -> bool:
        """True if one of the endpoints is known to belong to the cluster."""
        known = {*self.given, *(address for _, address in self.learned)}
        return any(str(endpoint) in known for endpoint in endpoints)


@dataclass(frozen=True, slots=True)
class Last:
    """How somebody signed in last. An empty account means that they signed out again."""

    account: str = ""
    hosts: tuple[str, ...] = ()
    ca: str = ""
    insecure: bool = False


@dataclass(frozen=True, slots=True)
class Profile:
    """The folder of one account on one cluster."""

    directory: Path
    cluster_id: str
    account: str

    @property
    def database(self) -> Path:
        """The file with outbox, inbox and identity."""
        return self.directory / "client.sqlite"


class StateDirectory:
    """Finds and makes profiles below one root."""

    def __init__(self, root: Path | None = None) -> None:
        """Without `root` it is the user's state folder of the platform."""
        self.root = root if root is not None else platformdirs.user_state_path("parley", appauthor=False)

    def profile(self, cluster_id: str, account: str) -> Profile:
        """The profile, its folders made if need be. Raises StoreError where they cannot be."""
        directory = self.root / _folder_name(cluster_id or "unnamed") / _folder_name(check_account_name(account))
        try:
            for folder in (self.root, directory.parent, directory):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"The folder {directory} cannot be made ({error}). Nothing was stored. Name another one with "
                "--state-dir or PARLEY_STATE_DIR."
            ) from error
        return Profile(directory, cluster_id, account)

    def find(self, account: str, endpoints: Iterable[Endpoint]) -> Profile | None:
        """The profile last used for this account at one of these addresses, without asking any node.

        Addresses that are all new may be the known cluster under other names, where the account is known on only one.
        """
        endpoints = tuple(endpoints)
        known = list(self.root.glob(f"*/{_folder_name(check_account_name(account))}/client.sqlite"))
        found = [path for path in known if self._hosts_at(path.parent.parent).covers(endpoints)]
        if not found and len(known) == 1:
            found = known
        if not found:
            return None
        newest = max(found, key=lambda path: _modified_ns(path.parent.parent / "hosts.json"))
        return Profile(newest.parent, self._cluster_id(newest.parent.parent), account)

    def hosts(self, cluster_id: str) -> Hosts:
        """What is remembered of the cluster's addresses."""
        return self._hosts_at(self.root / _folder_name(cluster_id or "unnamed"))

    def remember_hosts(self, cluster_id: str, hosts: Hosts) -> None:
        """Writes the addresses down; last used wins where two clusters had the same ones."""
        document = {
            "cluster_id": cluster_id,
            "given": list(hosts.given),
            "learned": dict(hosts.learned),
            "last_good": hosts.last_good,
        }
        _write_json(self.root / _folder_name(cluster_id or "unnamed") / "hosts.json", document)

    def last(self) -> Last:
        """Who signed in last on this machine, and how; what programs use when nothing is named."""
        document = _read_json(self.root / "last.json")
        hosts = document.get("hosts", ())
        return Last(
            str(document.get("account", "")),
            tuple(str(host) for host in hosts) if isinstance(hosts, list) else (),
            str(document.get("ca", "")),
            document.get("insecure") is True,
        )

    def remember_last(self, last: Last) -> None:
        """Writes it down."""
        document = {"account": last.account, "hosts": list(last.hosts), "ca": last.ca, "insecure": last.insecure}
        _write_json(self.root / "last.json", document)

    def _hosts_at(self, directory: Path) -> Hosts:
        document = _read_json(directory / "hosts.json")
        learned = document.get("learned", {})
        return Hosts(
            tuple(str(host) for host in document.get("given", ())),
            tuple((str(k), str(v)) for k, v in learned.items() if usable_learned(str(v)) is not None),
            str(document.get("last_good", "")),
        )

    @staticmethod
    def _cluster_id(directory: Path) -> str:
        return str(_read_json(directory / "hosts.json").get("cluster_id", ""))


class FileLock:
    """An exclusive lock the kernel frees when its holder ends, even by kill -9."""

    def __init__(self, path: Path) -> None:
        """Does not lock yet."""
        self._path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """True while this object holds the lock."""
        return self._descriptor is not None

    def try_acquire(self) -> bool:
        """Takes the lock if it is free; never waits."""
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            if sys.platform == "win32":
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Frees the lock; harmless where it is not held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _folder_name(name: str) -> str:
    """A name for the file system, also one that does not tell upper from lower case."""
    if name == name.lower() and re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name) and not name.endswith("."):
        return name
    safe = re.sub(r"[^a-z0-9_-]", "_", name.lower())
    return f"{safe}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _is_of_newer_release(path: Path) -> bool:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(document, dict) and is_newer(document)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) and not is_newer(document) else {}


def _write_json(path: Path, document: dict[str, Any]) -> None:
    """Replaces the file as a whole. These notes only save time: a full disk must not stop anybody from sending.

    Those of a newer release stay as they are.
    """
    if _is_of_newer_release(path):
        return
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.write_text(json.dumps(marked(document), indent=1), encoding="utf-8")
        temporary.chmod(0o600)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)
