"""The client's files, the profile of each account on each cluster, and the choice of the process that connects.

    STATE_DIR/                       700
      last.json                      the last sign-in: account, hosts, CA
      CLUSTER_ID/
        hosts.json                   addresses of this cluster: given, learned, the last one that worked
        ACCOUNT/
          client.sqlite              outbox, inbox, identity, session token (600)
          open.lock                  held by whoever opens client.sqlite, for that moment
          device.lock                held by the one process that connects for this account here
          reader.lock                held by the one process that owns the durable "shown" mark

Several processes of one account on one machine are one device with one numbered stream of sends. They share the file.
The holder of device.lock runs the Connect stream, sends the messages of all processes, and fills the inbox for all.
When it ends, in any way, the kernel frees the lock and another process takes it. So a script that sends every minute
beside a running chat needs no second device and no second password, and all sends keep one order.
"""

import hashlib
import os
import re
import sys
import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import apsw
import platformdirs

from parley.device.notes import (
    NotesDamagedError,
    flag_in,
    pairs_in,
    read_notes,
    text_in,
    texts_in,
    write_notes,
)
from parley.errors import BadInputError, StoreError
from parley.model import ConversationKind
from parley.wire.endpoints import Endpoint, parse_endpoints, usable_learned

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

UNNAMED = "unnamed"
DATABASE = "client.sqlite"
READ_BUSY_MS = 1_000
POLL_S = 0.01
"""How often a lock that is not free is tried again."""
_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_account_name(name: str) -> str:
    """Return the name if an account may have it. Raise BadInputError otherwise."""
    if not _ACCOUNT.fullmatch(name):
        raise BadInputError(
            f"{name!r} cannot be an account name. Use 1 to 64 of a to z, A to Z, digits, '.', '_' and '-'. "
            "Begin with a letter or digit."
        )
    return name


@dataclass(frozen=True, slots=True)
class Hosts:
    """The stored addresses of one cluster."""

    given: tuple[str, ...] = ()
    learned: tuple[tuple[str, str], ...] = ()
    last_good: str = ""

    def covers(self, endpoints: Iterable[Endpoint]) -> bool:
        """Return true if one of the endpoints is known to belong to the cluster."""
        known = {*self.given, *(address for _, address in self.learned)}
        return any(str(endpoint) in known for endpoint in endpoints)


@dataclass(frozen=True, slots=True)
class Last:
    """The last sign-in. An empty account means that the person signed out again."""

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
        """Return the path of the file with outbox, inbox and identity."""
        return self.directory / DATABASE

    def make(self) -> None:
        """Make the folders if they are missing. Raises StoreError if they cannot be made."""
        _make_folders(self.directory.parent.parent, self.directory.parent, self.directory)


