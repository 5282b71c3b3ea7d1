"""The line gateway before three real nodes: its dialogues word for word, nodes that are killed, hundreds of people."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from parley import MAX_IMPORTED_ACCOUNTS, ImportStatus, NewAccount, ParleyClient
from parley.gateway.server import Gateway
from parleyd.security import passwords
from scripts.cluster_local import LocalCluster
from tests.support.transcripts import LineClient, Transcript, line_client, play, transcripts_of
from tests.unit.gateway.helpers import all_are_listed, gateway_at

pytestmark = pytest.mark.asyncio(loop_scope="module")

Fresh = Callable[[str], str]
PASSWORD = "blue-kite-42"
MANY = 500
"""The log-ins alone take both processors half a minute."""


@asynccontextmanager
async def gateway_of(cluster: LocalCluster, data: Path, **settings: Any) -> AsyncIterator[Gateway]:
    async with gateway_at(cluster.hosts, data, ca=cluster.ca_file, **settings) as gateway:
        yield gateway


async def nobody_is_connected(cluster: LocalCluster, folder: Path, name: str) -> None:
    """Wait until no node lists a client of the test before."""
    async with ParleyClient(cluster.hosts, ca=cluster.ca_file, state_dir=folder, connect=False) as watcher:
        await watcher.register(name, PASSWORD)
        await watcher.login(name, PASSWORD)
        while (await watcher.presence.connected()).clients:
            continue  # each look is a call, which gives way


def renamed(transcript: Transcript, suffix: str) -> Transcript:
    """The same dialogue of people whose names no other test has taken."""

    def other(line: re.Match[str]) -> re.Match[str]:
        text = re.sub(r"\b(anna|ben)\b", rf"\g<1>{suffix}", line["text"])
        match = re.fullmatch(r"(?P<who>[a-z]+)(?P<way>[<>.]) ?(?P<text>.*)", f"{line['who']}{line['way']} {text}")
        assert match
        return match

    return Transcript(transcript.name, transcript.kind, tuple(map(other, transcript.lines)))


@pytest.mark.parametrize("transcript", transcripts_of("docs/GATEWAY.md"), ids=lambda one: one.name)
async def test_a_dialogue_of_the_page_goes_as_it_stands_there(
    cluster: LocalCluster, fresh: Fresh, tmp_path: Path, transcript: Transcript
) -> None:
    async with asyncio.timeout(100):
        await nobody_is_connected(cluster, tmp_path / "watcher", fresh("watcher"))
        secrets = transcript.kind == "secrets"
        async with gateway_of(cluster, tmp_path / "data", allow_secrets=secrets) as gateway:
            suffix = fresh("")[1:]
            await play(renamed(transcript, suffix), gateway.port, lambda: all_are_listed(gateway))


async def registered(client: LineClient, name: str) -> None:
    answer = await client.ask(f"REGISTER {name} {PASSWORD}")
    assert answer.startswith(f"OK {name}"), answer


async def bodies(client: LineClient, count: int) -> list[str]:
    """The texts of the next messages, whose numbers count up without a gap."""
    found = []
    for number in range(1, count + 1):
        first = await client.until("MESSAGE")
        assert first.startswith(f"MESSAGE {number} FROM "), first
        found.append(await client.line())
        assert await client.line() == "END"
    return found


@pytest.mark.timeout(300)
async def test_while_nodes_are_killed_nothing_is_lost_or_doubled_on_either_side(
    cluster: LocalCluster, fresh: Fresh, tmp_path: Path
) -> None:
    """Each writes on while one node after the other is killed and comes back: also the leader, and their own node."""
    rounds, each = 3, 20
    async with gateway_of(cluster, tmp_path, lines_burst=1000.0) as gateway, AsyncExitStack() as stack:
        names = [fresh("writer") for _ in range(4)]
        people = [await stack.enter_async_context(line_client(gateway.port, compact=True)) for _ in names]
        for name, one in zip(names, people, strict=True):
            await registered(one, name)
        reader, *writers = people
        received = asyncio.ensure_future(bodies(reader, rounds * each * len(writers)))
        accepted: list[str] = []

        async def write(index: int, client: LineClient, round_: int) -> None:
            for number in range(each):
                body = f"{index} {round_ * each + number}"
                assert (await client.ask(f"SEND {names[0]} {body}")).startswith("OK ")
                accepted.append(body)

        for round_, name in enumerate(cluster.names):
            writing = [asyncio.ensure_future(write(i, one, round_)) for i, one in enumerate(writers)]
            await asyncio.wait(writing, return_when=asyncio.FIRST_COMPLETED)
            cluster.kill(name)
            await asyncio.gather(*writing)
            cluster.start(name)
            await cluster.wait_until_answering(name)
        async with asyncio.timeout(120):
            got = await received
        assert sorted(got) == sorted(accepted)
        for index in range(len(writers)):
            mine = [body for body in got if body.startswith(f"{index} ")]
            assert mine == [f"{index} {number}" for number in range(rounds * each)], "in the order of its writer"
        assert (await reader.ask("/ping")) == "OK pong", "and nothing came twice"


async def import_accounts(cluster: LocalCluster, folder: Path, admin: str, names: list[str]) -> None:
    """Make accounts with one password, whose hash is made once."""
    password_hash = bcrypt.hashpw(passwords._prepare(PASSWORD), bcrypt.gensalt(10)).decode()
    async with ParleyClient(cluster.hosts, ca=cluster.ca_file, state_dir=folder, connect=False) as client:
        await client.register(admin, PASSWORD, await cluster.administrator_code())
        await client.login(admin, PASSWORD)
        administration = await client.administration()
        for start in range(0, len(names), MAX_IMPORTED_ACCOUNTS):
            some = [
                NewAccount(name, password_hash=password_hash) for name in names[start : start + MAX_IMPORTED_ACCOUNTS]
            ]
            assert {one.status for one in await administration.import_accounts(some)} == {ImportStatus.CREATED}


@pytest.mark.campaign
@pytest.mark.timeout(600)
async def test_hundreds_of_connections_at_once_log_in_write_and_receive_in_bounded_time(
    cluster: LocalCluster, fresh: Fresh, tmp_path: Path
) -> None:
    stem = fresh("many")
    names = [f"{stem}-{number}" for number in range(MANY)]
    await import_accounts(cluster, tmp_path / "admin", fresh("admin"), names)
    async with gateway_of(cluster, tmp_path / "data", max_per_address=MANY) as gateway, AsyncExitStack() as stack:
        began = time.monotonic()

        async def arrive(name: str) -> LineClient:
            client = await stack.enter_async_context(line_client(gateway.port, compact=True))
            answer = await client.ask(f"LOGIN {name} {PASSWORD}")
            while answer.startswith(("ERROR busy", "ERROR unreachable")):
                answer = await client.ask(f"LOGIN {name} {PASSWORD}")
            assert answer.startswith("OK "), answer
            return client

        async with asyncio.timeout(400):
            people = await asyncio.gather(*map(arrive, names))
        logged_in_s = time.monotonic() - began
        assert gateway._services.places.taken == MANY
        began = time.monotonic()
        sent = await asyncio.gather(
            *(
                one.ask_and_keep(f"SEND {names[(number + 1) % MANY]} hello {number}")
                for number, one in enumerate(people)
            )
        )
        assert all(answer.startswith("OK ") for answer in sent)
        async with asyncio.timeout(120):
            got = await asyncio.gather(*(bodies(one, 1) for one in people))
        assert got == [[f"hello {(number - 1) % MANY}"] for number in range(MANY)]
        print(f"gateway: {MANY} log-ins {logged_in_s:.1f} s, {MANY} messages {time.monotonic() - began:.1f} s")


async def test_the_command_serves_until_a_signal_and_says_where(
    cluster: LocalCluster, fresh: Fresh, tmp_path: Path
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "parley_command", "gateway",
        "--ca", str(cluster.ca_file), "--data", str(tmp_path / "data"),
        *(part for host in cluster.hosts for part in ("--host", host)), "--listen", "127.0.0.1:0", "--compact",
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            said = (await process.stdout.readline()).decode()
            found = re.fullmatch(r"The gateway takes connections on 127\.0\.0\.1:(\d+)\.\n", said)
            assert found, said
            async with line_client(int(found[1])) as anna:
                assert await anna.line() == "READY 1"
                await registered(anna, fresh("anna"))
                assert (await anna.ask("MESSAGE a private text")).startswith("OK ")
                process.send_signal(signal.SIGTERM)
                assert await anna.until("NOTICE") == "NOTICE The gateway stops. Goodbye."
            _, log = await process.communicate()
        assert process.returncode == 128 + signal.SIGTERM
        assert b"client_connected client=1" in log
        assert b"kind='all' bytes=22" in log
        assert b"client_gone client=1 reason='gateway_stops' clients=0" in log
        assert b"private" not in log
        assert PASSWORD.encode() not in log
        assert b"Traceback" not in log
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
