"""docs/PROTOCOL.md names every RPC, and every frame of a stream between client and node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import FileDescriptor

from parley_proto.v1 import accounts_pb2, admin_pb2, conversations_pb2, messaging_pb2, peer_pb2, text_filter_pb2
from tests.unit.project.source import ROOT

PAGE = (ROOT / "docs" / "PROTOCOL.md").read_text()
SERVED = (accounts_pb2, conversations_pb2, messaging_pb2, admin_pb2, peer_pb2, text_filter_pb2)


def section(heading: str) -> str:
    """The part of the page under a heading of the second order."""
    return PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def rpcs() -> Iterator[tuple[str, str]]:
    """Every RPC with its service."""
    for module in SERVED:
        file: FileDescriptor = module.DESCRIPTOR
        for service in file.services_by_name.values():
            for method in service.methods:
                yield service.name, method.name


def frames() -> Iterator[tuple[str, str]]:
    """Every frame of Messaging.Connect: its field and its message."""
    for direction in (messaging_pb2.ClientFrame, messaging_pb2.ServerFrame):
        for field in direction.DESCRIPTOR.oneofs_by_name["frame"].fields:
            assert field.message_type is not None
            yield field.name, field.message_type.name


def test_every_proto_file_with_a_service_is_looked_at() -> None:
    with_service = {path.stem for path in (ROOT / "proto").rglob("*.proto") if "\nservice " in path.read_text()}
    assert with_service == {module.__name__.rpartition(".")[2].removesuffix("_pb2") for module in SERVED}


@pytest.mark.parametrize(("service", "method"), [*rpcs()])
def test_every_rpc_stands_in_the_section_of_its_service(service: str, method: str) -> None:
    assert f"`{method}`" in section(service)


@pytest.mark.parametrize(("field", "message"), [*frames()])
def test_every_frame_has_a_row(field: str, message: str) -> None:
    assert f"\n| `{field}` (`{message}`) | " in section("Messaging")


def test_every_send_status_is_explained() -> None:
    names = [name for name in messaging_pb2.SendStatus.keys() if not name.endswith("UNSPECIFIED")]  # noqa: SIM118
    assert [name for name in names if f"\n| `{name}` | " not in PAGE] == []
