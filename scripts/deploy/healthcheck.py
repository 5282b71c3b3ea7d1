"""Ends with 0 if the node of this container answers, for HEALTHCHECK: its page /healthz, or its port where it has none.

It reads the settings as the node does (PARLEYD_CONFIG and the other variables).
"""

from __future__ import annotations

import http.client
import os
import socket
import sys

from parleyd.settings.load import load_settings
from parleyd.settings.table import Settings

TIMEOUT_S = 4.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - a server's address, and what a client calls it


def check(settings: Settings) -> str:
    """Return what is wrong; empty if nothing is."""
    host, port = _reachable(settings.http_listen or settings.client_listen)
    try:
        # A loopback address has a page without TLS, unless a certificate was given for it.
        if settings.http_listen and host in ("127.0.0.1", "::1", "localhost") and settings.http_cert_file is None:
            return _ask(host, port)
        socket.create_connection((host, port), TIMEOUT_S).close()
    except (OSError, http.client.HTTPException) as error:
        return f"{host}:{port} does not answer: {error}"
    return ""


def _ask(host: str, port: int) -> str:
    connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return "" if answer.status == http.client.OK else answer.read(4096).decode(errors="replace")
    finally:
        connection.close()


def _reachable(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return _ANY.get(host, host), int(port)


if __name__ == "__main__":
    wrong = check(load_settings({}, os.environ).settings)
    print(wrong or "healthy")
    sys.exit(bool(wrong))
