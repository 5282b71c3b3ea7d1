"""A client process and the pipe to it: one line of JSON per request, one per answer.

Clients run in processes of their own, so that they share neither an event loop nor the interpreter with each other.
Each answer says when the request began and ended.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import traceback
from asyncio.subprocess import PIPE, Process
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import grpc

from scripts.cluster_process import ROOT

_LINE_BYTES = 256 * 1024 * 1024  # the latencies of a million messages in one line
_END_S = 20.0


class ClientError(Exception):
    """A client process failed. The text has its traceback."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a request returned, and when it began and ended, in seconds of the monotonic clock."""

    value: Any
    began_s: float
    ended_s: float


class ClientProcess:
    """The parent's end. Requests run one after another."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    @classmethod
    async def start(cls, module: str = "scripts.bench.client", *arguments: str) -> ClientProcess:
        """Start a client process. It ends when its standard input does."""
        program = [sys.executable, "-m", module, *arguments]
        return cls(await asyncio.create_subprocess_exec(*program, cwd=ROOT, stdin=PIPE, stdout=PIPE, limit=_LINE_BYTES))

    async def call(self, method: str, **arguments: Any) -> Reply:
        """Call a method of `client.Client`. Raise ClientError if it raised."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._turn:
            self._process.stdin.write(json.dumps([method, arguments]).encode() + b"\n")
            line = await self._process.stdout.readline()
        if not line:
            raise ClientError(f"A client process ended with {await self._process.wait()} during {method}.")
        answer = json.loads(line)
        if "error" in answer:
            raise ClientError(answer["error"])
        return Reply(**answer)

    @property
    def pid(self) -> int:
        """Return the process id."""
        return self._process.pid

    async def kill(self) -> None:
        """Kill the process with SIGKILL. No call may follow but end()."""
        self._process.kill()
        await self._process.wait()

    async def end(self) -> None:
        """Close the pipe and wait for the end of the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), _END_S)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


async def serve_calls(served: object) -> None:
    """Answer the requests on standard input with the methods of an object. The client process runs this."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        method, arguments = json.loads(line)
        began_s = time.monotonic()
        try:
            value = await getattr(served, method)(**arguments)
            answer: dict[str, Any] = asdict(Reply(value, began_s, time.monotonic()))
        except Exception as error:
            answer = {"error": traceback.format_exc() + first_line(error)}
        print(json.dumps(answer), flush=True)


def first_line(error: BaseException) -> str:
    """Return one line about an error, or about the first of a group. It ends the text of a ClientError."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, grpc.aio.AioRpcError):
        return f"{error.code().name}: {error.details()}"
    if isinstance(error, ClientError):
        return (str(error).strip().splitlines() or [""])[-1]
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def span_s(replies: Sequence[Reply]) -> float:
    """Return the time from the first begin to the last end."""
    return max(reply.ended_s for reply in replies) - min(reply.began_s for reply in replies)
