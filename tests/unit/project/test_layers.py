"""Imports point inward: each layer may know what stands in its row and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterable

import pytest

from tests.unit.project.source import ROOT, Import, imports_of, imports_under, is_within

# What a layer may import besides the standard library and itself.
LAYERS: dict[str, tuple[str, ...]] = {
    "server/raft": (),
    "server/machine": ("apsw", "google.protobuf", "proto"),
    "server/storage": ("apsw", "google.protobuf", "proto", "structlog", "server.raft"),
    "server/transport": (
        "grpc",
        "google.protobuf",
        "proto",
        "structlog",
        "server.raft",
        # Founding a cluster is agreeing on identities, which storage keeps.
        "server.storage.identity",
        "server.storage.errors",
    ),
    "server/replica": (
        "apsw",  # housekeeping copies the state file
        "google.protobuf",
        "proto",
        "structlog",
        "server.raft",
        "server.storage",
        "server.transport",
        "server.machine",
    ),
    "server/delivery": ("proto", "structlog", "server.machine", "server.replica"),
    "server/security": ("bcrypt", "cryptography", "grpc", "structlog", "server.addresses", "server.config"),
    "client/sdk": ("apsw", "grpc", "google.protobuf", "keyring", "platformdirs", "proto", "structlog"),
}


def strangers(imports: Iterable[Import], own: str, allowed: tuple[str, ...]) -> list[Import]:
    """The imports a layer may not have."""
    welcome = (own, *allowed)
    return [
        found
        for found in imports
        if found.module.split(".")[0] not in sys.stdlib_module_names
        and not any(is_within(found.module, name) for name in welcome)
    ]


@pytest.mark.parametrize("folder", LAYERS)
def test_layer_imports_only_what_its_row_names(folder: str) -> None:
    imports = imports_under(folder)
    assert imports, f"{folder} has no modules: the row is stale"
    assert not strangers(imports, folder.replace("/", "."), LAYERS[folder]), "a layer imports outward"


@pytest.mark.parametrize(("folder", "forbidden"), [("client", "server"), ("server", "client")])
def test_client_and_server_meet_only_on_the_wire(folder: str, forbidden: str) -> None:
    assert not [found for found in imports_under(folder) if is_within(found.module, forbidden)]


@pytest.mark.parametrize("folder", ["client", "server"])
def test_product_code_never_imports_scripts_or_tests(folder: str) -> None:
    assert not [found for found in imports_under(folder) if found.module.split(".")[0] in ("scripts", "tests")]


def test_front_ends_do_not_import_each_other() -> None:
    ends = [end.name for end in (ROOT / "client").iterdir() if end.is_dir() and end.name not in ("sdk", "__pycache__")]
    wrong = [
        found
        for end in ends
        for found in imports_under(f"client/{end}")
        for other in ends
        if other != end and is_within(found.module, f"client.{other}")
    ]
    assert not wrong


def test_only_the_composition_root_joins_api_transport_and_replica() -> None:
    parts = ("server.api", "server.transport", "server.replica")
    joining = [
        str(file.relative_to(ROOT))
        for file in sorted((ROOT / "server").rglob("*.py"))
        if all(
            any(is_within(found.module, part) for found in imports_of(file.read_text(), str(file))) for part in parts
        )
    ]
    assert joining == ["server/node.py"]


def test_only_the_entry_points_import_the_composition_root() -> None:
    users = {found.importer for found in imports_under("server") if is_within(found.module, "server.node")}
    assert users <= {"server/cli.py", "server/cli_start.py", "server/__main__.py"}


def test_a_forbidden_import_would_be_found() -> None:
    text = "def late():\n    from server.api import errors\n    import grpc, json\n"
    found = strangers(imports_of(text, "x.py"), "server.raft", ())
    assert [str(one) for one in found] == ["x.py:2 imports server.api.errors", "x.py:3 imports grpc"]
    assert strangers(imports_of("from . import x", "x.py"), "server.raft", ()), "relative imports hide their target"
