"""What surrounds an attack: the cluster that it meets, and what happens to the nodes meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from types import MappingProxyType

import grpc.aio

from parley_proto.v1 import accounts_pb2
from scripts.cluster_local import LocalCluster
from tests.abuse.measure import Measures
from tests.abuse.relays import Links
from tests.cluster import small_disks
from tests.cluster.raw import PASSWORD, Raw, raw_client, refused

SOON_S = 30.0
NO_SETTINGS: Mapping[str, int] = MappingProxyType({})


class Scene:
    """Three nodes and nothing else. Other scenes change what differs."""

    settings = NO_SETTINGS
    needs_mounts = False

    def __init__(self, cluster: LocalCluster) -> None:
        self.cluster = cluster
        self.findings: list[str] = []
        self.figures: dict[str, float] = {}

    @contextlib.asynccontextmanager
    async def laid_out(self) -> AsyncIterator[None]:
        """Prepare what the nodes need before they start, and take it back after they have ended."""
        yield

    async def place(self) -> tuple[str, list[str]]:
        """Return the innocent client's node, and the nodes that are attacked. The leader is known."""
        # The innocent client speaks to a follower, so that all nodes are in its way.
        leader = await self.cluster.wait_for_leader()
        return self.cluster.others(leader)[0], list(self.cluster.names)

    async def begin(self) -> None:
        """Do what comes right before the attack."""

    async def go_on(self, seconds: float, measures: Measures) -> None:
        """Let the attack go on."""
        await asyncio.sleep(seconds)

    async def end(self, attacker: Mapping[str, int]) -> None:
        """Look at what is left after the attack; `attacker` counts what became of its calls."""

    async def agree(self) -> None:
        """Expect that all nodes come to the same state."""
        try:
            await self.cluster.wait_until_equal()
        except AssertionError as error:
            self.findings.append(str(error).partition("\n")[0])


class SmallDisks(Scene):
    """Nodes whose disks one member can fill. What is full must run, answer, and go on by itself."""

    # A node measures its disk twice a second, and one member can write 10 MiB until then. Afterwards there is room for
    # a copy of the state, which a node that lags needs.
    settings: Mapping[str, int] = MappingProxyType(
        {"disk_reserve_bytes": 64 << 20, "log_retain_bytes": 8 << 20, "log_retain_entries": 1_000}
    )
    sizes_mib = (120, 300)
    needs_mounts = True

    @contextlib.asynccontextmanager
    async def laid_out(self) -> AsyncIterator[None]:
        small_disks.mount(self.cluster, self.sizes_mib[0])
        try:
            yield
        finally:
            self.cluster.kill(*filter(self.cluster.is_up, self.cluster.names))
            small_disks.unmount(self.cluster)

    async def go_on(self, seconds: float, measures: Measures) -> None:
        """Fill the disks, see what still works, and make room."""
        innocent = measures.innocent
        began = time.monotonic()
        await self._wait_for(lambda: innocent.refused > 0, "growth was never refused", measures)
        self.figures["full_after_s"] = round(time.monotonic() - began, 1)
        async with raw_client(self.cluster, innocent.node) as raw:
            await self._try("what needs no room", self._go_on_from_the_reserve(raw))
            await self._try("a registration", self._be_refused(raw))
        await asyncio.sleep(seconds / 2)
        accepted, began = innocent.accepted, time.monotonic()
        small_disks.grow(self.cluster, self.sizes_mib[1])
        await self._wait_for(lambda: innocent.accepted > accepted, "nothing was accepted after room was made", measures)
        self.figures["accepted_again_after_s"] = round(time.monotonic() - began, 1)

    async def _wait_for(self, condition: Callable[[], bool], text: str, measures: Measures) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SOON_S):
                while not condition():
                    await measures.innocent.next_answer()
                return
        self.findings.append(text)

    async def _try(self, what: str, work: Awaitable[None]) -> None:
        try:
            await work
        except (grpc.aio.AioRpcError, AssertionError, TimeoutError) as error:
            self.findings.append(f"{what} failed while the disks were full: {str(error)[:200]}")

    async def _go_on_from_the_reserve(self, raw: Raw) -> None:
        """Log in, read all that waits, acknowledge it, and delete the account."""
        leaver = await raw.log_in("leaver")
        async with raw.session(leaver) as stream:
            await stream.until_caught_up()
            await stream.delivered(stream.cursor)
        request = accounts_pb2.DeleteAccountRequest(password=PASSWORD)
        await raw.accounts.DeleteAccount(request, metadata=leaver.metadata, timeout=10)

    async def _be_refused(self, raw: Raw) -> None:
        request = accounts_pb2.RegisterRequest(name="newcomer", password=PASSWORD, request_id=bytes(16))
        code, text = await refused(raw.accounts.Register(request, timeout=10))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED, (code, text)
        assert "no room" in text, text

    async def end(self, attacker: Mapping[str, int]) -> None:
        for name in self.cluster.names:
            if not self.cluster.is_up(name):
                self.findings.append(f"{name} has ended: {self.cluster.tail(name, 3)}")
        await self.agree()


class GatewayWithoutLinks(Scene):
    """A node that hears its leader and cannot reach it, with commands that wait there. They must cost nothing."""

    settings: Mapping[str, int] = MappingProxyType({"max_queued_commands": 1_000})
    gateway = "n3"

    def __init__(self, cluster: LocalCluster) -> None:
        super().__init__(cluster)
        self._links = Links(cluster, self.gateway)

    @contextlib.asynccontextmanager
    async def laid_out(self) -> AsyncIterator[None]:
        await self._links.lay()
        try:
            yield
        finally:
            await self._links.cut()

    async def place(self) -> tuple[str, list[str]]:
        leader = await self.cluster.wait_for_leader()
        if leader == self.gateway:
            await self.cluster.restart(self.gateway)
            leader = await self.cluster.wait_for_leader(other_than=self.gateway)
        innocent = next(name for name in self.cluster.others(leader) if name != self.gateway)
        return innocent, [self.gateway]

    async def begin(self) -> None:
        await self.cluster.wait_until_equal()  # the gateway knows the attacker's sessions
        await self._links.cut()

    async def go_on(self, seconds: float, measures: Measures) -> None:
        """Measure while the commands wait: not while they arrive, nor when their time is up after 10 s."""
        await asyncio.sleep(2.0)
        measures.load.begin()
        await asyncio.sleep(min(seconds, 5.0))
        measures.load.end()
        await self._links.mend()
        await asyncio.sleep(3.0)

    async def end(self, attacker: Mapping[str, int]) -> None:
        if not attacker.get("RESOURCE_EXHAUSTED"):
            self.findings.append("more commands waited than the bound allows")
        if not attacker.get("SEND_STATUS_ACCEPTED"):
            self.findings.append("no command went through after the links had returned")
        await self.agree()
