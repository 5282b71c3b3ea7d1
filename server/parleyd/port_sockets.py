"""The connections of one port of this process, found among its open files.

gRPC's server has no method that lists or ends connections. But a process can look at its own sockets, and shut one
down. gRPC then sees that the other end has left, and ends the calls of the connection.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

from parleyd.sources import Peer, canonical_host

OPEN_FILES = "/dev/fd"


def open_files() -> list[str]:
    """Return the numbers of the open files."""
    return os.listdir(OPEN_FILES)


class PortSockets:
    """The connections of a port that this process listens on. Thousands of them are too many for the event loop."""

    def __init__(self, port: int) -> None:
        self._port = port

    def connected(self) -> dict[Peer, int]:
        """Return the other ends, each with the number of its file."""
        found = {}
        for name in open_files():
            with suppress(OSError, ValueError):
                found[self._peer_of(int(name))] = int(name)
        return found

    def shut_down(self, file: int, peer: Peer) -> bool:
        """Shut a connection down; return False if the number is another file's by now."""
        try:
            own = os.dup(file)
        except OSError:
            return False
        try:
            if self._peer_of(own) != peer:
                return False
            connection = socket.socket(fileno=own)
            try:
                connection.shutdown(socket.SHUT_RDWR)
            finally:
                connection.detach()
        except (OSError, ValueError):
            return False
        finally:
            os.close(own)
        return True

    def _peer_of(self, file: int) -> Peer:
        """Return the other end of a connection. Raises OSError or ValueError if the file is none of this port."""
        # With a family, Python asks the kernel nothing about the file. IPv6 has room for the longest address that
        # counts, and an address says its own family.
        connection = socket.socket(socket.AF_INET6, socket.SOCK_STREAM, 0, fileno=file)
        try:
            own = connection.getsockname()
            if not isinstance(own, tuple) or own[1] != self._port:
                raise ValueError(file)
            host, port = connection.getpeername()[:2]
            return canonical_host(host), port
        finally:
            connection.detach()
