"""The dashboard of a whole node: what strangers see, and what a browser is told about it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from parley_proto.v1 import admin_pb2
from parleyd.dashboard import SNAPSHOTS_TEXT, nodes_of
from parleyd.http.assets import load_assets
from parleyd.http.pages import METHODS
from parleyd.settings.table import Settings
from parleyd.status_reports import MemberReport
from tests.support.pages import ask
from tests.support.raw import until_true
from tests.unit.http.whole_node import running, settings_in, until_ready

pytestmark = pytest.mark.asyncio(loop_scope="module")

FORBIDDEN = re.compile(r"<script(?![^>]* src=)|<style|\sstyle=|\son[a-z]+=|@import|innerHTML|eval\(")
FILES = Path(__file__).resolve().parents[3] / "server/parleyd/http/files"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def node(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Settings]:
    """A node that serves."""
    settings = settings_in(tmp_path_factory.mktemp("node"))
    async with running(settings):
        await until_ready(settings)
        yield settings


async def state_of(node: Settings) -> dict[str, Any]:
    """What the page is told."""
    reply = await ask(node.http_listen, "/dashboard.json")
    assert reply.status == 200
    content: dict[str, Any] = json.loads(reply.body)
    return content


async def test_every_file_is_served_from_the_node_with_a_strict_policy(node: Settings) -> None:
    for path, asset in load_assets().items():
        reply = await ask(node.http_listen, path)
        assert (reply.status, reply.body, reply.headers["content-type"]) == (200, asset.body, asset.content_type)
        policy = reply.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert reply.headers["x-content-type-options"] == "nosniff"
        assert reply.headers["cache-control"] == "no-store"
    assert (await ask(node.http_listen, "/dashboard.json")).headers["content-security-policy"] == policy


async def test_the_files_name_no_other_host_and_nothing_that_the_policy_forbids() -> None:
    names = {path.name for path in FILES.iterdir()}
    assert {len(load_assets()), len(names)} == {6}
    for path in FILES.iterdir():
        text = path.read_text()
        assert set(re.findall(r"https?://[^\"'` )]*", text)) <= {"http://www.w3.org/2000/svg"}, path.name
        assert not FORBIDDEN.search(text), path.name


async def test_the_page_is_told_nodes_figures_and_events(node: Settings) -> None:
    async def told() -> None:
        assert any(text == "n1 leads in term 1." for _, _, text in (await state_of(node))["events"])

    await until_true(told, 60)
    state = await state_of(node)
    (own,) = state["nodes"]
    assert (own["name"], own["role"], own["answers"], own["voter"], own["lag"]) == ("n1", "leader", True, True, 0)
    assert own["reaches"] == ["n1"]
    assert own["disk_free_bytes"] > 0
    queues = {row["name"]: row for row in state["queues"]}
    assert queues["queued_commands"].keys() == {"name", "unit", "used", "max"}
    assert state["answers"]["bounds"] == [] or len(state["answers"]["counts"]) == len(state["answers"]["bounds"]) + 1


async def test_strangers_learn_no_addresses_processes_or_hashes(node: Settings) -> None:
    text = json.dumps(await state_of(node))
    for address in (node.client_listen, node.peer_listen):
        assert address.rpartition(":")[2] not in text
    assert not re.search(r"hash|pid|address|account", text)


async def test_those_who_look_at_once_get_one_reading(node: Settings) -> None:
    replies = await asyncio.gather(*(ask(node.http_listen, "/dashboard.json") for _ in range(20)))
    assert len({reply.body for reply in replies}) <= 2


async def test_the_pages_can_only_be_read(node: Settings) -> None:
    for path in ("/", "/dashboard.json"):
        reply = await ask(node.http_listen, path, method="POST")
        assert (reply.status, reply.headers["allow"]) == (405, ", ".join(METHODS))
    assert (await ask(node.http_listen, "/files/dashboard.html")).status == 404


async def test_a_lag_is_to_the_newest_commit_that_any_node_knows_and_a_silent_node_has_none() -> None:
    ahead = admin_pb2.GetStatusResponse(node_name="n1", commit_index=50, applied_index=50)
    behind = admin_pb2.GetStatusResponse(
        node_name="n2", commit_index=40, applied_index=30, clock="n3 is wrong", snapshots="at 10.0.0.1:7601"
    )
    shown = nodes_of(
        [MemberReport("n1", True, ahead), MemberReport("n2", True, behind), MemberReport("n3", True, None)]
    )
    assert [node.get("lag") for node in shown] == [0, 20, None]
    assert shown[1]["problems"] == ["n3 is wrong", SNAPSHOTS_TEXT], "without the address"
    assert shown[2] == {"name": "n3", "voter": True, "answers": False}
