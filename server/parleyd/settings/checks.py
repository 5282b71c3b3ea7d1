"""Checks that need more than one setting, or the file system.

Each check lists its settings. If one of them could not be read, the check is skipped, so that one mistake is reported
once. A finding is an error (the node does not start) or a warning (it starts and reports it).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from parleyd.addresses import Address, parse_address
from parleyd.settings.table import Settings

BCRYPT_COST_FLOOR = 10
MAX_FIRST_MEMBERS = 7


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check, and the setting for which it is reported."""

    setting: str
    text: str
    is_error: bool = True


_Check = Callable[[Settings, Mapping[str, str]], Iterator[Finding]]
_CHECKS: list[tuple[frozenset[str], _Check]] = []


def _looks_at(*names: str) -> Callable[[_Check], _Check]:
    def register(check: _Check) -> _Check:
        _CHECKS.append((frozenset(names), check))
        return check

    return register


def findings(settings: Settings, origins: Mapping[str, str], unreadable: Collection[str]) -> Iterator[Finding]:
    """Run every check whose settings could all be read."""
    for names, check in _CHECKS:
        if names.isdisjoint(unreadable):
            yield from check(settings, origins)


@_looks_at("tick_ms", "heartbeat_ms")
def _heartbeat_is_whole_ticks(settings: Settings, _: Mapping[str, str]) -> Iterator[Finding]:
    if settings.heartbeat_ms % settings.tick_ms:
        yield Finding("heartbeat_ms", f"must be a multiple of tick_ms, which is {settings.tick_ms}")


@_looks_at("tick_ms", "heartbeat_ms", "election_timeout_min_ms")
def _heartbeats_outpace_elections(settings: Settings, _: Mapping[str, str]) -> Iterator[Finding]:
    heartbeat, least = settings.heartbeat_ms, settings.election_timeout_min_ms
    if least < heartbeat + settings.tick_ms:
        yield Finding(
            "election_timeout_min_ms",
            f"must be more than heartbeat_ms, which is {heartbeat}, by at least a tick of {settings.tick_ms}",
        )
    elif least < 3 * heartbeat:
        yield Finding(
            "election_timeout_min_ms",
            f"is less than three times heartbeat_ms ({heartbeat}): one late heartbeat may depose a working leader",
            is_error=False,
        )


@_looks_at("missed_heartbeats")
def _one_late_heartbeat_is_no_silence(settings: Settings, _: Mapping[str, str]) -> Iterator[Finding]:
    if settings.missed_heartbeats == 1:
        yield Finding("missed_heartbeats", "must be 0 or at least 2, or one late heartbeat may depose a working leader")


@_looks_at("tick_ms", "election_timeout_min_ms", "election_timeout_max_ms")
def _elections_are_spread(settings: Settings, _: Mapping[str, str]) -> Iterator[Finding]:
    tick, least, most = settings.tick_ms, settings.election_timeout_min_ms, settings.election_timeout_max_ms
    if most <= least:
        yield Finding("election_timeout_max_ms", f"must be more than election_timeout_min_ms, which is {least}")
    elif most - least < 2 * tick:
        yield Finding(
            "election_timeout_max_ms",
            f"must be at least two ticks ({2 * tick} ms) above election_timeout_min_ms ({least}), "
            "or nodes campaign repeatedly at the same time",
        )


@_looks_at("max_entry_bytes", "max_uncommitted_bytes")
def _the_tail_holds_entries(settings: Settings, _: Mapping[str, str]) -> Iterator[Finding]:
    if settings.max_uncommitted_bytes < settings.max_entry_bytes:
        yield Finding("max_uncommitted_bytes", f"must be at least max_entry_bytes, which is {settings.max_entry_bytes}")


@_looks_at("log_retain_bytes", "disk_reserve_bytes")
def _the_reserve_holds_the_log(settings: Settings, _: Mapping[str, str]) -> Iterator[Finding]:
    reserve = settings.disk_reserve_bytes
    if settings.log_retain_bytes > reserve // 2:
        yield Finding(
            "log_retain_bytes",
            f"is more than half of disk_reserve_bytes, which is {reserve}: read marks and log-outs alone can use up "
            "the reserve, and then the node appends nothing. Lower it, or raise disk_reserve_bytes",
            is_error=False,
        )


