"""The folder of a cluster that `scripts/launch.py` starts.

    FOLDER/launch.json      the host list, and how many of its nodes bootstrapped the cluster
    FOLDER/ca/              certificate authority: ca.pem for everybody, ca.key only for who adds nodes
    FOLDER/n1/node.toml     settings of one node; the files that it names are beside it
    FOLDER/n1/ca.pem, n1.pem, n1.key

A node on this machine runs in its folder, with `data`, `log` and `pid` beside these files. A node on another machine
gets a copy of the four files.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parleyd.security.certificate_files import write_ca, write_node
from parleyd.security.certificates import CertificateError
from scripts.cluster_layout import ClusterError, Layout, Settings, write_atomically, write_config
from scripts.launch_list import ListedNode, from_json, to_json


@dataclass(frozen=True, slots=True)
class Launch:
    """A cluster's folder, its nodes, and how many of them are its first members."""

    root: Path
    nodes: tuple[ListedNode, ...]
    first: int

    @property
    def ca_file(self) -> Path:
        """Return the certificate against which clients check the nodes."""
        return self.root / "ca" / "ca.pem"

    @property
    def joining(self) -> tuple[ListedNode, ...]:
        """Return the nodes that were added to the list after the first start."""
        return self.nodes[self.first :]

    def folder(self, node: ListedNode) -> Path:
        """Return the folder of one node on this machine."""
        return self.root / node.name


def files_of(node: ListedNode) -> tuple[str, ...]:
    """Return the names of the files that a node needs before its first start."""
    return ("ca.pem", f"{node.name}.key", f"{node.name}.pem", "node.toml")


def load(root: Path) -> Launch | None:
    """Return what an earlier start made in this folder, or None."""
    file = root / "launch.json"
    try:
        stored = json.loads(file.read_text())
        return Launch(root.absolute(), from_json(json.dumps(stored["nodes"])), int(stored["first"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ClusterError(f"{file} cannot be read ({error}). Nothing was started. Use another folder.") from error


def settle(root: Path, listed: Sequence[ListedNode]) -> Launch:
    """Return the nodes of the folder with those of the list. Raise ClusterError if the list differs from before.

    Nodes at the end of the list may be new: they join. How a machine is reached may change, addresses may not.
    """
    known = load(root)
    if known is None:
        if (root / "cluster.json").exists():
            raise ClusterError(f"{root} holds a cluster of `make run`. Nothing was started. Use another folder: --var.")
        return Launch(root.absolute(), tuple(listed), len(listed))
    if [node.plan for node in known.nodes] != [node.plan for node in listed[: len(known.nodes)]]:
        before = ", ".join(f"{node.name} {node.client_address}" for node in known.nodes)
        raise ClusterError(
            f"The cluster in {root} has other nodes than the list: {before}. Nothing was changed. Keep their order, "
            "and add new nodes at the end. Use another folder (--var) for another cluster."
        )
    return Launch(known.root, tuple(listed), known.first)


def make_files(launch: Launch, settings: Settings) -> None:
    """Make the certificates and settings that are missing. What exists stays as it is."""
    launch.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority = launch.root / "ca"
    try:
        if not (authority / "ca.pem").exists():
            write_ca(authority)
        for node in launch.nodes:
            folder = launch.folder(node)
            if not (folder / f"{node.name}.pem").exists():
                hosts = [node.host, "127.0.0.1"] if node.host == "localhost" else [node.host]
                write_node(folder, authority, node.name, hosts)
            shutil.copy(launch.ca_file, folder / "ca.pem")
            if not (folder / "node.toml").exists():
                _write_settings(launch, node, settings)
    except CertificateError as error:
        raise ClusterError(f"The certificates could not be made: {error}. Nothing was started.") from error
    stored = {"first": launch.first, "nodes": json.loads(to_json(launch.nodes))}
    write_atomically(launch.root / "launch.json", json.dumps(stored, indent=2))


def _write_settings(launch: Launch, node: ListedNode, settings: Settings) -> None:
    joins = node in launch.joining
    members = launch.nodes[: launch.first]
    layout = Layout(launch.root, tuple(one.plan for one in ((*members, node) if joins else members)))
    peer_port = node.plan.peer_address.rpartition(":")[2]
    own: Settings = {
        "data_dir": "data",
        "client_listen": f"{node.listen_host}:{node.port}",
        "client_advertise": node.client_address,
        "peer_listen": f"{node.listen_host}:{peer_port}",
        "ca_file": "ca.pem",
        "cert_file": f"{node.name}.pem",
        "key_file": f"{node.name}.key",
        **settings,
    }
    write_config(layout, node.name, own, joins=joins)
