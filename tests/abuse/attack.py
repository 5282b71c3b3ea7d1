"""What an attack is: what the attacker does, and the bounds that hold meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import grpc
import grpc.aio

from parley_proto.v1 import messaging_pb2, messaging_pb2_grpc, model_pb2
from tests.abuse.scenes import Scene

MIB = 1 << 20
CHANNEL_OPTIONS = (
    ("grpc.use_local_subchannel_pool", 1),
    # A client that accepts little: what it does not read stays with the node.
    ("grpc.http2.bdp_probe", 0),
    ("grpc.http2.lookahead_bytes", 65_536),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


@dataclass(frozen=True, slots=True)
class Bounds:
    """What an attack may cost: resident memory of a node above its start, the innocent client's waits, elections."""

    rss_mib: int = 300
    p99_ms: int = 1_000
    errors: int = 0
    elections: int = 0
    cpu_percent: int | None = None  # of one core, each attacked node
    may_refuse: bool = False  # the innocent client may be told that there is no room


@dataclass(slots=True)
class Stage:
    """What an attacker has: the nodes' addresses and, as a member, sessions of one account."""

    addresses: list[str]
    ca_pem: bytes
    name: str
    victim: str
    tokens: list[str]
    counts: Counter[str] = field(default_factory=Counter)

    @asynccontextmanager
    async def channels(self, count: int = 1) -> AsyncIterator[list[grpc.aio.Channel]]:
        """Open connections, each to the next node."""
        credentials = grpc.ssl_channel_credentials(root_certificates=self.ca_pem)
        async with AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(
                    grpc.aio.secure_channel(
                        self.addresses[at % len(self.addresses)], credentials, options=CHANNEL_OPTIONS
                    )
                )
                for at in range(count)
            ]

    def metadata(self, session: int = 0) -> tuple[tuple[str, str], ...]:
        """The metadata of a call of the account."""
        return (("authorization", f"Bearer {self.tokens[session]}"),)

    async def note(self, call: Awaitable[object]) -> None:
        """Await a call, and count how it ended."""
        try:
            await call
            self.counts["OK"] += 1
        except grpc.aio.AioRpcError as error:
            self.counts[error.code().name] += 1
        except asyncio.InvalidStateError:
            self.counts["ended"] += 1

    async def keep_busy(self, width: int, call: Callable[[int], Awaitable[object]]) -> None:
        """Have `width` calls in progress at any time."""

        async def repeat(place: int) -> None:
            while True:
                await self.note(call(place))
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as tasks:
            for place in range(width):
                tasks.create_task(repeat(place))

    async def store(self, count: int, body: str) -> None:
        """Send messages to the own account, each after the one before it."""
        async with self.channels() as [channel]:
            call = messaging_pb2_grpc.MessagingStub(channel).Connect(metadata=self.metadata())
            await call.write(messaging_pb2.ClientFrame(hello=messaging_pb2.Hello()))
            number = 0
            stored = 0
            async for frame in call:
                if frame.HasField("welcome"):
                    number = frame.welcome.last_send_number
                stored += sum(result.status == messaging_pb2.SEND_STATUS_ACCEPTED for result in frame.results.results)
                if frame.HasField("welcome") or frame.HasField("results"):
                    if stored == count:
                        break
                    send = model_pb2.Send(number=number + stored + 1, account_name=self.name, body=body)
                    await call.write(messaging_pb2.ClientFrame(sends=messaging_pb2.SendBatch(sends=[send])))
            call.cancel()


async def nothing(_: Stage) -> None:
    """Prepare nothing."""


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack. `prepare` comes before the measurement, `run` goes on until it is cancelled."""

    name: str
    item: int
    run: Callable[[Stage], Awaitable[None]]
    prepare: Callable[[Stage], Awaitable[None]] = nothing
    bounds: Bounds = Bounds()
    scene: type[Scene] = Scene
