"""Which certificate http_listen has by the settings. It reads no file."""

from __future__ import annotations

from pathlib import Path

from parleyd.addresses import parse_address
from parleyd.settings.table import Settings


def http_pair(settings: Settings) -> tuple[Path, Path] | None:
    """Return certificate and key of http_listen: its own, or this node's. None: without TLS.

    An address that only this machine reaches needs none.
    """
    if settings.http_cert_file is not None and settings.http_key_file is not None:
        return settings.http_cert_file, settings.http_key_file
    is_open = bool(settings.http_listen) and not parse_address(settings.http_listen).is_loopback
    if not is_open or settings.insecure or settings.cert_file is None or settings.key_file is None:
        return None
    return settings.cert_file, settings.key_file
