"""The raw client on the nodes of a real cluster, and the standard services that every node has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2_grpc

from scripts.cluster_local import LocalCluster
from scripts.cluster_status import secure_channel
from tests.support.raw import (
    PASSWORD,
    Person,
    Raw,
    Stream,
    bodies,
    eventually,
    index_of,
    numbered_sends,
    refused,
    until_true,
)

__all__ = [
    "PASSWORD",
    "Person",
    "Raw",
    "Stream",
    "bodies",
    "eventually",
    "health_stub",
    "index_of",
    "numbered_sends",
    "raw_client",
    "reflection_stub",
    "refused",
    "until_true",
]


def health_stub(channel: grpc.aio.Channel) -> Any:
    """The standard health service; its type stubs know nothing of asyncio."""
    return cast(Any, health_pb2_grpc.HealthStub)(channel)


def reflection_stub(channel: grpc.aio.Channel) -> Any:
    """The standard reflection service, as above."""
    return cast(Any, reflection_pb2_grpc.ServerReflectionStub)(channel)


@asynccontextmanager
async def raw_client(cluster: LocalCluster, name: str) -> AsyncIterator[Raw]:
    """Speak to one node."""
    async with secure_channel(cluster.address(name), cluster.ca_file.read_bytes()) as channel:
        yield Raw(channel)
