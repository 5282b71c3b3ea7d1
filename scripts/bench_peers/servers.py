"""Three processes of a peer on loopback: started here, ended by their ids, and gone with this process."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import psutil

from scripts.bench_peers.peer import HOST, PORTS_EACH, SERVERS, Peer, PeerFailedError, Place, Start
from scripts.cluster_process import DIE_WITH_PARENT

READY_S = 60.0
_POLL_S = 0.2
_END_S = 10.0


class Servers:
    """The servers of one peer."""

    def __init__(self, peer: Peer, folder: Path) -> None:
        ports = _free_ports(SERVERS * PORTS_EACH)
        self.peer = peer
        self.places = [
            Place(number, folder / f"s{number + 1}", tuple(ports[number::SERVERS])) for number in range(SERVERS)
        ]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @classmethod
    @asynccontextmanager
    async def started(cls, peer: Peer, folder: Path) -> AsyncIterator[Servers]:
        """Start the servers and wait until they serve. End them afterwards."""
        for program in peer.programs:
            if shutil.which(program) is None:
                raise PeerFailedError(f"{program} is not installed. Run: sudo bash scripts/bench_peers/install.sh")
        servers = cls(peer, folder)
        async with AsyncExitStack() as stack:
            stack.callback(servers._end)
            for place in servers.places:
                place.folder.mkdir(parents=True)
            for number, start in enumerate(peer.prepare(servers.places)):
                servers._spawn(f"helper-{number}", start, folder)
            for place in servers.places:
                servers.start(place.number)
            await servers.create_queue("ready")
            await peer.verify(servers.places)
            yield servers

    @property
    def addresses(self) -> list[str]:
        """Return the addresses for clients, by place."""
        return [place.address for place in self.places]

    def start(self, number: int) -> None:
        """Start a server."""
        place = self.places[number]
        self._spawn(place.name, self.peer.start(place, self.places), place.folder)

    def kill(self, number: int) -> None:
        """Kill a server with SIGKILL."""
        process = self._processes.pop(self.places[number].name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def processes(self) -> list[psutil.Process]:
        """Return the processes of the servers that run."""
        return [psutil.Process(process.pid) for process in self._processes.values() if process.poll() is None]

    async def create_queue(self, queue: str) -> None:
        """Make a queue. Wait until the servers accept that, for READY_S at most."""
        until_s = time.monotonic() + READY_S
        while True:
            try:
                async with asyncio.timeout(READY_S):
                    return await self.peer.create_queue(self.addresses, queue)
            except Exception as error:  # whatever a client library raises while servers start
                gone = [name for name, process in self._processes.items() if process.poll() is not None]
                if gone or time.monotonic() > until_s:
                    raise PeerFailedError(self._report(gone, error)) from error
            await asyncio.sleep(_POLL_S)

    def _report(self, gone: Sequence[str], error: Exception) -> str:
        if not gone:
            return f"{self.peer.name} was not ready within {READY_S:.0f} s: {error!r}"
        lines = (self._log(gone[0])).read_text(errors="replace").strip().splitlines()[-1:]
        return f"{self.peer.name}: {gone[0]} ended by itself. {' '.join(lines)}"

    def _log(self, name: str) -> Path:
        return self.places[0].folder.parent / f"{name}.log"

    def _spawn(self, name: str, start: Start, folder: Path) -> None:
        command = [sys.executable, "-c", DIE_WITH_PARENT, str(os.getpid()), *start.arguments]
        program = shutil.which(start.arguments[0])
        if program is not None:
            command[4] = program
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "LANG": "C.UTF-8", **start.environment}
        with self._log(name).open("ab") as log:
            self._processes[name] = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _end(self) -> None:
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait(_END_S)


def _free_ports(count: int) -> list[int]:
    """Return ports of loopback that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


async def output_of(*command: str, environment: Mapping[str, str] | None = None) -> str:
    """Return the first line that a program prints."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
    )
    printed, _ = await process.communicate()
    return (printed.decode(errors="replace").splitlines() or [""])[0].strip()
