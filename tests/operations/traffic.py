"""The continuous load of the combined run: senders at an even pace, and devices that receive all of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from parley import ConnectionState, ParleyClient
from scripts.cluster_local import LocalCluster
from tests.cluster.paced import PacedSender, TimedSend
from tests.cluster.raw import PASSWORD
from tests.operations.judgement import Books, body_of

SENDERS = ("ann", "cem", "dora")
RECEIVER = "ben"
DEVICES = ("ben's desk", "ben's bag")
CONNECT_S = 60.0
SETTLE_S = 60.0
QUIET_SENDS = 60


class Receiver:
    """A device that notes what it is shown, and when."""

    def __init__(self, client: ParleyClient) -> None:
        self._client = client
        self.shown: list[tuple[str, float]] = []

    async def run(self) -> None:
        """Note messages until cancelled."""
        reader = await self._client.messages()
        try:
            async for message in reader:
                self.shown.append((message.body, time.perf_counter()))
        finally:
            reader.close()


class Traffic:
    """All senders and receivers. They know the first nodes, and learn the others by themselves."""

    def __init__(self) -> None:
        self.senders: dict[str, PacedSender] = {}
        self.receivers: dict[str, Receiver] = {}

    @property
    def sends(self) -> list[TimedSend]:
        """Return all accepted sends."""
        return [send for sender in self.senders.values() for send in sender.sends]

    def accepted(self) -> dict[str, list[int]]:
        """Return the numbers of the accepted messages, by sender."""
        return {name: [send.number for send in sender.sends] for name, sender in self.senders.items()}

    async def more(self, count: int) -> None:
        """Wait until each sender has that many more messages accepted."""
        await asyncio.gather(*(sender.until(len(sender.sends) + count) for sender in self.senders.values()))

    def deliveries_ms(self, began_s: float, ended_s: float) -> tuple[float, ...]:
        """Return how long each message took from its send to a device that received it in this time."""
        began = {body_of(name, s.number): s.began_s for name, sender in self.senders.items() for s in sender.sends}
        return tuple(
            1000 * (at_s - began[body])
            for receiver in self.receivers.values()
            for body, at_s in receiver.shown
            if began_s <= at_s <= ended_s and body in began
        )

    async def until_received(self) -> None:
        """Wait until each device was shown as many messages as were sent, and a moment more for one too many."""
        expected = sum(sender.sent for sender in self.senders.values())
        deadline = time.perf_counter() + SETTLE_S
        while min(len(receiver.shown) for receiver in self.receivers.values()) < expected:
            if time.perf_counter() > deadline:
                break  # too few came, and the books say so
            await asyncio.sleep(0.1)
        await asyncio.sleep(1.0)

    def books(self) -> Books:
        """Return what was sent, accepted and shown."""
        return Books(
            sent={name: sender.sent for name, sender in self.senders.items()},
            accepted=self.accepted(),
            shown={name: [body for body, _ in receiver.shown] for name, receiver in self.receivers.items()},
        )


@asynccontextmanager
async def traffic(cluster: LocalCluster, hosts: list[str], folder: Path) -> AsyncIterator[Traffic]:
    """Send and receive while inside. At the end all messages were accepted and received, or are missing."""
    made = Traffic()
    async with AsyncExitStack() as life:

        async def client(account: str, state: str) -> ParleyClient:
            entered = await life.enter_async_context(ParleyClient(hosts, ca=cluster.ca_file, state_dir=folder / state))
            if account == state or state == DEVICES[0]:
                await entered.register(account, PASSWORD)
            await entered.login(account, PASSWORD)
            await entered.wait_until(ConnectionState.CONNECTED, timeout=CONNECT_S)
            return entered

        for device in DEVICES:
            made.receivers[device] = Receiver(await client(RECEIVER, device))
        for name in SENDERS:
            made.senders[name] = PacedSender(await client(name, name), RECEIVER, partial(body_of, name))
        ends = asyncio.Event()
        receiving = [asyncio.create_task(receiver.run()) for receiver in made.receivers.values()]
        try:
            async with asyncio.TaskGroup() as sending:
                for sender in made.senders.values():
                    sending.create_task(sender.run(ends))
                yield made
                ends.set()
            await made.until_received()
        finally:
            for task in receiving:
                task.cancel()
            await asyncio.gather(*receiving, return_exceptions=True)
