"""What a command says while nothing comes from the cluster: why, and that it goes on trying.

A CA or certificate that is wrong for every node does not mend itself, so it ends the command.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

from parley import ConnectionState, NoMajorityError, ParleyClient, ParleyError, TlsError, UnreachableError

NOT_CONNECTED_S = 3.0
SLOW_S = 2.0
_RECEIVING = (ConnectionState.CONNECTED, ConnectionState.SHARED)
_WITHOUT = (ConnectionState.CONNECTING, ConnectionState.SEARCHING, ConnectionState.NO_MAJORITY)


async def fails_with_tls(client: ParleyClient) -> bool:
    """Ask every node. Return true if TLS fails with each of them, so waiting does not help."""
    nodes = (await client.cluster_status()).nodes
    return bool(nodes) and all(node.tls_trouble for node in nodes)


async def raise_for_tls(client: ParleyClient) -> None:
    """Watch the client until it is closed. Raises TlsError if TLS fails with every node."""
    async with aclosing(client.watch()) as changes:
        async for change in changes:
            if change.state.tls_trouble and await fails_with_tls(client):
                raise TlsError(change.state.problem)


class Outage:
    """Tells when the client is not connected for long, and when it is connected again."""

    def __init__(self, client: ParleyClient, note: Callable[[str], None]) -> None:
        """`note` prints a remark."""
        self._client = client
        self._note = note
        self._was_connected = False
        self._is_told = False

    async def tell(self) -> None:
        """Print remarks until cancelled."""
        while True:
            try:
                await self._client.wait_until(*_RECEIVING, timeout=NOT_CONNECTED_S)
            except TimeoutError:
                self._note(f"{self._why()} This command goes on trying.")
                self._is_told = True
                state = await self._client.wait_until(*_RECEIVING)
                self._is_told = False
                self._note(f"Connected{f' to {state.node}' if state.node else ''}.")
            self._was_connected = True
            await self._client.wait_until(*_WITHOUT)

    def error(self) -> ParleyError | None:
        """Return why nothing can come, if the client was never connected, or is not for long."""
        if self._client.state.connection in _RECEIVING or (self._was_connected and not self._is_told):
            return None
        kind = NoMajorityError if self._client.state.connection is ConnectionState.NO_MAJORITY else UnreachableError
        return kind(f"{self._why()} Nothing is lost. Try again.")

    def _why(self) -> str:
        if self._client.state.connection is ConnectionState.NO_MAJORITY:
            return "No majority of the nodes is up, so nothing comes."
        return f"Not connected: {self._client.state.problem or 'no node has answered yet.'}"


@asynccontextmanager
async def said_after(seconds: float, text: str, note: Callable[[str], None]) -> AsyncIterator[None]:
    """Print what the body waits for, if it takes longer than this."""
    timer = asyncio.get_running_loop().call_later(seconds, note, text)
    try:
        yield
    finally:
        timer.cancel()


def said_if_slow(note: Callable[[str], None]) -> AbstractAsyncContextManager[None]:
    """Print that the body waits for the cluster, if it takes long."""
    return said_after(SLOW_S, "Waiting for the cluster, which needs a majority of its nodes ...", note)
