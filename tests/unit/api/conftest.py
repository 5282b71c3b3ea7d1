"""What the api's tests share: one node in this process, and clients that are nothing but the protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import grpc.aio
import pytest

from tests.support.node import InProcessCluster, InProcessNode
from tests.support.raw import Raw


@pytest.fixture
async def cluster() -> AsyncIterator[InProcessCluster]:
    """A cluster of one running node."""
    cluster = InProcessCluster()
    await cluster.nodes[0].start()
    yield cluster
    await cluster.stop()


@pytest.fixture
def node(cluster: InProcessCluster) -> InProcessNode:
    """Its node."""
    return cluster.nodes[0]


@pytest.fixture
async def raw(node: InProcessNode) -> AsyncIterator[Raw]:
    """A client of that node."""
    async with AsyncExitStack() as stack:
        yield Raw(await stack.enter_async_context(grpc.aio.insecure_channel(node.address)))
