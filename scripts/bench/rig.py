"""The rig: a cluster, the client processes beside it, and the CPU time that both use.

Processes, accounts and connections are made when a row first asks for them, and stay for the rows after it.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from scripts.bench.figures import CLIENT_CORES, OTHER_CORES, Figures
from scripts.bench.process import ClientProcess, Reply
from scripts.bench.raw_client import RawSession
from scripts.cluster_layout import Settings
from scripts.cluster_local import LocalCluster

RECEIVER = "ben"
CROWD_PROCESSES = 2
"""One process cannot serve a crowd's connections as fast as the cluster does."""
_MOST_CONNECTIONS = 1000
"""Of one client process. A larger crowd has more processes."""
ADMINISTRATOR = "maker"
BCRYPT_COST = 10
"""The least that a node with TLS allows: a crowd logs in before its first run."""


@dataclass(frozen=True, slots=True)
class Senders:
    """Devices in one client process that send together."""

    process: ClientProcess
    accounts: tuple[str, ...]

    async def send(self, count: int, in_flight: int, *to: str) -> Reply:
        """Send `count` messages from each account, `in_flight` at a time, to the accounts in turn."""
        return await self.process.call(
            "send", accounts=self.accounts, count=count, in_flight=in_flight, to=to or (RECEIVER,)
        )

    async def pace(self, count: int, rate_per_s: float, to: str) -> Reply:
        """Send from the first account at an even pace."""
        return await self.process.call("pace", account=self.accounts[0], count=count, rate_per_s=rate_per_s, to=to)


@dataclass(frozen=True, slots=True)
class Receiver:
    """A device in a client process that receives."""

    process: ClientProcess
    account: str

    async def open(self) -> Reply:
        """Begin to receive. Times of arrival are counted from here."""
        return await self.process.call("open", account=self.account)

    async def close(self) -> None:
        """Receive no more until the next `open`. SDK devices receive on."""
        await self.process.call("close", account=self.account)


@dataclass(frozen=True, slots=True)
class Listeners:
    """Devices in one client process that receive the same messages."""

    process: ClientProcess
    accounts: tuple[str, ...]

    async def open(self) -> None:
        """Begin to receive."""
        await self.process.call("open_all", accounts=self.accounts)

    async def latest(self, sent: dict[str, int]) -> list[float]:
        """Return for each message how many milliseconds it took until the last of the devices had it."""
        latest: list[float] = (await self.process.call("latest", accounts=self.accounts, sent=sent)).value
        return latest