@_looks_at("backup_folder", "backup_interval_s")
def _backups_have_a_folder(settings: Settings, _: Mapping[str, str]) -> Iterator[Finding]:
    if settings.backup_interval_s and settings.backup_folder is None:
        yield Finding("backup_interval_s", "needs backup_folder, which is not set")
    elif settings.backup_folder is not None and settings.backup_folder == settings.data_dir:
        yield Finding("backup_folder", "must not be the data directory, whose folder belongs to the node alone")


@_looks_at("client_listen", "peer_listen")
def _ports_do_not_collide(settings: Settings, _: Mapping[str, str]) -> Iterator[Finding]:
    client, peer = parse_address(settings.client_listen), parse_address(settings.peer_listen)
    if _collide(client, peer):
        yield Finding(
            "peer_listen",
            f"must differ from client_listen, which is {client}: clients and nodes need different ports",
        )


@_looks_at("client_listen", "peer_listen", "http_listen")
def _monitoring_has_a_port_of_its_own(settings: Settings, _: Mapping[str, str]) -> Iterator[Finding]:
    if not settings.http_listen:
        return
    http = parse_address(settings.http_listen)
    for name in ("client_listen", "peer_listen"):
        other = parse_address(getattr(settings, name))
        if _collide(http, other):
            yield Finding("http_listen", f"must differ from {name}, which is {other}: monitoring needs its own port")


def _collide(one: Address, other: Address) -> bool:
    """Return whether nobody can listen on both."""
    same_host = one.host == other.host or one.is_unspecified or other.is_unspecified
    return same_host and one.port == other.port


@_looks_at("client_listen", "client_advertise")
def _clients_can_dial(settings: Settings, origins: Mapping[str, str]) -> Iterator[Finding]:
    if parse_address(settings.client_advertise).is_unspecified:
        yield _cannot_be_dialled("client_advertise", settings.client_advertise, origins)


@_looks_at("name", "peer_listen", "peer_advertise", "peers", "join")
def _peers_can_dial(settings: Settings, origins: Mapping[str, str]) -> Iterator[Finding]:
    if parse_address(settings.peer_advertise).is_unspecified:
        yield _cannot_be_dialled("peer_advertise", settings.peer_advertise, origins)
        return
    own = settings.peers.get(settings.name)
    if own is not None and own != settings.peer_advertise:
        yield Finding(
            "peer_advertise", f"differs from the entry of {settings.name} in peers: {own}; the two must be equal"
        )
    others_are_remote = any(
        not parse_address(address).is_loopback
        for name, address in (*settings.peers.items(), *settings.join.items())
        if name != settings.name
    )
    if others_are_remote and parse_address(settings.peer_listen).is_loopback:
        yield Finding(
            "peer_listen",
            f"is {settings.peer_listen}, which only this machine can reach, but other members are elsewhere",
            is_error=False,
        )


def _cannot_be_dialled(name: str, address: str, origins: Mapping[str, str]) -> Finding:
    listen = name.replace("advertise", "listen")
    given = "" if origins[name] != "default" else f"is needed because {listen} is {address}: "
    return Finding(name, f"{given}nobody can connect to {address}; give the address at which others reach this node")


@_looks_at("name", "peers")
def _members_make_sense(settings: Settings, _: Mapping[str, str]) -> Iterator[Finding]:
    if settings.name not in settings.peers:
        yield Finding("peers", f"must name this node too: {settings.name}=host:port is missing")
    if len(settings.peers) > MAX_FIRST_MEMBERS:
        yield Finding("peers", f"names {len(settings.peers)} nodes; a cluster has at most {MAX_FIRST_MEMBERS}")
    elif len(settings.peers) % 2 == 0:
        count = len(settings.peers)
        yield Finding(
            "peers",
            f"names {count} nodes, which survive no more failures than {count - 1} would; prefer 1, 3, 5 or 7",
            is_error=False,
        )
    for (one, one_address), (two, two_address) in combinations(settings.peers.items(), 2):
        if one_address == two_address:
            yield Finding("peers", f"gives {one} and {two} the same address, {one_address}")
    for name, address in settings.peers.items():
        # For this node itself it is reported once, at peer_advertise.
        if name != settings.name and parse_address(address).is_unspecified:
            yield Finding("peers", f"gives {name} the address {address}, to which nobody can connect")


@_looks_at("name", "peers", "join")
def _joining_is_not_founding(settings: Settings, _: Mapping[str, str]) -> Iterator[Finding]:
    if not settings.join:
        return
    if len(settings.peers) > 1:
        yield Finding("join", "and peers exclude each other: peers bootstraps a new cluster, join joins a running one")
    if settings.name in settings.join:
        yield Finding("join", f"names this node itself, {settings.name}; name members that run already")


