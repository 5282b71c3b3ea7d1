"""A device whose files were copied, or that the cluster has forgotten, is told nothing that is not true.

What can go wrong: two copies send under the same numbers and one is told ACCEPTED for a message that is nowhere; a
forgotten device begins again with number 1 and stores a message twice; the other copy loses what it wrote.
"""

import asyncio
import secrets
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import pytest

from parley import ConnectionState, MessageStatus, OutcomeUnknownError, ParleyClient, StillWaitingError
from parley.chat import status_line
from parley_proto.v1 import state_pb2
from tests.support.node import InProcessCluster, running_cluster
from tests.support.state import WEEK_MS
from tests.unit.client.helpers import PASSWORD, make_client, signed_in, until


@asynccontextmanager
async def two_copies(
    cluster: InProcessCluster, tmp_path: Path, *nodes: int
) -> AsyncIterator[tuple[ParleyClient, ParleyClient]]:
    """Two running clients with copies of one profile, each on one node."""
    cluster.add_account("bob", PASSWORD)
    async with signed_in(cluster, tmp_path / "one") as anna:
        await (await anna.send("bob", "before")).accepted(30)
    # An acknowledgement decides which copy is the device, as a send does: nothing may be left to acknowledge.
    async with make_client(cluster, tmp_path / "one", "anna"):
        [device] = cluster.devices.values()
        await until(lambda: device.delivered_up_to == 1, "it has acknowledged what it sent")
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    one = make_client(cluster, tmp_path / "one", "anna", nodes=[nodes[0]])
    other = make_client(cluster, tmp_path / "other", "anna", nodes=[nodes[1]], seed=2)
    async with one, other:
        for client in (one, other):
            await client.wait_until(ConnectionState.CONNECTED, timeout=30)
        yield one, other


async def received(client: ParleyClient, message_id: int) -> None:
    """Wait until a message of bob is in the client's file."""
    async with asyncio.timeout(30), aclosing(client.watch()) as changes:
        async for _ in changes:
            if message_id in {each.id for each in (await client.cached_history("bob")).messages}:
                return


@pytest.mark.parametrize("nodes", [(0, 1), (0, 0)], ids=["two nodes", "one node"])
async def test_of_two_copies_one_sends_and_the_other_keeps_what_it_has(tmp_path: Path, nodes: tuple[int, int]) -> None:
    async with running_cluster(("n1", "n2")) as cluster, two_copies(cluster, tmp_path, *nodes) as (one, other):
        await (await one.send("bob", "from one")).accepted(30)
        kept = await other.send("bob", "from the other")
        await until(lambda: other.state.superseded, "it learns that the other copy sends")
        with pytest.raises(StillWaitingError):
            await kept.accepted(0.2)
        assert cluster.bodies_for("bob") == ["before", "from one"]
        await until(lambda: other.state.connection is ConnectionState.CONNECTED, "it is connected, to read")
        said = status_line(other.state, other.state.last_heard, time.monotonic()).text
        assert "1 message waiting" in said
        assert "sign in again" in said
        # Both copies read, and the one that sends is not disturbed.
        message = cluster.store(cluster.accounts["bob"], cluster.accounts["anna"], "to both")
        for client in (one, other):
            await received(client, message.id)
        await (await one.send("bob", "one goes on")).accepted(30)
        assert not one.state.superseded


async def test_a_refused_copy_sends_once_a_person_signs_in_on_it(tmp_path: Path) -> None:
    async with running_cluster(("n1", "n2")) as cluster:
        async with two_copies(cluster, tmp_path, 0, 1) as (one, other):
            await (await one.send("bob", "from one")).accepted(30)
            await other.send("bob", "from the other")
            await until(lambda: other.state.superseded, "it learns that the other copy sends")
        # Opening it again is no word of a person.
        async with make_client(cluster, tmp_path / "other", "anna") as again:
            await until(lambda: again.state.superseded, "it is still refused")
            assert [message.status for message in await again.outgoing()][-1] < MessageStatus.ACCEPTED
            await again.login("anna", PASSWORD)
            # Its number may be the one of "from one" by now. Then it is refused for good, and not lost.
            waiting = await again.waiting()
            outcomes = await asyncio.gather(*(each.accepted(30) for each in waiting), return_exceptions=True)
            assert all(not isinstance(outcome, StillWaitingError) for outcome in outcomes)
            await (await again.send("bob", "after")).accepted(30)
            assert not again.state.superseded
        said = cluster.bodies_for("bob")
        assert len(said) == len(set(said))
        assert said[:2] == ["before", "from one"]
        assert said[-1] == "after"
        assert cluster.resent_differently in ([], [2])


async def test_a_profile_that_is_opened_again_goes_on_by_itself(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            await (await anna.send("bob", "one")).accepted(30)
        for body in ("two", "three"):
            async with make_client(cluster, tmp_path, "anna") as anna:
                await (await anna.send("bob", body)).accepted(30)
                assert not anna.state.superseded
        assert cluster.bodies_for("bob") == ["one", "two", "three"]


def crowd_out(cluster: InProcessCluster, account_id: int) -> None:
    """So many other devices of the account log in that the oldest logged-out one is forgotten."""
    [(password_hash,)] = cluster.rows("SELECT password_hash FROM accounts WHERE id = ?", (account_id,))
    cluster.end_sessions()
    for _ in range(32):
        command = state_pb2.OpenSession(
            account_id=account_id,
            password_hash=password_hash,
            token_digest=secrets.token_bytes(32),
            device_id=secrets.token_bytes(16),
            ttl_ms=WEEK_MS,
            expires_at_ms=time.time_ns() // 1_000_000 + WEEK_MS,
        )
        cluster.apply_one(state_pb2.Command(open_session=command))
    cluster.end_sessions()


async def test_a_forgotten_device_stores_nothing_twice_and_asks_a_person(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as anna:
            await (await anna.send("bob", "answered")).accepted(30)
            cluster.nodes[0].faults.lose_results = True
            await anna.send("bob", "without an answer")
            await until(lambda: "without an answer" in cluster.bodies_for("bob"), "it is stored")
        cluster.nodes[0].faults.lose_results = False
        crowd_out(cluster, cluster.accounts["anna"].id)
        async with make_client(cluster, tmp_path, "anna") as anna:
            [unanswered] = await anna.waiting()
            waiting = await anna.send("bob", "still waiting")
            await anna.login("anna", PASSWORD)
            with pytest.raises(OutcomeUnknownError, match="Look before you send it again"):
                await unanswered.accepted(30)
            await waiting.accepted(30)
            statuses = [message.status for message in await anna.outgoing()]
            assert statuses == [MessageStatus.ACCEPTED, MessageStatus.UNKNOWN, MessageStatus.ACCEPTED]
            assert cluster.bodies_for("bob") == ["answered", "without an answer", "still waiting"]
            await (await anna.retry(unanswered.local_id)).accepted(30)
        assert cluster.bodies_for("bob")[-1] == "without an answer", "a person may send it again"
