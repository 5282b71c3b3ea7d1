"""The settings of a gateway, with the bound of each."""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from parley import (
    BadInputError,
    ConnectionManagerSettings,
    MessageStreamSettings,
    PolicySettings,
    parse_endpoints,
)

DEFAULT_LISTEN = "127.0.0.1:7070"
CALM = ConnectionManagerSettings(
    stream=MessageStreamSettings(ping_interval_s=1.0, silent_ticks=3),
    policy=PolicySettings(attempt_timeouts_s=(2.0, 4.0, 8.0)),
)
"""A node that dies breaks its connections at once. Pings find one that is silent, for hundreds of accounts."""


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """How a gateway serves its connections.

    `log_in_s` is how long a connection may stay without a log-in. `write_s` is how long the gateway waits for a
    connection that reads nothing, with at most `max_output_bytes` that wait. A connection that writes more than
    `lines_burst` lines, and then more than `lines_per_s`, is read more slowly.
    """

    listen: str = DEFAULT_LISTEN
    cert: Path | None = None
    key: Path | None = None
    allow_plain: bool = False
    allow_secrets: bool = False
    style: str = "plain"
    max_connections: int = 1000
    max_per_address: int = 100
    max_line_bytes: int = 65_536
    max_output_bytes: int = 65_536
    lines_per_s: float = 20.0
    lines_burst: float = 100.0
    log_in_s: float = 300.0
    write_s: float = 30.0
    stop_s: float = 5.0

    @property
    def is_encrypted(self) -> bool:
        """Return true if connections use TLS."""
        return self.cert is not None

    def address(self) -> tuple[str, int]:
        """Return host and port. Raise BadInputError for settings that contradict each other or are not safe."""
        if (self.cert is None) != (self.key is None):
            raise BadInputError("TLS needs a certificate and its key. Nothing was started. Give both --cert and --key.")
        host, port = _host_and_port(self.listen)
        if not self.is_encrypted and not self.allow_plain and not _is_loopback(host):
            raise BadInputError(
                f"{self.listen} can be reached from other machines, and passwords and messages would be readable on "
                "the network. Nothing was started. Give --cert and --key, or --allow-plain if you mean it."
            )
        return host, port


def _host_and_port(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if port == "0" and host:  # any free port, which parse_endpoints refuses
        return host.strip("[]"), 0
    found = parse_endpoints([listen])
    if len(found) != 1:
        raise BadInputError(f"{listen!r} is not one address. Nothing was started. Write for example {DEFAULT_LISTEN}.")
    return found[0].host, found[0].port


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
