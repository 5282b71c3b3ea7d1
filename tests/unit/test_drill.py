"""A drill tells what it measured, and would tell a loss: the messages are looked for where they are stored."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

import pytest

from parley_proto.v1 import state_pb2
from parleyd import drill as drills
from parleyd.api.auth import Authenticator
from parleyd.api.commands import Commands
from parleyd.api.errors import ApiError
from parleyd.drill import Drill, DrillReport
from parleyd.machine.features import sessions
from parleyd.machine.features.sessions import SessionRecord
from parleyd.security.tokens import new_token
from tests.support.node import FaultyRouter, InProcessCluster, running_cluster
from tests.support.state import WEEK_MS


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drills that a test can wait for."""
    for name in ("BEFORE_S", "AFTER_S"):
        monkeypatch.setattr(drills, name, 0.1)
    monkeypatch.setattr(drills, "SPACING_S", 0.002)


async def signed_in(cluster: InProcessCluster) -> SessionRecord:
    """A session of a new account."""
    ada = cluster.add_account("ada")
    _, digest = new_token()
    hashed = cluster.rows("SELECT password_hash FROM accounts WHERE id = ?", (ada.id,))[0][0]
    opened = state_pb2.OpenSession(
        account_id=ada.id,
        password_hash=hashed,
        token_digest=digest,
        device_id=secrets.token_bytes(16),
        ttl_ms=WEEK_MS,
    )
    cluster.apply_one(state_pb2.Command(open_session=opened))
    session = await cluster.readers.run(lambda reader: sessions.with_account(reader, digest))
    assert session is not None
    return session


async def run(
    cluster: InProcessCluster,
    session: SessionRecord,
    outage_s: float = 0.0,
    meanwhile: Callable[[], None] | None = None,
) -> DrillReport:
    """Run a drill whose transfer takes the majority away for `outage_s`."""
    node = cluster.node("n1")
    commands = Commands(FaultyRouter(node), lambda: cluster.machine.level)

    async def transfer() -> str:
        node.faults.no_majority = outage_s > 0
        over = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(outage_s, over.set_result, None)
        await over
        cluster.lead("n2")
        node.faults.no_majority = False
        if meanwhile is not None:
            meanwhile()
        return "n2"

    drill = Drill(commands, cluster.readers, Authenticator(node.replica))
    return await drill.run(session, lambda: cluster.leader, transfer)


async def test_a_drill_measures_the_pause_and_finds_every_message_once() -> None:
    async with running_cluster(("n1", "n2")) as cluster:
        session = await signed_in(cluster)
        report = await run(cluster, session, outage_s=0.4)
        assert (report.before, report.after, report.lost, report.doubled) == ("n1", "n2", 0, 0)
        assert report.sent == len(cluster.messages)
        assert 400 <= report.pause_ms < 5000
        assert 0 < report.usual_ms < report.pause_ms
        again = await run(cluster, session)
        assert (again.lost, again.doubled) == (0, 0)


async def test_a_message_that_was_acknowledged_and_is_gone_is_a_loss() -> None:
    async with running_cluster(("n1", "n2")) as cluster:
        session = await signed_in(cluster)
        gone = "DELETE FROM messages WHERE id = (SELECT id FROM messages ORDER BY id LIMIT 1 OFFSET 2)"
        report = await run(cluster, session, meanwhile=lambda: cluster.rewrite((gone, ())))
        assert (report.lost, report.doubled) == (1, 0)


async def test_a_message_that_is_stored_twice_is_told() -> None:
    async with running_cluster(("n1", "n2")) as cluster:
        session = await signed_in(cluster)
        doubled = "UPDATE messages SET send_number = send_number - 1 WHERE send_number = 4"
        report = await run(cluster, session, meanwhile=lambda: cluster.rewrite((doubled, ())))
        assert (report.lost, report.doubled) == (1, 1)


async def test_a_transfer_that_is_refused_ends_the_drill_with_its_reason() -> None:
    async with running_cluster() as cluster:
        session = await signed_in(cluster)
        commands = Commands(FaultyRouter(cluster.node("n1")), lambda: cluster.machine.level)
        drill = Drill(commands, cluster.readers, Authenticator(cluster.node("n1").replica))

        async def refuse() -> str:
            raise LookupError("no other voter")

        with pytest.raises(LookupError, match="no other voter"):
            await drill.run(session, lambda: "n1", refuse)
        sent = len(cluster.messages)
        await asyncio.sleep(0)
        assert len(cluster.messages) == sent, "it sends nothing more"


async def test_a_session_that_is_revoked_meanwhile_ends_the_drill() -> None:
    async with running_cluster() as cluster:
        session = await signed_in(cluster)
        with pytest.raises(ApiError):
            await run(cluster, session, meanwhile=cluster.end_sessions)
