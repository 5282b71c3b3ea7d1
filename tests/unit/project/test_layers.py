"""Imports point inward: each layer may know what stands in its row and nothing else."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

import pytest

from tests.unit.project.source import ROOT, Import, imports_of, imports_under, is_within

PURE_MODULES = (
    "campaign_delay",
    "clock",
    "cluster_time",
    "disk_watch",
    "driver",
    "effects",
    "errors",
    "fair_order",
    "fenced_campaigns",
    "group",
    "inputs",
    "leader_watch",
    "loop_watch",
    "leadership",
    "member_room",
    "proposals",
    "read_barriers",
    "received",
    "retention",
    "settings",
    "snapshot_plan",
    "waits",
)
PURE_GROUP = (
    "parley_proto.v1.state_pb2",
    "parleyd.invariants",
    "parleyd.raft",
    *(f"parleyd.group.{module}" for module in PURE_MODULES),
    "parleyd.membership.members",
    "parleyd.membership.rules",
)
PURE_MEMBERSHIP = (
    "parley_proto.v1.peer_pb2",
    "parleyd.raft",
    "parleyd.machine.levels",
    "parleyd.machine.limits",
    "parleyd.machine.records",
    "parleyd.membership.members",
)
PURE_PRESENCE = ("ids", "last_seen", "own", "presence", "reports", "typists")
PURE_DOCTOR = ("facts", "findings", "rules")
PURE_TERMINAL_DOCTOR = ("cluster_rules", "facts", "findings", "node_rules", "rules")
PURE_GATEWAY = ("limits", "lines", "requests", "styles")
IMPURE_STDLIB = ("asyncio", "concurrent", "logging", "multiprocessing", "os", "pathlib", "socket", "threading", "time")

# What a layer may import besides the standard library and itself.
LAYERS: dict[str, tuple[str, ...]] = {
    "server/parleyd/raft": ("parleyd.invariants",),
    "server/parleyd/machine": (
        "apsw",
        "google.protobuf",
        "parley_proto",
        "parleyd.formats",
        "parleyd.invariants",
        "parleyd.page_checksums",
    ),
    "server/parleyd/storage": (
        "apsw",
        "google.protobuf",
        "parley_proto",
        "structlog",
        "parleyd.formats",
        "parleyd.invariants",
        "parleyd.page_checksums",
        "parleyd.raft",
    ),
    "server/parleyd/transport": (
        "grpc",
        "google.protobuf",
        "parley_proto",
        "structlog",
        "parleyd.budgets",
        "parleyd.call_errors",
        "parleyd.call_places",
        "parleyd.decoding",
        "parleyd.ending",
        "parleyd.port_sockets",
        "parleyd.raft",
        "parleyd.request_ids",
        "parleyd.retry",
        "parleyd.sources",
        # Bootstrapping a cluster is agreeing on identities, which storage keeps.
        "parleyd.storage.identity",
        "parleyd.storage.errors",
    ),
    "server/parleyd/group": (
        "apsw",  # the snapshot store copies the state file
        "google.protobuf",
        "parley_proto",
        "structlog",
        "parleyd.budgets",
        "parleyd.formats",
        "parleyd.invariants",
        "parleyd.owners",
        "parleyd.raft",
        "parleyd.storage",
        "parleyd.transport",
        "parleyd.machine",
        "parleyd.membership",
        "parleyd.observability.figures",
        "parleyd.request_ids",
        "parleyd.retry",
    ),
    # What a group decides is pure: no shell, no thread, no clock, no files, no wire but the commands' own records.
    **{f"server/parleyd/group/{module}.py": PURE_GROUP for module in PURE_MODULES},
    "server/parleyd/membership/rules.py": PURE_MEMBERSHIP,
    "server/parleyd/membership/members.py": PURE_MEMBERSHIP,
    "server/parleyd/membership": (
        "google.protobuf",
        "parley_proto",
        "structlog",
        "parleyd.raft",
        "parleyd.machine",
        "parleyd.storage.identity",
        "parleyd.transport",
        "parleyd.group",
        "parleyd.retry",
    ),
    # Backups join storage and state, and a recovery is a start without Raft.
    "server/parleyd/backup": (
        "apsw",
        "google.protobuf",
        "parley_proto",
        "structlog",
        "parleyd.formats",
        "parleyd.group.opening",
        "parleyd.machine",
        "parleyd.membership.entries",
        "parleyd.page_checksums",
        "parleyd.raft",
        "parleyd.storage",
        "parleyd.transport.codec",
    ),
    "server/parleyd/delivery": (
        "parley_proto",
        "structlog",
        "parleyd.budgets",
        "parleyd.machine",
        "parleyd.group",
        "parleyd.observability.figures",
    ),
    "server/parleyd/observability": ("structlog",),
    # What becomes an event is seen at the log, so the package needs no part of a node.
    "server/parleyd/events": ("structlog", "parleyd.formats"),
    # The pages know nothing of a node's parts: they are given samples and verdicts.
    "server/parleyd/http": (
        "aiohttp",
        "prometheus_client",
        "structlog",
        "parleyd.addresses",
        "parleyd.observability.figures",
    ),
    "server/parleyd/presence": ("parley_proto", "structlog", "parleyd.raft"),
    # What is sent and what still counts is pure, as in a group.
    **{
        f"server/parleyd/presence/{module}.py": ("parley_proto", "parleyd.raft", "parleyd.presence")
        for module in PURE_PRESENCE
    },
    "server/parleyd/security": (
        "bcrypt",
        "cryptography",
        "grpc",
        "structlog",
        "parleyd.addresses",
        "parleyd.owners",
        "parleyd.settings.http_pair",
        "parleyd.settings.table",
    ),
    # The doctor reads what a node has written, beside it or without it, and starts nothing.
    "server/parleyd/doctor": (
        "apsw",
        "grpc",
        "parley_proto",
        "parleyd.addresses",
        "parleyd.backup",
        "parleyd.exits",
        "parleyd.formats",
        "parleyd.machine",
        "parleyd.open_files",
        "parleyd.page_checksums",
        "parleyd.security",
        "parleyd.settings",
        "parleyd.storage",
    ),
    # What it judges is pure.
    **{f"server/parleyd/doctor/{module}.py": ("parleyd.exits", "parleyd.doctor") for module in PURE_DOCTOR},
    "client/parley/wire": (
        "google.protobuf",
        "parley_proto",
        "parley.client_state",
        "parley.cluster_model",
        "parley.errors",
        "parley.event_model",
        "parley.model",
        "parley.presence_model",
    ),
    "client/parley/device": (
        "apsw",
        "keyring",
        "platformdirs",
        "parley.client_state",
        "parley.errors",
        "parley.log",
        "parley.mentions",
        "parley.model",
        "parley.strict_json",
        "parley.wire.endpoints",
        "parley.wire.claim",
        "parley.wire.position",
    ),
    "client/parley/chat": (
        "parley.client_state",
        "parley.cluster_model",
        "parley.links",
        "parley.mentions",
        "parley.model",
        "parley.presence_model",
        "parley.receipt_model",
        "parley.receipts",
        "parley.state_publisher",
    ),
    "client/parley/inviting": (
        "parley.cluster_model",
        "parley.device.profile",
        "parley.errors",
        "parley.model",
        "parley.private_file",
        "parley.strict_json",
        "parley.wire.endpoints",
    ),
    **{f"client/parley/gateway/{module}.py": ("parley.chat",) for module in PURE_GATEWAY},
    "client/parley/net": ("apsw", "google.protobuf", "grpc", "parley_proto", "parley"),
}


def module_of(folder: str) -> str:
    """The package in a folder: its path without the top-level folder that only holds packages."""
    return folder.partition("/")[2].replace("/", ".")


def forbidden_imports(imports: Iterable[Import], own: str, allowed: tuple[str, ...]) -> list[Import]:
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
    assert not forbidden_imports(imports, module_of(folder), LAYERS[folder]), "a layer imports outward"


@pytest.mark.parametrize("module", PURE_MODULES)
def test_what_a_group_decides_reads_no_clock_and_starts_nothing(module: str) -> None:
    imports = imports_under(f"server/parleyd/group/{module}.py")
    assert not [str(found) for found in imports if found.module.split(".")[0] in IMPURE_STDLIB]


@pytest.mark.parametrize("module", PURE_PRESENCE)
def test_presence_reads_no_clock_and_starts_nothing(module: str) -> None:
    imports = imports_under(f"server/parleyd/presence/{module}.py")
    assert not [str(found) for found in imports if found.module.split(".")[0] in IMPURE_STDLIB]


@pytest.mark.parametrize("module", PURE_GATEWAY)
def test_the_protocol_of_the_gateway_reads_no_clock_and_starts_nothing(module: str) -> None:
    imports = imports_under(f"client/parley/gateway/{module}.py")
    assert not [str(found) for found in imports if found.module.split(".")[0] in IMPURE_STDLIB]


@pytest.mark.parametrize(
    "module",
    [
        *(f"server/parleyd/doctor/{module}" for module in PURE_DOCTOR),
        *(f"client/parley/terminal/doctor_{module}" for module in PURE_TERMINAL_DOCTOR),
    ],
)
def test_what_a_doctor_judges_reads_no_clock_and_starts_nothing(module: str) -> None:
    imports = imports_under(f"{module}.py")
    assert imports
    assert not [str(found) for found in imports if found.module.split(".")[0] in IMPURE_STDLIB]


def test_every_module_a_group_decides_with_is_among_the_pure_ones() -> None:
    needed = {"group"}
    while (
        new := {
            found.module.split(".")[2]
            for module in needed
            for found in imports_under(f"server/parleyd/group/{module}.py")
            if is_within(found.module, "parleyd.group")
        }
        - needed
    ):
        needed |= new
    assert needed == {*PURE_MODULES}


@pytest.mark.parametrize(("folder", "forbidden"), [("client", "parleyd"), ("server", "parley")])
def test_client_and_server_meet_only_on_the_wire(folder: str, forbidden: str) -> None:
    assert not [found for found in imports_under(folder) if is_within(found.module, forbidden)]


@pytest.mark.parametrize("folder", ["client", "server"])
def test_product_code_never_imports_scripts_or_tests(folder: str) -> None:
    assert not [found for found in imports_under(folder) if found.module.split(".")[0] in ("scripts", "tests")]


FRONT_ENDS = ("terminal", "gui", "gateway")


def test_front_ends_do_not_import_each_other() -> None:
    wrong = [
        found
        for end in FRONT_ENDS
        for found in imports_under(f"client/parley/{end}")
        for other in FRONT_ENDS
        if other != end and is_within(found.module, f"parley.{other}")
    ]
    assert not wrong


SDK_USES = ("apsw", "google.protobuf", "grpc", "keyring", "parley", "parley_proto", "platformdirs", "structlog")


def test_the_sdk_imports_neither_front_ends_nor_their_libraries() -> None:
    ends = [f"client/parley/{end}" for end in FRONT_ENDS]
    sdk = [
        found
        for found in imports_under("client/parley")
        if not found.importer.startswith((*ends, "client/parley/cli.py"))
    ]
    assert not forbidden_imports(sdk, "parley", SDK_USES)
    assert not [found for found in sdk for end in (*FRONT_ENDS, "cli") if is_within(found.module, f"parley.{end}")]


def test_only_the_composition_root_joins_api_transport_and_replica() -> None:
    parts = ("parleyd.api", "parleyd.transport", "parleyd.group")
    joining = [
        str(file.relative_to(ROOT))
        for file in sorted((ROOT / "server").rglob("*.py"))
        if all(
            any(is_within(found.module, part) for found in imports_of(file.read_text(), str(file))) for part in parts
        )
    ]
    assert joining == ["server/parleyd/wiring.py"]


def test_only_the_entry_point_imports_the_node_and_only_the_node_its_wiring() -> None:
    def users(module: str) -> set[str]:
        return {found.importer for found in imports_under("server") if is_within(found.module, module)}

    assert users("parleyd.node") == {"server/parleyd/cli.py"}
    assert users("parleyd.wiring") == {"server/parleyd/node.py"}


def test_the_client_reads_files_in_json_by_one_strict_function() -> None:
    """The database of the device is not a file that somebody else writes; the store tells its damage."""
    readers = {
        str(file.relative_to(ROOT / "client/parley"))
        for file in (ROOT / "client/parley").rglob("*.py")
        if re.search(r"\bjson\.loads?\(", file.read_text())
    }
    assert readers == {"strict_json.py", "device/directory.py", "device/inbox.py", "device/schema.py"}


def test_a_forbidden_import_would_be_found() -> None:
    text = "def late():\n    from parleyd.api import errors\n    import grpc, json\n"
    found = forbidden_imports(imports_of(text, "x.py"), "parleyd.raft", ())
    assert [str(one) for one in found] == ["x.py:2 imports parleyd.api.errors", "x.py:3 imports grpc"]
    assert forbidden_imports(imports_of("from . import x", "x.py"), "parleyd.raft", ()), (
        "relative imports hide their target"
    )
