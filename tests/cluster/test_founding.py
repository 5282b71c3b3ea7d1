"""The first start of a cluster, as clients meet it: a node says what it waits for, and goes on when the others come."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from parley import NoMajorityError, ParleyClient
from scripts.cluster_local import LocalCluster
from tests.cluster.conftest import FAST


async def test_a_client_of_a_node_that_founds_a_cluster_is_told_so_and_goes_on_when_the_others_come(
    tmp_path: Path,
) -> None:
    """It was told "connection refused"."""
    async with LocalCluster(tmp_path / "var", settings=FAST, start=False) as cluster:
        cluster.start("n1")
        async with ParleyClient(
            [cluster.address("n1")], ca=cluster.ca_file, state_dir=tmp_path / "state", connect=False, deadline_s=60
        ) as client:
            async with asyncio.timeout(60):
                while "waits for the other first nodes" not in (error := await status_error(client)):
                    assert error, "it serves without the others"
                    await asyncio.sleep(0)
            with pytest.raises(NoMajorityError, match="waits for the other first nodes"):
                await client.register("anna", "correct horse")
            cluster.start("n2", "n3")
            await cluster.wait_for_leader()
            await client.register("anna", "correct horse")
            await client.login("anna", "correct horse")
        for name in cluster.names:
            assert "Traceback" not in cluster.log_text(name)


async def status_error(client: ParleyClient) -> str:
    [node] = (await client.cluster_status()).nodes
    return node.error
