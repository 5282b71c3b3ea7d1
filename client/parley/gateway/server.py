"""Accepts connections, counts them, and ends them when the gateway stops."""

import asyncio
import itertools
import ssl
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from parley import BadInputError, ClientGroup
from parley.gateway.accounts import AccountsInUse
from parley.gateway.connection import READ_BYTES, Connection
from parley.gateway.limits import Failures, Places
from parley.gateway.log import log
from parley.gateway.session import Services, Session
from parley.gateway.settings import GatewaySettings
from parley.gateway.styles import bytes_of, style_named

BACKLOG = 512
FAILURES_BURST = 10
FAILURES_PER_S = 0.1


class Gateway:
    """A running gateway: `async with Gateway(group, settings) as gateway:`."""

    def __init__(self, group: ClientGroup, settings: GatewaySettings) -> None:
        """`group` is entered, and belongs to this gateway alone."""
        self._settings = settings
        self._numbers = itertools.count(1)
        self._stopping = asyncio.Event()
        self._sessions: set[asyncio.Task[None]] = set()
        self._handshakes: set[asyncio.Task[None]] = set()
        accounts = AccountsInUse(group, 2 * settings.max_connections)
        places = Places(settings.max_connections, settings.max_per_address)
        failures = Failures(FAILURES_PER_S, FAILURES_BURST)
        self._services = Services(settings, accounts, places, failures, self._stopping)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        host, port = self._settings.address()
        self._context = _tls(self._settings.cert, self._settings.key)
        try:
            server = await asyncio.start_server(
                self._accept,
                host,
                port,
                limit=READ_BYTES,
                backlog=BACKLOG,
                start_serving=False,
            )
        except OSError as error:
            raise BadInputError(
                f"{self._settings.listen} cannot be used ({error}). Nothing was started. Choose another address."
            ) from error
        async with AsyncExitStack() as stack:
            stack.callback(server.close)
            await stack.enter_async_context(self._services.accounts)
            stack.push_async_callback(self._end_sessions)
            stack.callback(server.close)
            await server.start_serving()
            self._port: int = server.sockets[0].getsockname()[1]
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(None, None, None)

    @property
    def port(self) -> int:
        """Return the port that takes connections."""
        return self._port

    async def _end_sessions(self) -> None:
        self._stopping.set()
        for task in self._handshakes:  # nobody is there yet to be told
            task.cancel()
        if self._sessions:
            await asyncio.wait(self._sessions, timeout=self._settings.stop_s)
        for task in self._sessions:
            task.cancel()
        if self._sessions:
            await asyncio.wait(self._sessions)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._sessions.add(task)
            task.add_done_callback(self._sessions.discard)
        number, connection = next(self._numbers), Connection(reader, writer, self._settings)
        places = self._services.places
        if why := places.take(connection.address):
            log("client_refused", client=number, address=connection.address, clients=places.taken)
            if self._context is None:
                writer.write(bytes_of(style_named(self._settings.style).refused("no-place", why)))
            await connection.close()
            return
        log("client_connected", client=number, address=connection.address, clients=places.taken)
        reason = "defect"
        try:
            if self._context is None or await self._encrypt(task, connection, self._context):
                reason = await Session(number, connection, self._services).run()
            else:
                reason = "no_tls"
        except asyncio.CancelledError:
            reason = "gateway_stops"
            raise
        finally:
            places.give_back(connection.address)
            log("client_gone", client=number, reason=reason, clients=places.taken)
            await connection.close()

    async def _encrypt(
        self, task: "asyncio.Task[None] | None", connection: Connection, context: ssl.SSLContext
    ) -> bool:
        """Begin TLS, in the task of the connection. Return false if the client does not."""
        assert task is not None
        self._handshakes.add(task)
        try:
            return await connection.encrypt(context)
        finally:
            self._handshakes.discard(task)


def _tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    if cert is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise BadInputError(
            f"The certificate {cert} or its key cannot be used ({error}). Nothing was started. Check both files."
        ) from error
    return context
