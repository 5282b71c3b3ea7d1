"""What the clients of one process may share: addresses and connections of the cluster, a text filter, and a thread.

A ParleyClient makes its own, unless a ClientGroup gives it those of the group.
"""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from parley.device.store_thread import StoreThread
from parley.errors import BadInputError
from parley.net.channel import KEEPALIVE_MS, SHARED_KEEPALIVE_MS, ChannelPool, load_security
from parley.net.filter_client import FilterClient
from parley.text_filter import TextFilter
from parley.wire.endpoints import KnownEndpoints, parse_endpoints


class Shared:
    """Addresses, connections, and with `one_thread` the thread that works on the files of all clients."""

    def __init__(
        self,
        hosts: str | Sequence[str],
        *,
        ca: Path | None,
        insecure: bool,
        insecure_network: bool,
        one_thread: bool,
        text_filter: TextFilter | None = None,
    ) -> None:
        endpoints = parse_endpoints([hosts] if isinstance(hosts, str) else hosts)
        if not endpoints:
            raise BadInputError("No host was given. Name a node, for example --host localhost:7600.")
        self.security = load_security(ca, insecure=insecure, insecure_network=insecure_network)
        self.security.check(endpoints)
        self.ca = ca
        self.known_endpoints = KnownEndpoints(endpoints, self.security.loopback_only)
        keepalive_ms = SHARED_KEEPALIVE_MS if one_thread else KEEPALIVE_MS
        self.sessions = ChannelPool(self.security, keepalive_ms)
        self.calls = ChannelPool(self.security, keepalive_ms)
        self.text_filter = None if text_filter is None else FilterClient(text_filter)
        self.store_thread = StoreThread() if one_thread else None

    async def close(self) -> None:
        """Close the connections and end the thread. The clients must be left before."""
        async with AsyncExitStack() as stack:
            if self.store_thread is not None:
                self.store_thread.end()
                stack.push_async_callback(asyncio.to_thread, self.store_thread.join)
            if self.text_filter is not None:
                stack.push_async_callback(self.text_filter.close)
            stack.push_async_callback(self.sessions.close)
            stack.push_async_callback(self.calls.close)
