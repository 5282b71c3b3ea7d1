"""What monitoring costs on the way of a message: `make bench-metrics`.

Two clusters stand at once, one with `http_listen`, whose nodes are scraped every five seconds, and one without. They
are measured in turn, and the order alternates. A figure is the CPU time of all nodes for 1,000 messages. The report has
each pair, and the ratio with its 95% interval. Scrapers usually ask four times a minute.

Two clusters differ by chance, by a few hundredths: so each pair has new ones, or the interval would not contain that.
A run may be shorter than the time between two scrapes: so the scrapes go on through all runs of a pair, as they would
in use. If each run began with a scrape, it would pay for more of them than its share.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from scripts.bench.figures import Figures, compare, summary
from scripts.bench.report import Report, machine, write_report
from scripts.bench.rig import Rig
from scripts.bench.scale import QUICK, Scale
from scripts.bench.serving import WARM_UP
from scripts.bench.workloads import Throughput
from scripts.cluster_layout import split_address
from scripts.cluster_process import ROOT

BOUND = 1.03
"""Issue 12: monitoring costs less than 3% of the nodes' CPU time for a message."""
IN_FLIGHT = (1, 64)
_REQUEST = b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"


async def measure(pairs: int, sends: int, every_s: float) -> Report:
    """Measure all pairs and return the report."""
    scale = replace(QUICK, sends=sends)
    found: dict[int, list[tuple[Figures, Figures]]] = {in_flight: [] for in_flight in IN_FLIGHT}
    for number in range(pairs):
        async with AsyncExitStack() as stack:
            rigs: dict[bool, Rig] = {}
            for is_on in _in_turn(number):
                rigs[is_on] = await stack.enter_async_context(Rig.started(http=is_on))
                await WARM_UP.measure(rigs[is_on], scale)
            await stack.enter_async_context(_scraped(rigs[True], every_s))
            for in_flight in IN_FLIGHT:
                found[in_flight].append(await _measure_pair(rigs, in_flight, number, scale))
    return {
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "machine": machine(),
        "sends": sends,
        "scraped_every_s": every_s,
        "rows": {f"raw-{in_flight}": _row(runs) for in_flight, runs in found.items()},
    }


def _in_turn(number: int) -> tuple[bool, bool]:
    return (True, False) if number % 2 else (False, True)


async def _measure_pair(rigs: dict[bool, Rig], in_flight: int, number: int, scale: Scale) -> tuple[Figures, Figures]:
    work = Throughput(1, in_flight, 1.0 if in_flight > 1 else 0.1)
    runs = {is_on: await work.measure(rigs[is_on], scale) for is_on in _in_turn(number)}
    return runs[True], runs[False]


def _row(found: Sequence[tuple[Figures, Figures]]) -> Report:
    return {
        "on": summary([on for on, _ in found]),
        "off": summary([off for _, off in found]),
        "on_to_off": compare(found),
        "pairs": [{"on": on, "off": off} for on, off in found],
    }


@asynccontextmanager
async def _scraped(rig: Rig, every_s: float) -> AsyncIterator[None]:
    """Scrape all nodes while inside, and say if none could be."""
    scraping = asyncio.ensure_future(_scrape(rig, every_s))
    try:
        yield
        if scraping.done():
            scraping.result()
    finally:
        scraping.cancel()
        await asyncio.wait([scraping])


async def _scrape(rig: Rig, every_s: float) -> None:
    while True:
        for name in rig.cluster.names:
            reader, writer = await asyncio.open_connection(*split_address(rig.cluster.http_address(name)))
            writer.write(_REQUEST)
            page = await reader.read(-1)
            writer.close()
            if b"parley_raft_term" not in page:
                raise RuntimeError(f"{name} answered a scrape with: {page[:200]!r}")
        await asyncio.sleep(every_s)


def main(arguments: Sequence[str]) -> int:
    """Measure, write the report, and return the exit code: 1 if monitoring surely costs more than its bound."""
    parser = argparse.ArgumentParser(prog="make bench-metrics", description="Measure what monitoring costs.")
    parser.add_argument("--pairs", type=int, default=12, help="pairs of new clusters, one with monitoring")
    parser.add_argument("--sends", type=int, default=30_000, help="messages of one run with 64 in flight")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between two scrapes of each node")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench_metrics.json")
    options = parser.parse_args(arguments)
    report = asyncio.run(measure(options.pairs, options.sends, options.every))
    write_report(report, options.out)
    is_dear = False
    for name, row in report["rows"].items():
        cost = row["on_to_off"].get("server_cpu_s_per_1000", {})
        interval = f" (95%: {cost['low']:.3f} to {cost['high']:.3f})" if "low" in cost else ""
        print(f"{name}: nodes' CPU per message with monitoring to without: {cost.get('ratio', 0):.3f}{interval}")
        is_dear = is_dear or cost.get("low", 0) > BOUND
    print(f"details in {options.out}")
    return 1 if is_dear else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
