"""The gateway with sockets, before an in-process cluster: bounds, bad input, broken connections, restarts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from parley import ClientGroup, StoreError, Target, TextFilter, TextFilterServer
from parley.errors import BadInputError
from parley.gateway import connection, session
from parley.gateway.app import private_folder
from parley.gateway.connection import Connection
from parley.gateway.member import Member
from parley.gateway.server import Gateway
from parley.gateway.settings import GatewaySettings
from tests.support.node import PASSWORD, InProcessCluster, running_cluster
from tests.support.transcripts import LineClient, line_client
from tests.unit.client.certificates import Authority
from tests.unit.client.helpers import signed_in, until
from tests.unit.client.test_restored import restore
from tests.unit.gateway.helpers import gateway_of

LINE_BYTES = 2048


async def log_in(client: LineClient, cluster: InProcessCluster, name: str) -> None:
    if name not in cluster.accounts:
        cluster.add_account(name, PASSWORD)
    answer = await client.ask(f"LOGIN {name} {PASSWORD}")
    assert answer.startswith(f"OK {name} "), answer


async def next_message(client: LineClient) -> tuple[str, str]:
    """The first line of the next message, and its text."""
    first = await client.until("MESSAGE")
    text = await client.line()
    assert await client.line() == "END"
    return first, text


# ---- the text filter


async def test_what_is_sent_through_a_gateway_is_filtered_or_refused_with_its_own_code(tmp_path: Path) -> None:
    async with running_cluster() as cluster, TextFilterServer(str.upper, "127.0.0.1:0") as server:
        cluster.add_account("ben", PASSWORD)
        works = TextFilter(server.address, timeout_ms=10_000)
        async with (
            gateway_of(cluster, tmp_path / "a", text_filter=works) as gateway,
            line_client(gateway.port, compact=True) as anna,
            line_client(gateway.port, compact=True) as eve,
        ):
            for one, name in ((anna, "anna"), (eve, "eve")):
                await log_in(one, cluster, name)
                assert (await one.ask(f"SEND ben hello from {name}")).startswith("OK")
            await until(lambda: len(cluster.bodies_for("ben")) == 2, "both are sent")
            assert sorted(cluster.bodies_for("ben")) == ["HELLO FROM ANNA", "HELLO FROM EVE"]
        down = TextFilter("127.0.0.1:1", timeout_ms=10_000)
        async with (
            gateway_of(cluster, tmp_path / "b", text_filter=down) as gateway,
            line_client(gateway.port, compact=True) as anna,
        ):
            await log_in(anna, cluster, "anna")
            answer = await anna.ask("SEND ben not without it")
            assert answer.startswith("ERROR filter ")
            assert "127.0.0.1:1" not in answer, "where the filter is concerns nobody outside"
        assert len(cluster.bodies_for("ben")) == 2


# ---- exactly once


async def test_what_was_answered_with_ok_is_sent_although_the_connection_is_gone(tmp_path: Path) -> None:
    async with running_cluster() as cluster, gateway_of(cluster, tmp_path) as gateway:
        cluster.add_account("ben", PASSWORD)
        async with line_client(gateway.port, compact=True) as anna:
            await log_in(anna, cluster, "anna")
            cluster.nodes[0].faults.no_majority = True
            answers = [await anna.ask(f"SEND ben {number}") for number in range(3)]
            assert all(answer.startswith("OK ") for answer in answers)
        await until(lambda: gateway._services.places.taken == 0, "the connection is gone")
        assert gateway._services.accounts.count == 1
        cluster.nodes[0].faults.no_majority = False
        await until(lambda: gateway._services.accounts.count == 0, "the account is left once all is sent")
        assert cluster.bodies_for("ben") == ["0", "1", "2"]


async def test_what_waited_is_sent_after_a_restart_of_the_gateway(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("ben", PASSWORD)
        async with gateway_of(cluster, tmp_path) as gateway, line_client(gateway.port, compact=True) as anna:
            await log_in(anna, cluster, "anna")
            cluster.nodes[0].faults.no_majority = True
            assert (await anna.ask("SEND ben waits")).startswith("OK ")
        assert cluster.bodies_for("ben") == []
        cluster.nodes[0].faults.no_majority = False
        async with gateway_of(cluster, tmp_path):
            await until(lambda: cluster.bodies_for("ben") == ["waits"], "the next start sends it")


async def test_after_a_restore_it_says_what_is_lost_and_sends_to_no_channel_of_before(tmp_path: Path) -> None:
    async with running_cluster() as cluster, gateway_of(cluster, tmp_path) as gateway:
        cluster.add_account("ben", PASSWORD)
        async with line_client(gateway.port, compact=True) as anna:
            await log_in(anna, cluster, "anna")
            backup = cluster.back_up()
            people = cluster.accounts
            channel = cluster.create_channel(people["anna"], "ops", [people["ben"]])
            assert (await anna.ask("/join #ops")).startswith(f"OK #{channel}")
            assert (await anna.ask("//lost")).startswith("OK")
            await until(lambda: cluster.bodies_for("ben") == ["/lost"], "it is accepted")
            await restore(cluster, backup)
            await anna.until("NOTICE The cluster was restored")
            await anna.until("NOTICE 1 message that you sent is not in the cluster any more")
            for line in ("//for ops", "/leave", "/history"):
                assert (await anna.ask(line)).startswith("ERROR no-channel"), line
            assert (await anna.ask("/join everyone")).startswith("OK everyone")
            assert (await anna.ask("//for all")).startswith("OK")
            assert (await anna.ask("SEND ben goes on")).startswith("OK")
            await until(lambda: cluster.bodies_for("ben")[-1:] == ["goes on"], "it goes on")
            assert "/for ops" not in cluster.bodies_for("ben")


async def test_messages_that_came_meanwhile_are_shown_at_the_next_log_in_once(tmp_path: Path) -> None:
    async with running_cluster() as cluster, gateway_of(cluster, tmp_path) as gateway:
        async with line_client(gateway.port, compact=True) as ben:
            await log_in(ben, cluster, "ben")
        async with line_client(gateway.port, compact=True) as anna:
            await log_in(anna, cluster, "anna")
            assert (await anna.ask("SEND ben hello")).startswith("OK")
            async with line_client(gateway.port, compact=True) as ben:
                await log_in(ben, cluster, "ben")
                assert await next_message(ben) == ("MESSAGE 1 FROM anna :", "hello")
                assert (await anna.ask("SEND ben again")).startswith("OK")
                assert await next_message(ben) == ("MESSAGE 2 FROM anna :", "again")
                assert (await ben.ask("CLOSE")) == "OK"
            await until(lambda: gateway._services.places.taken == 1, "ben is gone")
            async with line_client(gateway.port, compact=True) as ben:
                await log_in(ben, cluster, "ben")
                assert (await anna.ask("SEND ben third")).startswith("OK")
                assert (await next_message(ben))[1] in ("again", "third")


async def test_a_message_that_the_cluster_refuses_later_is_told_once_with_its_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def not_looked_up(*_: object) -> Target:
        return Target(account="nobody")  # as without a connection to a node

    monkeypatch.setattr(Member, "_find", not_looked_up)
    async with (
        running_cluster() as cluster,
        gateway_of(cluster, tmp_path) as gateway,
        line_client(gateway.port, compact=True) as anna,
    ):
        await log_in(anna, cluster, "anna")
        answer = await anna.ask("SEND nobody hello")
        assert answer.startswith("OK ")
        assert (await anna.until("REFUSED")).startswith(f"REFUSED {answer.split()[1]} “hello”: ")
        client = gateway._services.accounts._kept["anna"].client
        async with asyncio.timeout(30):
            while await client.untold():
                continue


async def test_all_accounts_go_on_at_another_node_when_theirs_dies(tmp_path: Path) -> None:
    async with (
        running_cluster(("n1", "n2")) as cluster,
        gateway_of(cluster, tmp_path) as gateway,
        AsyncExitStack() as s,
    ):
        people = [await s.enter_async_context(line_client(gateway.port, compact=True)) for _ in range(3)]
        for number, one in enumerate(people):
            await log_in(one, cluster, f"p{number}")
        kept = gateway._services.accounts._kept["p0"].client
        await until(lambda: bool(kept.state.node), "the stream is open")
        assert (await people[1].ask("SEND p0 before")).startswith("OK")
        await next(node for node in cluster.nodes if node.name == kept.state.node).die()
        assert (await people[2].ask("SEND p0 after")).startswith("OK")
        assert {(await next_message(people[0]))[1] for _ in range(2)} == {"before", "after"}


# ---- one connection for an account


async def test_the_newer_connection_of_an_account_takes_it_over(tmp_path: Path) -> None:
    async with (
        running_cluster() as cluster,
        gateway_of(cluster, tmp_path) as gateway,
        line_client(gateway.port, compact=True) as old,
        line_client(gateway.port, compact=True) as new,
    ):
        await log_in(old, cluster, "anna")
        assert (await new.ask("LOGIN anna not-the-password")).startswith("ERROR wrong-password")
        assert await old.ask("/ping") == "OK pong"
        await log_in(new, cluster, "ANNA".lower())
        assert await old.line() == "NOTICE Another connection has logged in with your name. Goodbye."
        assert await old.is_at_end()
        assert (await new.ask("MESSAGE hello")).startswith("OK")
        assert gateway._services.accounts.count == 1


async def test_after_log_out_the_same_connection_may_be_another(tmp_path: Path) -> None:
    async with (
        running_cluster() as cluster,
        gateway_of(cluster, tmp_path) as gateway,
        line_client(gateway.port, compact=True) as one,
    ):
        await log_in(one, cluster, "anna")
        assert await one.ask("LOGOUT") == "OK"
        assert (await one.ask("MESSAGE hello")).startswith("ERROR not-logged-in")
        await log_in(one, cluster, "ben")
        assert (await one.ask("SEND anna from ben")).startswith("OK")
        await until(lambda: cluster.bodies_for("anna") == ["from ben"], "it is sent by ben")


# ---- bad input


async def test_binary_overlong_and_half_lines_get_a_clear_answer_or_none_and_harm_nobody(tmp_path: Path) -> None:
    async with running_cluster() as cluster, gateway_of(cluster, tmp_path, max_line_bytes=LINE_BYTES) as gateway:
        async with line_client(gateway.port, compact=True) as anna, line_client(gateway.port, compact=True) as ben:
            await log_in(anna, cluster, "anna")
            await log_in(ben, cluster, "ben")
            ben.writer.write(b"MESSAGE " + b"x" * LINE_BYTES + b"\n")
            assert (
                await ben.until("ERROR")
                == f"ERROR line-too-long A line has at most {LINE_BYTES} bytes. Nothing was sent."
            )
            ben.writer.write(bytes(range(256)) + b"\n\xff\xfd\x18\n\x00\n\r\n")
            ben.writer.write(b"SEND anna \x1b[2J\x07caf\xe9\xff\xf4 done\r\n")
            await ben.until("OK")
            assert (await next_message(anna))[1] == "[2Jcaf\ufffd done"
            ben.writer.write(b"SEND anna half a li")
            await ben.writer.drain()
        await until(lambda: gateway._services.accounts.count == 0, "all are gone")
        assert cluster.bodies_for("anna") == ["[2Jcaf\ufffd done"]


async def test_what_is_piped_in_is_carried_out_to_the_last_whole_line(tmp_path: Path) -> None:
    async with running_cluster() as cluster, gateway_of(cluster, tmp_path) as gateway:
        for name in ("anna", "ben"):
            cluster.add_account(name, PASSWORD)
        async with line_client(gateway.port) as anna:
            anna.writer.write(
                f"STYLE compact\nLOGIN anna {PASSWORD}\nSEND ben one\nSEND ben two\nSEND ben thr".encode()
            )
            anna.writer.write_eof()
            while not await anna.is_at_end():
                continue
        await until(lambda: gateway._services.accounts.count == 0, "all is sent")
        assert cluster.bodies_for("ben") == ["one", "two"]


@pytest.mark.parametrize("steps", range(8))
async def test_a_connection_may_break_at_every_point(tmp_path: Path, steps: int) -> None:
    dialogue = [
        "", "STYLE compact\n", "LOGIN an", f"na {PASSWORD}\n", "MESSAGE one\n", "/history 3\n", "LIST\n", "LOGOUT\n"
    ]  # fmt: skip
    async with running_cluster() as cluster, gateway_of(cluster, tmp_path) as gateway:
        cluster.add_account("anna", PASSWORD)
        async with line_client(gateway.port) as anna:
            anna.writer.write("".join(dialogue[: steps + 1]).encode())
            await anna.writer.drain()
        async with line_client(gateway.port, compact=True) as again:
            await log_in(again, cluster, "anna")
            assert await again.ask("/ping") == "OK pong"
        await until(lambda: gateway._services.places.taken == 0, "the connections are counted")
        await until(lambda: gateway._services.accounts.count == 0, "the account is left")


# ---- bounds


async def test_who_reads_nothing_is_ended_and_gets_the_messages_at_the_next_log_in(tmp_path: Path) -> None:
    body, count = "x" * 50_000, 60
    async with (
        running_cluster() as cluster,
        gateway_of(cluster, tmp_path, write_s=0.5) as gateway,
        line_client(gateway.port, compact=True) as anna,
    ):
        await log_in(anna, cluster, "anna")
        async with line_client(gateway.port, compact=True, receive_bytes=4096) as ben:
            await log_in(ben, cluster, "ben")
            ben.writer.transport.pause_reading()  # type: ignore[attr-defined]
            for number in range(count):
                assert (await anna.ask(f"SEND ben {number} {body}")).startswith("OK")
            await until(lambda: gateway._services.places.taken == 1, "ben's connection is ended")
        async with line_client(gateway.port, compact=True) as again:
            await log_in(again, cluster, "ben")
            first, text = await next_message(again)
            assert first.startswith("MESSAGE 1 ")
            numbers = [int(text.split()[0])]
            while numbers[-1] < count - 1:
                numbers.append(int((await next_message(again))[1].split()[0]))
            assert 0 < len(numbers) < count, "what had been taken does not come again"
            assert numbers == list(range(numbers[0], count)), "from the first that was not taken, each once"


async def test_connections_are_bounded_and_told_so(tmp_path: Path) -> None:
    async with running_cluster() as cluster, gateway_of(cluster, tmp_path, max_per_address=1) as gateway:
        async with line_client(gateway.port) as one:
            await one.until("What is your name")
            async with line_client(gateway.port) as more:
                assert await more.line() == "Your address has 1 connections, and gets no more. Close one of them."
                assert await more.is_at_end()
        await until(lambda: gateway._services.places.taken == 0, "the place is free again")
        async with line_client(gateway.port) as again:
            await again.until("What is your name")


async def test_who_does_not_log_in_is_ended(tmp_path: Path) -> None:
    async with (
        running_cluster() as cluster,
        gateway_of(cluster, tmp_path, log_in_s=0.2) as gateway,
        line_client(gateway.port) as silent,
        line_client(gateway.port, compact=True) as anna,
    ):
        await log_in(anna, cluster, "anna")
        await silent.until("What is your name")
        assert await silent.is_at_end()
        assert await anna.ask("/ping") == "OK pong"


async def test_who_writes_empty_lines_instead_of_a_log_in_is_ended_too(tmp_path: Path) -> None:
    async with (
        running_cluster() as cluster,
        gateway_of(cluster, tmp_path, log_in_s=0.2, lines_per_s=1000.0) as gateway,
        asyncio.timeout(20),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        with contextlib.suppress(OSError):
            while not reader.at_eof():
                writer.write(b"\n" * 50)
                await writer.drain()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(4096), 0.01)
        writer.close()


async def test_lines_are_read_no_faster_than_the_rate(tmp_path: Path) -> None:
    async with (
        running_cluster() as cluster,
        gateway_of(cluster, tmp_path, lines_burst=2.0, lines_per_s=20.0) as gateway,
        line_client(gateway.port) as one,
    ):
        began = asyncio.get_running_loop().time()
        await one.say("STYLE compact", *(["HELP"] * 11))
        for _ in range(12):
            await one.until("OK")
        assert asyncio.get_running_loop().time() - began >= 0.45


async def test_failed_log_ins_of_an_address_are_bounded(tmp_path: Path) -> None:
    async with running_cluster() as cluster, gateway_of(cluster, tmp_path) as gateway:
        cluster.add_account("anna", PASSWORD)
        async with line_client(gateway.port, compact=True) as one:
            answers = [await one.ask(f"LOGIN anna wrong-{number}") for number in range(12)]
            assert "wrong-password" in answers[0]
            assert "ERROR too-many-failures Too many log-ins have failed. Try again in" in answers[-1]
            assert "too-many-failures" in await one.ask(f"LOGIN anna {PASSWORD}")


async def test_where_accounts_are_made_by_invitation_register_takes_its_code(tmp_path: Path) -> None:
    async with (
        running_cluster() as cluster,
        gateway_of(cluster, tmp_path) as gateway,
        signed_in(cluster, tmp_path / "boss", "boss") as boss,  # the first account is an administrator
    ):
        administration = await boss.administration()
        code, _ = await administration.create_invitation()
        await administration.change_setting("registration", 1)
        async with line_client(gateway.port, compact=True) as one:
            refused = await one.ask("REGISTER anna blue-kite-42")
            assert "ERROR invitation-needed" in refused
            assert "REGISTER NAME PASSWORD CODE" in refused
            wrong = await one.ask(f"REGISTER anna blue-kite-42 {'x' * 9}-{'y' * 9}-{'z' * 9}")
            assert "ERROR refused The code is wrong" in wrong
            assert (await one.ask(f"REGISTER anna blue-kite-42 {code.upper()}")).startswith("OK anna ")
            assert (await one.ask("LOGOUT")).startswith("OK")
            assert (await one.ask("LOGIN anna blue-kite-42")).startswith("OK anna ")
            await one.ask("LOGOUT")
            assert "ERROR" in await one.ask(f"REGISTER ben blue-kite-42 {code}"), "it was used already"


# ---- the process


async def test_a_stop_tells_everybody_and_logs_the_accounts_out(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        async with gateway_of(cluster, tmp_path) as gateway:
            anna = LineClient(*await asyncio.open_connection("127.0.0.1", gateway.port))
            await anna.ask("STYLE compact")
            await log_in(anna, cluster, "anna")
        assert await anna.until("NOTICE") == "NOTICE The gateway stops. Goodbye."
        assert await anna.is_at_end()
        anna.writer.close()
        hosts = [cluster.nodes[0].address]
        async with ClientGroup(hosts, insecure=True, state_dir=tmp_path) as group:
            assert group.kept_accounts() == ("anna",)
            async with group.client(account="anna", connect=False) as client:
                assert not await client.has_session()


async def test_two_gateways_do_not_share_a_folder(tmp_path: Path) -> None:
    async with running_cluster() as cluster, gateway_of(cluster, tmp_path):
        with pytest.raises(StoreError, match="Another process uses the folder"):
            async with gateway_of(cluster, tmp_path):
                pass


async def test_an_address_in_use_is_told(tmp_path: Path) -> None:
    async with running_cluster() as cluster, gateway_of(cluster, tmp_path / "a") as gateway:
        settings = GatewaySettings(listen=f"127.0.0.1:{gateway.port}")
        async with ClientGroup([cluster.nodes[0].address], insecure=True, state_dir=tmp_path / "b") as group:
            with pytest.raises(BadInputError, match="cannot be used"):
                async with Gateway(group, settings):
                    pass


async def test_the_log_counts_clients_and_names_no_text(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "parley.gateway"):
        async with running_cluster() as cluster, gateway_of(cluster, tmp_path) as gateway:
            async with line_client(gateway.port, compact=True) as anna:
                await log_in(anna, cluster, "anna")
                await anna.ask("MESSAGE a text that stays private")
                await anna.ask("CLOSE")
            await until(lambda: gateway._services.places.taken == 0, "the connection is gone")
    lines = [record.getMessage() for record in caplog.records if record.name == "parley.gateway"]
    assert "client_connected client=1 address='127.0.0.1' clients=1" in lines
    assert "command client=1 account='anna' kind='all' bytes=33" in lines
    assert "client_gone client=1 reason='closed' clients=0" in lines
    assert PASSWORD not in "".join(lines)
    assert "private" not in "".join(lines)


def test_a_folder_that_others_may_read_is_refused(tmp_path: Path) -> None:
    folder = private_folder(tmp_path / "new" / "data")
    assert folder.stat().st_mode & 0o777 == 0o700
    folder.chmod(0o750)
    with pytest.raises(BadInputError, match="chmod 700"):
        private_folder(folder)


def test_each_wait_of_a_connection_ends() -> None:
    settings = GatewaySettings()
    assert max(settings.log_in_s, settings.write_s, settings.stop_s, connection.CLOSE_S, session.LAST_WORDS_S) <= 300


def encrypted(tmp_path: Path) -> tuple[ssl.SSLContext, dict[str, Any]]:
    """What a client trusts, and the settings of a gateway with TLS."""
    authority, cert, key = Authority("ward"), tmp_path / "cert.pem", tmp_path / "key.pem"
    key_pem, cert_pem = authority.pair("127.0.0.1")
    key.write_bytes(key_pem)
    cert.write_bytes(cert_pem)
    return ssl.create_default_context(cadata=authority.pem.decode()), {"cert": cert, "key": key}


async def test_who_does_not_finish_its_handshake_has_one_of_the_places_and_not_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trust, settings = encrypted(tmp_path)
    handshakes = asyncio.Event()
    limit_s = 60.0

    async def begin_tls(self: Connection, context: ssl.SSLContext) -> bool:
        monkeypatch.setattr(connection, "HANDSHAKE_S", limit_s)
        handshakes.set()
        return await real(self, context)

    real = Connection.encrypt
    monkeypatch.setattr(Connection, "encrypt", begin_tls)
    async with (
        running_cluster() as cluster,
        gateway_of(cluster, tmp_path / "data", max_connections=1, **settings) as gateway,
    ):
        async with line_client(gateway.port):
            await handshakes.wait()
            with pytest.raises(OSError, match=r"(?i)eof|reset|closed"):
                await asyncio.open_connection("127.0.0.1", gateway.port, ssl=trust)
            assert gateway._services.places.taken == 1
        await until(lambda: gateway._services.places.taken == 0, "the place is free")
        limit_s = 0.1
        async with line_client(gateway.port) as silent:
            assert await silent.reader.read() == b"", "the gateway ends it"
        await until(lambda: gateway._services.places.taken == 0, "the place is free again")
        limit_s = 60.0
        anna = LineClient(*await asyncio.open_connection("127.0.0.1", gateway.port, ssl=trust))
        assert (await anna.line()).startswith("Welcome to Parley.")
        anna.writer.close()


async def test_a_stop_waits_for_no_handshake(tmp_path: Path) -> None:
    _, settings = encrypted(tmp_path)
    async with running_cluster() as cluster, AsyncExitStack() as silent:
        async with gateway_of(cluster, tmp_path / "data", stop_s=60.0, **settings) as gateway:
            for _ in range(3):
                await silent.enter_async_context(line_client(gateway.port))
            await until(lambda: len(gateway._handshakes) == 3, "all have begun a handshake")
            began = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - began < connection.CLOSE_S


async def test_a_client_that_speaks_tls_at_once_is_understood_however_many_come(tmp_path: Path) -> None:
    trust, settings = encrypted(tmp_path)
    async with running_cluster() as cluster, gateway_of(cluster, tmp_path / "data", **settings) as gateway:

        async def greeted() -> str:
            one = LineClient(*await asyncio.open_connection("127.0.0.1", gateway.port, ssl=trust))
            greeting = await one.line()
            one.writer.close()
            return greeting

        for greeting in await asyncio.gather(*(greeted() for _ in range(40))):
            assert greeting.startswith("Welcome to Parley.")


async def test_with_a_certificate_lines_are_encrypted_and_nobody_is_warned(tmp_path: Path) -> None:
    trust, settings = encrypted(tmp_path)
    async with running_cluster() as cluster, gateway_of(cluster, tmp_path / "data", **settings) as gateway:
        anna = LineClient(*await asyncio.open_connection("127.0.0.1", gateway.port, ssl=trust))
        assert await anna.line() == "Welcome to Parley. 1 client connected here, with you."
        assert (await anna.line()).startswith("What is your name?")
        await anna.ask("STYLE compact")
        await log_in(anna, cluster, "anna")
        async with line_client(gateway.port) as plain:
            await plain.say("REGISTER ben a-long-password")
            assert (await plain.reader.read()) == b"", "who speaks without TLS gets no answer"
        assert await anna.ask("CLOSE") == "OK"
        anna.writer.close()


async def test_a_certificate_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("none")
    async with running_cluster() as cluster:
        with pytest.raises(BadInputError, match="cannot be used"):
            async with gateway_of(cluster, tmp_path / "data", cert=tmp_path / "cert.pem", key=tmp_path / "cert.pem"):
                pass
