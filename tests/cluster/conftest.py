"""Real clusters for tests: one of three nodes per test file, over TLS; tests that need another kind make their own."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from scripts.cluster_local import LocalCluster

# The cheapest password hash a node takes outside --insecure.
FAST = {"bcrypt_cost": 10}
PATIENT = {"election_timeout_min_ms": 3_000, "election_timeout_max_ms": 5_000}
"""Other tests may have this machine's processors: a leader that is starved for a moment stays the leader."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[LocalCluster]:
    """The cluster of this file; use `cluster`."""
    async with LocalCluster(tmp_path_factory.mktemp("cluster"), settings=FAST) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module")
async def cluster(shared: LocalCluster) -> LocalCluster:
    """Three nodes that all answer, whatever the test before did to them."""
    for name in shared.names:
        if shared.is_up(name):
            shared.resume(name)
        else:
            shared.start(name)
    await shared.wait_until_answering(*shared.names)
    await shared.wait_for_leader()
    return shared


@pytest.fixture
def fresh() -> Callable[[str], str]:
    """Account names no other test uses."""
    return lambda name: f"{name}-{secrets.token_hex(4)}"
