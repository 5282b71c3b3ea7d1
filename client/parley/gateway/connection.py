"""The input and output of one connection. Each wait ends, and what waits to be read or written is bounded in bytes."""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Callable, Sequence

from parley.gateway.limits import allowance
from parley.gateway.lines import LineSplitter, TooLong
from parley.gateway.settings import GatewaySettings
from parley.gateway.styles import bytes_of

READ_BYTES = 16_384
CLOSE_S = 5.0
HANDSHAKE_S = 10.0
KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))


class EndedError(Exception):
    """The connection ends. The text is the reason in the log."""


class Connection:
    """Lines of a client, and lines for it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, settings: GatewaySettings) -> None:
        self._reader = reader
        self._writer = writer
        self._settings = settings
        self._one_at_a_time = asyncio.Lock()
        self._is_usable = True
        peer = writer.get_extra_info("peername")
        self.address: str = peer[0] if peer else "unknown"
        writer.transport.set_write_buffer_limits(high=settings.max_output_bytes)
        _set_socket(writer, settings.max_output_bytes)

    async def encrypt(self, context: ssl.SSLContext) -> bool:
        """Begin TLS. Return false if the client does not within HANDSHAKE_S.

        Nothing may be awaited before: what the reader has read by then is no part of TLS. A handshake that does not end
        leaves a connection of which asyncio does not tell that it is closed.
        """
        self._is_usable = False
        try:
            await self._writer.start_tls(context, ssl_handshake_timeout=HANDSHAKE_S)
            self._is_usable = True
        except OSError:
            return False
        finally:
            if not self._is_usable:
                self._writer.transport.abort()
        self._writer.transport.set_write_buffer_limits(high=self._settings.max_output_bytes)
        return True

    async def lines(self, read_until: Callable[[], float | None]) -> AsyncGenerator[bytes | TooLong, None]:
        """Yield the lines, not faster than the settings allow, until the client ends its side.

        `read_until` returns the time of the loop until which a client has to log in; None: it has. Raises EndedError.
        """
        loop = asyncio.get_running_loop()
        splitter = LineSplitter(self._settings.max_line_bytes)
        allowed = allowance(self._settings.lines_per_s, self._settings.lines_burst, loop.time())
        while True:
            try:
                async with asyncio.timeout_at(_not_past(read_until())):
                    data = await self._reader.read(READ_BYTES)
            except TimeoutError:
                raise EndedError("no_log_in") from None
            except OSError:
                raise EndedError("gone") from None
            if not data:
                raise EndedError("half_a_line" if splitter.is_inside_a_line else "end_of_input")
            for line in splitter.feed(data):
                await asyncio.sleep(allowed.take(loop.time()))
                _not_past(read_until())
                yield line

    async def say(self, lines: Sequence[str]) -> None:
        """Write lines as one block. Return when little waits to be written. Raises EndedError."""
        if not lines:
            return
        try:
            async with asyncio.timeout(self._settings.write_s), self._one_at_a_time:
                self._writer.write(bytes_of(lines))
                await self._writer.drain()
        except TimeoutError:
            self._writer.transport.abort()
            raise EndedError("reads_nothing") from None
        except OSError:
            raise EndedError("gone") from None

    async def close(self) -> None:
        """Write what waits for a bounded time, and close."""
        if not self._is_usable:
            return
        self._writer.close()
        try:
            async with asyncio.timeout(CLOSE_S):
                await self._writer.wait_closed()
        except (OSError, TimeoutError):
            self._writer.transport.abort()


def _not_past(time_s: float | None) -> float | None:
    """Return the time. Raises EndedError if it is past: what is in a buffer already is read without a wait."""
    if time_s is not None and asyncio.get_running_loop().time() >= time_s:
        raise EndedError("no_log_in")
    return time_s


def _set_socket(writer: asyncio.StreamWriter, max_output_bytes: int) -> None:
    """Let the kernel end a connection whose other end is gone without a word, and keep little that nobody has read."""
    connected = writer.get_extra_info("socket")
    if connected is None:
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, max_output_bytes)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        if hasattr(socket, name):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
