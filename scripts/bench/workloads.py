"""Rows that send: throughput and latency, end to end, and a queue for a receiver who is away.

After each run the receiver's device audits all that was accepted: each message once and in order.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from scripts.bench.figures import Figures, percentiles
from scripts.bench.process import span_s
from scripts.bench.rig import Receiver, Rig, Senders
from scripts.bench.scale import Scale

PACE_PER_S = 1000.0
SDK_SENDER, SDK_RECEIVER = "sdk-ann", "sdk-ben"


@dataclass(frozen=True, slots=True)
class Throughput:
    """Raw sends to an absent receiver, who fetches them afterwards. `share` of the scale's sends: some take longer.

    Each device has `in_flight` sends without a result. More than one device are a crowd, to all nodes in turn. With two
    `processes`, one device in each sends at the leader.
    """

    devices: int
    in_flight: int
    share: float = 1.0
    processes: int = 1

    def count(self, scale: Scale) -> int:
        """Return the number of messages of a run."""
        return max(1, int(scale.sends * self.share))

    async def measure(self, rig: Rig, scale: Scale) -> Figures:
        """Measure one run."""
        if self.devices > 1:
            senders = await rig.crowd(self.devices)
        else:
            senders = [await rig.raw_sender(f"ann{number or ''}") for number in range(self.processes)]
        receiver = await rig.raw_receiver()
        figures = await send_flat_out(rig, senders, self.count(scale), self.in_flight)
        await drain(rig, receiver)
        return figures


@dataclass(frozen=True, slots=True)
class SdkThroughput:
    """Sends over the SDK, each durable in the outbox first, to an absent receiver, who fetches them raw."""

    in_flight: int
    share: float = 1.0

    async def measure(self, rig: Rig, scale: Scale) -> Figures:
        """Measure one run."""
        sender, _ = await rig.sdk_device(SDK_SENDER)
        count = max(1, int(scale.sends * self.share))
        receiver = await rig.raw_receiver("raw-ben")
        figures = await send_flat_out(rig, [sender], count, self.in_flight, receiver.account)
        await drain(rig, receiver)
        return figures


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """From send to arrival at a receiver who listens. Without a rate, 256 sends are in flight."""

    sdk: bool = False
    rate_per_s: float | None = PACE_PER_S

    async def measure(self, rig: Rig, scale: Scale) -> Figures:
        """Measure one run. The raw sender is at the leader, the raw receiver at a follower."""
        if self.sdk:
            sender, _ = await rig.sdk_device(SDK_SENDER)
            _, receiver = await rig.sdk_device(SDK_RECEIVER)
        else:
            sender, receiver = await rig.raw_sender(), await rig.raw_receiver()
        await receiver.open()
        meter = await rig.meter()
        if self.rate_per_s is None:
            count = scale.sends
            sent = await sender.send(count, 256, receiver.account)
        else:
            count = int(scale.paced_s * self.rate_per_s)
            sent = await sender.pace(count, self.rate_per_s, receiver.account)
        arrived = (await rig.audit(receiver)).value
        figures = await meter.figures(count)
        if not self.sdk:
            await receiver.close()
        rate = {"per_s": count / (arrived["last_s"] - sent.began_s)}
        return rate | percentiles(arrived["took_ms"]) | figures


async def measure_queue(rig: Rig, scale: Scale) -> Figures:
    """Fill the queue of an absent receiver, then let it be drained."""
    sender, receiver = await rig.raw_sender(), await rig.raw_receiver()
    filled = await send_flat_out(rig, [sender], scale.queued, 256)
    meter = await rig.meter()
    drained_per_s = await drain(rig, receiver)
    return {"filled_per_s": filled["per_s"], "drained_per_s": drained_per_s} | await meter.figures(scale.queued)


async def measure_recipients(rig: Rig, scale: Scale) -> Figures:
    """Send to many accounts in turn. Another device of the sender's account audits what the cluster stored."""
    sender = await rig.raw_sender("ten")
    recipients = [f"r{number}" for number in range(scale.recipients)]
    await rig.create_accounts(recipients)
    observer = await rig.raw_receiver("ten")
    figures = await send_flat_out(rig, [sender], max(scale.sends, 2 * scale.recipients), 256, *recipients)
    await observer.open()
    await rig.audit(observer, sent_by="ten")
    await observer.close()
    return figures


async def send_flat_out(rig: Rig, senders: Sequence[Senders], count: int, in_flight: int, *to: str) -> Figures:
    """Send at least `count` messages, as many from each device. Return rate, latency and CPU."""
    each = -(-count // sum(len(group.accounts) for group in senders))
    meter = await rig.meter()
    replies = await asyncio.gather(*(group.send(each, in_flight, *to) for group in senders))
    took_ms = list(itertools.chain.from_iterable(reply.value for reply in replies))
    return {"per_s": len(took_ms) / span_s(replies)} | percentiles(took_ms) | await meter.figures(len(took_ms))


async def drain(rig: Rig, receiver: Receiver) -> float:
    """Let a receiver fetch and audit its queue. Return its messages per second, from the opening of its stream on."""
    opened = await receiver.open()
    arrived = (await rig.audit(receiver)).value
    await receiver.close()
    took_s: float = arrived["last_s"] - opened.began_s
    return len(arrived["took_ms"]) / took_s
