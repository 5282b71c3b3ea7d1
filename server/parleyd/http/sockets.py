"""The socket that the pages are served on."""

from __future__ import annotations

import socket

from parleyd.addresses import parse_address
from parleyd.http.server import BACKLOG


def listening_socket(address: str) -> socket.socket:
    """Listen on an address; a name means the first address that it has. Raises OSError."""
    parsed = parse_address(address)
    found = socket.getaddrinfo(parsed.host, parsed.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, where = found[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and parsed.is_unspecified:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listening.bind(where)
        listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening
