"""Where a call comes from, as the bounds of calls and the throttle of log-ins count it."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Hashable
from contextvars import ContextVar

from parleyd.api.errors import Context
from parleyd.owners import Owner
from parleyd.sources import Peer, canonical_host, peer_of_text, source_of_host

FORWARDED_FOR = "x-forwarded-for"
MAX_HOST_CHARS = 64
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


def is_forwarded(context: Context) -> bool:
    """Return whether a trusted gateway makes the call for somebody else."""
    return address_of(context) != source_of(context, ())


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
    address = peer_of_text(context.peer())[0]
    if address in gateways:
        for key, value in context.invocation_metadata() or ():
            if key == FORWARDED_FOR and isinstance(value, str):
                address = canonical_host(value.rpartition(",")[2].strip()[:MAX_HOST_CHARS]) or address
    return source_of_host(address)


def peer_of(context: Context) -> Peer:
    """Return the other end of the call's connection, whatever a gateway says."""
    return peer_of_text(context.peer())
