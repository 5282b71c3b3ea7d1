"""The import of accounts: what is read of a file, what becomes of each line, and the API and the SDK behind it."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import bcrypt
import pytest

from parley import MAX_IMPORTED_ACCOUNTS, BadInputError, ImportStatus, NewAccount
from parley.administration import MAX_IMPORTED_ACCOUNTS as MOST
from parley.terminal.account_import import MAX_LINE_BYTES, REQUEST_BYTES, Line, read_lines, requests
from parley.terminal.exits import ExitCode
from parleyd.api.admission import MAX_REQUEST_BYTES
from parleyd.machine import limits
from parleyd.security import passwords
from tests.support.node import running_cluster
from tests.unit.client.helpers import PASSWORD, make_client, until
from tests.unit.client.test_command import Parley

HASH = bcrypt.hashpw(passwords._prepare(PASSWORD), bcrypt.gensalt(4)).decode()


def lines_of(*written: bytes) -> list[Line]:
    return list(read_lines(io.BytesIO(b"\n".join(written))))


# ---- reading


def test_a_line_is_an_account_with_a_name_and_what_else_is_given() -> None:
    found = lines_of(b'{"name": "ann"}', b"", b'{"name": "ben", "display_name": "B\xc3\xa9", "password_hash": "h"}')
    assert [(line.number, line.account) for line in found] == [
        (1, NewAccount("ann")),
        (3, NewAccount("ben", "B\u00e9", "h")),
    ]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"ann", "no JSON object"),
        (b'"ann"', "no JSON object"),
        (b'{"name": "\xff"}', "no JSON object in UTF-8"),
        (b"[" * 2000, "no JSON object"),
        (b'{"name": "ann", "name": "eve"}', "'name' is in one object twice"),
        (b'{"name": "ann", "display_name": NaN}', "no JSON object"),
        (b'{"name": 7}', "The field name is no text"),
        (b'{"name": "\\ud800"}', "The field name is no text"),
        (b'{"display_name": "Ann"}', "The field name is missing"),
        (b'{"name": "ann", "password": "my secret"}', "'password' is unknown"),
        (b'{"name": "' + b"a" * MAX_LINE_BYTES + b'"}', "longer than 2048 bytes"),
    ],
)
def test_a_line_with_a_fault_is_named_without_its_values_and_the_next_is_read(line: bytes, fault: str) -> None:
    first, second = lines_of(line, b'{"name": "ben"}')
    assert first.account is None
    assert fault in first.fault
    assert "secret" not in first.fault
    assert second == Line(2, 15, NewAccount("ben"))


def test_a_request_holds_what_the_node_reads_and_no_more() -> None:
    assert MOST == limits.MAX_IMPORTED_ACCOUNTS
    assert REQUEST_BYTES + MAX_LINE_BYTES < MAX_REQUEST_BYTES

    def lines(count: int, size: int) -> Iterator[Line]:
        return (Line(number, size, NewAccount("a")) for number in range(count))

    assert [len(part) for part in requests(lines(2 * MOST + 1, 10))] == [MOST, MOST, 1]
    assert [len(part) for part in requests(lines(50, MAX_LINE_BYTES))] == [24, 24, 2]
    assert list(requests(lines(0, 1))) == []


# ---- the SDK


async def test_an_import_says_what_became_of_each_account(tmp_path: Path) -> None:
    async with running_cluster() as cluster:
        cluster.add_account("boss", PASSWORD)
        async with make_client(cluster, tmp_path, connect=False) as client:
            await client.login("boss", PASSWORD)
            administration = await client.administration()
            weak = HASH.replace("$04$", "$03$")
            accounts = [
                NewAccount("anna", "Anna A.", HASH),
                NewAccount("Boss"),
                NewAccount("no name"),
                NewAccount("root"),
                NewAccount("carl", password_hash="no hash"),
                NewAccount("dora", password_hash=weak),
                NewAccount("emil"),
            ]
            cluster.nodes[0].faults.lose_answers = 1
            again = await administration.import_accounts(accounts)
            assert [result.status.name for result in again] == [
                *("EXISTS", "EXISTS", "REFUSED", "REFUSED", "REFUSED", "REFUSED", "EXISTS")
            ]
            assert "reserved" in again[3].detail
            assert "is no bcrypt hash" in again[4].detail
            assert "has the cost 3" in again[5].detail
            assert not any(secret in result.detail for result in again for secret in ("no hash", weak))
            assert [result.status for result in await administration.import_accounts([NewAccount("fred")])] == [
                ImportStatus.CREATED
            ]
            assert await administration.import_accounts([]) == ()
            with pytest.raises(BadInputError, match="Nothing was sent"):
                await administration.import_accounts([NewAccount("x")] * (MAX_IMPORTED_ACCOUNTS + 1))
        async with make_client(cluster, tmp_path / "anna", connect=False) as client:
            await client.login("anna", PASSWORD)


# ---- the command line


async def test_a_file_is_imported_once_however_often_the_command_runs(tmp_path: Path) -> None:
    file = tmp_path / "people.jsonl"
    people = [{"name": f"p{number}x", "password_hash": HASH if number else ""} for number in range(200)]
    file.write_text("\n".join([*map(json.dumps, people), '{"nom": "ann"}', '{"name": "root"}']))
    async with running_cluster() as cluster:
        cluster.add_account("boss", PASSWORD)
        boss, person = Parley(tmp_path / "boss", cluster), Parley(tmp_path / "person", cluster)
        await boss("login", "boss", PARLEY_PASSWORD=PASSWORD)
        done = await boss("cluster", "import-accounts", str(file))
        assert done.code == ExitCode.USAGE
        assert f"{file}:201: The field 'nom' is unknown." in done.err
        assert f"{file}:202: root: The name is reserved" in done.err
        assert "200 accounts were created, 0 exist already and were not changed, 1 were refused" in done.err
        again = await boss("cluster", "import-accounts", str(file), "--json")
        assert json.loads(again.out) == {"created": 0, "exists": 200, "refused": 1, "unreadable": 1}
        assert (await person("login", "p1x", PARLEY_PASSWORD=PASSWORD)).code == 0
        assert (await person("login", "p0x", PARLEY_PASSWORD=PASSWORD)).code == ExitCode.NOT_SIGNED_IN
        missing = await boss("cluster", "import-accounts", str(tmp_path / "missing"))
        assert (missing.code, "cannot be read" in missing.err) == (ExitCode.USAGE, True)


async def test_an_import_that_was_killed_goes_on_where_it_was(tmp_path: Path) -> None:
    file = tmp_path / "people.jsonl"
    count = 2 * MAX_IMPORTED_ACCOUNTS + 1
    file.write_text("\n".join(json.dumps({"name": f"p{number}x"}) for number in range(count)))
    async with running_cluster() as cluster:
        cluster.add_account("boss", PASSWORD)
        boss = Parley(tmp_path / "boss", cluster)
        await boss("login", "boss", PARLEY_PASSWORD=PASSWORD)
        cluster.nodes[0].faults.delay_s = 0.5
        async with boss.running("cluster", "import-accounts", str(file)) as process:
            await until(lambda: len(cluster.rows("SELECT 1 FROM accounts")) > 1, "the first accounts")
            process.kill()
            await process.wait()
        cluster.nodes[0].faults.delay_s = 0.0
        again = await boss("cluster", "import-accounts", str(file), "--json")
        counts = json.loads(again.out)
        assert again.code == ExitCode.OK
        assert (counts["created"] + counts["exists"], counts["exists"] >= MAX_IMPORTED_ACCOUNTS) == (count, True)
        assert len(cluster.rows("SELECT DISTINCT name_key FROM accounts")) == count + 1
        assert len(cluster.rows("SELECT 1 FROM accounts")) == count + 1


async def test_an_interrupted_import_says_how_to_go_on(tmp_path: Path) -> None:
    file = tmp_path / "people.jsonl"
    file.write_text('{"name": "anna"}\n')
    async with running_cluster() as cluster:
        cluster.add_account("boss", PASSWORD)
        boss = Parley(tmp_path, cluster)
        await boss("login", "boss", PARLEY_PASSWORD=PASSWORD)
        cluster.nodes[0].faults.unavailable = "no majority"
        failed = await boss("cluster", "import-accounts", str(file))
        assert (failed.code, "Repeating it is safe" in failed.err) == (ExitCode.UNREACHABLE, True)
