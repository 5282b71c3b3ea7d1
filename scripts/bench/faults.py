"""Rows that take the leader away from a paced sender: killed, silent, or replaced as planned. One run is one fault.

The pause is the longest time without an acceptance around the fault. Sender and receiver use the SDK, which finds
another node by itself. After each run the receiver audits all messages.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from scripts.bench.figures import Figures
from scripts.bench.rig import Rig
from scripts.bench.scale import Scale
from scripts.bench.workloads import SDK_RECEIVER, SDK_SENDER
from scripts.demo_ledger import longest_pauses_ms

RATE_PER_S = 200.0
BEFORE_S, AFTER_S = 0.7, 1.8


async def measure_kill(rig: Rig, scale: Scale) -> Figures:
    """Kill the leader with SIGKILL."""
    return await _measure(rig, _at_once(rig.cluster.kill), rig.cluster.start)


async def measure_silence(rig: Rig, scale: Scale) -> Figures:
    """Stop the leader with SIGSTOP, as a machine that hangs."""
    return await _measure(rig, _at_once(rig.cluster.pause), rig.cluster.resume)


async def measure_transfer(rig: Rig, scale: Scale) -> Figures:
    """Let the leader transfer leadership. The request comes from another device than the sender's."""
    operator, _ = await rig.sdk_device("operator")

    async def transfer(_: str) -> None:
        await operator.process.call("transfer_leadership", account="operator")

    return await _measure(rig, transfer, lambda _: None)


def _at_once(fault: Callable[[str], None]) -> Callable[[str], Awaitable[None]]:
    async def run(leader: str) -> None:
        fault(leader)

    return run


async def _measure(rig: Rig, fault: Callable[[str], Awaitable[None]], recover: Callable[[str], None]) -> Figures:
    sender, _ = await rig.sdk_device(SDK_SENDER)
    _, receiver = await rig.sdk_device(SDK_RECEIVER)
    await receiver.open()
    leader = await rig.cluster.wait_for_leader()
    async with asyncio.TaskGroup() as tasks:
        count = int(RATE_PER_S * (BEFORE_S + AFTER_S))
        pacing = tasks.create_task(sender.pace(count, RATE_PER_S, receiver.account))
        await asyncio.sleep(BEFORE_S)
        fault_s = time.monotonic()
        await fault(leader)
        accepted_at_s = (await pacing).value
    recover(leader)
    await rig.cluster.wait_until_answering(*rig.cluster.names)
    await rig.audit(receiver)
    if fault_s > max(accepted_at_s):
        raise RuntimeError("the sender had ended before the fault")
    return {"pause_ms": longest_pauses_ms([fault_s], accepted_at_s, max(accepted_at_s))[0]}
