"""Normal life leaves no error and no traceback in a log: planned stops, and clients that vanish."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

from scripts.cluster_local import LocalCluster
from tests.cluster.conftest import FAST, PATIENT
from tests.cluster.load import load
from tests.cluster.raw import raw_client

# gRPC itself reports a call that was cancelled before its handler began, and prints a traceback past the log. Lines of
# the node's log may stand between those of the traceback.
GRPC_RACE = re.compile(r"Exception not handled by _handle_exceptions.*CancelledError")
GRPC_TRACEBACK = re.compile(
    r"Traceback [^\n]*\n(?: [^\n]*grpc[^\n]*\n)+asyncio\.exceptions\.CancelledError\n",
)


def bad_lines(cluster: LocalCluster, name: str) -> list[str]:
    """What an operator would be alarmed by."""
    found = []
    raw = ""
    races = 0
    for line in cluster.log_text(name).splitlines():
        try:
            level = json.loads(line)["level"]
        except (ValueError, KeyError):
            raw += f"{line}\n"
        else:
            if GRPC_RACE.search(line):
                races += 1
            elif level in ("error", "critical") or "Traceback" in line:
                found.append(line)
    # Each such report brings one traceback. With a count of 0, sub() would take all.
    return [*found, *(GRPC_TRACEBACK.sub("", raw, count=races) if races else raw).splitlines()]


def events(cluster: LocalCluster, name: str) -> list[dict[str, object]]:
    """What the node logged, without what gRPC printed past the log."""
    return [json.loads(line) for line in cluster.log_text(name).splitlines() if line.startswith("{")]


async def test_a_leader_that_stops_hears_who_leads_next(tmp_path: Path) -> None:
    """It had stopped listening before it transferred leadership, and waited until it missed its majority."""
    async with LocalCluster(tmp_path, settings={**FAST, **PATIENT}) as cluster:
        leader = await cluster.wait_for_leader()
        await cluster.wait_until_equal()
        assert await cluster.stop(leader) == 0
        assert bad_lines(cluster, leader) == []
        stopping = events(cluster, leader)
        assert any(event["event"] == "leadership_transferred" for event in stopping)
        changes = [event for event in stopping if event["event"] == "role_changed"]
        led = max(place for place, change in enumerate(changes) if change["role"] == "leader")
        assert changes[led + 1]["term"] == int(str(changes[led]["term"])) + 1


async def test_planned_stops_under_load_leave_no_error_in_any_log(tmp_path: Path, fresh: Callable[[str], str]) -> None:
    async with LocalCluster(tmp_path, settings=FAST) as cluster:
        leader = await cluster.wait_for_leader()
        follower = cluster.others(leader)[0]
        ann = fresh("ann")
        async with raw_client(cluster, follower) as raw:
            await raw.register(ann)
            person = await raw.log_in(ann)
        async with load(cluster, person, ann) as sending:
            await sending.until(20)
            for name in (leader, follower):
                assert await cluster.stop(name) == 0
                cluster.start(name)
                await cluster.wait_until_answering(name)
                await sending.until(20)
        assert [line for name in cluster.names for line in bad_lines(cluster, name)] == []
