"""Where a connection or a call comes from, as bounds count it."""

from __future__ import annotations

import ipaddress
from urllib.parse import unquote

IPV6_PREFIX = 64
"""One customer of a provider has a network of this size, so its addresses count as one."""

Peer = tuple[str, int]
"""Host and port of the other end of a connection."""


def peer_of_text(text: str) -> Peer:
    """Read gRPC's `ipv4:127.0.0.1:80` or `ipv6:%5B::1%5D:80`; the port is 0 for anything else."""
    host = unquote(text.partition(":")[2]).rpartition(":")[0].strip("[]") or text
    port = text.rpartition(":")[2]
    return canonical_host(host), int(port) if port.isascii() and port.isdigit() else 0


def canonical_host(host: str) -> str:
    """Return one spelling of an address: without a zone, and an IPv4 address that came over IPv6 as IPv4."""
    try:
        ip = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return str(mapped or ip)


def source_of_host(host: str) -> str:
    """Return a host as bounds count it: of an IPv6 address the network that one customer of a provider has."""
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return host
    return host if ip.version == 4 else str(ipaddress.ip_network((ip, IPV6_PREFIX), strict=False))
