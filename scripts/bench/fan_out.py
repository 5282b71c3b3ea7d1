"""Rows about channels: from a send to the last of many receivers, and what it costs the nodes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from parleyd.machine.features.memberships import EVERYONE_ID
from scripts.bench.figures import Figures, latest, percentiles
from scripts.bench.rig import Receiver, Rig, Senders
from scripts.bench.scale import Scale

RATE_PER_S = 5.0
CALLER = "caller"


@dataclass(frozen=True, slots=True)
class FanOut:
    """Messages to a channel of so many members, or to everyone, of whom some are connected, to all nodes in turn.

    The same sender first writes to one of them alone, at the same pace.
    """

    members: int
    connected: int = 200
    is_everyone: bool = False

    async def measure(self, rig: Rig, scale: Scale) -> Figures:
        """Measure one run. Every connected member audits what it received."""
        names = [f"m{number}x" for number in range(min(self.members, scale.recipients) - 1)]
        sender = await rig.raw_sender(CALLER)
        await rig.create_accounts(names)
        listeners = await rig.listeners(names[: self.connected])
        target = f"#{EVERYONE_ID if self.is_everyone else await rig.create_channel(CALLER, names)}"
        await asyncio.gather(*(group.open() for group in listeners))
        count = max(1, int(scale.fan_out_s * RATE_PER_S))
        alone = await _paced(rig, sender, await rig.raw_receiver(), count)
        meter = await rig.meter()
        await sender.pace(count, RATE_PER_S, target)
        accepted = (await sender.process.call("accepted", accounts=sender.accounts)).value
        sent = {f"{CALLER}>{target}": accepted[f"{CALLER}>{target}"]}
        last = percentiles(latest(await asyncio.gather(*(group.latest(sent) for group in listeners))))
        used = await meter.figures(count)
        return {
            "alone_p50_ms": alone["p50_ms"],
            "alone_p99_ms": alone["p99_ms"],
            "last_p50_ms": last["p50_ms"],
            "last_p99_ms": last["p99_ms"],
            "beyond_alone_p99_ms": last["p99_ms"] - alone["p99_ms"],
            "server_cpu_ms_per_message": used["server_cpu_s_per_1000"],
            "client_cpu_ms_per_message": used["client_cpu_s_per_1000"],
        }


async def _paced(rig: Rig, sender: Senders, receiver: Receiver, count: int) -> Figures:
    """Send to one account. Return how long it took until the messages arrived."""
    await receiver.open()
    await sender.pace(count, RATE_PER_S, receiver.account)
    arrived = (await rig.audit(receiver)).value
    await receiver.close()
    return percentiles(arrived["took_ms"])