class Rig:
    """A cluster and its clients."""

    def __init__(self, cluster: LocalCluster, folder: Path, start_s: float, leader: str) -> None:
        self.cluster = cluster
        self.start_s = start_s
        self._leader = leader
        self._folder = folder
        self._processes: dict[str, ClientProcess] = {}
        self._senders: dict[str, Senders] = {}
        self._receivers: dict[str, Receiver] = {}
        self._accounts: set[str] = set()

    @classmethod
    @asynccontextmanager
    async def started(
        cls, nodes: int = 3, settings: Settings | None = None, *, http: bool = False
    ) -> AsyncIterator[Rig]:
        """Start a cluster, its nodes with more settings if there are some. At the end, end it and all clients.

        With `http`, nodes have pages for monitoring.
        """
        chosen = {"bcrypt_cost": BCRYPT_COST, **(settings or {})}
        with tempfile.TemporaryDirectory(prefix="parley-bench-") as folder:
            cluster = LocalCluster(Path(folder) / "cluster", nodes=nodes, settings=chosen, start=False, http=http)
            async with cluster:
                began_s = time.monotonic()
                cluster.start(*cluster.names)
                leader = await cluster.wait_for_leader()
                rig = cls(cluster, Path(folder), time.monotonic() - began_s, leader)
                try:
                    yield rig
                finally:
                    for process in rig._processes.values():
                        await process.end()

    # ---- clients

    async def raw_sender(self, account: str = "ann") -> Senders:
        """Return a raw device at the leader, in a process of its own."""
        if account not in self._senders:
            await self.create_accounts([account])
            process = await self._process(account)
            await process.call("connect_raw_senders", ca_file=self._ca_file, places=[(self._address(0), account)])
            self._senders[account] = Senders(process, (account,))
        return self._senders[account]

    async def crowd(self, size: int) -> list[Senders]:
        """Return raw devices on connections of their own, to all nodes in turn. They are split over some processes."""
        accounts = [f"crowd{number}" for number in range(size)]
        await self.create_accounts(accounts)
        parts = max(CROWD_PROCESSES, -(-size // _MOST_CONNECTIONS))
        groups = [accounts[first::parts] for first in range(parts)]
        return list(await asyncio.gather(*(self._crowd_part(part, group) for part, group in enumerate(groups))))

    async def raw_receiver(self, account: str = RECEIVER) -> Receiver:
        """Return a raw device at a follower, in a process of its own."""
        key = f"to {account}"
        if key not in self._receivers:
            process, address = await self._process(key), self._address(1)
            await self.create_accounts([account])
            await process.call("connect_raw_receiver", ca_file=self._ca_file, address=address, account=account)
            self._receivers[key] = Receiver(process, account)
        return self._receivers[key]

    @property
    def follower(self) -> str:
        """Return the node of the raw receivers, a follower when the rig was made."""
        return self.cluster.others(self._leader)[0]

    async def raw_sessions(self, account: str) -> dict[str, RawSession]:
        """Return a session of an account on each node, by its name, in this process. The caller closes them."""
        await self.create_accounts([account])
        ca_pem = self.cluster.ca_file.read_bytes()
        names = self.cluster.names
        addresses = map(self.cluster.address, names)
        sessions = await asyncio.gather(*(RawSession.log_in(address, ca_pem, account) for address in addresses))
        return dict(zip(names, sessions, strict=True))

    async def listeners(self, accounts: Sequence[str]) -> list[Listeners]:
        """Return raw devices that receive, on connections of their own, to all nodes in turn, in some processes."""
        groups = [tuple(accounts[part::CROWD_PROCESSES]) for part in range(CROWD_PROCESSES)]
        return list(await asyncio.gather(*(self._listening_part(part, group) for part, group in enumerate(groups))))

    async def create_channel(self, owner: str, members: Sequence[str]) -> int:
        """Let a raw sender create a channel with other accounts. Return its id."""
        process = self._senders[owner].process
        channel_id: int = (await process.call("create_channel", account=owner, members=members)).value
        return channel_id

    async def sdk_device(self, account: str) -> tuple[Senders, Receiver]:
        """Return a device of the SDK in a process of its own. Its account is an administrator's."""
        if account not in self._senders:
            process = await self._process(account)
            await process.call(
                "connect_sdk",
                ca_file=self._ca_file,
                hosts=self.cluster.hosts,
                folder=str(self._folder / account),
                account=account,
                code=await self.cluster.administrator_code(),
            )
            self._senders[account] = Senders(process, (account,))
            self._receivers[account] = Receiver(process, account)
        return self._senders[account], self._receivers[account]

    async def create_accounts(self, accounts: Sequence[str]) -> None:
        """Let an administrator import the accounts that this rig has not made yet."""
        missing = [account for account in accounts if account not in self._accounts]
        if not missing:
            return
        is_first = ADMINISTRATOR not in self._processes
        process = await self._process(ADMINISTRATOR)
        if is_first:
            await process.call(
                "connect_administrator",
                ca_file=self._ca_file,
                address=self._address(0),
                account=ADMINISTRATOR,
                code=await self.cluster.administrator_code(),
                cost=BCRYPT_COST,
            )
        await process.call("import_accounts", accounts=missing)
        self._accounts.update(missing)

    async def audit(self, receiver: Receiver, *, sent_by: str = "") -> Reply:
        """Wait for all that was accepted for a receiver, or was sent by an account. Raise unless each came once.

        Return what `client.Client.wait_for` returns.
        """
        sent: dict[str, int] = {}
        for senders in self._senders.values():
            accepted = (await senders.process.call("accepted", accounts=senders.accounts)).value
            for series, count in accepted.items():
                sender, _, recipient = series.partition(">")
                if (sender == sent_by) if sent_by else (recipient == receiver.account):
                    sent[series] = count
        return await receiver.process.call("wait_for", account=receiver.account, sent=sent)

    # ---- CPU

    async def meter(self) -> Meter:
        """Begin to measure CPU time, of the nodes that run."""
        nodes = [psutil.Process(self.cluster.pid(name)) for name in self.cluster.names if self.cluster.is_up(name)]
        return await Meter.begin(nodes, list(self._processes.values()))

    # ---- inside

    @property
    def _ca_file(self) -> str:
        return str(self.cluster.ca_file)

    def _address(self, place: int) -> str:
        """Return the address of a node: of the leader at place 0, then of the others."""
        names = [self._leader, *self.cluster.others(self._leader)]
        return self.cluster.address(names[place % len(names)])

    def _spread(self, accounts: Sequence[str]) -> list[tuple[str, str]]:
        return [(self._address(place), account) for place, account in enumerate(accounts)]

    async def _crowd_part(self, part: int, accounts: Sequence[str]) -> Senders:
        name = f"crowd part {part}"
        process = await self._process(name)
        there = self._senders[name].accounts if name in self._senders else ()
        missing = [account for account in accounts if account not in there]
        await process.call("connect_raw_senders", ca_file=self._ca_file, places=self._spread(missing))
        self._senders[name] = Senders(process, (*there, *missing))
        return Senders(process, tuple(accounts))

    async def _listening_part(self, part: int, accounts: tuple[str, ...]) -> Listeners:
        process = await self._process(f"listeners part {part}")
        await process.call("connect_raw_receivers", ca_file=self._ca_file, places=self._spread(accounts))
        return Listeners(process, accounts)

    async def _process(self, name: str) -> ClientProcess:
        if name not in self._processes:
            self._processes[name] = await ClientProcess.start()
        return self._processes[name]


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """CPU time in seconds at one moment of the monotonic clock: of the machine, of all nodes, of each client."""

    at_s: float
    machine_s: float
    nodes_s: float
    clients_s: tuple[float, ...]


class Meter:
    """CPU time from its begin on."""

    def __init__(self, nodes: Sequence[psutil.Process], clients: Sequence[ClientProcess], began: CpuTimes) -> None:
        self._nodes = nodes
        self._clients = clients
        self._began = began

    @classmethod
    async def begin(cls, nodes: Sequence[psutil.Process], clients: Sequence[ClientProcess]) -> Meter:
        """Begin to measure."""
        return cls(nodes, clients, await _read(nodes, clients))

    async def used(self) -> CpuTimes:
        """Return the time that passed and was used since the begin."""
        began, now = self._began, await _read(self._nodes, self._clients)
        return CpuTimes(
            now.at_s - began.at_s,
            now.machine_s - began.machine_s,
            now.nodes_s - began.nodes_s,
            tuple(after - before for before, after in zip(began.clients_s, now.clients_s, strict=True)),
        )

    async def figures(self, messages: int) -> Figures:
        """Return CPU seconds per 1,000 messages, the cores of the busiest client, and those used by anybody else."""
        used = await self.used()
        clients_s = sum(used.clients_s)
        return {
            "server_cpu_s_per_1000": used.nodes_s / messages * 1000,
            "client_cpu_s_per_1000": clients_s / messages * 1000,
            CLIENT_CORES: max(used.clients_s, default=0.0) / used.at_s,
            OTHER_CORES: max(0.0, used.machine_s - used.nodes_s - clients_s) / used.at_s,
        }


async def _read(nodes: Sequence[psutil.Process], clients: Sequence[ClientProcess]) -> CpuTimes:
    replies = [await client.call("cpu_s") for client in clients]
    times = [process.cpu_times() for process in nodes]
    return CpuTimes(
        time.monotonic(),
        _machine_cpu_s(),
        sum(node.user + node.system for node in times),
        tuple(reply.value for reply in replies),
    )


def _machine_cpu_s() -> float:
    """Return the time for which processors were busy, also for other virtual machines."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))
