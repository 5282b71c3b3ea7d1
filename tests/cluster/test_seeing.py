"""Who was woken sees what happened: on real processes, of which the leader is killed while it is followed."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from scripts.cluster_local import LocalCluster
from tests.cluster.daemon import parleyd
from tests.cluster.raw import PASSWORD, raw_client
from tests.cluster.test_membership import first_person
from tests.unit.client.test_command import Parley

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.campaign]


async def read_until(process: asyncio.subprocess.Process, is_wanted: Any) -> list[dict[str, Any]]:
    """Read records until one is wanted; return all."""
    assert process.stdout is not None
    found: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while not found or not is_wanted(found[-1]):
            found.append(json.loads(await process.stdout.readline()))
    return found


async def test_the_end_of_a_leader_is_told_while_it_is_followed_and_by_its_journal(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    async with raw_client(cluster, cluster.names[0]) as raw:
        await first_person(cluster, raw)
    parley = Parley(tmp_path)
    parley.environment |= {"PARLEY_HOSTS": ",".join(cluster.hosts), "PARLEY_CA": str(cluster.ca_file)}
    assert (await parley("login", "ann", PARLEY_PASSWORD=PASSWORD)).code == 0
    leader = await cluster.wait_for_leader()
    async with parley.running("cluster", "events", "--follow", "--json") as following:
        history = await read_until(following, lambda one: one.get("kind") == "role_changed" and one["node"] == leader)
        cluster.kill(leader)
        news = await read_until(following, lambda one: one["news"] == "node_lost")
        elected = await read_until(
            following,
            lambda one: one.get("kind") == "role_changed" and one["fields"]["role"] == "leader",
        )
        cluster.start(leader)
        back = await read_until(following, lambda one: one.get("kind") == "node_started" and one["node"] == leader)
    everything = [*history, *news, *elected, *back]
    assert news[-1]["node"] == leader
    assert elected[-1]["node"] != leader
    named = [(one["node"], one["start"], one["number"]) for one in everything if one["news"] == "event"]
    assert len(named) == len(set(named)), "an event was told twice"
    reasons = {one["fields"]["reason"] for one in everything if one.get("kind") == "election_started"}
    assert reasons & {"the connection to the leader broke", "the leader was silent for longer than it ever is"}

    await cluster.wait_until_answering(leader)
    journal = await parleyd("journal", "--data-dir", str(cluster.layout.data_dir(leader)), "--json")
    assert journal.code == 0, journal.output
    records = json.loads(journal.output)["records"]
    before = [one for one in records if one["start"] != records[-1]["start"]]
    assert {one["event"] for one in before} >= {"node_started", "serving_started", "role_changed", "vote_given"}
    assert "node_stopped" not in {one["event"] for one in before}, "it was killed"
    led = [one["fields"]["term"] for one in before if one["fields"].get("role") == "leader"]
    assert led


async def test_one_id_leads_through_the_logs_of_the_nodes_that_a_request_passed(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    leader = await cluster.wait_for_leader()
    asked = cluster.others(leader)[0]
    parley = Parley(tmp_path)
    parley.environment |= {"PARLEY_HOSTS": cluster.address(asked), "PARLEY_CA": str(cluster.ca_file)}
    assert (await parley("login", "ann", PARLEY_PASSWORD=PASSWORD)).code == 0
    assert (await parley("display-name", "Ann of the tests")).code == 0
    lines = [
        (name, json.loads(line))
        for name in cluster.names
        for line in cluster.log_text(name).splitlines()
        if '"request_id"' in line
    ]
    [answered] = [line for name, line in lines if line.get("commands") == ["set_display_name"] and name == asked]
    assert (answered["event"], answered["outcome"]) == ("request_answered", "applied")
    assert re.fullmatch(r"[0-9a-f]{16}", answered["request_id"])
    way = {(name, line["event"]) for name, line in lines if line["request_id"] == answered["request_id"]}
    assert way == {(leader, "request_proposed"), (asked, "request_answered")}
