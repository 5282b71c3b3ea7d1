"""`make demo`: a numbered stream of messages while the leader is killed five times, with every message counted.

One account sends at an even pace over the SDK. Another receives and is offline for part of the time. The leader is
killed with kill -9 again and again and started again. At the end the receiver's messages, and the conversation as each
node stores it (read by plain gRPC, page by page), are compared with the acknowledgements that the sender received. The
exit code is 0 only if every message was acknowledged, arrived once, and in order.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import secrets
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from parley import ConnectionState, OutgoingMessage, ParleyClient, ParleyError
from parley_proto.v1 import accounts_pb2, accounts_pb2_grpc, conversations_pb2, conversations_pb2_grpc
from scripts.cluster_local import LocalCluster
from scripts.cluster_status import secure_channel
from scripts.demo_ledger import Kill, Ledger, results

PASSWORD = "the demo's password"  # noqa: S105 (of a cluster that lives for a minute on loopback)
SENDER, RECEIVER = "ann", "ben"
WARM_UP_S = 3.0
SETTLE_S = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps of the demo. Times are in seconds since sending began."""

    nodes: int
    rate_per_s: float
    seconds: float
    kills: int

    @property
    def kill_times_s(self) -> list[float]:
        """Return evenly spread times, with time at both ends without a kill."""
        step = (self.seconds - WARM_UP_S) / self.kills
        return [WARM_UP_S + step * (number + 0.3) for number in range(self.kills)]

    @property
    def away_s(self) -> tuple[float, float]:
        """Return when the receiver leaves and comes back. One kill is in between."""
        return self.seconds * 0.4, self.seconds * 0.65


class Demo:
    """One run on one cluster."""

    def __init__(self, plan: Plan, cluster: LocalCluster, folder: Path) -> None:
        self._plan = plan
        self._cluster = cluster
        self._folder = folder
        self._ledger = Ledger(run=secrets.token_hex(4))
        self._began_s = time.monotonic()
        self._sending_done = asyncio.Event()
        self._sending_ended_s = 0.0

    async def run(self) -> dict[str, object]:
        """Run the demo and return its figures."""
        async with self._client(SENDER) as sender:
            await sender.register(SENDER, PASSWORD)
            await sender.register(RECEIVER, PASSWORD)
            await sender.login(SENDER, PASSWORD)
            await sender.wait_until(ConnectionState.CONNECTED, timeout=SETTLE_S)
            async with self._client(RECEIVER) as receiver:
                await receiver.login(RECEIVER, PASSWORD)
            self._began_s = time.monotonic()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._kill_leaders())
                receiving = tasks.create_task(self._receive())
                await self._send(sender)
                self._say(
                    f"sending ended: {self._ledger.sent} sent, {len(self._ledger.acknowledged_at_s)} acknowledged"
                )
                await receiving
        await self._cluster.wait_until_equal()
        for name in self._cluster.names:
            self._ledger.stored[name] = await self._read_back(name)
        return results(self._ledger, self._sending_ended_s, planned_kills=self._plan.kills)

    def _client(self, account: str) -> ParleyClient:
        return ParleyClient(
            self._cluster.hosts, ca=self._cluster.ca_file, account=account, state_dir=self._folder / account
        )

    async def _send(self, sender: ParleyClient) -> None:
        """Send at an even pace. A pause of the cluster does not slow the sender but makes the outbox longer."""
        count = int(self._plan.rate_per_s * self._plan.seconds)
        async with asyncio.TaskGroup() as watching:
            for number in range(1, count + 1):
                due_s = number / self._plan.rate_per_s
                await asyncio.sleep(max(0.0, due_s - self._clock_s()))
                asked_s = self._clock_s()
                message = await sender.send(RECEIVER, self._ledger.body(number))
                self._ledger.sent = number
                watching.create_task(self._watch(message, number, asked_s))
            self._sending_ended_s = self._clock_s()
        self._sending_done.set()

    async def _watch(self, message: OutgoingMessage, number: int, asked_s: float) -> None:
        try:
            await message.accepted(timeout=SETTLE_S)
        except ParleyError as error:
            self._say(f"message {number} was not acknowledged: {error}")
            return
        now_s = self._clock_s()
        self._ledger.acknowledge(number, now_s, 1000 * (now_s - asked_s))

    async def _receive(self) -> None:
        """Receive, go offline, and receive again until all messages arrived."""
        leaves_s, returns_s = self._plan.away_s
        async with self._client(RECEIVER) as receiver:
            await self._note_messages(receiver, until_s=leaves_s)
        self._say(f"{RECEIVER} goes offline after {len(self._ledger.shown)} messages")
        await asyncio.sleep(max(0.0, returns_s - self._clock_s()))
        missed = len(self._ledger.acknowledged_at_s) - len(self._ledger.shown)
        self._say(f"{RECEIVER} is back; {missed} messages wait for him")
        async with self._client(RECEIVER) as receiver:
            await self._note_messages(receiver, until_s=None)

    async def _note_messages(self, receiver: ParleyClient, until_s: float | None) -> None:
        """Record received messages until a time, or until as many came as were sent and no more follow."""
        reader = await receiver.messages()
        all_shown = asyncio.Event()

        async def note() -> None:
            async for message in reader:
                self._ledger.shown.append(message.body)
                if self._sending_done.is_set() and len(self._ledger.shown) >= self._ledger.sent:
                    all_shown.set()

        noting = asyncio.create_task(note())
        try:
            if until_s is not None:
                await asyncio.sleep(max(0.0, until_s - self._clock_s()))
                return
            await self._sending_done.wait()
            if len(self._ledger.shown) >= self._ledger.sent:
                all_shown.set()
            with contextlib.suppress(TimeoutError):  # then too few came, and the figures say so
                await asyncio.wait_for(all_shown.wait(), SETTLE_S)
            await asyncio.sleep(1.0)  # a message too many would come now
        finally:
            reader.close()
            await noting

    async def _kill_leaders(self) -> None:
        for due_s in self._plan.kill_times_s:
            await asyncio.sleep(max(0.0, due_s - self._clock_s()))
            leader = await self._cluster.wait_for_leader()
            pid = self._cluster.pid(leader)
            at_s = self._clock_s()
            self._cluster.kill(leader)
            new_leader = await self._cluster.wait_for_leader(other_than=leader)
            self._ledger.kills.append(Kill(leader, at_s, new_leader))
            self._say(f"killed {leader} (pid {pid}, the leader) with kill -9; {new_leader} leads now")
            self._cluster.start(leader)
            await self._cluster.wait_until_answering(leader)
            self._say(f"{leader} is up again")

    async def _read_back(self, name: str) -> list[str]:
        """Return the conversation as one node stores it, read by plain gRPC from another device, without the SDK."""
        bodies: list[str] = []
        async with secure_channel(self._cluster.address(name), self._cluster.ca_file.read_bytes()) as channel:
            login = await accounts_pb2_grpc.AccountsStub(channel).LogIn(
                accounts_pb2.LogInRequest(name=RECEIVER, password=PASSWORD, device_id=secrets.token_bytes(16)),
                timeout=20,
            )
            before_id, more = 0, True
            while more:
                page = await conversations_pb2_grpc.ConversationsStub(channel).GetHistory(
                    conversations_pb2.GetHistoryRequest(
                        account_name=SENDER, before_id=before_id, limit=1000, seen=login.position
                    ),
                    metadata=(("authorization", f"Bearer {login.token}"),),
                    timeout=20,
                )
                bodies = [*(message.body for message in page.messages), *bodies]
                more = page.has_older
                before_id = page.messages[0].id if page.messages else 0
        return bodies

    def _clock_s(self) -> float:
        return time.monotonic() - self._began_s

    def _say(self, text: str) -> None:
        print(f"{self._clock_s():6.1f} s  {text}", flush=True)


