"""HTTP/2 by hand, for what no gRPC client does: calls without a body, and bodies that never end."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE = 0, 1, 3, 4, 6, 8
ACK, END_STREAM, END_HEADERS = 1, 1, 4
FRAME_BYTES = 16_384
FIRST_WINDOW = 65_535
UNREAD_BYTES = 2**17
"""The most that gRPC lets a call send of a body that nobody reads."""
INITIAL_WINDOW = 4  # a setting


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one frame."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _literal(name: str, value: str) -> bytes:
    def text(content: bytes) -> bytes:
        assert len(content) < 127
        return bytes([len(content)]) + content

    return b"\x10" + text(name.encode()) + text(value.encode())


def headers(path: str) -> bytes:
    """Return the header block of a gRPC call."""
    fields = ((":path", path), (":authority", "peer"), ("te", "trailers"), ("content-type", "application/grpc"))
    return b"\x83\x86" + b"".join(_literal(*field) for field in fields)


class RawConnection:
    """A connection that sends what it is told to, as far as the server's flow control allows."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, own_window: int) -> None:
        self._reader = reader
        self._writer = writer
        self._windows: dict[int, int] = {0: FIRST_WINDOW}
        self._first_window = FIRST_WINDOW
        self._moved = asyncio.Event()
        self._last_stream = -1
        self._held: dict[int, int] = {}
        self.most_held = 0
        """The most bytes of calls in progress that the server has had at once."""
        self.most_read = 0
        """The most calls in progress that had sent more, at once, than a body that nobody reads may send."""
        self.ended: set[int] = set()
        self.closed = asyncio.Event()
        writer.write(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW, own_window)))
        self._reading = asyncio.ensure_future(self._read())

    @classmethod
    async def open(
        cls, address: str, tls: ssl.SSLContext | None = None, own_window: int = FIRST_WINDOW
    ) -> RawConnection:
        """Connect to `host:port`; the server may send `own_window` bytes of each call."""
        host, _, port = address.rpartition(":")
        return cls(*await asyncio.open_connection(host, int(port), ssl=tls), own_window)

    def call(self, path: str) -> int:
        """Begin a call without a body; return its stream."""
        self._last_stream += 2
        self._windows.setdefault(self._last_stream, self._first_window)
        self._writer.write(frame(HEADERS, END_HEADERS, self._last_stream, headers(path)))
        return self._last_stream

    def send(self, stream: int, body: bytes) -> None:
        """Send a small body."""
        self._writer.write(frame(DATA, END_STREAM, stream, b"\0" + struct.pack(">I", len(body)) + body))

    async def send_all_but_the_last_byte(self, stream: int, size: int) -> None:
        """Send a body of `size` bytes without its end, until it is sent or the call has ended."""
        rest = b"\0" + struct.pack(">I", size)
        left = size - 1
        while left and stream not in self.ended and not self.closed.is_set():
            room = min(FRAME_BYTES, self._windows[0], self._windows[stream]) - len(rest)
            if room <= 0:
                self._moved.clear()
                await self._moved.wait()
                continue
            part = rest + bytes(min(room, left))
            left -= len(part) - len(rest)
            rest = b""
            self._writer.write(frame(DATA, 0, stream, part))
            self._windows[0] -= len(part)
            self._windows[stream] -= len(part)
            self._held[stream] = self._held.get(stream, 0) + len(part)
            self.most_held = max(self.most_held, sum(self._held.values()))
            self.most_read = max(self.most_read, sum(held > UNREAD_BYTES for held in self._held.values()))
            await self._writer.drain()

    async def until_ended(self, stream: int) -> None:
        """Wait until the server has ended the call."""
        while stream not in self.ended and not self.closed.is_set():
            self._moved.clear()
            await self._moved.wait()

    async def _read(self) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await self._reader.readexactly(9)
                payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
                self._take(head[3], head[4], int.from_bytes(head[5:], "big"), payload)
                self._moved.set()
        self.closed.set()
        self._moved.set()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == WINDOW_UPDATE:
            self._windows[stream] = self._windows.get(stream, self._first_window) + int.from_bytes(payload, "big")
        elif kind == SETTINGS and not flags & ACK:
            for place in range(0, len(payload), 6):
                if payload[place : place + 2] == b"\0\4":
                    self._first_window = int.from_bytes(payload[place + 2 : place + 6], "big")
            self._writer.write(frame(SETTINGS, ACK, 0))
        elif kind == PING and not flags & ACK:
            self._writer.write(frame(PING, ACK, 0, payload))
        elif kind == RST_STREAM or (kind == HEADERS and flags & END_STREAM):
            self.ended.add(stream)
            self._held.pop(stream, None)

    async def close(self) -> None:
        """Close it at once."""
        self._writer.transport.abort()
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