@_looks_at("insecure", "ca_file", "cert_file", "key_file")
def _certificates_are_there(settings: Settings, _: Mapping[str, str]) -> Iterator[Finding]:
    if settings.insecure:
        return
    for name in ("ca_file", "cert_file", "key_file"):
        path = getattr(settings, name)
        if path is None:
            yield Finding(name, "is needed for TLS; make certificates with `parleyd cert ca` and `parleyd cert node`")
            continue
        yield from _unreadable(name, path)


@_looks_at("http_listen", "http_cert_file", "http_key_file")
def _certificates_of_monitoring_are_there(settings: Settings, _: Mapping[str, str]) -> Iterator[Finding]:
    pair = {"http_cert_file": settings.http_cert_file, "http_key_file": settings.http_key_file}
    for name, path in pair.items():
        if path is None:
            other = next((known for known, value in pair.items() if value is not None), "")
            if other:
                yield Finding(name, f"is needed beside {other}: a certificate works with its key only")
        else:
            yield from _unreadable(name, path)
    if any(pair.values()) and not settings.http_listen:
        yield Finding("http_cert_file", "has no effect without http_listen", is_error=False)


def _unreadable(name: str, path: Path) -> Iterator[Finding]:
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        yield Finding(name, f"{path} cannot be read: {error.strerror}")


@_looks_at("insecure", "key_file", "http_key_file")
def _key_is_private(settings: Settings, _: Mapping[str, str]) -> Iterator[Finding]:
    if os.name != "posix":
        return
    for name in ("http_key_file",) if settings.insecure else ("key_file", "http_key_file"):
        path = getattr(settings, name)
        try:
            mode = 0 if path is None else path.stat().st_mode
        except OSError:
            continue  # reported above
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            yield Finding(name, f"{path} can be read or changed by other users; run: chmod 600 {path}")


@_looks_at(
    "name",
    "insecure",
    "insecure_network",
    "client_listen",
    "peer_listen",
    "peers",
    "join",
    "http_listen",
    "http_cert_file",
)
def _insecure_stays_on_this_machine(settings: Settings, _: Mapping[str, str]) -> Iterator[Finding]:
    if settings.insecure_network and not settings.insecure:
        yield Finding("insecure_network", "has no effect without insecure", is_error=False)
    if not settings.insecure or settings.insecure_network:
        return
    used = {name: [getattr(settings, name)] for name in ("client_listen", "peer_listen")}
    used["peers"] = [address for name, address in settings.peers.items() if name != settings.name]
    used["join"] = list(settings.join.values())
    if settings.http_listen and settings.http_cert_file is None:
        used["http_listen"] = [settings.http_listen]
    for name, addresses in used.items():
        for address in map(parse_address, addresses):
            if not address.is_loopback:
                yield Finding(
                    name, _HTTP_NOT_LOOPBACK.format(address) if name == "http_listen" else _not_loopback(address)
                )


_HTTP_NOT_LOOPBACK = (
    "insecure is refused for {}, which other machines can reach: what this node tells would cross the network "
    "unprotected. Give http_cert_file and http_key_file, or add insecure_network if you mean it"
)


def _not_loopback(address: Address) -> str:
    return (
        f"insecure is refused for {address}, which other machines can reach: passwords and messages would cross the "
        "network unprotected. Use certificates (`parleyd cert`), or add insecure_network if you mean it"
    )


@_looks_at("insecure", "bcrypt_cost")
def _passwords_stay_hard_to_guess(settings: Settings, _: Mapping[str, str]) -> Iterator[Finding]:
    if settings.bcrypt_cost < BCRYPT_COST_FLOOR and not settings.insecure:
        yield Finding("bcrypt_cost", f"must be at least {BCRYPT_COST_FLOOR}; less is for tests, with insecure")


@_looks_at("data_dir")
def _data_dir_is_a_folder(settings: Settings, _: Mapping[str, str]) -> Iterator[Finding]:
    try:
        is_folder = stat.S_ISDIR(settings.data_dir.stat().st_mode)
    except FileNotFoundError:
        return  # the node makes it
    except OSError as error:
        yield Finding("data_dir", f"it cannot be used: {error.strerror}")
        return
    if not is_folder:
        yield Finding("data_dir", f"{settings.data_dir} is not a folder")
