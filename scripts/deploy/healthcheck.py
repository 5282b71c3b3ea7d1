"""Ends with 0 if the node of this container answers, for HEALTHCHECK: its page /healthz, or else a port of it.

It reads the settings as the node does (PARLEYD_CONFIG and the other variables).
"""

from __future__ import annotations

import http.client
import os
import socket
import sys

from parleyd.addresses import Address, parse_address
from parleyd.doctor.network import reachable
from parleyd.settings.http_pair import http_pair
from parleyd.settings.load import load_settings
from parleyd.settings.table import Settings

TIMEOUT_S = 4.0


def check(settings: Settings) -> str:
    """Return what is wrong; empty if nothing is."""
    address = reachable(parse_address(settings.http_listen or settings.client_listen))
    try:
        if settings.http_listen and http_pair(settings) is None:
            return _ask(address)
        # With TLS, an answer of the port is enough.
        socket.create_connection((address.host, address.port), TIMEOUT_S).close()
    except (OSError, http.client.HTTPException) as error:
        return f"{address} does not answer: {error}"
    return ""


def _ask(address: Address) -> str:
    connection = http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        return "" if answer.status == http.client.OK else answer.read(4096).decode(errors="replace")
    finally:
        connection.close()


if __name__ == "__main__":
    wrong = check(load_settings({}, os.environ).settings)
    print(wrong or "healthy")
    sys.exit(bool(wrong))
