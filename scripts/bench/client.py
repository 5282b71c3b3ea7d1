"""The client process: devices by account name, and what the rig asks of them. `python -m scripts.bench.client`."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from scripts.bench.figures import latest
from scripts.bench.process import serve_calls
from scripts.bench.raw_client import RawAdministrator, RawReceiver, RawSender
from scripts.bench.reference import Identity, measure_reference
from scripts.bench.sdk_client import SdkDevice

CALLS_AT_ONCE = 4
"""A node checks the passwords of a few log-ins at a time. More only wait there."""


class Client:
    """The methods that the rig calls by name. Arguments and results are JSON."""

    def __init__(self) -> None:
        self._senders: dict[str, RawSender | SdkDevice] = {}
        self._receivers: dict[str, RawReceiver | SdkDevice] = {}
        self._administrator: RawAdministrator | None = None

    # ---- who is there

    async def connect_administrator(self, ca_file: str, address: str, account: str, code: str, cost: int) -> None:
        """Log in an administrator, who makes accounts with a password hash of this cost."""
        self._administrator = await RawAdministrator.connect(address, _read(ca_file), account, code, cost)

    async def import_accounts(self, accounts: Sequence[str]) -> None:
        """Make accounts."""
        assert self._administrator is not None
        await self._administrator.import_accounts(accounts)

    async def connect_raw_senders(self, ca_file: str, places: Sequence[tuple[str, str]]) -> None:
        """Log in a raw sender of each (address, account)."""

        async def connect(address: str, account: str) -> None:
            self._senders[account] = await RawSender.connect(address, ca_pem, account)

        ca_pem = _read(ca_file)
        await _few_at_a_time([connect(address, account) for address, account in places])

    async def connect_raw_receiver(self, ca_file: str, address: str, account: str) -> None:
        """Log in a raw receiver."""
        self._receivers[account] = await RawReceiver.connect(address, _read(ca_file), account)

    async def connect_raw_receivers(self, ca_file: str, places: Sequence[tuple[str, str]]) -> None:
        """Log in a raw receiver of each (address, account)."""
        await _few_at_a_time([self.connect_raw_receiver(ca_file, *place) for place in places])

    async def create_channel(self, account: str, members: Sequence[str]) -> int:
        """Let a raw sender create a channel. Return its id."""
        sender = self._senders[account]
        assert isinstance(sender, RawSender)
        return await sender.session.create_channel(members)

    async def connect_sdk(self, ca_file: str, hosts: list[str], folder: str, account: str, code: str = "") -> None:
        """Sign in an SDK client, which sends and receives."""
        device = await SdkDevice.connect(hosts, Path(ca_file), Path(folder), account, code)
        self._senders[account] = self._receivers[account] = device

    async def cpu_s(self) -> float:
        """Return the CPU time that this process has used."""
        return time.process_time()

    async def measure_reference(self, folder: str, operations: int, **identity: str) -> dict[str, float]:
        """Run the loop of `reference.py` in this process. Return its cost."""
        return asdict(await measure_reference(Identity(**identity), Path(folder), operations))

    # ---- sending

    async def send(self, accounts: Sequence[str], count: int, in_flight: int, to: list[str]) -> list[float]:
        """Send `count` messages from each account. Return the milliseconds until each was accepted."""

        senders = [self._senders[account] for account in accounts]
        took_ms = await asyncio.gather(*(sender.send(count, in_flight, to) for sender in senders))
        return list(itertools.chain.from_iterable(took_ms))

    async def pace(self, account: str, count: int, rate_per_s: float, to: str) -> list[float]:
        """Send at an even pace. Return what the device's `pace` returns."""
        return await self._senders[account].pace(count, rate_per_s, to)

    async def accepted(self, accounts: Sequence[str]) -> dict[str, int]:
        """Return the number of accepted messages of each series, since the process began."""
        return {series: count for account in accounts for series, count in self._senders[account].accepted.items()}

    async def transfer_leadership(self, account: str) -> str:
        """Let another node lead."""
        sender = self._senders[account]
        assert isinstance(sender, SdkDevice)
        return await sender.transfer_leadership()

    # ---- receiving

    async def open(self, account: str) -> None:
        """Begin to receive."""
        receiver = self._receivers[account]
        receiver.inbox.begin()
        await receiver.open()

    async def wait_for(self, account: str, sent: dict[str, int]) -> dict[str, Any]:
        """Wait for accepted messages, and audit them. Return when they came and how long each took."""
        inbox = self._receivers[account].inbox
        await inbox.wait_for(sent)
        return {"took_ms": inbox.took_ms, "first_s": inbox.first_ns / 1e9, "last_s": inbox.last_ns / 1e9}

    async def open_all(self, accounts: Sequence[str]) -> None:
        """Begin to receive at all these accounts."""
        await asyncio.gather(*map(self.open, accounts))

    async def latest(self, accounts: Sequence[str], sent: dict[str, int]) -> list[float]:
        """Wait until all accounts have the messages, and audit them.

        Return for each message how many milliseconds it took until the last of the accounts had it.
        """
        arrived = await asyncio.gather(*(self.wait_for(account, sent) for account in accounts))
        return latest([one["took_ms"] for one in arrived])

    async def close(self, account: str) -> None:
        """Receive no more."""
        await self._receivers[account].close()


async def _few_at_a_time(calls: Sequence[Any]) -> None:
    for first in range(0, len(calls), CALLS_AT_ONCE):
        await asyncio.gather(*calls[first : first + CALLS_AT_ONCE])


def _read(ca_file: str) -> bytes:
    return Path(ca_file).read_bytes()


if __name__ == "__main__":
    asyncio.run(serve_calls(Client()))
