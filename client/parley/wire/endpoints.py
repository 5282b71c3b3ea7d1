"""Addresses of nodes: the parser of host lists, and the set of all known addresses.

Addresses that a person gave come first and are never dropped. Addresses learned from the cluster follow. The set is
bounded.
"""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from parley.errors import BadInputError

MAX_ENDPOINTS = 128

_HOST = re.compile(r"^(?!-)[A-Za-z0-9_.-]{1,253}$")
_PORTS = re.compile(r"^(\d{1,5})(?:-(\d{1,5}))?$")


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One address of one node."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Return true if the address can only mean this machine; false for names but `localhost`."""
        try:
            return ipaddress.ip_address(self.host.partition("%")[0]).is_loopback
        except ValueError:
            return self.host == "localhost"


def parse_endpoints(specs: Iterable[str]) -> tuple[Endpoint, ...]:
    """Parse `host:port`, `host:first-last` and `[v6]:port`, or several of them separated by commas.

    Duplicates are dropped, the order is kept. Raises BadInputError that quotes the wrong part.
    """
    found: dict[Endpoint, None] = {}
    for spec in specs:
        for part in (piece.strip() for piece in spec.split(",")):
            if part:
                found.update(dict.fromkeys(_parse_one(part)))
    if len(found) > MAX_ENDPOINTS:
        raise BadInputError(f"{len(found)} addresses are more than the {MAX_ENDPOINTS} allowed. Give a shorter range.")
    return tuple(found)


def parse_host_lists(hosts: str, ports: str, counts: str = "") -> tuple[Endpoint, ...]:
    """Parse the three lists of other clients: host i has `counts[i]` ports from `ports[i]` on, without `counts` one.

    The lists are separated by commas. Raises BadInputError that names the flag and quotes the wrong part.
    """
    names, firsts, numbers = (_pieces(text) for text in (hosts, ports, counts))
    for flag, given in (("--hosts", names), ("--ports", firsts)):
        if not any(given):
            raise BadInputError(f"{flag} is missing. Write --hosts a,b --ports 50000,50001, a port for each host.")
    for flag, given in (("--ports", firsts), ("--num_ports", numbers if counts else names)):
        if len(given) != len(names):
            raise BadInputError(
                f"--hosts has {len(names)} entries and {flag} has {len(given)}. Give one entry for each host."
            )
    specs = []
    for name, first, number in zip(names, firsts, numbers if counts else ["1"] * len(names), strict=True):
        port, count = _whole("--ports", first, 65535), _whole("--num_ports", number, MAX_ENDPOINTS)
        if port + count - 1 > 65535:
            raise BadInputError(f"{count} ports from {port} on end above 65535. Give a smaller --ports or --num_ports.")
        host = f"[{name}]" if ":" in name and not name.startswith("[") else name
        specs.append(f"{host}:{port}-{port + count - 1}")
    return parse_endpoints(specs)


def _pieces(text: str) -> list[str]:
    return [piece.strip() for piece in text.split(",")]


def _whole(flag: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= most):
        raise BadInputError(f"{text!r} in {flag} is not a number from 1 to {most}.")
    return int(text)


def _parse_one(part: str) -> list[Endpoint]:
    if "://" in part:
        raise BadInputError(f"{part!r} is a URL. Write host:port, for example localhost:7600.")
    host, colon, ports = part.rpartition(":")
    if not colon or not host:
        raise BadInputError(f"{part!r} has no port. Write host:port, for example localhost:7600.")
    if host.startswith("[") and host.endswith("]"):
        host = _ipv6(host[1:-1], part)
    elif ":" in host:
        raise BadInputError(f"{part!r} looks like IPv6 without brackets. Write [::1]:7600.")
    elif not _HOST.match(host):
        raise BadInputError(f"{host!r} in {part!r} is not a host name or address.")
    match = _PORTS.match(ports)
    if match is None:
        raise BadInputError(f"{ports!r} in {part!r} is not a port or a range of ports such as 7600-7602.")
    first, last = int(match[1]), int(match[2] or match[1])
    if not 1 <= first <= 65535 or not 1 <= last <= 65535:
        raise BadInputError(f"{part!r} is not a valid port. Ports go from 1 to 65535.")
    if last < first:
        raise BadInputError(f"The range in {part!r} is in reverse order. Write the smaller port first.")
    if last - first >= MAX_ENDPOINTS:
        raise BadInputError(f"The range in {part!r} has more than {MAX_ENDPOINTS} ports. Give a shorter range.")
    return [Endpoint(host.lower(), port) for port in range(first, last + 1)]


def _ipv6(text: str, part: str) -> str:
    address, percent, zone = text.partition("%")
    try:
        return str(ipaddress.IPv6Address(address)) + percent + zone
    except ValueError as error:
        raise BadInputError(f"{text!r} in {part!r} is not an IPv6 address.") from error


def usable_learned(address: str) -> Endpoint | None:
    """Return an address that a node published, or None if nobody could connect to it (empty, wildcard, malformed)."""
    try:
        endpoints = parse_endpoints([address])
    except BadInputError:
        return None
    if len(endpoints) != 1 or endpoints[0].host in ("0.0.0.0", "::"):  # noqa: S104 - refused, not bound
        return None
    return endpoints[0]


@dataclass(slots=True)
class KnownEndpoints:
    """All known addresses, and the names of the nodes found there."""

    configured: tuple[Endpoint, ...]
    loopback_only: bool = False  # learn no address of another machine
    learned: dict[str, Endpoint] = field(default_factory=dict)
    names: dict[Endpoint, str] = field(default_factory=dict)

    def all(self) -> tuple[Endpoint, ...]:
        """Return the given addresses, then the learned ones, each once."""
        return tuple(dict.fromkeys((*self.configured, *self.learned.values())))[:MAX_ENDPOINTS]

    def name_of(self, endpoint: Endpoint) -> str:
        """Return the name of the node if it is known, otherwise its address."""
        return self.names.get(endpoint) or str(endpoint)

    def met(self, endpoint: Endpoint, name: str) -> None:
        """Record the name of the node that answered at this address."""
        if name:
            self.names[endpoint] = name

    def learn(self, addresses: Mapping[str, str]) -> bool:
        """Record the addresses of the members. Return true if one is new.

        Addresses of nodes that are no members any more are removed, unless a person gave them.
        """
        fresh = {
            name: endpoint
            for name, address in sorted(addresses.items())
            if name
            and (endpoint := usable_learned(address)) is not None
            and (endpoint.is_loopback or not self.loopback_only)
        }
        if not fresh or fresh == self.learned:
            return False
        self.learned = dict(list(fresh.items())[:MAX_ENDPOINTS])
        known = set(self.all())
        self.names = {endpoint: name for endpoint, name in self.names.items() if endpoint in known}
        for name, endpoint in self.learned.items():
            self.names.setdefault(endpoint, name)
        return True
