"""The key of a node was stolen: the procedure of docs/OPERATIONS.md, on real nodes with a thief that is connected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
import pytest

from parley_proto.v1 import admin_pb2
from parley_proto.v1 import peer_pb2 as pb
from parley_proto.v1.messaging_pb2 import SEND_STATUS_ACCEPTED
from scripts.cluster_local import LocalCluster
from tests.cluster.conftest import FAST, PATIENT
from tests.cluster.peer_caller import Caller, keys_count, node_ids, pair_of, peer_stub, replace_pair
from tests.cluster.raw import raw_client, refused, until_true

pytestmark = [pytest.mark.campaign, pytest.mark.asyncio(loop_scope="module")]

Fresh = Callable[[str], str]
WHY = "an administrator revoked"


async def refuses(cluster: LocalCluster, node: str, thief: Caller) -> None:
    """The node answers nothing to the thief."""
    async with peer_stub(cluster, node, thief) as (stub, _):
        call = cast("Any", stub).Handshake
        with pytest.raises(grpc.aio.AioRpcError, match=WHY):
            await call(pb.HandshakeInfo(self=pb.PeerInfo(name=thief.name)), wait_for_ready=True, timeout=30)


async def test_a_stolen_key_is_refused_at_once_and_its_node_comes_back_with_a_new_one(
    tmp_path: Path, fresh: Fresh
) -> None:
    async with LocalCluster(tmp_path, settings={**FAST, **PATIENT}) as cluster:
        await until_true(partial(keys_count, cluster))
        leader = await cluster.wait_for_leader()
        victim, other = cluster.others(leader)
        async with raw_client(cluster, leader) as raw:
            name = fresh("ann")
            await raw.register(name, code=await cluster.administrator_code())
            ann = await raw.log_in(name)
            ids = await node_ids(cluster, leader)
            stolen = Caller(ids[victim], victim, pair_of(cluster.layout, victim))
            async with peer_stub(cluster, other, stolen) as (stub, metadata), raw.session(ann) as sending:
                held = cast("Any", stub).Deliver(metadata=metadata)
                await held.write(pb.RaftBatch())
                await raw.admin.RevokeCertificate(
                    admin_pb2.RevokeCertificateRequest(node=victim), metadata=ann.metadata
                )
                async with asyncio.timeout(30):
                    # It sends nothing more: its connection is closed all the same.
                    with pytest.raises(grpc.aio.AioRpcError):
                        await held
                await refuses(cluster, other, stolen)
                code, text = await refused(
                    raw.admin.RevokeCertificate(admin_pb2.RevokeCertificateRequest(node=other), metadata=ann.metadata)
                )
                assert code is grpc.StatusCode.FAILED_PRECONDITION
                assert victim in text
                assert (await sending.send_surely(1, name, "without it")).status == SEND_STATUS_ACCEPTED
            await cluster.restart(other)  # what is revoked is in its state
            await cluster.wait_for_leader()
            await refuses(cluster, other, stolen)
            replace_pair(cluster.layout, victim)  # it takes the key over while it runs
            await cluster.wait_until(lambda: "key_changed" in cluster.log_text(victim), "the new key", 30)
            await cluster.wait_until_equal()
            await refuses(cluster, other, stolen)
