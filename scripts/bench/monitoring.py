"""What monitoring costs on the way of a message: `make bench-metrics`.

Two clusters stand at once, one with `http_listen`, whose nodes are scraped once a second, and one without. They are
measured in turn, and the order within a pair alternates. A figure is the CPU time of all nodes for 1,000 messages. The
report has each pair, and the ratio with its 95% interval. Scrapers usually ask four times a minute.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from scripts.bench.figures import Figures, compare, summary
from scripts.bench.report import machine, write_report
from scripts.bench.rig import Rig
from scripts.bench.scale import QUICK
from scripts.bench.serving import WARM_UP
from scripts.bench.workloads import Throughput
from scripts.cluster_layout import split_address
from scripts.cluster_process import ROOT

BOUND = 1.03
"""Issue 12: monitoring costs less than 3% of the nodes' CPU time for a message."""
IN_FLIGHT = (1, 64)
_REQUEST = b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n"


async def measure(pairs: int, sends: int, every_s: float) -> dict[str, object]:
    """Measure all pairs and return the report."""
    scale = replace(QUICK, sends=sends)
    async with Rig.started(http=True) as on, Rig.started() as off:
        for rig in (on, off):
            await WARM_UP.measure(rig, scale)
        rows = {}
        for in_flight in IN_FLIGHT:
            work = Throughput(1, in_flight, 1.0 if in_flight > 1 else 0.1)
            found: list[tuple[Figures, Figures]] = []
            for number in range(pairs):
                runs: dict[bool, Figures] = {}
                for is_on in (True, False) if number % 2 else (False, True):
                    async with _scraped(on, every_s if is_on else None):
                        runs[is_on] = await work.measure(on if is_on else off, scale)
                found.append((runs[True], runs[False]))
            rows[f"raw-{in_flight}"] = {
                "on": summary([one for one, _ in found]),
                "off": summary([other for _, other in found]),
                "on_to_off": compare(found),
                "pairs": [{"on": one, "off": other} for one, other in found],
            }
    return {
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "machine": machine(),
        "pairs": pairs,
        "sends": sends,
        "scraped_every_s": every_s,
        "rows": rows,
    }


@asynccontextmanager
async def _scraped(rig: Rig, every_s: float | None) -> AsyncIterator[None]:
    """Scrape all nodes while inside, and say if none could be."""
    if every_s is None:
        yield
        return
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
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--sends", type=int, default=10_000, help="messages of one run with 64 in flight")
    parser.add_argument("--every", type=float, default=1.0, help="seconds between two scrapes of each node")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench_metrics.json")
    options = parser.parse_args(arguments)
    report = asyncio.run(measure(options.pairs, options.sends, options.every))
    write_report(report, options.out)
    is_dear = False
    for name, row in report["rows"].items():  # type: ignore[attr-defined]
        cost = row["on_to_off"].get("server_cpu_s_per_1000", {})
        interval = f" (95%: {cost['low']:.3f} to {cost['high']:.3f})" if "low" in cost else ""
        print(f"{name}: nodes' CPU per message with monitoring to without: {cost.get('ratio', 0):.3f}{interval}")
        is_dear = is_dear or cost.get("low", 0) > BOUND
    print(f"details in {options.out}")
    return 1 if is_dear else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
