"""Every gRPC channel is made in one of four places, none of which uses a proxy of the environment by itself."""

from __future__ import annotations

import ast

from tests.unit.project.source import ROOT, python_files

MAKERS = {
    "server/parleyd/transport/channels.py",
    "server/parleyd/doctor/own_node.py",
    "client/parley/net/channel.py",
    "scripts/cluster_status.py",
}


def makes_channels(source: str) -> bool:
    """Whether a module calls grpc's own functions for channels."""
    calls = (node.func for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    called = (ast.unparse(function) for function in calls)
    return any(name.startswith("grpc.") and name.endswith(("secure_channel", "insecure_channel")) for name in called)


def test_channels_are_made_where_the_proxy_is_switched_off() -> None:
    files = python_files("server", "client", "scripts")
    makers = {str(file.relative_to(ROOT)) for file in files if makes_channels(file.read_text())}
    assert makers == MAKERS
    for maker in makers:
        assert "grpc.enable_http_proxy" in (ROOT / maker).read_text(), maker
