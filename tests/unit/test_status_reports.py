"""What the nodes report to each other for the dashboard: one that does not answer hides none of the others."""

from __future__ import annotations

import asyncio

import pytest

from parley_proto.v1 import admin_pb2, peer_pb2
from parleyd import status_reports
from parleyd.api import cluster_status
from parleyd.raft.types import NodeId
from parleyd.shared_result import SharedResult
from parleyd.status_reports import StatusReports
from parleyd.transport.peer_calls import ForwardFailedError
from tests.support.node import running_cluster


async def answer(node: NodeId, request: peer_pb2.ReportStatusRequest, timeout_s: float) -> admin_pb2.GetStatusResponse:
    """What another node reports; the third is silent."""
    if node == 3:
        raise ForwardFailedError("no link", sent=False)
    return admin_pb2.GetStatusResponse(node_name=f"n{node}")


async def test_a_silent_node_has_no_status_and_the_others_have_theirs() -> None:
    async with running_cluster(("n1", "n2", "n3")) as cluster:
        found = await StatusReports(cluster.node("n1").view, answer).of_all()
    names = [(one.name, one.status.node_name if one.status is not None else None) for one in found]
    assert names == [("n1", "n1"), ("n2", "n2"), ("n3", None)]
    assert all(one.is_voter for one in found)


async def test_many_who_ask_at_once_cost_one_reading_of_the_state(monkeypatch: pytest.MonkeyPatch) -> None:
    read = 0
    full_status = cluster_status.full_status

    async def counted(*given: object) -> admin_pb2.GetStatusResponse:
        nonlocal read
        read += 1
        return await full_status(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(status_reports, "full_status", counted)
    async with running_cluster() as cluster:
        reports = StatusReports(cluster.node("n1").view, answer)
        await asyncio.gather(*(reports.own() for _ in range(50)))
    assert read == 1


async def test_one_who_leaves_ends_nobody_elses_result_and_an_error_is_not_kept() -> None:
    may_end, made = asyncio.Event(), 0

    async def make() -> int:
        nonlocal made
        made += 1
        await may_end.wait()
        if made == 1:
            raise ValueError("the first one fails")
        return made

    shared = SharedResult(make, fresh_s=60)
    first, second = asyncio.ensure_future(shared.get()), asyncio.ensure_future(shared.get())
    await asyncio.sleep(0)
    first.cancel()
    may_end.set()
    with pytest.raises(ValueError, match="the first one"):
        await second
    assert [await shared.get(), await shared.get()] == [2, 2]
