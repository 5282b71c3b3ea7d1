"""The address that a call comes from, as limits count it."""

from __future__ import annotations

import ipaddress
from urllib.parse import unquote

from parleyd.api.errors import Context

IPV6_PREFIX = 64


def address_of(context: Context) -> str:
    """Return the caller's address without the port; of IPv6 the network that one customer of a provider has."""
    kind, _, rest = unquote(context.peer()).partition(":")
    host = rest.rpartition(":")[0].strip("[]").partition("%")[0] if kind in ("ipv4", "ipv6") else rest
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, IPV6_PREFIX), strict=False).network_address)
