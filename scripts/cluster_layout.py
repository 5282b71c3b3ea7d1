"""The folder of a local cluster.

    var/cluster.json        the nodes and their addresses
    var/ca/                 development certificate authority: ca.pem, ca.key
    var/n1/node.toml        settings of one node, as `parleyd start --config` takes them
    var/n1/node.pem, .key   its certificate
    var/n1/data/            its data directory
    var/n1/log              its output
    var/n1/process.json     the process that runs it (cluster_process.py)
    var/clients/ACCOUNT/    files of `make chat ACCOUNT=...`: session, outbox, development password

The layout is made once and then only read, because the addresses of a cluster do not change.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shlex
import shutil
import socket
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from parleyd.security.certificates import Issued, issue_node_certificate, make_ca

SettingValue = str | int | float | bool
Settings = Mapping[str, SettingValue]

BASE_CLIENT_PORT = 7600
BASE_PEER_PORT = 7700
HTTP_PORT_OFFSET = 200
MAX_NODES = 7


class ClusterError(Exception):
    """An error that a person can correct. The text states how."""


@dataclass(frozen=True, slots=True)
class NodePlan:
    """One node's name and addresses, `host:port`. Without `http_address` it has no pages for monitoring."""

    name: str
    client_address: str
    peer_address: str
    http_address: str = ""


