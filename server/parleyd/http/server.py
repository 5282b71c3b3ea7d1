"""Serves the pages: aiohttp reads and writes HTTP, and this module bounds what strangers can take.

- Connections: MAX_CONNECTIONS. At the bound the oldest without a request in progress is closed for a newcomer.
- Time: a connection has HEAD_S for its handshake and first request, a request ANSWER_S until its answer is taken over,
  a connection IDLE_S between two requests. Then it is closed, whatever its client does meanwhile.
- Bytes: a request line and a header have 4 KiB each, a request has 32 headers. Bodies are read by pages that take one,
  up to the bound of the page. Otherwise they are not read, and the connection is closed after such a request.
- Rates: newcomers and requests above a rate wait for their turns, before a handshake and before a page is made.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from typing import Any

import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web_protocol import RequestHandler

from parleyd.http.pace import Pace
from parleyd.http.pages import Answer, Pages, Request, refusal

MAX_CONNECTIONS = 64
HEAD_S = 5.0
ANSWER_S = 10.0
IDLE_S = 75.0
"""Above the minute between two scrapes that many use, so that each finds its connection open."""
CONNECTIONS_PER_S = 100.0
REQUESTS_PER_S = 100.0
BACKLOG = 64
CLOSE_S = 1.0
LOG_INTERVAL_S = 60.0
_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_OUT_OF_FILES_S = 1.0
_LEFT_S = 0.02
_LINE_BYTES = 4096
_HEADERS = 32
NO_REQUEST = (
    "This is no HTTP request that this node takes: a part is malformed, or longer than 4 KiB, or it has more than 32 "
    "headers. Nothing was done. The connection ends."
)
FAILED = "This node failed to answer. It may have done what was asked for. The connection ends."


class HttpServer:
    """The server of one address. `run` serves until it is cancelled."""

    def __init__(self, pages: Pages, listening: socket.socket, tls: Callable[[], ssl.SSLContext | None]) -> None:
        """Serve `pages` on a socket that listens already. `tls` returns what the next connection uses, None without."""
        self._pages = pages
        self._socket = listening
        self._tls = tls
        self._open: dict[_Connection, None] = {}  # oldest first
        self._tasks: set[asyncio.Task[None]] = set()
        self._newcomers = Pace(CONNECTIONS_PER_S, MAX_CONNECTIONS)
        self._requests = Pace(REQUESTS_PER_S, MAX_CONNECTIONS)
        quiet = logging.Logger("http", logging.CRITICAL + 1)  # what strangers send must not fill the log
        self._server = _Server(
            self._answer,
            keepalive_timeout=IDLE_S,
            logger=quiet,
            access_log=None,
            max_line_size=_LINE_BYTES,
            max_field_size=_LINE_BYTES,
            max_headers=_HEADERS,
            lingering_time=0,
            read_bufsize=_LINE_BYTES,
            auto_decompress=False,
        )
        self._next_line_s = 0.0
        self._logger = structlog.get_logger("http")

    @property
    def connections(self) -> int:
        """Return how many connections there are, those in their handshake included."""
        return len(self._open)

    async def run(self) -> None:
        """Accept connections until cancelled. Then all are closed."""
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    accepted, _ = await loop.sock_accept(self._socket)
                except OSError as error:
                    await self._not_accepted(error)
                    continue
                self._take(accepted)
                await asyncio.sleep(self._newcomers.delay_s(loop.time()))
        finally:
            self._socket.close()
            for connection in list(self._open):
                connection.end()
            if self._tasks:
                await asyncio.wait(self._tasks)
            await self._server.shutdown(CLOSE_S)

    async def _not_accepted(self, error: OSError) -> None:
        """Wait, long if the process is out of files, which is logged now and then. A stranger may have left already."""
        if error.errno not in _OUT_OF_FILES:
            await asyncio.sleep(_LEFT_S)
            return
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._next_line_s:
            self._next_line_s = now_s + LOG_INTERVAL_S
            self._logger.warning("http_connection_not_accepted", error=str(error), effect="it waits for a free file")
        await asyncio.sleep(_OUT_OF_FILES_S)

    def _take(self, accepted: socket.socket) -> None:
        if len(self._open) >= MAX_CONNECTIONS:
            oldest = next((one for one in self._open if not one.is_busy), next(iter(self._open)))
            del self._open[oldest]
            oldest.end()
        connection = _Connection()
        self._open[connection] = None
        task = asyncio.ensure_future(self._serve(connection, accepted))
        connection.task = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: _Connection, accepted: socket.socket) -> None:
        """Serve one connection until either side ends it."""
        loop = asyncio.get_running_loop()
        connection.limit(HEAD_S)
        try:
            accepted.setblocking(False)
            with suppress(OSError, asyncio.CancelledError):  # the client has left, speaks no TLS, or its time is over
                transport, _ = await loop.connect_accepted_socket(
                    lambda: self._server.make(connection), accepted, ssl=self._tls()
                )
                connection.transport = transport
                await connection.closed
        finally:
            connection.close()
            self._server.forget(connection)
            self._open.pop(connection, None)
            accepted.close()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        # aiohttp serves each request in a task of its own. So what a call finds out about its caller ends with it.
        connection = self._server.connection_of(request)
        connection.is_busy = True
        connection.limit(ANSWER_S)
        await asyncio.sleep(self._requests.delay_s(asyncio.get_running_loop().time()))
        most, answer_s = self._pages.bounds(request.method, request.path)
        body = await _body(request, most) if most else b""
        if body is None:
            answer = refusal(413, f"The body of this request may have {most} bytes. Nothing was changed.")
        else:
            connection.limit(answer_s or ANSWER_S)
            answer = await self._pages.answer(self._seen(request, body))
        response = _response(answer)
        if (request.body_exists and not (most and body is not None)) or "Upgrade" in request.headers:
            response.force_close()
        await response.prepare(request)
        if answer.chunks is not None:
            await _write_all(response, answer.chunks, connection)
        await response.write_eof()
        connection.is_busy = False
        connection.limit(IDLE_S)
        return response

    def _seen(self, request: web.BaseRequest, body: bytes) -> Request:
        transport = request.transport
        peer = None if transport is None else transport.get_extra_info("peername")
        is_tls = transport is not None and transport.get_extra_info("sslcontext") is not None
        host, port = peer[:2] if isinstance(peer, tuple) else ("", 0)
        headers = {name.lower(): value for name, value in request.headers.items()}
        return Request(request.method, request.path, headers, host, port, is_tls, body)


async def _body(request: web.BaseRequest, most: int) -> bytes | None:
    """Return the body, or None if it is longer. What bounds the time is the limit of the connection."""
    body = b""
    while piece := await request.content.read(most + 1 - len(body)):
        body += piece
        if len(body) > most:
            return None
    return body


async def _write_all(response: web.StreamResponse, chunks: AsyncGenerator[bytes], connection: _Connection) -> None:
    """Write a long body. A reader has ANSWER_S for each piece. Without a reader the source ends at once."""
    async with aclosing(chunks):
        async for chunk in chunks:
            connection.limit(ANSWER_S)
            await response.write(chunk)


def _response(answer: Answer) -> web.StreamResponse:
    headers = {
        "Server": "parleyd",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        **answer.headers,
        "Content-Type": answer.content_type,
    }
    if answer.chunks is not None:
        return web.StreamResponse(status=answer.status, headers=headers)
    response = web.Response(status=answer.status, body=answer.body, headers=headers)
    for cookie in answer.cookies:
        response.headers.add("Set-Cookie", cookie)
    return response


class _Connection:
    """One connection, from its acceptance on."""

    def __init__(self) -> None:
        self.is_busy = False
        self.task: asyncio.Task[None] | None = None
        self.transport: asyncio.BaseTransport | None = None
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self._timer: asyncio.TimerHandle | None = None

    def limit(self, seconds: float) -> None:
        """End the connection after `seconds`, unless another limit is set before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self.end)

    def end(self) -> None:
        """End it at once, in its handshake, too."""
        if self.transport is not None:
            self.transport.abort()  # type: ignore[attr-defined]
            self.note_closed()
        elif self.task is not None:
            self.task.cancel()

    def note_closed(self) -> None:
        """Record that it is closed."""
        if not self.closed.done():
            self.closed.set_result(None)

    def close(self) -> None:
        """Let go of what refers to it."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.task = None


class _Handler(RequestHandler):
    """aiohttp's protocol of one connection. What is no request is answered in our words.

    aiohttp's own have a part of the request in them.
    """

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to a request that could not be read, or not be answered."""
        if request.writer.output_size > 0:
            raise ConnectionError("a part of the answer is sent already")
        is_malformed = status < 500 or isinstance(exc, HttpProcessingError)
        response = _response(refusal(400 if is_malformed else status, NO_REQUEST if is_malformed else FAILED))
        response.force_close()
        return response


class _Server(web.Server):
    """aiohttp's part: makes the protocol of each connection, and knows which connection a request came on."""

    def __init__(self, answer: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]], **bounds: Any) -> None:
        super().__init__(answer, handler_cancellation=True, **bounds)
        self._by_handler: dict[RequestHandler, _Connection] = {}

    def __call__(self) -> RequestHandler:
        """Make a protocol."""
        return _Handler(self, loop=self._loop, **self._kwargs)

    def make(self, connection: _Connection) -> RequestHandler:
        """Make the protocol of a connection."""
        handler = self()
        self._by_handler[handler] = connection
        return handler

    def forget(self, connection: _Connection) -> None:
        """Forget a connection, also one that never had a handshake."""
        for handler in [handler for handler, known in self._by_handler.items() if known is connection]:
            del self._by_handler[handler]

    def connection_of(self, request: web.BaseRequest) -> _Connection:
        """Return the connection of a request."""
        return self._by_handler[request.protocol]

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Take note of the end of a connection."""
        super().connection_lost(handler, exc)
        if handler in self._by_handler:
            self._by_handler[handler].note_closed()
