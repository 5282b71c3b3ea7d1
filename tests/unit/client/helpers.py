"""Shared by the client's tests: a fast client against an in-process cluster, and waiting for things to become true."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from parley import ConnectionManagerSettings, MessageStreamSettings, ParleyClient, TextFilter
from tests.support.node import PASSWORD as PASSWORD
from tests.support.node import InProcessCluster, running_cluster

QUICK = ConnectionManagerSettings(
    stream=MessageStreamSettings(ping_interval_s=0.05, silent_ticks=4, majority_grace_s=0.05, probe_interval_s=0.1),
    lock_poll_s=0.02,
    replaced_pause_s=0.05,
    store_pause_s=0.05,
    log_in_pause_s=0.05,
)


async def until(condition: Callable[[], bool], what: object, timeout: float = 60.0) -> None:
    """Waits for something that no event tells; fails with the text of `what` as it is then."""
    try:
        async with asyncio.timeout(timeout):
            while not condition():  # noqa: ASYNC110 - nothing tells when these become true
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"never happened: {what}") from None


def make_client(
    cluster: InProcessCluster,
    state_dir: Path,
    account: str | None = None,
    *,
    nodes: Sequence[int] | None = None,
    connect: bool = True,
    deadline_s: float = 30.0,
    seed: int = 1,
    text_filter: TextFilter | None = None,
) -> ParleyClient:
    """A client of the cluster, not yet entered."""
    chosen = cluster.nodes if nodes is None else [cluster.nodes[i] for i in nodes]
    return ParleyClient(
        [node.address for node in chosen],
        account=account,
        insecure=True,
        state_dir=state_dir,
        connect=connect,
        deadline_s=deadline_s,
        settings=QUICK,
        rng=Random(seed),
        text_filter=text_filter,
    )


@asynccontextmanager
async def signed_in(
    cluster: InProcessCluster,
    state_dir: Path,
    name: str = "anna",
    *,
    nodes: Sequence[int] | None = None,
    deadline_s: float = 30.0,
    seed: int = 1,
) -> AsyncIterator[ParleyClient]:
    """A client signed in as `name`, whose account is made if need be."""
    if name not in cluster.accounts:
        cluster.add_account(name, PASSWORD)
    async with make_client(cluster, state_dir, nodes=nodes, deadline_s=deadline_s, seed=seed) as client:
        await client.login(name, PASSWORD)
        yield client


@asynccontextmanager
async def administrator(
    tmp_path: Path, names: tuple[str, ...] = ("n1", "n2", "n3")
) -> AsyncIterator[tuple[InProcessCluster, ParleyClient]]:
    """A cluster with an account, which administers it, and its client."""
    async with running_cluster(names) as cluster:
        cluster.add_account("boss", PASSWORD)
        async with make_client(cluster, tmp_path / "state", connect=False) as client:
            await client.login("boss", PASSWORD)
            yield cluster, client
