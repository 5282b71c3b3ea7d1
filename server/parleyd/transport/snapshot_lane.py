"""Sends snapshots to one peer, one at a time, and waits ever longer after a transfer that the peer did not install.

The core sends a snapshot again as soon as it hears that the last transfer failed. So this lane reports a failure only
after the wait: a follower without room for a snapshot would be sent it with every heartbeat. The wait begins with
`FIRST_WAIT_S`, doubles, and ends at `LONGEST_WAIT_S`. The last copy of the state is sent again while the log reaches
it. The reason is logged when it changes, and it stands in the status until a transfer succeeds.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import structlog

from parleyd.raft.messages import Message
from parleyd.raft.types import NodeId
from parleyd.storage.errors import CopyFailedError
from parleyd.transport.call_end import writing_to
from parleyd.transport.peer_calls import one_line

if TYPE_CHECKING:
    from parley_proto.v1.peer_pb2_grpc import PeerAsyncStub
    from parleyd.transport.peers import LinkSetup

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
NOT_INSTALLED = "the peer did not install it, or not in time"


class SnapshotLane:
    """The snapshots for one peer. `problem` is why the last one was not installed, empty if it was."""

    def __init__(self, node: NodeId, name: str, setup: LinkSetup) -> None:
        self._node = node
        self._setup = setup
        self._requests: asyncio.Queue[tuple[Message, int]] = asyncio.Queue(maxsize=1)
        self._wait_s = FIRST_WAIT_S
        self.problem = ""
        self._logger = structlog.get_logger("peer").bind(peer=name)

    def request(self, message: Message, group: int) -> None:
        """Send the snapshot that `message` announces; a second one is refused while one waits."""
        if self._requests.full():
            self._setup.events.snapshot_sent(self._node, group, ok=False)
        else:
            self._requests.put_nowait((message, group))

    def clear(self) -> None:
        """Forget what waits: the connection broke, and the core decides again what the peer needs."""
        while not self._requests.empty():
            _, group = self._requests.get_nowait()
            self._setup.events.snapshot_sent(self._node, group, ok=False)

    async def run(self, stub: PeerAsyncStub) -> None:
        """Send what is requested, until cancelled."""
        while True:
            message, group = await self._requests.get()
            is_installed = False
            try:
                problem = await self._send(stub, message, group)
                is_installed = not problem
                await self._ended(problem)
            except FileNotFoundError as error:
                self._logger.info("snapshot_replaced", reason=str(error))  # the core asks for the newer one at once
            finally:
                self._setup.events.snapshot_sent(self._node, group, ok=is_installed)

    async def _ended(self, problem: str) -> None:
        """Record the end of a transfer, and wait if it failed."""
        if not problem:
            self._wait_s = FIRST_WAIT_S
            self._told(problem)
            return
        wait_s, self._wait_s = self._wait_s, min(2 * self._wait_s, LONGEST_WAIT_S)
        self._told(problem)
        await asyncio.sleep(wait_s)

    def _told(self, problem: str) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        if problem:
            self._logger.warning(
                "snapshot_transfer_failed",
                reason=problem,
                effect="the peer lags until it installs one; the transfer is repeated with growing waits",
            )
        else:
            self._logger.info("snapshot_transfer_succeeded")
        self._setup.on_change()

    async def _send(self, stub: PeerAsyncStub, message: Message, group: int) -> str:
        """Send one snapshot; return why it was not installed. Raises FileNotFoundError if it was replaced."""
        call = stub.InstallSnapshot(metadata=self._setup.call_metadata.to(self._node))
        try:
            async with writing_to(call) as write:
                try:
                    async for chunk in self._setup.snapshots.chunks(message, group):
                        await write(chunk)
                    await call.done_writing()
                except asyncio.InvalidStateError:
                    pass  # the peer has ended the call; its status says why
                return "" if (await call).installed else NOT_INSTALLED
        except FileNotFoundError:
            raise
        except (grpc.aio.AioRpcError, grpc.aio.UsageError, OSError, CopyFailedError) as error:
            return one_line(error)