@dataclass(frozen=True, slots=True)
class Layout:
    """A cluster's folder and its nodes."""

    root: Path
    nodes: tuple[NodePlan, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the nodes in order."""
        return tuple(node.name for node in self.nodes)

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return all client addresses, as the host list of a client."""
        return tuple(node.client_address for node in self.nodes)

    @property
    def is_elsewhere(self) -> bool:
        """Return whether commands need the folder's name, because it is not the usual one."""
        return self.root != (Path.cwd() / "var").absolute()

    @property
    def script(self) -> str:
        """Return what a person types to control this cluster."""
        return "scripts/cluster.py" + (f" --var {shlex.quote(str(self.root))}" if self.is_elsewhere else "")

    @property
    def ca_file(self) -> Path:
        """Return the certificate against which clients and nodes check each other."""
        return self.root / "ca" / "ca.pem"

    def node(self, name: str) -> NodePlan:
        """Return the plan of one node. Raise ClusterError for an unknown name."""
        for node in self.nodes:
            if node.name == name:
                return node
        raise ClusterError(f"There is no node {name!r} in {self.root}; it has {', '.join(self.names)}.")

    def folder(self, name: str) -> Path:
        """Return the folder of one node."""
        return self.root / self.node(name).name

    def config_file(self, name: str) -> Path:
        """Return the settings file of one node."""
        return self.folder(name) / "node.toml"

    def log_file(self, name: str) -> Path:
        """Return the file with the output of one node, over all its runs."""
        return self.folder(name) / "log"

    def data_dir(self, name: str) -> Path:
        """Return the data directory of one node."""
        return self.folder(name) / "data"

    @property
    def events_file(self) -> Path:
        """Return the file that exists while nodes log each command (`up --events`)."""
        return self.root / "events"

    def operator_token(self, name: str) -> str:
        """Return the secret with which a node tells its whole status; empty before its first start."""
        try:
            return (self.data_dir(name) / "operator.token").read_text()
        except FileNotFoundError:
            return ""


def load_layout(root: Path) -> Layout:
    """Read a folder made by `create_layout`. Raise ClusterError if there is none."""
    file = root / "cluster.json"
    try:
        stored = json.loads(file.read_text())
        nodes = tuple(NodePlan(**node) for node in stored["nodes"])
    except FileNotFoundError:
        raise ClusterError(f"There is no cluster in {root}. Start one with: make run VAR={root}") from None
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ClusterError(
            f"{file} cannot be read ({error}). If the data may go: {Layout(root, ()).script} destroy"
        ) from error
    return Layout(root, nodes)


def create_layout(root: Path, nodes: Sequence[NodePlan], settings: Settings | None = None) -> Layout:
    """Make certificates and settings for a new cluster.

    `cluster.json` is written last, so an incomplete folder is no cluster.
    """
    layout = Layout(root.absolute(), tuple(nodes))
    layout.root.mkdir(parents=True, exist_ok=True)
    _make_certificates(layout)
    for node in layout.nodes:
        write_config(layout, node.name, settings or {})
    write_atomically(layout.root / "cluster.json", json.dumps({"nodes": [asdict(node) for node in nodes]}, indent=2))
    return layout


def write_config(layout: Layout, name: str, settings: Settings, *, joins: bool = False) -> None:
    """Write one node's settings file. `settings` adds to and replaces the defaults.

    With `joins`, the node joins the cluster of the others. Otherwise it is one of its first members.
    """
    node, folder = layout.node(name), layout.folder(name)
    merged: dict[str, SettingValue] = {
        "name": node.name,
        "data_dir": str(layout.data_dir(name)),
        "client_listen": node.client_address,
        "peer_listen": node.peer_address,
        **({"http_listen": node.http_address} if node.http_address else {}),
        "ca_file": str(layout.ca_file),
        "cert_file": str(folder / "node.pem"),
        "key_file": str(folder / "node.key"),
        **settings,
    }
    lines = [f"{key} = {_toml_value(value)}" for key, value in merged.items()]
    named = [other for other in layout.nodes if other != node or not joins]
    lines += ["", "[join]" if joins else "[peers]"]
    lines += [f"{other.name} = {_toml_value(other.peer_address)}" for other in named]
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(layout.config_file(name), "\n".join(lines) + "\n")


def plan_default_nodes(count: int) -> tuple[NodePlan, ...]:
    """Return the default addresses: one loopback address per node, or one address with many ports if there are no
    others.

    If a port is taken, the next block of ports is tried, for all nodes alike.
    """
    for block in range(10):
        nodes = with_http(_plan_block(count, BASE_CLIENT_PORT + 10 * block, BASE_PEER_PORT + 10 * block, "127.0.0"))
        if not taken_addresses(nodes):
            return nodes
    raise ClusterError(
        f"No free ports on loopback between {BASE_CLIENT_PORT} and {BASE_PEER_PORT + 99}. "
        "Another cluster may be left over: scripts/cluster.py --var FOLDER stop"
    )


def plan_private_nodes(count: int) -> tuple[NodePlan, ...]:
    """Return addresses that nobody else uses, for tests: a random block of 127/8 if the system routes all of it."""
    generator = random.SystemRandom()
    for _ in range(100):
        network = f"127.{generator.randrange(1, 255)}.{generator.randrange(1, 255)}"
        shift = 0 if _can_bind(f"{network}.2", 0) else generator.randrange(2000)
        nodes = _plan_block(count, BASE_CLIENT_PORT + 10 * shift, BASE_CLIENT_PORT + 10 * shift + 1000, network)
        if not taken_addresses(nodes):
            return nodes
    raise ClusterError("No free loopback addresses were found in 100 tries.")


def with_http(nodes: Sequence[NodePlan]) -> tuple[NodePlan, ...]:
    """Return the same nodes with an address for monitoring each, above all ports of clients and nodes."""

    def beside(address: str) -> str:
        host, port = split_address(address)
        return f"{host}:{port + HTTP_PORT_OFFSET}"

    return tuple(replace(node, http_address=beside(node.client_address)) for node in nodes)


def with_nodes(layout: Layout, *moved: NodePlan) -> Layout:
    """Return the layout with other addresses of some nodes. The folder stays as it is."""
    plans = {node.name: node for node in (*layout.nodes, *moved)}
    return replace(layout, nodes=tuple(plans[name] for name in layout.names))


def taken_addresses(nodes: Sequence[NodePlan]) -> list[str]:
    """Return those addresses on which another program listens."""
    wanted = [address for node in nodes for address in (node.client_address, node.peer_address, node.http_address)]
    return [address for address in wanted if address and not _can_bind(*split_address(address))]


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of `host:port`."""
    host, _, port = address.rpartition(":")
    return host, int(port)


def destroy_layout(layout: Layout) -> None:
    """Remove everything that a cluster stored, and no other file in its folder."""
    (layout.root / "cluster.json").unlink()  # first: from here on it is no cluster, however this ends
    for folder in (*map(layout.folder, layout.names), layout.root / "ca", layout.root / "clients"):
        shutil.rmtree(folder, ignore_errors=True)
    for file in ("lock", "supervisor.lock", "events"):
        (layout.root / file).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # somebody else's files keep the folder
        layout.root.rmdir()


def _plan_block(count: int, client_port: int, peer_port: int, network: str) -> tuple[NodePlan, ...]:
    if not 1 <= count <= MAX_NODES:
        raise ClusterError(f"A local cluster has 1 to {MAX_NODES} nodes, not {count}. Odd numbers make sense: 1, 3, 5.")
    names = [f"n{number}" for number in range(1, count + 1)]
    if _can_bind(f"{network}.2", 0):
        hosts = [f"{network}.{number + 1}" for number in range(1, count + 1)]
        return tuple(
            NodePlan(name, f"{host}:{client_port}", f"{host}:{peer_port}")
            for name, host in zip(names, hosts, strict=True)
        )
    return tuple(
        NodePlan(name, f"127.0.0.1:{client_port + number}", f"127.0.0.1:{peer_port + number}")
        for number, name in enumerate(names, start=1)
    )


def _make_certificates(layout: Layout) -> None:
    """Make a CA for this cluster and a certificate for each node, valid for its loopback address."""
    authority = make_ca()
    _write_pair(layout.root / "ca", "ca", authority)
    certificate = x509.load_pem_x509_certificate(authority.certificate_pem)
    key = serialization.load_pem_private_key(authority.key_pem, password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ClusterError("The new CA has a key of an unexpected kind; nothing was started.")
    for node in layout.nodes:
        host, _ = split_address(node.client_address)
        _write_pair(layout.folder(node.name), "node", issue_node_certificate(certificate, key, node.name, [host]))


def _write_pair(folder: Path, stem: str, issued: Issued) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{stem}.pem").write_bytes(issued.certificate_pem)
    key_file = folder / f"{stem}.key"
    key_file.unlink(missing_ok=True)
    with os.fdopen(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(issued.key_pem)


def _can_bind(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections of an earlier run that linger in TIME_WAIT do not make a port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _toml_value(value: SettingValue) -> str:
    # JSON strings, numbers and booleans are TOML ones too.
    return json.dumps(value)


def write_atomically(file: Path, text: str) -> None:
    """Write a text file, of which a reader sees all or nothing."""
    part = file.with_suffix(file.suffix + f".{os.getpid()}.part")
    part.write_text(text)
    part.replace(file)
