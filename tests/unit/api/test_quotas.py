"""Quotas of single accounts over the wire."""

from __future__ import annotations

import grpc

from parley_proto.v1 import admin_pb2 as pb
from parleyd.machine.features.settings import SETTINGS
from tests.support.node import InProcessCluster
from tests.support.raw import PASSWORD, Raw, refused

Code = grpc.StatusCode
DEFAULT = SETTINGS["max_account_bytes"].default


async def test_a_quota_is_set_read_and_taken_away(cluster: InProcessCluster, raw: Raw) -> None:
    cluster.add_account("boss", PASSWORD)
    cluster.add_account("ann", PASSWORD)
    boss = await raw.log_in("boss")

    async def told() -> tuple[int, int, bool]:
        answer = await raw.admin.GetQuota(pb.GetQuotaRequest(account="Ann"), metadata=boss.metadata)
        return answer.stored_bytes, answer.max_bytes, answer.own

    assert await told() == (0, DEFAULT, False)
    for wanted in (0, 5000):
        await raw.admin.SetQuota(pb.SetQuotaRequest(account="ann", max_bytes=wanted), metadata=boss.metadata)
        assert await told() == (0, wanted, True)
    await raw.admin.SetQuota(pb.SetQuotaRequest(account="ann"), metadata=boss.metadata)
    assert await told() == (0, DEFAULT, False)
    code, _ = await refused(raw.admin.GetQuota(pb.GetQuotaRequest(account="nobody"), metadata=boss.metadata))
    assert code is Code.NOT_FOUND
    wrong = pb.SetQuotaRequest(account="ann", max_bytes=-1)
    code, text = await refused(raw.admin.SetQuota(wrong, metadata=boss.metadata))
    assert (code, "outside its bounds" in text) == (Code.INVALID_ARGUMENT, True)
