"""`host:port` as people write it, checked and in one normal form.

A host is an IPv4 address, an IPv6 address in brackets or a DNS name. Nothing here asks a resolver: a check must have
the same result on a machine that is offline.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

MAX_PORT = 65_535

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.ASCII)
_MAX_DNS_NAME = 253


class AddressError(ValueError):
    """A text that is no address. The message contains the fault and the correct form."""


@dataclass(frozen=True, slots=True, order=True)
class Address:
    """An address to listen on or to connect to; `host` is lower case and without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Return whether the address can only be reached from this machine; false for names but `localhost`."""
        return is_loopback_host(self.host)

    @property
    def is_unspecified(self) -> bool:
        """Return whether it means every address of the machine (0.0.0.0, ::), to which nobody can connect."""
        ip = _ip(self.host)
        return ip is not None and ip.is_unspecified


def parse_address(text: str) -> Address:
    """Read `host:port`; raise `AddressError` for anything else."""
    if text.startswith("["):
        inner, bracket, rest = text[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise AddressError("write an IPv6 address with its port as [::1]:7600")
        return Address(_ipv6(inner), _port(rest[1:]))
    host, colon, port = text.rpartition(":")
    if not colon:
        raise AddressError("the port is missing; write host:port")
    if ":" in host:
        raise AddressError("write an IPv6 address in brackets, as [::1]:7600")
    return Address(parse_host(host), _port(port))


def parse_host(text: str) -> str:
    """Read a host without port or brackets and return its normal form; raise `AddressError` if it is none."""
    if not text:
        raise AddressError("the host is missing; write host:port")
    if ":" in text:
        return _ipv6(text)
    try:
        return str(ipaddress.IPv4Address(text))
    except ValueError:
        pass
    host = text.lower()
    labels = host.split(".")
    if len(host) > _MAX_DNS_NAME or not all(_LABEL.fullmatch(label) for label in labels):
        raise AddressError(f"{text!r} is neither an IP address nor a DNS name (letters, digits, '-' and '.')")
    if labels[-1].isdigit():
        raise AddressError(f"{text!r} looks like an IPv4 address but is none")
    return host


def is_loopback_host(host: str) -> bool:
    """Return whether a host from `parse_host` can only mean this machine."""
    ip = _ip(host)
    return ip.is_loopback if ip is not None else host == "localhost"


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    return ip


def _ipv6(text: str) -> str:
    if "%" in text:
        raise AddressError(f"{text!r} names a network interface; use an address that is valid on every machine")
    try:
        return str(ipaddress.IPv6Address(text))
    except ValueError:
        raise AddressError(f"{text!r} is not an IPv6 address") from None


def _port(text: str) -> int:
    # int() alone would accept "+80", " 80", "8_0" and the digits of other scripts.
    if not re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) or not 1 <= int(text) <= MAX_PORT:
        raise AddressError(f"the port is {text!r}; it must be a number from 1 to {MAX_PORT}")
    return int(text)
