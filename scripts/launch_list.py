"""The host list of `scripts/launch.py`: which nodes run on which machine, and how that machine is reached.

A line of the file: HOST FIRST_PORT [NUMBER_OF_NODES] [ssh=NAME] [program=PATH], quoted as in a shell. The nodes are
named n1, n2, ... in the order of the list. A node's port for other nodes is its port for clients plus PEER_OFFSET.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from parley import BadInputError, Endpoint, parse_endpoints, parse_host_lists
from scripts.cluster_layout import MAX_NODES, ClusterError, NodePlan

PEER_OFFSET = 100
THIS_MACHINE = "none"
LINE_FORM = "HOST FIRST_PORT [NUMBER_OF_NODES] [ssh=USER@HOST or ssh=none] [program=PATH]"

_SSH_NAME = re.compile(r"^(?!-)[A-Za-z0-9_.@:%\[\]-]{1,255}$")


@dataclass(frozen=True, slots=True)
class ListedNode:
    """One node of the list. `ssh` is how its machine is called, empty for this machine. `program` may be empty."""

    name: str
    host: str
    port: int
    ssh: str = ""
    program: str = ""

    @property
    def client_address(self) -> str:
        """Return the address for clients."""
        return str(Endpoint(self.host, self.port))

    @property
    def plan(self) -> NodePlan:
        """Return the name and the addresses at which others reach the node."""
        return NodePlan(self.name, self.client_address, str(Endpoint(self.host, self.port + PEER_OFFSET)))

    @property
    def listen_host(self) -> str:
        """Return the host part on which the node listens: its own address, or every one if a name was listed."""
        if self.host == "localhost":
            return "127.0.0.1"
        if ":" in self.host:
            return f"[{self.host}]"
        return self.host if self.host.replace(".", "").isdecimal() else "0.0.0.0"  # noqa: S104 - as OPERATIONS.md says

    @property
    def place(self) -> str:
        """Return the machine, for people."""
        return f"{self.host}, by ssh {self.ssh}" if self.ssh else f"{self.host}, this machine"


def read_list(file: Path) -> tuple[ListedNode, ...]:
    """Read a list file. Raise ClusterError that quotes the wrong line."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise ClusterError(f"The host list {file} cannot be read: {error}. Nothing was started.") from error
    found: list[tuple[Endpoint, str | None, str]] = []
    for number, line in enumerate(lines, start=1):
        try:
            words = shlex.split(line, comments=True)
            found.extend(_read_line(words) if words else ())
        except (ValueError, BadInputError, ClusterError) as error:
            raise ClusterError(
                f"Line {number} of {file} is wrong: {error} Nothing was started. Write: {LINE_FORM}"
            ) from None
    return _named(found)


def from_flags(hosts: str, ports: str, counts: str) -> tuple[ListedNode, ...]:
    """Return the nodes of --hosts, --ports and --num_ports. Raise ClusterError for lists that do not fit."""
    try:
        return _named([(endpoint, None, "") for endpoint in parse_host_lists(hosts, ports, counts)])
    except BadInputError as error:
        raise ClusterError(f"{error} Nothing was started.") from None


def to_json(nodes: Sequence[ListedNode]) -> str:
    """Return the list as it is kept beside the certificates."""
    return json.dumps([asdict(node) for node in nodes], indent=2)


def from_json(text: str) -> tuple[ListedNode, ...]:
    """Return a list that `to_json` made."""
    return tuple(ListedNode(**node) for node in json.loads(text))


def _read_line(words: Sequence[str]) -> list[tuple[Endpoint, str | None, str]]:
    plain = [word for word in words if "=" not in word]
    given = dict(word.split("=", 1) for word in words if "=" in word)
    if not 2 <= len(plain) <= 3 or set(given) - {"ssh", "program"}:
        raise ClusterError("it has too few or too many words.")
    ssh = given.get("ssh")
    if ssh is not None and not _SSH_NAME.match(ssh):
        raise ClusterError(f"{ssh!r} is not a name for ssh.")
    endpoints = parse_host_lists(plain[0], plain[1], plain[2] if len(plain) == 3 else "")
    return [(endpoint, ssh, given.get("program", "")) for endpoint in endpoints]


def _named(found: Sequence[tuple[Endpoint, str | None, str]]) -> tuple[ListedNode, ...]:
    """Name the nodes. Who gives no name for ssh means the host's, or this machine if its address is a loopback one."""
    nodes = []
    for number, (endpoint, ssh, program) in enumerate(found, start=1):
        by_itself = "" if endpoint.is_loopback else endpoint.host
        through = by_itself if ssh is None else ssh
        called = "" if through == THIS_MACHINE else through
        nodes.append(ListedNode(f"n{number}", endpoint.host, endpoint.port, called, program))
    _check(nodes)
    return tuple(nodes)


def _check(nodes: Sequence[ListedNode]) -> None:
    if not 1 <= len(nodes) <= MAX_NODES:
        raise ClusterError(
            f"The list has {len(nodes)} nodes. A cluster has 1 to {MAX_NODES}. Nothing was started. Odd numbers make "
            "sense: 1, 3, 5."
        )
    if any(node.port + PEER_OFFSET > 65535 for node in nodes):
        raise ClusterError(
            f"The port for other nodes is {PEER_OFFSET} above that for clients, so ports end at {65535 - PEER_OFFSET}. "
            "Nothing was started. Give smaller ports."
        )
    addresses = [address for node in nodes for address in (node.plan.client_address, node.plan.peer_address)]
    if twice := sorted(_twice(addresses)):
        raise ClusterError(
            f"{', '.join(twice)} would be taken by two nodes. Nothing was started. A node also takes the port "
            f"{PEER_OFFSET} above its own, for other nodes."
        )
    loopback = [endpoint.is_loopback for node in nodes for endpoint in parse_endpoints([node.client_address])]
    if any(loopback) and not all(loopback):
        raise ClusterError(
            "The list has addresses of this machine only, such as localhost, beside those of others. Other machines "
            "do not reach these. Nothing was started. Give this machine's name or address, with ssh=none."
        )


def _twice(addresses: Iterable[str]) -> set[str]:
    seen: set[str] = set()
    return {address for address in addresses if address in seen or seen.add(address)}  # type: ignore[func-returns-value]
