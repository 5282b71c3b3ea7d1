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
from parleyd.drill import Drill, DrillEndedError, DrillReport
from parleyd.group.errors import UnavailableError
from parleyd.local_call import local_call
from parleyd.machine.features import audit, sessions
from parleyd.machine.features.audit import AuditRow
from parleyd.machine.features.sessions import SessionRecord
from parleyd.machine.reader import StateReader
from parleyd.security.tokens import new_token
from tests.support.node import FaultyRouter, InProcessCluster, running_cluster
from tests.support.state import WEEK_MS
from tests.unit.client.helpers import until


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drills that a test can wait for."""
    for name in ("BEFORE_S", "AFTER_S"):
        monkeypatch.setattr(drills, name, 0.1)
    monkeypatch.setattr(drills, "SPACING_S", 0.002)


async def signed_in(cluster: InProcessCluster, digest: bytes = b"") -> SessionRecord:
    """A session of a new account."""
    ada = cluster.add_account("ada")
    digest = digest or new_token()[1]
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
        if meanwhile is not None:
            await until(lambda: len(cluster.messages) > 4, "there are messages to change")
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

        with pytest.raises(DrillEndedError, match="no other voter") as ended:
            await drill.run(session, lambda: "n1", refuse)
        assert isinstance(ended.value.reason, LookupError)
        sent = len(cluster.messages)
        assert 0 < ended.value.sent <= sent <= ended.value.sent + 1, "it says how many there are"
        await asyncio.sleep(0)
        assert len(cluster.messages) == sent, "it sends nothing more"


async def test_a_session_that_is_revoked_meanwhile_ends_the_drill() -> None:
    async with running_cluster() as cluster:
        session = await signed_in(cluster)
        with pytest.raises(DrillEndedError) as ended:
            await run(cluster, session, meanwhile=cluster.end_sessions)
        assert isinstance(ended.value.reason, ApiError)


async def test_a_right_is_looked_up_in_what_a_majority_has_before_anything_is_sent() -> None:
    """A node that had not heard of the end of a right let messages be sent, and then said that nothing was changed."""
    async with running_cluster() as cluster:
        node = cluster.node("n1")
        token, digest = new_token()
        await signed_in(cluster, digest)
        drill = Drill(
            Commands(FaultyRouter(node), lambda: cluster.machine.level), cluster.readers, Authenticator(node.replica)
        )
        call = local_call("127.0.0.1", 1, token)
        node.faults.no_majority = True
        with pytest.raises(UnavailableError):
            await drill.admit(call, "n1")
        node.faults.no_majority = False
        assert (await drill.admit(call, "n1")).account_name == "ada"
        [row] = [row for row in await cluster.readers.run(_audit) if row.action.startswith("request.")]
        assert (row.actor, row.action, row.object) == ("ada", "request.drill", "n1")


def _audit(reader: StateReader) -> tuple[AuditRow, ...]:
    return audit.page(reader, 0, 100, 1 << 20).rows
