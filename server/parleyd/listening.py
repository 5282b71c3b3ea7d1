"""Listens on an address, and reports when that fails."""

from __future__ import annotations

import grpc
import grpc.aio

from parleyd.exits import ExitCode, FatalError


def listen(server: grpc.aio.Server, address: str, credentials: grpc.ServerCredentials | None, setting: str) -> None:
    """Make `server` listen on `address`, the value of `setting`. Raises FatalError."""
    try:
        if credentials is None:
            port = server.add_insecure_port(address)
        else:
            port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise FatalError(ExitCode.ADDRESS, address_in_use_text(address, setting)) from error
    if port == 0:
        raise FatalError(ExitCode.ADDRESS, address_in_use_text(address, setting))


def address_in_use_text(address: str, setting: str) -> str:
    """Return the error for an address that cannot be listened on."""
    return (
        f"{setting}: {address} cannot be listened on; another process has it, or it is not an address of this machine. "
        "Nothing was started and no data was changed. Find the process with `ss -ltnp`, or choose another address."
    )