class StateDirectory:
    """Finds and makes profiles below one root."""

    def __init__(self, root: Path | None = None) -> None:
        """Default of `root`: the user's state folder of the platform. Raises BadInputError if its path is not UTF-8."""
        self.root = root if root is not None else platformdirs.user_state_path("parley", appauthor=False)
        try:
            str(self.root.absolute()).encode()
        except UnicodeEncodeError:
            raise BadInputError(
                f"The folder {str(self.root)!a} has bytes that are not UTF-8, and SQLite opens no file there. "
                "Nothing was stored. Name another one with --state-dir or PARLEY_STATE_DIR."
            ) from None

    def make(self) -> None:
        """Make the root if it is missing. Raises StoreError if it cannot be made."""
        _make_folders(self.root)

    def profile(self, cluster_id: str, account: str) -> Profile:
        """Return the profile. Its folders may be missing.

        A restored cluster has a new id. An account that had a file for the former one keeps that file.
        """
        folder = self.root / folder_name(cluster_id or UNNAMED)
        own = Profile(_account_folder(folder, check_account_name(account)), cluster_id, account)
        former = read_notes(folder / "restored.json", lambda document: text_in(document, "former_cluster_id"))
        if not former or own.database.exists():
            return own
        kept = Profile(_account_folder(self.root / folder_name(former), account), former, account)
        return kept if kept.database.exists() else own

    def remember_restored(self, cluster_id: str, former: Profile) -> None:
        """Record that the cluster is the restored one of the profile's cluster, so its files are used for both."""
        if cluster_id != former.cluster_id:
            notes = self.root / folder_name(cluster_id or UNNAMED) / "restored.json"
            write_notes(notes, {"cluster_id": cluster_id, "former_cluster_id": former.cluster_id})

    def find(self, account: str, endpoints: Iterable[Endpoint]) -> Profile | None:
        """Return the profile last used for this account at one of these addresses, without asking a node.

        If all addresses are new, they may be other names of the known cluster. So return the profile if the account is
        known on exactly one cluster.
        """
        endpoints = tuple(endpoints)
        check_account_name(account)
        folders = [_account_folder(cluster, account) for cluster in self.root.glob("*/") if cluster.is_dir()]
        known = [folder / DATABASE for folder in folders if (folder / DATABASE).exists()]
        found = [path for path in known if self._hosts_at(path.parent.parent).covers(endpoints)]
        if not found and len(known) == 1:
            found = known
        if not found:
            return None
        newest = max(found, key=lambda path: _modified_ns(path.parent.parent / "hosts.json"))
        return Profile(newest.parent, self._cluster_id(newest.parent.parent), account)

    def accounts(self) -> tuple[str, ...]:
        """Return the names of the accounts that have a file, as they are in small letters.

        Names whose folder has another name are left out: those with a full stop at the end, and those with a capital
        letter whose folder an earlier release made.
        """
        folders = (path.parent.name for path in self.root.glob(f"*/*/{DATABASE}"))
        return tuple(sorted({name for name in folders if _ACCOUNT.fullmatch(name)}))

    def known_names(self, account: str, endpoints: Iterable[Endpoint]) -> tuple[str, ...]:
        """Return the names of accounts that this account has met on this machine."""
        return self._known(account, endpoints, "SELECT name FROM accounts WHERE NOT deleted ORDER BY name")

    def known_channels(self, account: str, endpoints: Iterable[Endpoint]) -> tuple[str, ...]:
        """Return the titles of the channels that this account has met on this machine."""
        query = f"SELECT title FROM conversations WHERE kind = {ConversationKind.CHANNEL:d} ORDER BY title"  # noqa: S608
        return self._known(account, endpoints, query)

    def _known(self, account: str, endpoints: Iterable[Endpoint], query: str) -> tuple[str, ...]:
        profile = self.find(account, endpoints)
        return () if profile is None else values_in(profile.database, query)

    def hosts(self, cluster_id: str) -> Hosts:
        """Return the stored addresses of the cluster."""
        return self._hosts_at(self.root / folder_name(cluster_id or UNNAMED))

    def remember_hosts(self, cluster_id: str, hosts: Hosts) -> None:
        """Store the addresses. If two clusters had the same ones, the last used cluster is found by them."""
        document = {
            "cluster_id": cluster_id,
            "given": list(hosts.given),
            "learned": dict(hosts.learned),
            "last_good": hosts.last_good,
        }
        write_notes(self.root / folder_name(cluster_id or UNNAMED) / "hosts.json", document)

    def last(self) -> Last:
        """Return the last sign-in on this machine, which programs use if nothing is named."""
        return read_notes(self.root / "last.json", _parse_last)

    def remember_last(self, last: Last) -> None:
        document = {"account": last.account, "hosts": list(last.hosts), "ca": last.ca, "insecure": last.insecure}
        write_notes(self.root / "last.json", document)

    def _hosts_at(self, directory: Path) -> Hosts:
        return read_notes(directory / "hosts.json", _parse_hosts)

    @staticmethod
    def _cluster_id(directory: Path) -> str:
        noted = read_notes(directory / "hosts.json", lambda document: text_in(document, "cluster_id"))
        # The folder is named after the cluster, so the id is known without the notes.
        return noted or (directory.name if directory.name != UNNAMED and "~" not in directory.name else "")


