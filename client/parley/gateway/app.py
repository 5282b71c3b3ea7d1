"""Runs a gateway until a signal ends it: the folder of its accounts, its limit of open files, and its log."""

import asyncio
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TextIO

from parley import BadInputError, ClientGroup, StoreError
from parley.gateway.log import log, logger
from parley.gateway.server import Gateway
from parley.gateway.settings import GatewaySettings

FILES_PER_ACCOUNT = 8
"""A connection, the database with its two helpers, two locks, and room."""
RESERVED_FILES = 128


async def serve(group: ClientGroup, settings: GatewaySettings) -> None:
    """Serve connections until this is cancelled."""
    log_to(sys.stderr)
    settings = replace(settings, max_connections=_connections_within_limit(settings.max_connections))
    async with group, Gateway(group, settings) as gateway:
        host = settings.address()[0]
        log("gateway_started", address=f"{host}:{gateway.port}", encrypted=settings.is_encrypted)
        sys.stdout.write(f"The gateway takes connections on {host}:{gateway.port}.\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


def private_folder(folder: Path) -> Path:
    """Make the folder of the accounts if it is missing. Raise an error if others may read it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = folder.stat().st_mode
    except OSError as error:
        raise StoreError(
            f"The folder {folder} cannot be used ({error}). Nothing was started. Name another one."
        ) from error
    if os.name == "posix" and mode & 0o077:
        raise BadInputError(
            f"Other users of this machine may read {folder}, which holds messages and sessions. Nothing was started. "
            f"Say: chmod 700 {folder}"
        )
    return folder


def log_to(stream: TextIO) -> None:
    """Write the events of gateways to a stream, with the time of each."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _connections_within_limit(wanted: int) -> int:
    """Raise the limit of open files as far as it is needed and allowed. Return how many connections it has room for."""
    if sys.platform == "win32":
        return wanted
    import resource

    needed = wanted * FILES_PER_ACCOUNT + RESERVED_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    most = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    room = max(1, (most - RESERVED_FILES) // FILES_PER_ACCOUNT)
    if room < wanted:
        log("open_file_limit_low", limit=most, needed=needed, connections=room)
    return min(wanted, room)
