"""`make bench`: raw sends to a real cluster, from one device and from many: throughput, latency, CPU of all nodes.

A raw client speaks the protocol and does nothing else, so the figures are the cluster's. With `--base FOLDER`, another
checkout runs a cluster beside this one, and both are measured in turn. So both runs of a pair meet the same load of the
machine.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import psutil

from parley_proto.v1 import accounts_pb2, accounts_pb2_grpc, messaging_pb2, messaging_pb2_grpc, model_pb2
from scripts.cluster_local import LocalCluster
from scripts.cluster_status import secure_channel

ROOT = Path(__file__).resolve().parent.parent
PASSWORD = "the bench's password"  # noqa: S105 (of a cluster that lives for a minute on loopback)
RECEIVER = "ben"
BODY = "x" * 256
CROWD = 256
SETTINGS = {"bcrypt_cost": 10}  # the least: a crowd logs in before the first run
LOG_INS_AT_ONCE = 4
# 95%, two-sided, by degrees of freedom; from 30 on the normal value is close enough.
_STUDENT_T = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13, 2.12, 2.11)

Figures = dict[str, float]


@dataclass(frozen=True, slots=True)
class Workload:
    """`devices` that keep `in_flight` sends each. `share` of the messages of a run are sent: some take longer."""

    devices: int
    in_flight: int
    share: float = 1.0

    @property
    def name(self) -> str:
        """Return what a reader of the report sees."""
        return f"{self.devices} x {self.in_flight} in flight"


WORKLOADS = (Workload(1, 1, 0.1), Workload(1, 64), Workload(1, 256), Workload(CROWD, 1, 0.5))


# ---- one cluster


class RawDevice:
    """One device on one stream that keeps a number of sends in flight."""

    def __init__(self, call: Any) -> None:
        self._call = call
        self._next_number = 1

    @classmethod
    async def connect(cls, cluster: LocalCluster, node: str, account: str) -> Self:
        """Create an account, log in, and open a stream at `node`, on a connection of its own."""
        channel = secure_channel(cluster.address(node), cluster.ca_file.read_bytes())
        accounts = accounts_pb2_grpc.AccountsStub(channel)
        register = accounts_pb2.RegisterRequest(name=account, password=PASSWORD, request_id=secrets.token_bytes(16))
        await accounts.Register(register, wait_for_ready=True)
        login = await accounts.LogIn(
            accounts_pb2.LogInRequest(name=account, password=PASSWORD, device_id=secrets.token_bytes(16))
        )
        metadata = (("authorization", f"Bearer {login.token}"),)
        call = messaging_pb2_grpc.MessagingStub(channel).Connect(metadata=metadata)
        await call.write(messaging_pb2.ClientFrame(hello=messaging_pb2.Hello()))
        await call.read()
        return cls(call)

    async def send(self, count: int, in_flight: int) -> list[float]:
        """Send `count` messages, `in_flight` at a time. Return the milliseconds until each was acknowledged."""
        sent_at: dict[int, float] = {}
        took_ms: list[float] = []
        last = self._next_number + count
        await self._write(min(in_flight, count), sent_at)
        while len(took_ms) < count:
            frame = await self._call.read()
            results = frame.results.results
            now = time.perf_counter()
            for result in results:
                if result.status != messaging_pb2.SEND_STATUS_ACCEPTED:
                    raise RuntimeError(f"send {result.number} was not accepted: {result.detail}")
                took_ms.append((now - sent_at.pop(result.number)) * 1000)
            await self._write(min(len(results), last - self._next_number), sent_at)
        return took_ms

    async def _write(self, count: int, sent_at: dict[int, float]) -> None:
        if not count:
            return
        numbers = range(self._next_number, self._next_number + count)
        self._next_number += count
        sends = [model_pb2.Send(number=number, account_name=RECEIVER, body=BODY) for number in numbers]
        now = time.perf_counter()
        sent_at.update(dict.fromkeys(numbers, now))
        await self._call.write(messaging_pb2.ClientFrame(sends=messaging_pb2.SendBatch(sends=sends)))


async def connect_crowd(cluster: LocalCluster) -> list[RawDevice]:
    """Connect all devices: the first one at the leader, the others at all nodes in turn."""
    leader = await cluster.wait_for_leader()
    receiver = accounts_pb2.RegisterRequest(name=RECEIVER, password=PASSWORD, request_id=secrets.token_bytes(16))
    channel = secure_channel(cluster.address(leader), cluster.ca_file.read_bytes())
    await accounts_pb2_grpc.AccountsStub(channel).Register(receiver, wait_for_ready=True)
    nodes = itertools.cycle([leader, *(name for name in cluster.names if name != leader)])
    places = [(next(nodes), f"sender{number}") for number in range(CROWD)]
    devices: list[RawDevice] = []
    for first in range(0, CROWD, LOG_INS_AT_ONCE):
        some = places[first : first + LOG_INS_AT_ONCE]
        devices += await asyncio.gather(*(RawDevice.connect(cluster, node, account) for node, account in some))
    return devices


async def serve() -> None:
    """Run a cluster. Measure it once per line of standard input: `DEVICES IN_FLIGHT COUNT`."""
    with tempfile.TemporaryDirectory() as folder:
        async with LocalCluster(Path(folder), settings=SETTINGS) as cluster:
            devices = await connect_crowd(cluster)
            nodes = [psutil.Process(cluster.pid(name)) for name in cluster.names]
            await send_from(devices[:1], 2_000, 64)
            _say({"ready": 1})
            loop = asyncio.get_running_loop()
            while line := await loop.run_in_executor(None, sys.stdin.readline):
                senders, in_flight, count = map(int, line.split())
                _say(await measure(devices[:senders], nodes, in_flight, count))


async def send_from(devices: Sequence[RawDevice], count: int, in_flight: int) -> list[float]:
    """Send at least `count` messages, as many from each device. Return the milliseconds that each took."""
    each = -(-count // len(devices))
    took_ms = await asyncio.gather(*(device.send(each, in_flight) for device in devices))
    return list(itertools.chain.from_iterable(took_ms))


async def measure(devices: Sequence[RawDevice], nodes: Sequence[psutil.Process], in_flight: int, count: int) -> Figures:
    """Measure one run: sends per second, latency, and CPU seconds per 1,000 sends, of all nodes and of the client."""
    server_s, client_s, began = _cpu_s(nodes), time.process_time(), time.perf_counter()
    took_ms = sorted(await send_from(devices, count, in_flight))
    wall_s = time.perf_counter() - began
    sent = len(took_ms)
    return {
        "per_s": sent / wall_s,
        "p50_ms": took_ms[sent // 2],
        "p99_ms": took_ms[sent * 99 // 100],
        "server_cpu_s_per_1000": (_cpu_s(nodes) - server_s) / sent * 1000,
        "client_cpu_s_per_1000": (time.process_time() - client_s) / sent * 1000,
    }


def _cpu_s(processes: Sequence[psutil.Process]) -> float:
    return sum(times.user + times.system for times in (process.cpu_times() for process in processes))


def _say(figures: Figures) -> None:
    print(json.dumps(figures), flush=True)


# ---- one or two checkouts


class Served:
    """The cluster of a checkout, in a process of its own."""

    def __init__(self, checkout: Path) -> None:
        paths = [str(checkout / part) for part in ("server", "client", "proto", ".")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "scripts.bench", "--serve"],
            cwd=checkout,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._answer()

    def measure(self, work: Workload, count: int) -> Figures:
        """Measure one run."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{work.devices} {work.in_flight} {max(1, int(count * work.share))}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> Figures:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"the cluster ended with {self._process.wait()} before it answered")
        answer: Figures = json.loads(line)
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)