def _parse_last(document: dict[str, Any]) -> Last:
    account = text_in(document, "account")
    if account and not _ACCOUNT.fullmatch(account):
        raise NotesDamagedError("account holds no account name")
    return Last(account, _addresses_in(document, "hosts"), text_in(document, "ca"), flag_in(document, "insecure"))


def _parse_hosts(document: dict[str, Any]) -> Hosts:
    learned = pairs_in(document, "learned")
    return Hosts(
        _addresses_in(document, "given"),
        tuple((name, address) for name, address in learned if usable_learned(address) is not None),
        _addresses_in({"last_good": [text_in(document, "last_good")]}, "last_good")[0],
    )


def _addresses_in(document: dict[str, Any], key: str) -> tuple[str, ...]:
    addresses = texts_in(document, key)
    parse_endpoints([address for address in addresses if address])  # raises BadInputError, a ValueError
    return addresses


class FileLock:
    """An exclusive lock that the kernel frees when its holder ends, even by kill -9."""

    def __init__(self, path: Path) -> None:
        """Make the lock without taking it."""
        self._path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        """Return true while this object holds the lock."""
        return self._descriptor is not None

    def try_acquire(self) -> bool:
        """Take the lock if it is free. Return at once in any case. Raises StoreError if its file cannot be opened."""
        if self._descriptor is not None:
            return True
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o600)
        except OSError as error:
            raise StoreError(
                f"{self._path} cannot be opened: {error.strerror}. Nothing was changed. If somebody signed out here "
                "and left nothing, sign in again."
            ) from error
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

    def acquire_within(self, seconds: float) -> bool:
        """Take the lock as soon as it is free. Return false if it is not free in time. Blocks the thread meanwhile."""
        until = time.monotonic() + seconds
        while not self.try_acquire():
            if time.monotonic() > until:
                return False
            time.sleep(POLL_S)
        return True

    def release(self) -> None:
        """Free the lock, if it is held."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def _make_folders(*folders: Path) -> None:
    try:
        for folder in folders:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"The folder {folders[-1]} cannot be made ({error}). Nothing was stored. Name another one with "
            "--state-dir or PARLEY_STATE_DIR."
        ) from error


def _account_folder(cluster: Path, account: str) -> Path:
    """Return the folder of an account, which is one for all spellings: account names ignore case.

    Earlier releases made a folder for each spelling. Theirs is used where it exists.
    """
    usual, of_spelling = cluster / folder_name(account.lower()), cluster / folder_name(account)
    if (of_spelling / DATABASE).exists():
        return of_spelling
    return next(iter(folders_of_spellings(cluster, account)), usual)


def folders_of_spellings(cluster: Path, account: str) -> list[Path]:
    """Return the folders with files of this account, for whichever spelling they were made. The usual one is first."""
    usual = cluster / folder_name(account.lower())
    candidates = sorted(cluster.glob(f"{_safe(account)}~????????/{DATABASE}"))
    others = [path.parent for path in candidates if _owner(path).lower() == account.lower()]
    return [usual, *others] if (usual / DATABASE).exists() else others


def _owner(database: Path) -> str:
    """Return the name of the account whose file this is, empty if the file does not tell it."""
    names = values_in(
        database, "SELECT name FROM accounts WHERE id = (SELECT value FROM meta WHERE key = 'account_id')"
    )
    return names[0] if names else ""


def values_in(database: Path, query: str) -> tuple[str, ...]:
    """Return the only column of what a client's file says, without a change of it; nothing if it cannot be read."""
    try:
        with closing(apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
            connection.set_busy_timeout(READ_BUSY_MS)  # whoever closes the file last holds it for a moment
            return tuple(str(value) for (value,) in connection.execute(query).fetchall())
    except apsw.Error:
        return ()


def _safe(name: str) -> str:
    return re.sub(r"[^a-z0-9_-]", "_", name.lower())


def folder_name(name: str) -> str:
    """Return a name for the file system, which may be case-insensitive."""
    if name == name.lower() and re.fullmatch(r"[a-z0-9][a-z0-9._-]*", name) and not name.endswith("."):
        return name
    return f"{_safe(name)}~{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
