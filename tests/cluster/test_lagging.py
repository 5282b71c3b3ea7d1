"""A node that hangs and catches up by snapshot: its clients miss nothing, and the others notice that it hangs."""

from __future__ import annotations

from pathlib import Path

import grpc

from parley_proto.v1.messaging_pb2 import SEND_STATUS_ACCEPTED
from scripts.cluster_local import LocalCluster
from tests.cluster.conftest import FAST
from tests.cluster.raw import bodies, raw_client


async def test_a_stream_on_a_node_that_caught_up_by_snapshot_misses_nothing(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path, settings={**FAST, "log_retain_entries": 100}) as own:
        leader = await own.wait_for_leader()
        lagging = own.others(leader)[0]
        async with raw_client(own, leader) as raw, raw_client(own, lagging) as there:
            for name in ("ann", "ben"):
                await raw.register(name)
            ann, ben = await raw.log_in("ann"), await raw.log_in("ben")
            async with raw.session(ann) as sending, there.session(ben) as receiving:
                await receiving.until_caught_up()
                before = await own.status(lagging)
                assert before is not None
                own.pause(lagging)
                sent = 0
                while True:
                    sent += 1
                    result = await sending.send_surely(sent, "ben", f"message {sent}")
                    assert result.status == SEND_STATUS_ACCEPTED
                    if sent % 50 == 0:
                        now = await own.status(leader)
                        assert now is not None
                        if now.first_index > before.last_index + 50:
                            break
                # Until then what it misses still waits in the leader's buffers.
                await own.wait_until(lambda: "peer_disconnected" in own.log_text(leader), "the leader to notice")
                own.resume(lagging)
                code, _ = await receiving.refusal()
                assert code is grpc.StatusCode.UNAVAILABLE, "what the snapshot brought was never told to the stream"
            await own.wait_until_equal()
            async with there.session(ben) as again:
                told = bodies(await again.until_caught_up())
    assert "snapshot_installed" in own.log_text(lagging)
    assert told == [f"message {number}" for number in range(1, sent + 1)]


async def test_a_node_that_hangs_is_noticed_by_the_others(tmp_path: Path) -> None:
    async with LocalCluster(tmp_path, settings=FAST) as own:
        leader = await own.wait_for_leader()
        await own.wait_until_equal()
        hanging = own.others(leader)[0]
        own.pause(hanging)
        await own.wait_until(lambda: "peer_disconnected" in own.log_text(leader), "the leader to notice", timeout_s=10)
        status = await own.status(leader)
        assert status is not None
        assert {member.name: member.connected for member in status.members}[hanging] is False
        own.resume(hanging)
        await own.wait_until_equal()
