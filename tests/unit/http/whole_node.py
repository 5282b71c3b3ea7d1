"""A whole node in this process, a cluster of its own, with pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from parleyd.events.source import EventSource
from parleyd.node import Node, Stop
from parleyd.settings.table import Settings
from parleyd.storage.data_directory import DataDirectory
from tests.support.pages import ask
from tests.support.ports import free_ports


def settings_in(folder: Path, **changed: object) -> Settings:
    """Settings of a node that is a cluster of its own."""
    client, peer, http = free_ports(3)
    given: dict[str, object] = {
        "client_listen": f"127.0.0.1:{client}",
        "peer_listen": f"127.0.0.1:{peer}",
        "http_listen": f"127.0.0.1:{http}",
        "insecure": True,
        "bcrypt_cost": 4,
        "shutdown_grace_s": 1,
        **changed,
    }
    return Settings(name="n1", data_dir=folder, **given)  # type: ignore[arg-type]


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Stop]:
    """Run a node while inside; gives what stops it."""
    stop = Stop()
    with DataDirectory.open(settings.data_dir, settings.disk_reserve_bytes) as data:
        node = asyncio.ensure_future(Node(settings, data, stop, asyncio.Event(), EventSource()).run())
        try:
            yield stop
        finally:
            stop.end()
            await node


async def until_ready(settings: Settings) -> None:
    """Wait until clients may use the node."""
    async with asyncio.timeout(60):
        while True:
            try:
                if (await ask(settings.http_listen, "/readyz")).status == 200:
                    return
            except OSError:
                pass  # it does not listen yet
            await asyncio.sleep(0.01)