def main(arguments: Sequence[str]) -> int:
    """Run the demo. Print and write the figures."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--rate", type=float, default=200.0, help="messages per second")
    parser.add_argument("--seconds", type=float, default=55.0, help="how long to send")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("build/demo.json"))
    options = parser.parse_args(arguments)
    plan = Plan(options.nodes, options.rate, options.seconds, options.kills)

    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.unlink(missing_ok=True)  # figures of an earlier run must not stand for this one
    with tempfile.TemporaryDirectory(prefix="parley-demo-") as folder:
        found = asyncio.run(_run(plan, Path(folder)))
    found["settings"] = {
        "nodes": plan.nodes,
        "rate_per_s": plan.rate_per_s,
        "seconds": plan.seconds,
        "message_bytes": 256,
        "receiver_away_s": [round(at_s, 1) for at_s in plan.away_s],
    }
    found["machine"] = {
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    _print(found)
    print(f"written to {options.out}")
    return 0 if found["ok"] else 1


async def _run(plan: Plan, folder: Path) -> dict[str, object]:
    print(f"starting {plan.nodes} nodes over TLS ...", flush=True)
    async with LocalCluster(folder / "cluster", nodes=plan.nodes) as cluster:
        print(
            f"{SENDER} sends {plan.rate_per_s:.0f} messages a second to {RECEIVER} for {plan.seconds:.0f} s; "
            f"the leader is killed {plan.kills} times",
            flush=True,
        )
        return await Demo(plan, cluster, folder).run()


def _print(found: dict[str, object]) -> None:
    print()
    for key in (
        "sent",
        "acknowledged",
        "received",
        "lost",
        "duplicated",
        "out_of_order",
        "stored_per_node",
        "pauses_ms",
        "pause_median_ms",
        "pause_worst_ms",
        "ack_p50_ms",
        "ack_p99_ms",
    ):
        print(f"{key:>16}  {found[key]}")
    print()
    if found["ok"]:
        print("Every message that was sent was acknowledged, arrived once, and in order.")
    else:
        print("FAILED: the figures above do not add up. The cluster broke a promise, or the demo did not finish.")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