def compare(runs: list[tuple[Figures, Figures]]) -> dict[str, Figures]:
    """Return for each figure the ratio of new to base: the geometric mean of the pairs and its 95% interval."""
    compared: dict[str, Figures] = {}
    for name in runs[0][0]:
        logs = [math.log(new[name] / base[name]) for new, base in runs]
        mean = statistics.mean(logs)
        t = _STUDENT_T[min(len(logs) - 2, len(_STUDENT_T) - 1)]
        spread = t * statistics.stdev(logs) / math.sqrt(len(logs))
        low, high = math.exp(mean - spread), math.exp(mean + spread)
        compared[name] = {"ratio": math.exp(mean), "low": low, "high": high}
    return compared


def run(base: Path | None, pairs: int, count: int, workloads: Sequence[Workload]) -> dict[str, Any]:
    """Measure each workload `pairs` times. The order within a pair alternates."""
    report: dict[str, Any] = {"pairs": pairs, "sends": count, "body_bytes": len(BODY), "workloads": {}}
    with ExitStack() as stack:
        here = stack.enter_context(Served(ROOT))
        there = stack.enter_context(Served(base)) if base is not None else None
        for work in workloads:
            runs: list[tuple[Figures, Figures]] = []
            for number in range(pairs):
                order = [here, there] if number % 2 else [there, here]
                measured = {one: one.measure(work, count) for one in order if one is not None}
                runs.append((measured[here], measured[there] if there is not None else {}))
            part: dict[str, Any] = {"this": medians([new for new, _ in runs]), "runs": runs}
            if there is not None:
                part |= {"base": medians([old for _, old in runs]), "this_to_base": compare(runs)}
            report["workloads"][work.name] = part
    return report


def medians(runs: Sequence[Figures]) -> Figures:
    """Return the median of each figure."""
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def readable(report: dict[str, Any]) -> str:
    """Return the figures as text."""
    lines = [f"{report['pairs']} runs of {report['sends']} sends of {report['body_bytes']} bytes; medians"]
    for workload, part in report["workloads"].items():
        for name, value in part["this"].items():
            line = f"  {workload:<18} {name:<22} {value:>10.4g}"
            if "base" in part:
                ratio = part["this_to_base"][name]
                line += f"   base {part['base'][name]:>10.4g}   ratio {ratio['ratio']:.3f}"
                line += f" (95%: {ratio['low']:.3f} to {ratio['high']:.3f})"
            lines.append(line)
    return "\n".join(lines)


def main() -> None:
    """Read the flags, measure, and write the report."""
    parser = argparse.ArgumentParser(description="Measure raw sends against a cluster on this machine.")
    parser.add_argument("--base", type=Path, help="compare with another checkout that has scripts/bench.py")
    parser.add_argument("--pairs", type=int, default=10, help="runs, or pairs of runs with --base. Default: 10")
    parser.add_argument("--sends", type=int, default=10_000, help="messages of one run. Default: 10000")
    parser.add_argument("--first", type=int, default=0, help="leave out this many workloads. Default: 0")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        asyncio.run(serve())
        return
    report = run(arguments.base, arguments.pairs, arguments.sends, WORKLOADS[arguments.first :])
    target = ROOT / "build" / "bench.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(readable(report))
    print(f"details in {target.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
