"""A leader that is slow and not dead hands over, on real processes: its loop lags, or its disk hangs.

The event loop of a leader is made late by stopping its process most of the time. Its disk hangs by a program around
`parleyd`, whose log writes nothing while a file exists. The election timeouts are so long, and silence is so little
suspect, that no election moves the leader first.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from parley_proto.v1.messaging_pb2 import SEND_STATUS_ACCEPTED
from scripts.cluster_local import LocalCluster
from tests.cluster.conftest import FAST, PATIENT
from tests.cluster.raw import Person, raw_client
from tests.cluster.slow_nodes import SLOW_DISK, stopping_and_going

pytestmark = [pytest.mark.campaign, pytest.mark.asyncio(loop_scope="module")]

BOUND_MS = 200


async def somebody(cluster: LocalCluster, node: str) -> Person:
    async with raw_client(cluster, node) as raw:
        await raw.register("ann")
        return await raw.log_in("ann")


async def test_a_leader_whose_loop_lags_hands_over_once_and_a_paused_one_is_not_fenced(tmp_path: Path) -> None:
    settings = {**FAST, **PATIENT, "missed_heartbeats": 0, "loop_lag_ms": BOUND_MS}
    async with LocalCluster(tmp_path, settings=settings) as cluster:
        leader = await cluster.wait_for_leader()
        follower = cluster.others(leader)[0]
        ann = await somebody(cluster, follower)
        async with stopping_and_going(cluster, leader):
            next_leader = await cluster.wait_for_leader(other_than=leader, timeout_s=60)
            async with raw_client(cluster, next_leader) as raw, raw.session(ann) as sending:
                assert (await sending.send_surely(1, "ann", "while it lags")).status == SEND_STATUS_ACCEPTED
        assert "leadership_left_by_late_loop" in cluster.log_text(leader)
        assert "event_loop_lags" in cluster.log_text(leader)
        await cluster.wait_until_equal()
        views = await cluster.wait_for_views(lambda views: all(view.serving for view in views), "all to serve")
        assert [view.role for view in views].count("leader") == 1
        texts = "".join(map(cluster.log_text, cluster.names))
        assert texts.count("leadership_left_by_late_loop") == 1, "it does not go to and fro"
        assert "fenced" not in texts


async def test_a_leader_whose_disk_hangs_hands_over(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path, settings={**FAST, **PATIENT}, start=False) as cluster:
        for name in cluster.names:
            cluster.run_with(("-c", SLOW_DISK, str(tmp_path / f"{name}.hangs")), name)
        cluster.start(*cluster.names)
        leader = await cluster.wait_for_leader()
        follower = cluster.others(leader)[0]
        ann = await somebody(cluster, follower)
        hangs = tmp_path / f"{leader}.hangs"
        async with raw_client(cluster, follower) as raw, raw.session(ann) as sending:
            hangs.touch()
            await sending.send((1, "ann", "on two disks"))
            await sending.results(1)
            next_leader = await cluster.wait_for_leader(other_than=leader, timeout_s=60)
            assert (await sending.send_surely(2, "ann", "on the disks of the others")).status == SEND_STATUS_ACCEPTED
        assert next_leader != leader
        assert "disk_stalled" in cluster.log_text(leader)
        hangs.unlink()
        await cluster.wait_until_equal()
