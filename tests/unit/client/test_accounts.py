"""Registering, signing in and out, deleting, listing: once, whatever answers are lost, and refused in words."""

import asyncio
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from parley import (
    Account,
    BadInputError,
    ConnectionState,
    NameTakenError,
    NotSignedInError,
    OutcomeUnknownError,
    ParleyClient,
    RefusedError,
    TlsError,
    UnreachableError,
    WrongPasswordError,
)
from parley.connection import SIGNED_OUT_CONFIRMATIONS, ConnectionManager
from parley.device.profile import Last, StateDirectory
from parley.log_in import LogIn
from parley.net.stream_closed import StreamClosedError
from parley.wire.actions import StreamCloseReason
from parleyd.api.errors import UNAVAILABLE_TEXT
from tests.support.node import running_cluster
from tests.unit.client.certificates import Authority
from tests.unit.client.helpers import PASSWORD, QUICK, make_client, signed_in, until


def files(folder: Path) -> list[Path]:
    """What is kept of accounts."""
    return list(folder.rglob("client.sqlite"))


async def names(client: ParleyClient, pattern: str = "") -> list[str]:
    """The names of the accounts that a client lists."""
    return [account.name for account in await client.list_accounts(pattern)]


async def test_a_register_whose_answer_was_lost_succeeds_once(tmp_path: Path) -> None:
    async with running_cluster(("n1", "n2")) as cluster:
        for node in cluster.nodes:
            node.faults.lose_answers = 1
        async with make_client(cluster, tmp_path) as client:
            await client.register("anna", PASSWORD)
        assert list(cluster.accounts) == ["anna"]


