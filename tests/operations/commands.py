"""Runs `parley cluster ...` as an administrator types it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from parley import ParleyClient
from scripts.cluster_local import LocalCluster
from scripts.cluster_process import ROOT
from tests.cluster.raw import PASSWORD

COMMAND_S = 300.0


class CommandFailedError(Exception):
    """A procedure did not do what the guide says. The text has all that the command said."""


class Administrator:
    """Somebody with a session of an administrator, and the command `parley`."""

    def __init__(self, hosts: list[str], ca_file: Path, state_dir: Path) -> None:
        self._options = [
            *(part for host in hosts for part in ("--host", host)),
            *("--ca", str(ca_file), "--state-dir", str(state_dir), "--account", "boss"),
        ]

    @asynccontextmanager
    async def running(self, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run `parley cluster ARGUMENTS` while inside; stdout is to be read, and stderr is this program's."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "parley_command", "cluster", *arguments, *self._options),
            cwd=ROOT,
            env={key: value for key, value in os.environ.items() if not key.startswith("PARLEY")},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def __call__(self, *arguments: str) -> str:
        """Run `parley cluster ARGUMENTS` to its end; return what it printed. Raises CommandFailedError."""
        async with self.running(*arguments) as process, asyncio.timeout(COMMAND_S):
            out, err = await process.communicate()
        if process.returncode != 0:
            said = (out + err).decode(errors="replace")
            raise CommandFailedError(f"parley cluster {' '.join(arguments)} ended with {process.returncode}:\n{said}")
        return out.decode()


async def make_administrator(cluster: LocalCluster, hosts: list[str], folder: Path) -> Administrator:
    """Register and sign in the account `boss`. By the rules below level 3, the first account is an administrator."""
    async with ParleyClient(hosts, ca=cluster.ca_file, state_dir=folder, connect=False) as client:
        await client.register("boss", PASSWORD)
        await client.login("boss", PASSWORD)
    return Administrator(hosts, cluster.ca_file, folder)
