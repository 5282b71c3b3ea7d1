"""Looks at names, ports and peers: bounded, and nothing is sent but the opening of a connection."""

from __future__ import annotations

import errno
import queue
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from parleyd.addresses import Address, parse_address
from parleyd.doctor.facts import NameLook, PeerLook, PortLook, PortState

T = TypeVar("T")
K = TypeVar("K")

RESOLVE_S = 3.0
CONNECT_S = 2.0


def all_at_once(work: Mapping[K, Callable[[], T]], late: T, timeout_s: float) -> dict[K, T]:
    """Do all work at once, on threads that do not outlive the process. `late` stands for what takes too long."""
    done: queue.SimpleQueue[tuple[K, T]] = queue.SimpleQueue()

    def run(key: K, do: Callable[[], T]) -> None:
        done.put((key, do()))

    threads = [threading.Thread(target=run, args=item, daemon=True) for item in work.items()]
    for thread in threads:
        thread.start()
    ends_at = time.monotonic() + timeout_s
    for thread in threads:
        thread.join(max(0.0, ends_at - time.monotonic()))
    results = dict.fromkeys(work, late)
    while not done.empty():
        key, result = done.get()
        results[key] = result
    return results


def look_at_names(own: Iterable[str], others: Iterable[str]) -> tuple[NameLook, ...]:
    """Ask the system for the addresses of the hosts in these addresses, each host once."""
    is_own = {parse_address(address).host: True for address in own}
    hosts = {parse_address(address).host: False for address in others} | is_own
    late = f"no answer within {RESOLVE_S:.0f} s"
    errors = all_at_once({host: _resolving(host) for host in hosts}, late, RESOLVE_S)
    return tuple(NameLook(host, is_own=hosts[host], error=error) for host, error in errors.items())


def _resolving(host: str) -> Callable[[], str]:
    def resolve() -> str:
        try:
            socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            return error.strerror or str(error)
        return ""

    return resolve


def look_at_peers(peers: Mapping[str, str]) -> tuple[PeerLook, ...]:
    """Open and close a connection to each peer address, all at once."""
    late = f"no answer within {CONNECT_S:.0f} s"
    errors = all_at_once(
        {name: _connecting(parse_address(address)) for name, address in peers.items()}, late, CONNECT_S + RESOLVE_S
    )
    return tuple(PeerLook(name, address, errors[name]) for name, address in peers.items())


def look_at_port(setting: str, listen: str, *, is_running: bool) -> PortLook:
    """Return whether a running node answers at an address on which it listens, or whether it is free for one."""
    address = parse_address(listen)
    if not is_running:
        return PortLook(setting, listen, *_try_to_listen(address))
    detail = _connecting(reachable(address))()
    return PortLook(setting, listen, PortState.SILENT if detail else PortState.ANSWERS, detail)


def reachable(listen: Address) -> Address:
    """Return the address at which this machine reaches who listens there."""
    if not listen.is_unspecified:
        return listen
    return Address("::1" if ":" in listen.host else "127.0.0.1", listen.port)


def _connecting(address: Address) -> Callable[[], str]:
    def connect() -> str:
        try:
            socket.create_connection((address.host, address.port), timeout=CONNECT_S).close()
        except OSError as error:
            return error.strerror or str(error)
        return ""

    return connect


def _try_to_listen(address: Address) -> tuple[PortState, str]:
    """Bind and close at once: no connection is ever accepted."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # closed connections do not count
            probe.bind(where)
            probe.listen(1)
    except OSError as error:
        state = PortState.TAKEN if error.errno == errno.EADDRINUSE else PortState.UNUSABLE
        return state, error.strerror or str(error)
    return PortState.FREE, ""