async def test_a_taken_name_and_a_bad_password_are_refused_in_words(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("anna", PASSWORD)
        async with make_client(cluster, tmp_path) as client:
            with pytest.raises(NameTakenError, match="exists already"):
                await client.register("anna", PASSWORD)
            with pytest.raises(RefusedError, match="at least 8"):
                await client.register("bob", "short")
            with pytest.raises(BadInputError, match="cannot be an account name"):
                await client.register("no spaces", PASSWORD)


async def test_a_wrong_password_changes_nothing_and_leaves_no_files(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("anna", PASSWORD)
        async with make_client(cluster, tmp_path) as client:
            with pytest.raises(WrongPasswordError, match="Check both"):
                await client.login("anna", "wrong password")
            with pytest.raises(NotSignedInError, match="parley login"):
                await client.send("bob", "hello")
        assert files(tmp_path) == []
        assert cluster.nodes[0].called.count("LogIn") == 1, "a wrong password is not tried on every node"


async def test_a_wrong_password_beside_a_good_log_in_leaves_the_good_one_alone(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("anna", PASSWORD)
        async with make_client(cluster, tmp_path) as wrong, make_client(cluster, tmp_path) as good:
            cluster.nodes[0].faults.hang = True
            failing = asyncio.ensure_future(wrong.login("anna", "wrong password"))
            await until(lambda: cluster.nodes[0].called.count("GetStatus") == 1, "the wrong one began")
            succeeding = asyncio.ensure_future(good.login("anna", PASSWORD))
            await until(lambda: cluster.nodes[0].called.count("GetStatus") == 2, "both began")
            cluster.nodes[0].release()
            await succeeding
            await good.send("bob", "later")
            with pytest.raises(WrongPasswordError):
                await failing
        async with make_client(cluster, tmp_path, "anna", connect=False) as client:
            assert await client.has_session()
            assert [one.body for one in await client.outgoing()] == ["later"]


async def test_two_first_log_ins_at_once_are_one_device(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("anna", PASSWORD)
        cluster.add_account("bob", PASSWORD)
        async with make_client(cluster, tmp_path) as one, make_client(cluster, tmp_path) as other:
            await asyncio.gather(one.login("anna", PASSWORD), other.login("anna", PASSWORD))
            for number, client in enumerate((one, other)):
                await (await client.send("bob", f"m{number}")).accepted(5)
        assert sorted(cluster.bodies_for("bob")) == ["m0", "m1"]
        assert {message.sender_id for message in cluster.messages} == {cluster.accounts["anna"].id}


async def test_a_wrong_password_leaves_the_session_in_use_alone(tmp_path: Path) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path) as client:
        await client.wait_until(ConnectionState.CONNECTED, timeout=5)
        for name in ("anna", "bob"):
            with pytest.raises(WrongPasswordError):
                await client.login(name, "wrong password")
        assert client.state.connection is ConnectionState.CONNECTED
        assert await names(client) == ["anna"]


def keep_sessions_after(event: asyncio.Event, monkeypatch: pytest.MonkeyPatch, *, within_s: float) -> None:
    """Log-ins store their sessions only once the event has come."""
    kept_before = LogIn._keep_session

    async def late(log_in: LogIn, *rest: Any, **more: Any) -> Any:
        async with asyncio.timeout(within_s):
            await event.wait()
        return await kept_before(log_in, *rest, **more)

    monkeypatch.setattr(LogIn, "_keep_session", late)


async def test_a_log_in_that_replaces_the_session_in_use_signs_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream learns that its session has ended before the new one is stored: a lock asks for the password so."""
    refused = asyncio.Event()
    refusals = 0
    lost = set[str]()
    closed_before = ConnectionManager._stream_closed

    async def counted(manager: ConnectionManager, closed: StreamClosedError, *rest: Any) -> None:
        nonlocal refusals
        await closed_before(manager, closed, *rest)
        refusals += closed.reason is StreamCloseReason.SIGNED_OUT
        lost.add(client.state.lost)
        if refusals > SIGNED_OUT_CONFIRMATIONS:
            refused.set()

    async with running_cluster() as cluster, signed_in(cluster, tmp_path) as client:
        await client.wait_until(ConnectionState.CONNECTED, timeout=5)
        monkeypatch.setattr(ConnectionManager, "_stream_closed", counted)
        keep_sessions_after(refused, monkeypatch, within_s=5)
        await client.login("anna", PASSWORD)
        await client.wait_until(ConnectionState.CONNECTED, timeout=5)
        assert await names(client) == ["anna"]
        assert lost == {""}, "the node has answered"


async def test_a_log_in_of_another_process_signs_nobody_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the session of this one, and stores its own a moment later: this one said that its session had ended."""
    refusals, refused, states = 0, asyncio.Event(), set[ConnectionState]()
    closed_before = ConnectionManager._stream_closed

    async def counted(manager: ConnectionManager, closed: StreamClosedError, *rest: Any) -> None:
        nonlocal refusals
        refusals += closed.reason is StreamCloseReason.SIGNED_OUT
        if refusals >= SIGNED_OUT_CONFIRMATIONS:
            refused.set()
        await closed_before(manager, closed, *rest)

    async def watch(client: ParleyClient) -> None:
        async for change in client.watch():
            states.add(change.state.connection)

    async with running_cluster() as cluster, signed_in(cluster, tmp_path) as anna:
        await anna.wait_until(ConnectionState.CONNECTED, timeout=20)
        assert anna._account is not None
        anna._account.connection._settings = replace(QUICK, log_in_pause_s=20.0)
        watching = asyncio.create_task(watch(anna))
        async with make_client(cluster, tmp_path, "anna") as beside:
            await beside.wait_until(ConnectionState.SHARED, timeout=20)
            monkeypatch.setattr(ConnectionManager, "_stream_closed", counted)
            keep_sessions_after(refused, monkeypatch, within_s=20)
            await beside.login("anna", PASSWORD)
            await anna.wait_until(ConnectionState.CONNECTED, timeout=20)
            assert await names(anna) == ["anna"]
        watching.cancel()
        assert refused.is_set()
        assert ConnectionState.SIGNED_OUT not in states


async def test_a_login_whose_answer_was_lost_is_repeated(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("anna", PASSWORD)
        cluster.nodes[0].faults.lose_answers = 1
        async with make_client(cluster, tmp_path) as client:
            await client.login("anna", PASSWORD)
            await client.wait_until(ConnectionState.CONNECTED, timeout=5)
        assert len(cluster.devices) == 1


async def test_the_session_is_remembered_with_its_hosts(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        async with signed_in(cluster, tmp_path):
            pass
        assert StateDirectory(tmp_path).last() == Last("anna", (cluster.nodes[0].address,), "", True)
        async with make_client(cluster, tmp_path, "anna", connect=False) as client:
            assert await names(client, "a*") == ["anna"]
            assert await client.has_session()


async def test_signing_in_as_another_account_changes_the_profile(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as client:
            await client.wait_until(ConnectionState.CONNECTED, timeout=5)
            await client.login("bob", PASSWORD)
            await client.wait_until(ConnectionState.CONNECTED, timeout=5)
            assert client.state.account == client.signed_in_as == "bob"
            await (await client.send("anna", "it is me now")).accepted(5)
        assert [m.sender_id for m in cluster.messages] == [cluster.accounts["bob"].id]


async def test_logging_out_keeps_what_waits(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("bob", PASSWORD)
        cluster.nodes[0].faults.retry = 1_000_000
        async with signed_in(cluster, tmp_path) as client:
            await client.send("bob", "later")
            assert await client.logout() == 1
            assert not await client.has_session()
            with pytest.raises(NotSignedInError, match="not signed in"):
                await client.list_accounts()
            cluster.nodes[0].faults.retry = 0
            await client.login("anna", PASSWORD)
            (waiting,) = await client.waiting()
            await waiting.accepted(5)


async def test_an_account_made_again_under_its_name_signs_in_and_sends_at_once(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("admin1", PASSWORD)
        cluster.add_account("bob", PASSWORD)
        async with signed_in(cluster, tmp_path) as client:
            for number in range(3):
                await (await client.send("bob", f"old {number}")).accepted(5)
        cluster.delete_account(cluster.accounts["anna"])
        cluster.change_setting("name_reserved_days", 0)
        cluster.add_account("anna", PASSWORD)
        async with make_client(cluster, tmp_path) as client:
            await client.login("anna", PASSWORD)
            await client.wait_until(ConnectionState.CONNECTED, timeout=5)
            await (await client.send("bob", "new")).accepted(5)
            assert client.state.connection is ConnectionState.CONNECTED
            assert [one.body for one in await client.outgoing(target="bob")] == ["new"]
        assert [m.body for m in cluster.messages if m.sender_id == cluster.accounts["anna"].id] == ["new"]


@pytest.mark.parametrize("lost", [0, 1])
async def test_deleting_the_account_removes_its_files_even_if_the_answer_was_lost(tmp_path: Path, lost: int) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("boss", PASSWORD)  # the administrator stays
        async with signed_in(cluster, tmp_path) as client:
            cluster.nodes[0].faults.lose_answers = lost
            await client.delete_account(PASSWORD)
            assert client.signed_in_as == ""
            with pytest.raises(NotSignedInError):
                await client.send("bob", "hello")
        assert list(cluster.accounts) == ["boss"]
        assert files(tmp_path) == []


async def test_deleting_with_a_wrong_password_deletes_nothing(tmp_path: Path) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path) as client:
        with pytest.raises(WrongPasswordError, match="was not deleted"):
            await client.delete_account("wrong password")
        assert await names(client) == ["anna"]


async def test_long_lists_are_fetched_page_by_page(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        for i in range(2500):
            cluster.add_account(f"user{i:04}", PASSWORD)
        async with signed_in(cluster, tmp_path) as client:
            assert len(await client.list_accounts("user*")) == 2500
            assert len(await client.list_accounts("user*", limit=1500)) == 1500


async def test_calls_go_on_to_the_next_node(tmp_path: Path) -> None:
    async with running_cluster(("n1", "n2", "n3")) as cluster, signed_in(cluster, tmp_path) as client:
        await cluster.nodes[0].die()
        cluster.nodes[1].faults.unavailable = "no leader is known"
        for _ in range(5):
            assert await names(client) == ["anna"]


async def test_no_node_is_told_from_no_majority(tmp_path: Path) -> None:
    async with running_cluster(("n1", "n2")) as cluster:
        for node in cluster.nodes:
            node.faults.unavailable = UNAVAILABLE_TEXT.format(reason="no leader is known")
        async with make_client(cluster, tmp_path, deadline_s=0.3) as client:
            with pytest.raises(UnreachableError, match="none can accept anything now") as told:
                await client.register("anna", PASSWORD)
        assert told.value.text.partition(": ")[2] == (
            "This node cannot reach a majority of the cluster now (no leader is known). Nothing was changed. Try again "
            "when a majority of the nodes is up."
        ), "each thing once, and no sentence in another one"
        for node in cluster.nodes:
            await node.die()
        # Another client, because a connection that breaks under a request leaves its outcome unknown.
        async with make_client(cluster, tmp_path, deadline_s=0.3) as client:
            with pytest.raises(UnreachableError, match="No node of the cluster could be reached"):
                await client.register("anna", PASSWORD)


async def test_an_account_that_is_left_right_after_its_log_in_is_closed(tmp_path: Path) -> None:
    def open_files() -> int:
        return sum(thread.name == "parley-store" for thread in threading.enumerate())

    before = open_files()
    async with running_cluster() as cluster:
        cluster.add_account("anna", PASSWORD)
        for again in range(2):
            async with make_client(cluster, tmp_path, "anna" if again else None, connect=False) as client:
                if not again:
                    await client.login("anna", PASSWORD)
            assert open_files() == before


async def test_an_unknown_outcome_is_called_unknown(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.nodes[0].faults.hang = True
        async with make_client(cluster, tmp_path, deadline_s=0.2) as client:
            with pytest.raises(OutcomeUnknownError, match="Check the result"):
                await client.register("anna", PASSWORD)


async def test_conversations_and_history_come_from_the_device_where_no_node_answers(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        bob, anna = cluster.add_account("bob", PASSWORD), cluster.add_account("anna", PASSWORD)
        cluster.store(bob, anna, "from bob")
        async with signed_in(cluster, tmp_path) as client:
            await anext(await client.messages())
            await (await client.send("bob", "from anna")).accepted(5)
            page = await client.history("bob")
            assert [(m.body, m.mine) for m in page.messages] == [("from bob", False), ("from anna", True)]
            assert not page.cached
        await cluster.nodes[0].die()
        async with make_client(cluster, tmp_path, "anna", deadline_s=0.2) as client:
            page = await client.history("bob")
            assert [(m.body, m.mine) for m in page.messages] == [("from bob", False), ("from anna", True)]
            assert page.cached
            assert page.conversation is not None
            (conversation,) = await client.conversations()
            assert (conversation.id, conversation.members) == (page.conversation.id, page.conversation.members)
            assert [client.account(m.account_id) for m in conversation.members] == [
                Account(bob.id, "bob"),
                Account(anna.id, "anna"),
            ]


async def test_history_of_nobody_is_refused(tmp_path: Path) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path) as client:
        with pytest.raises(RefusedError, match="no account ghost"):
            await client.history("ghost")


async def test_the_status_names_every_node_and_those_that_do_not_answer(tmp_path: Path) -> None:
    async with running_cluster(("n1", "n2", "n3")) as cluster:
        await cluster.nodes[2].die()
        async with make_client(cluster, tmp_path, nodes=[0]) as client:
            status = await client.cluster_status()
        assert [node.name for node in status.nodes] == ["n1", "n2", ""]
        assert "cannot be reached" in status.nodes[2].error
        assert (status.serving, status.leader) == (True, "n1")


# ---- what is refused before anything is sent


async def test_what_cannot_be_a_message_is_refused_before_it_is_stored(tmp_path: Path) -> None:
    async with running_cluster() as cluster, signed_in(cluster, tmp_path) as client:
        for recipient, body in (("bob", ""), ("", "x"), ("bob", "x" * 65537), ("bob", "ü" * 32769), ("bob", "\ud800")):
            with pytest.raises(BadInputError, match="Nothing was sent"):
                await client.send(recipient, body)
        assert await client.outgoing() == ()


def test_a_client_without_hosts_or_with_a_bad_ca_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="--host"):
        ParleyClient([])
    with pytest.raises(TlsError, match="cannot be read"):
        ParleyClient("localhost:1", ca=tmp_path / "missing.pem")
    (tmp_path / "no.pem").write_text("not a certificate")
    with pytest.raises(TlsError, match="no certificate"):
        ParleyClient("localhost:1", ca=tmp_path / "no.pem")
    with pytest.raises(BadInputError, match="only one of them"):
        ParleyClient("localhost:1", ca=tmp_path / "no.pem", insecure=True)


# ---- TLS


async def tls_client(hosts: str, ca: Path | None, state_dir: Path, *, insecure: bool = False) -> None:
    async with ParleyClient(
        hosts, ca=ca, insecure=insecure, state_dir=state_dir, deadline_s=3, settings=QUICK
    ) as client:
        await client.register("anna", PASSWORD)
        await client.login("anna", PASSWORD)
        await client.wait_until(ConnectionState.CONNECTED, timeout=5)


async def test_tls_with_the_right_ca_works_and_every_wrong_way_says_what_is_wrong(tmp_path: Path) -> None:
    right, wrong = Authority("right"), Authority("wrong")
    (tmp_path / "right.pem").write_bytes(right.pem)
    (tmp_path / "wrong.pem").write_bytes(wrong.pem)
    async with running_cluster(credentials=right.server("127.0.0.1")) as cluster:
        host = cluster.nodes[0].address
        with pytest.raises(TlsError, match="not signed by a CA that this client trusts"):
            await tls_client(host, tmp_path / "wrong.pem", tmp_path / "s")
        with pytest.raises(TlsError, match="speaks TLS, and this client does not encrypt"):
            await tls_client(host, None, tmp_path / "s", insecure=True)
        await tls_client(host, tmp_path / "right.pem", tmp_path / "s")
    async with running_cluster(credentials=right.server("10.9.8.7")) as cluster:
        with pytest.raises(TlsError, match="for another name or address"):
            await tls_client(cluster.nodes[0].address, tmp_path / "right.pem", tmp_path / "s")
    async with running_cluster() as cluster:
        with pytest.raises(TlsError, match="does not speak TLS"):
            await tls_client(cluster.nodes[0].address, tmp_path / "right.pem", tmp_path / "s")


@pytest.mark.parametrize(("valid_from_h", "valid_to_h", "says"), [(-3, -1, "has expired"), (2, 4, "is not valid yet")])
async def test_a_certificate_outside_its_time_is_told_as_that_with_the_clock(
    valid_from_h: int, valid_to_h: int, says: str, tmp_path: Path
) -> None:
    """It was told as "not signed by a CA that this client trusts"."""
    authority = Authority("right")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    credentials = authority.server("127.0.0.1", valid_from_h=valid_from_h, valid_to_h=valid_to_h)
    async with running_cluster(credentials=credentials) as cluster:
        with pytest.raises(TlsError, match=f"{says}.*The clock of this machine says 20"):
            await tls_client(cluster.nodes[0].address, tmp_path / "ca.pem", tmp_path / "s")


async def test_a_session_that_cannot_be_private_says_so_in_its_state(tmp_path: Path) -> None:
    right, wrong = Authority("right"), Authority("wrong")
    for name, authority in (("right", right), ("wrong", wrong)):
        (tmp_path / f"{name}.pem").write_bytes(authority.pem)
    async with running_cluster(credentials=right.server("127.0.0.1")) as cluster:
        hosts = cluster.nodes[0].address
        await tls_client(hosts, tmp_path / "right.pem", tmp_path / "s")
        async with (
            ParleyClient(
                hosts, ca=tmp_path / "wrong.pem", account="anna", state_dir=tmp_path / "s", settings=QUICK
            ) as client,
            asyncio.timeout(5),
        ):
            async for change in client.watch():
                if change.state.tls_trouble:
                    break
            assert "not signed by a CA that this client trusts" in client.state.problem
