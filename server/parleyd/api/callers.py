"""Where a call comes from, as the bounds of calls and the throttle of log-ins count it."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Hashable
from contextvars import ContextVar
from urllib.parse import unquote

from parleyd.api.errors import Context
from parleyd.connections import Peer
from parleyd.owners import Owner

FORWARDED_FOR = "x-forwarded-for"
MAX_HOST_CHARS = 64
IPV6_PREFIX = 64
WIDE_PREFIXES = {4: 24, 6: 48}
"""A network that one organisation has: a customer of a provider has up to 256 IPv6 networks of 64 bits, or more."""

_ADMITTED: ContextVar[str] = ContextVar("source", default="")


def admit_source(context: Context, gateways: Collection[str]) -> str:
    """Return where the call comes from. `address_of` returns the same during the rest of the call."""
    source = source_of(context, gateways)
    _ADMITTED.set(source)
    return source


def address_of(context: Context) -> str:
    """Return where the call comes from, as of its admission."""
    return _ADMITTED.get() or source_of(context, ())


def owner_of(context: Context, account_id: int | None) -> Owner:
    """Return for whom a place of this call counts: its network, its address, and its account if it has a session."""
    address = address_of(context)
    return owner_at(address, address if account_id is None else account_id)


def owner_at(address: str, account: Hashable) -> Owner:
    """Return for whom something counts that `account` has at this address, as of `source_of`."""
    try:
        network = ipaddress.ip_network(address)
    except ValueError:
        return address, address, account
    return str(network.supernet(new_prefix=WIDE_PREFIXES[network.version])), address, account


def source_of(context: Context, gateways: Collection[str]) -> str:
    """Return the address of the caller without its port; of IPv6 the network that one customer of a provider has.

    A trusted gateway passes on its client's address as the last one in `x-forwarded-for`.
    """
    address = canonical_host(_host(context.peer()))
    if address in gateways:
        for key, value in context.invocation_metadata() or ():
            if key == FORWARDED_FOR and isinstance(value, str):
                address = canonical_host(value.rpartition(",")[2].strip()[:MAX_HOST_CHARS]) or address
    return source_of_host(address)


def source_of_host(host: str) -> str:
    """Return a host as bounds count it: of an IPv6 address the network that one customer of a provider has."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return host
    return host if ip.version == 4 else str(ipaddress.ip_network((ip, IPV6_PREFIX), strict=False))


def peer_of(context: Context) -> Peer:
    """Return the other end of the call's connection, whatever a gateway says."""
    peer = context.peer()
    port = peer.rpartition(":")[2]
    return canonical_host(_host(peer)), int(port) if port.isdigit() else 0


def _host(peer: str) -> str:
    """Return the host of gRPC's `ipv4:127.0.0.1:80` or `ipv6:%5B::1%5D:80`."""
    return unquote(peer.partition(":")[2]).rpartition(":")[0].strip("[]") or peer


def canonical_host(host: str) -> str:
    """Return one spelling of an address: without a zone, and an IPv4 address that came over IPv6 as IPv4."""
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip)
