"""A gateway in this process, before an in-process cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from parley import ClientGroup, TextFilter
from parley.gateway.server import Gateway
from parley.gateway.settings import CALM, GatewaySettings
from tests.support.node import InProcessCluster


@asynccontextmanager
async def gateway_at(
    hosts: Sequence[str],
    data: Path,
    *,
    ca: Path | None = None,
    text_filter: TextFilter | None = None,
    **settings: Any,
) -> AsyncIterator[Gateway]:
    """A gateway on a free port."""
    group = ClientGroup(
        hosts,
        ca=ca,
        insecure=ca is None,
        state_dir=data,
        settings=CALM,
        rng=Random(1),
        exclusive=True,
        text_filter=text_filter,
    )
    async with group, Gateway(group, GatewaySettings(listen="127.0.0.1:0", **settings)) as gateway:
        yield gateway


@asynccontextmanager
async def gateway_of(cluster: InProcessCluster, data: Path, **settings: Any) -> AsyncIterator[Gateway]:
    """A gateway before an in-process cluster."""
    async with gateway_at([node.address for node in cluster.nodes], data, **settings) as gateway:
        yield gateway


async def all_are_listed(gateway: Gateway) -> None:
    """Wait until each account of the gateway is connected, and the cluster lists no others."""
    kept = gateway._services.accounts._kept
    expected = {key for key, one in kept.items() if one.is_held}
    watcher = next(one.client for one in kept.values() if one.is_held)
    while {one.account.name for one in (await watcher.presence.connected()).accounts} != expected:
        continue  # each look is a call, which gives way
